//! The workspace is wanted: make its claim and pod, follow the start, bring back what has gone. [no client]

use dexorder_crds::{
    OperatingMode, RetentionPolicy,
    condition::{ConditionType, ready},
    keys,
};
use dexorder_protocol::control::{DrainMode, DrainRequest};
use k8s_openapi::{
    api::core::v1::Pod,
    apimachinery::pkg::apis::meta::v1::OwnerReference,
    jiff::{SignedDuration, Timestamp},
};

use super::{
    Action, AlivePod, ClaimState, Next, Observed, Planner, PodState, Problem, Started, draft,
    draft::seconds,
    memory::{Drain, Memory, Seen, StartKind},
    stop::DRAIN_AGAIN,
};
use crate::build;

/// A start without an address after this long is written to the status. Before that the next change comes soon.
const QUIET_START: SignedDuration = SignedDuration::from_secs(3);
/// A workspace that was ready for this long has recovered: the count of its restarts begins anew.
const RECOVERED: SignedDuration = SignedDuration::from_secs(60);
/// The longest wait between two restarts.
const MOST_BACKOFF: SignedDuration = SignedDuration::from_secs(300);

impl Planner<'_> {
    pub(super) fn run(&mut self) {
        match self.pod.clone() {
            PodState::Foreign => self.name_taken(),
            PodState::Terminating => self.pod_ends(),
            PodState::Ended(problem) => self.replace_ended_pod(&problem),
            PodState::Absent => self.start(),
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

    fn pod_ends(&mut self) {
        self.draft.status.endpoint = None;
        self.draft.status.idle_deadline_time = None;
        if !draft::is_stopping(&self.before) {
            self.draft.running();
            self.draft.not_ready(
                ready::TERMINATING,
                "the pod is being deleted; the next one starts on the same volume when it is gone".to_owned(),
            );
        }
    }

    fn replace_ended_pod(&mut self, problem: &Problem) {
        self.forget_pod_address();
        self.draft.not_ready(problem.reason, problem.message.clone());
        if let Some(uid) = self.observed.pod.and_then(|pod| pod.metadata.uid.clone()) {
            self.first.push(Action::DeletePod { uid });
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
            let (_, _, message) = self.claim.condition(&self.child_name());
            self.draft.not_ready(ready::STORAGE_NOT_READY, message);
            return;
        }
        let Some(terms) = self.verdict.terms.clone() else {
            return;
        };
        let kind = self.start_kind();
        if kind == StartKind::Restart && !self.may_restart() {
            return;
        }
        let workspace = self.observed.workspace;
        if self.claim == ClaimState::Missing {
            self.first.push(Action::CreateClaim(Box::new(build::claim(workspace, &terms))));
        } else {
            self.settle_claim_owner(terms.retention);
        }
        let pod = build::pod(workspace, self.observed.tier, &terms, self.observed.settings);
        self.first.push(Action::CreatePod(Box::new(pod), kind));
        self.next = Next::At(self.now + QUIET_START);
        if kind == StartKind::Resume {
            // The pod's address follows within a second: one write in place of two.
            self.hold_status = true;
            return;
        }
        self.draft.status.start_time = Some(seconds(self.now));
        self.draft.running();
        self.draft.not_ready(ready::STARTING, "the pod is on its way".to_owned());
    }

    fn start_kind(&self) -> StartKind {
        if self.stop_was_decided() {
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
        let due = self.before.start_time.as_ref().map(|start| start.0 + backoff(restarts));
        if let Some(due) = due.filter(|due| self.now < *due) {
            self.next = Next::At(due);
            self.forget_pod_address();
            return false;
        }
        self.draft.status.restarts = Some(restarts);
        self.forget_pod();
        true
    }

    /// A claim is owned by the workspace if it shall go with it, and by nobody if it shall stay.
    fn settle_claim_owner(&mut self, retention: RetentionPolicy) {
        let wanted: Vec<OwnerReference> = match retention {
            RetentionPolicy::Retain => Vec::new(),
            RetentionPolicy::Delete => build::owner(self.observed.workspace).into_iter().collect(),
        };
        let present =
            self.observed.claim.and_then(|claim| claim.metadata.owner_references.clone()).unwrap_or_default();
        if present != wanted {
            self.first.push(Action::SetClaimOwners(wanted));
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
        if !pod.ready && !was_ready && pod.problem.is_some() && self.was_corrected() {
            // What was wrong with it may be what was changed.
            self.first.push(Action::DeletePod { uid: pod.uid.clone() });
            return;
        }
        self.describe(pod, &memory, same);
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
        match (&memory.drain, &memory.report) {
            (Some(drain), _) if matches!(drain.what, Drain::Done(_)) => {
                self.first.push(Action::DeletePod { uid: pod.uid.clone() });
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

    /// Whether the pod that is there would be made differently today.
    fn was_corrected(&self) -> bool {
        let Some(terms) = self.verdict.terms.as_ref().filter(|_| self.verdict.accepted) else {
            return false;
        };
        let Observed { workspace, tier, settings, .. } = *self.observed;
        let wanted = build::pod(workspace, tier, terms, settings);
        let hash = |pod: &Pod| pod.metadata.annotations.as_ref()?.get(keys::TEMPLATE_HASH).cloned();
        let present = self.observed.pod.and_then(hash);
        present.is_some() && present != hash(&wanted)
    }

    fn describe(&mut self, pod: &AlivePod, memory: &Memory, same: bool) {
        let started = memory.start.as_ref().map(|start| start.at).or(pod.created);
        let endpoint = pod.ip.as_deref().map(build::endpoint);
        let name = self.child_name();
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
        }
        self.draft.running();
    }

    fn ready(&mut self, pod: &AlivePod, memory: &Memory, same: bool) {
        if !same || self.before.ready_time.is_none() {
            self.draft.status.ready_time = Some(seconds(self.now));
            let since = memory.start.as_ref().map(|start| start.at).or(pod.created);
            if let Some(took) =
                since.and_then(|since| std::time::Duration::try_from(self.now.duration_since(since)).ok())
            {
                self.draft.status.start_duration = Some(dexorder_crds::Duration::from_std(took));
                let kind = memory.start.as_ref().map_or(StartKind::Restart, |start| start.what);
                self.started = Some(Started { kind, took });
            }
        }
        self.draft.set(ConditionType::Ready, "True", ready::READY, "the agent answers".to_owned());
        if self.observed.workspace.spec.operating_mode == OperatingMode::Auto {
            self.watch_idleness(pod, memory);
        } else {
            self.draft.status.idle_deadline_time = None;
        }
    }

    fn not_ready_yet(&mut self, pod: &AlivePod, memory: &Memory, same: bool) {
        if let Some(problem) = &pod.problem {
            self.draft.not_ready(problem.reason, problem.message.clone());
            return;
        }
        let was_ready = same && self.before.ready_time.is_some();
        if was_ready && memory.report.as_ref().is_some_and(|report| report.what.draining) {
            // A drain whose answer was lost: what it refuses needs another pod.
            self.finish_drain(pod);
        } else if was_ready && memory.report.is_none() {
            self.ask(pod, memory);
        }
        let message =
            if pod.ip.is_some() { "the agent does not answer yet" } else { "the pod is on its way" };
        self.draft.not_ready(ready::STARTING, message.to_owned());
        let known = draft::condition(&self.before, ConditionType::Ready).is_some();
        let quiet_until = pod.created.map(|created| created + QUIET_START);
        if let Some(until) = quiet_until.filter(|until| known && pod.ip.is_none() && self.now < *until) {
            self.hold_status = true;
            self.next = Next::At(until);
        }
    }

    fn finish_drain(&mut self, pod: &AlivePod) {
        let memory = self.observed.memory.about(Some(&pod.uid));
        match (memory.drain, &pod.ip) {
            (Some(Seen { what: Drain::Done(_), .. }), _) | (_, None) => {
                self.first.push(Action::DeletePod { uid: pod.uid.clone() });
            }
            (Some(Seen { at, what: Drain::Unanswered(_) }), _) if self.now < at + DRAIN_AGAIN => {
                self.next = Next::At(at + DRAIN_AGAIN);
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
        let quiet = memory.silence.as_ref().map(|silence| silence.at + super::idle::ASK_AGAIN);
        match (quiet.filter(|until| self.now < *until), &pod.ip) {
            (Some(until), _) => self.next = Next::At(until),
            (None, Some(ip)) => self.then.push(Action::Ask { pod_uid: pod.uid.clone(), ip: ip.clone() }),
            (None, None) => {}
        }
    }

    pub(super) fn forget_pod_address(&mut self) {
        self.draft.status.endpoint = None;
        self.draft.status.idle_deadline_time = None;
    }

    fn forget_pod(&mut self) {
        self.forget_pod_address();
        self.draft.status.ready_time = None;
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
