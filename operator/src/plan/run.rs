//! The workspace is wanted: make its claim and pod, follow the start, bring back what has gone. [no client]

use dexorder_crds::{
    AuthMode, OperatingMode, RetentionPolicy, StartPhases,
    condition::{ConditionType, ready},
    keys,
};
use dexorder_protocol::control::{DrainMode, DrainRequest};
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::OwnerReference,
    jiff::{SignedDuration, Timestamp},
};

use super::{
    Action, AlivePod, ClaimState, Note, Planner, PodState, Problem, Started, draft,
    draft::seconds,
    memory::{Drain, Memory, Seen, StartKind},
    phases::micros,
    stop::DRAIN_AGAIN,
};
use crate::build;

/// A start without an address after this long is written to the status. Before that the next change comes soon.
pub(super) const QUIET_START: SignedDuration = SignedDuration::from_secs(3);
/// A workspace that was ready for this long has recovered: the count of its restarts begins anew.
const RECOVERED: SignedDuration = SignedDuration::from_secs(60);
/// The longest wait between two restarts.
const MOST_BACKOFF: SignedDuration = SignedDuration::from_secs(300);

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
        self.forget_pod_address();
        self.draft.not_ready(problem.reason, problem.message.clone());
        if let Some(uid) = self.observed.pod.and_then(|pod| pod.metadata.uid.clone()) {
            self.first.push(Action::DeletePod { uid, version: None });
        }
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

    /// Counts the restart, and tells whether its turn has come.
    fn may_restart(&mut self) -> bool {
        let recovered = self.before.ready_time.as_ref().is_some_and(|ready| self.now - RECOVERED >= ready.0);
        let restarts = if recovered { 1 } else { self.before.restarts.unwrap_or(0).saturating_add(1) };
        let due = self.before.start_time.as_ref().map(|start| start.0.min(self.now) + backoff(restarts));
        if let Some(due) = due.filter(|due| self.now < *due) {
            self.look_by(due);
            self.forget_pod_address();
            return false;
        }
        self.draft.status.restarts = Some(restarts);
        self.forget_pod();
        true
    }

    /// Before a workspace of auth mode Direct uses a claim, the claim says so: from then on no weaker mode may.
    fn mark_claim(&mut self) {
        let mode = self.observed.workspace.spec.auth.mode;
        let Some(claim) = self.observed.claim.filter(|_| mode == AuthMode::Direct) else {
            return;
        };
        let marked = claim.metadata.annotations.as_ref().and_then(|all| all.get(keys::AUTH_MODE));
        if marked.is_none_or(|marked| marked != mode.as_str()) {
            self.first.push(Action::MarkClaim(mode));
        }
    }

    /// A claim is owned by the workspace if it shall go with it, and by nobody if it shall stay.
    pub(super) fn settle_claim(&mut self) {
        let Some(retention) = self.verdict.terms.as_ref().map(|terms| terms.retention) else {
            return;
        };
        if !matches!(self.claim, ClaimState::Pending | ClaimState::Bound) {
            return;
        }
        let wanted = self.claim_owners(retention);
        let present =
            self.observed.claim.and_then(|claim| claim.metadata.owner_references.clone()).unwrap_or_default();
        if present != wanted {
            self.first.push(Action::SetClaimOwners(wanted));
        }
    }

    pub(super) fn claim_owners(&self, retention: RetentionPolicy) -> Vec<OwnerReference> {
        match retention {
            RetentionPolicy::Retain => Vec::new(),
            RetentionPolicy::Delete => build::owner(self.observed.workspace).into_iter().collect(),
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

    /// The workspace was touched while it was being stopped. If its sidecar refuses work already, the stop goes on
    /// and the next pod starts after it.
    fn stop_was_taken_back(&mut self, pod: &AlivePod, memory: &Memory) -> bool {
        let since =
            draft::condition(&self.before, ConditionType::Ready).map(|ready| ready.last_transition_time.0);
        // Written by a replica whose clock was ahead: any answer of late will do.
        let since =
            since.map(|since| if since > self.now { self.now - super::idle::ASK_AGAIN } else { since });
        match (&memory.drain, &memory.report) {
            (Some(drain), _) if matches!(drain.what, Drain::Done(_)) => {
                self.finish_drain(pod);
                false
            }
            (_, Some(report)) if since.is_none_or(|since| report.at >= since) => {
                if report.what.draining {
                    self.finish_drain(pod);
                }
                !report.what.draining
            }
            _ => {
                self.ask(pod, memory);
                false
            }
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
        } else if was_ready && memory.report.is_none() {
            self.ask(pod, memory);
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

    fn finish_drain(&mut self, pod: &AlivePod) {
        let memory = self.observed.memory.about(Some(&pod.uid));
        match (memory.drain, &pod.ip) {
            (Some(Seen { at, what: Drain::Done(_) }), _) if self.is_drained(at) => {
                self.first.push(Action::DeletePod { uid: pod.uid.clone(), version: None });
            }
            (_, None) => {
                let version = pod.version.clone();
                self.first.push(Action::DeletePod { uid: pod.uid.clone(), version });
            }
            (Some(Seen { at, what: Drain::Unanswered(_) }), _) if self.now < at + DRAIN_AGAIN => {
                self.look_by(at + DRAIN_AGAIN);
            }
            (_, Some(ip)) => self.then.push(Action::Drain {
                pod_uid: pod.uid.clone(),
                ip: ip.clone(),
                request: DrainRequest {
                    mode: DrainMode::Force,
                    idle_since_time: None,
                    deadline_seconds: None,
                },
            }),
        }
    }

    pub(super) fn ask(&mut self, pod: &AlivePod, memory: &Memory) {
        match (self.silent_until(memory), &pod.ip) {
            (Some(until), _) => self.look_by(until),
            (None, Some(ip)) => self.then.push(Action::Ask { pod_uid: pod.uid.clone(), ip: ip.clone() }),
            (None, None) => {}
        }
    }

    pub(super) fn ask_now(&mut self, pod: &AlivePod) {
        if let Some(assign) = self.assign(pod) {
            self.first.push(assign);
        } else if let Some(ip) = pod.ip.clone() {
            self.first.push(Action::Ask { pod_uid: pod.uid.clone(), ip });
        }
    }

    /// A sidecar that did not answer is left alone until then.
    pub(super) fn silent_until(&self, memory: &Memory) -> Option<Timestamp> {
        let until = memory.silence.as_ref().map(|silence| silence.at + super::idle::ASK_AGAIN);
        until.filter(|until| self.now < *until)
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

fn backoff(restarts: i32) -> SignedDuration {
    let exponent = u32::try_from(restarts - 2).unwrap_or(0).min(16);
    if restarts < 2 {
        SignedDuration::ZERO
    } else {
        SignedDuration::from_secs(1 << exponent).min(MOST_BACKOFF)
    }
}

/// The later of two moments, of which one or both may be unknown.
pub(super) fn latest(moments: impl IntoIterator<Item = Option<Timestamp>>) -> Option<Timestamp> {
    moments.into_iter().flatten().max()
}
