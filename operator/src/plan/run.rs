//! The workspace is wanted: make its claim and pod, follow the start, bring back what has gone. [no client]

use dexorder_crds::{
    OperatingMode, StartPhases,
    condition::{ConditionType, ready},
};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::{
    Action, AlivePod, ClaimState, Note, Planner, PodState, Problem, Started, draft,
    draft::seconds,
    idle::ASK_AGAIN,
    memory::{Memory, StartKind},
    phases::micros,
};
use crate::build;

/// A start without an address after this long is written to the status. Before that the next change comes soon.
pub(super) const QUIET_START: SignedDuration = SignedDuration::from_secs(3);

impl Planner<'_> {
    pub(super) fn run(&mut self) {
        match self.pod.clone() {
            PodState::Foreign => self.name_taken(),
            PodState::Former(uid) => self.former_pod_ends(uid),
            PodState::Terminating(problem) => self.pod_ends(problem),
            PodState::Ended(problem) => self.replace_ended_pod(&problem),
            PodState::Absent => self.start(),
            PodState::Promised(pod) => self.take_promised(pod),
            PodState::Alive(pod) => self.follow(&pod),
        }
    }

    fn name_taken(&mut self) {
        self.forget_pod();
        let name = self.child_name();
        self.draft.not_ready(
            ready::POD_NAME_TAKEN,
            format!("pod {name} belongs to something else; delete it or give the workspace another name"),
        );
    }

    /// The garbage collector ends it too, but not as soon. It saves before it goes.
    fn former_pod_ends(&mut self, uid: String) {
        self.first.push(Action::DeletePod { uid, version: None });
        self.forget_pod();
        self.draft.running();
        self.draft.not_ready(
            ready::TERMINATING,
            "the pod of the deleted workspace of this name ends first; the next one starts when it is gone"
                .to_owned(),
        );
    }

    fn pod_ends(&mut self, problem: Option<Problem>) {
        self.draft.status.endpoint = None;
        self.draft.status.idle_deadline_time = None;
        if !draft::is_stopping(&self.before) {
            self.draft.running();
            let Problem { reason, message } = problem.unwrap_or_else(|| Problem {
                reason: ready::TERMINATING,
                message: "the pod is being deleted; the next one starts on the same volume when it is gone"
                    .to_owned(),
            });
            self.draft.not_ready(reason, message);
        }
    }

    fn replace_ended_pod(&mut self, problem: &Problem) {
        let Some(uid) = self.observed.pod.and_then(|pod| pod.metadata.uid.clone()) else {
            return;
        };
        let cause = self.end_of(&uid, problem);
        let shown = cause.as_ref().unwrap_or(problem);
        self.forget_pod_address();
        self.draft.running();
        self.draft.not_ready(shown.reason, shown.message.clone());
        if self.before.pod_uid.as_ref() != Some(&uid) {
            // It ended before anything was written of it.
            self.forget_pod();
            let touch = self.touch();
            let status = &mut self.draft.status;
            status.pod_uid = Some(uid.clone());
            status.start_time = Some(seconds(self.now));
            status.observed_touch = touch;
            status.next_wake_time = None;
        }
        self.first.push(match cause {
            Some(_) => Action::DeletePod { uid, version: None },
            None => Action::ReadEvents { pod_uid: uid },
        });
    }

    fn start(&mut self) {
        if !self.verdict.accepted {
            self.forget_pod();
            self.draft.not_ready(ready::NOT_ACCEPTED, self.verdict.message.clone());
            return;
        }
        if !self.claim.usable() {
            self.forget_pod();
            let (_, _, message) = self.claim.condition(&self.claim_name());
            self.draft.not_ready(ready::STORAGE_NOT_READY, message);
            return;
        }
        let Some(terms) = self.verdict.terms.clone() else {
            return;
        };
        let kind = self.start_kind();
        if kind == StartKind::Restart && !self.is_queued() && !self.may_restart() {
            return;
        }
        if kind == StartKind::Cold && self.take_member(&terms) {
            return;
        }
        if !self.has_turn(kind) {
            return;
        }
        let workspace = self.observed.workspace;
        if self.claim == ClaimState::Missing {
            self.first.push(Action::CreateClaim(Box::new(build::claim(workspace, &terms))));
        }
        self.mark_claim();
        let claim = self.claim_name();
        let subject = build::PodFor::Workspace(workspace, &claim);
        let pod = build::pod(subject, self.observed.tier, &terms, self.observed.settings);
        let asked = self.asked_at();
        self.first.push(Action::CreatePod { pod: Box::new(pod), kind, asked });
        self.look_by(self.now + QUIET_START);
        if kind == StartKind::Resume {
            // The pod's address follows within a second: one write in place of two.
            self.hold_status = true;
            return;
        }
        if kind == StartKind::Restart && draft::is(&self.before, ConditionType::Ready, "True") {
            // Nobody saw it end.
            let pod = self.before.pod_name.as_deref().unwrap_or_default();
            self.notes.push(Note {
                warning: true,
                reason: "PodGone",
                message: format!("pod {pod} is gone; it is made again on the same volume"),
            });
        }
        let status = &mut self.draft.status;
        status.start_time = Some(seconds(self.now));
        status.queue_position = None;
        status.next_wake_time = None;
        status.start = Some(StartPhases {
            kind: Some(kind.name().to_owned()),
            request_time: Some(micros(asked)),
            ..StartPhases::default()
        });
        self.up_to_date("the pod is what manifest and tier ask for");
        self.draft.running();
        self.draft.not_ready(ready::STARTING, "the pod is on its way".to_owned());
    }

    pub(super) fn start_kind(&self) -> StartKind {
        if let Some(kind) = self.shown_kind().filter(|_| self.is_queued()) {
            kind
        } else if self.stop_was_decided() {
            StartKind::Resume
        } else if self.before.start_time.is_some() && self.before.pod_uid.is_some() {
            StartKind::Restart
        } else {
            StartKind::Cold
        }
    }

    /// A pod that starts or runs.
    fn follow(&mut self, pod: &AlivePod) {
        let memory = self.observed.memory.about(Some(&pod.uid));
        let same = self.before.pod_uid.as_deref() == Some(pod.uid.as_str());
        if same && draft::is_stopping(&self.before) && !self.stop_was_taken_back(pod, &memory) {
            return;
        }
        let was_ready = same && self.before.ready_time.is_some();
        let in_trouble = pod.problem.is_some() || self.has_trouble(pod);
        if !pod.ready && !was_ready && in_trouble && self.was_changed() == Some(true) {
            // What was wrong with it may be what was changed.
            let version = pod.version.clone();
            self.first.push(Action::DeletePod { uid: pod.uid.clone(), version });
            return;
        }
        self.describe(pod, same);
        if pod.ready {
            self.ready(pod, &memory, same);
        } else {
            self.not_ready_yet(pod, &memory, same);
        }
    }

    fn describe(&mut self, pod: &AlivePod, same: bool) {
        let started = self.start_of(pod);
        let endpoint = pod.ip.as_deref().map(build::endpoint);
        let name = self.pod_name();
        let touch = self.touch();
        let status = &mut self.draft.status;
        status.pod_name = Some(name);
        status.pod_uid = Some(pod.uid.clone());
        status.endpoint = endpoint;
        if !same {
            status.start_time = started.map(seconds);
            status.observed_touch = touch;
            status.ready_time = None;
            status.last_activity_time = None;
            status.idle_deadline_time = None;
            status.start_duration = None;
            status.queue_position = None;
            status.next_wake_time = None;
        }
        self.draft_up_to_date();
        self.draft.running();
    }

    fn ready(&mut self, pod: &AlivePod, memory: &Memory, same: bool) {
        if !same || self.before.ready_time.is_none() {
            if memory.report.is_none() && memory.silence.is_none() && pod.ip.is_some() {
                // The sidecar knows when the agent was up, and the workspace's key: one write tells it all.
                self.ask_now(pod);
                self.hold_status = true;
                self.look_by(self.now + QUIET_START);
                return;
            }
            if pod.taken && memory.report.is_none() {
                self.wait_for_assignment(pod, memory);
                return;
            }
            self.draft.status.ready_time = Some(seconds(self.now));
            self.start_ends(pod, memory);
        }
        self.follow_key(pod, memory);
        self.follow_first_answer(pod, memory);
        self.draft.set(ConditionType::Ready, "True", ready::READY, "the agent answers".to_owned());
        if self.observed.workspace.spec.operating_mode == OperatingMode::Auto {
            self.watch_idleness(pod, memory);
        } else {
            self.draft.status.idle_deadline_time = None;
        }
    }

    fn start_ends(&mut self, pod: &AlivePod, memory: &Memory) {
        // Of a pod that was taken over by another operator nobody knows when it was asked for.
        let created = pod.created.filter(|_| !pod.taken);
        let since = memory.start.as_ref().map(|start| start.asked).or(created);
        let took = since
            .map(|since| std::time::Duration::try_from(self.now.duration_since(since)).unwrap_or_default());
        if let Some(took) = took {
            self.draft.status.start_duration = Some(dexorder_crds::Duration::from_std(took));
            let phases = self.phases().unwrap_or_default();
            let kind = phases.kind.as_deref().and_then(StartKind::named).unwrap_or(StartKind::Restart);
            self.started = Some(Started { kind, took, phases });
        }
    }

    fn not_ready_yet(&mut self, pod: &AlivePod, memory: &Memory, same: bool) {
        if let Some(problem) = &pod.problem {
            self.draft.not_ready(problem.reason, self.told(problem));
            return;
        }
        let was_ready = same && self.before.ready_time.is_some();
        if was_ready && memory.report.as_ref().is_some_and(|report| report.what.draining) {
            // A drain whose answer was lost: what it refuses needs another pod.
            self.finish_drain(pod);
        } else if was_ready {
            // What it said while it was ready tells nothing of why it no longer is.
            let again = memory.report.as_ref().map(|report| report.at + ASK_AGAIN);
            match again.filter(|again| self.now < *again) {
                Some(again) => self.look_by(again),
                None => self.ask(pod, memory),
            }
        }
        let silence = memory.silence.as_ref().filter(|_| was_ready);
        if let Some(silence) = silence {
            let message = format!("the sidecar does not answer: {}; the kubelet restarts it", silence.what);
            self.draft.not_ready(ready::SIDECAR_SILENT, message);
            return;
        }
        if let Some(problem) = self.follow_late_start(pod, memory) {
            self.draft.not_ready(problem.reason, problem.message);
            return;
        }
        let message =
            if pod.ip.is_some() { "the agent does not answer yet" } else { "the pod is on its way" };
        self.draft.not_ready(ready::STARTING, message.to_owned());
        let known = draft::condition(&self.before, ConditionType::Ready).is_some();
        let quiet_until = self.start_of(pod).map(|created| created + QUIET_START);
        if let Some(until) = quiet_until.filter(|until| known && pod.ip.is_none() && self.now < *until) {
            self.hold_status = true;
            self.look_by(until);
        }
    }

    pub(super) fn forget_pod_address(&mut self) {
        self.draft.status.endpoint = None;
        self.draft.status.idle_deadline_time = None;
    }

    pub(super) fn forget_pod(&mut self) {
        self.forget_pod_address();
        self.draft.status.ready_time = None;
        self.draft.status.queue_position = None;
    }
}

/// The later of two moments, of which one or both may be unknown.
pub(super) fn latest(moments: impl IntoIterator<Item = Option<Timestamp>>) -> Option<Timestamp> {
    moments.into_iter().flatten().max()
}
