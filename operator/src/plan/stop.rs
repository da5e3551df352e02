//! The workspace shall stop: drain it, delete its pod, keep its volume. [no client]

use dexorder_crds::{
    OperatingMode,
    condition::{ConditionType, ready, suspended},
};
use dexorder_protocol::control::{DrainMode, DrainRequest};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::{Action, AlivePod, Note, Planner, PodState, draft, draft::seconds, memory::Drain, schedule};

/// A stop that was asked for goes on without the sidecar's answer after this time; the agent saves when it is ended.
const GIVE_UP_DRAIN: SignedDuration = SignedDuration::from_secs(60);
/// An answer that the workspace is drained is good for so long: later the sidecar may be another process, which knows
/// nothing of it.
const DRAINED_FOR: SignedDuration = SignedDuration::from_secs(5);
/// A silent sidecar is asked again to drain after this time.
pub(super) const DRAIN_AGAIN: SignedDuration = SignedDuration::from_secs(2);

impl Planner<'_> {
    pub(super) fn stop(&mut self, why: &'static str) {
        match self.pod.clone() {
            // What a deleted workspace has left is the garbage collector's.
            PodState::Absent | PodState::Foreign | PodState::Former(_) => self.stopped(why),
            PodState::Promised(pod) => {
                self.stopped(why);
                self.first.push(Action::DeletePod { uid: pod.uid, version: pod.version });
            }
            PodState::Terminating(_) => self.begin_stop(why, "the pod is ending"),
            PodState::Ended(_) => {
                self.begin_stop(why, "the pod has ended");
                if let Some(uid) = self.observed.pod.and_then(|pod| pod.metadata.uid.clone()) {
                    self.then.push(Action::DeletePod { uid, version: None });
                }
            }
            PodState::Alive(pod) => self.stop_alive(why, &pod),
        }
    }

    fn stopped(&mut self, why: &'static str) {
        let first = !draft::is(&self.before, ConditionType::Suspended, "True");
        if first && !draft::is_stopping(&self.before) {
            self.draft.status.observed_touch = self.touch();
        }
        if first && self.before.pod_uid.is_some() {
            let memory = self.observed.memory.about(self.before.pod_uid.as_deref());
            self.draft.saved(memory.drain.as_ref().map(|drain| &drain.what));
        }
        let message = match why {
            suspended::EXPIRED => {
                "an anonymous visitor's workspace lives no longer: it is removed with its volume"
            }
            suspended::REQUESTED => "stopped because spec.operatingMode asked for it; the volume is kept",
            _ => "stopped because it was idle; the volume is kept and the next touch starts it",
        };
        self.draft.suspended(why, message.to_owned());
        self.up_to_date("nothing runs; the next start is what manifest and tier ask for then");
        self.draft_next_wake(why, first);
        self.remove_expired(why);
    }

    /// When a schedule starts it again. The time between the decision to stop and the end of the stop counts too.
    fn draft_next_wake(&mut self, why: &str, first: bool) {
        let spec = &self.observed.workspace.spec;
        if spec.operating_mode == OperatingMode::Suspended || why == suspended::EXPIRED {
            self.draft.status.next_wake_time = None;
            return;
        }
        let changed = self.before.observed_generation != self.observed.workspace.metadata.generation;
        let known = self.before.next_wake_time.as_ref().filter(|_| !first && !changed).map(|time| time.0);
        let since = if first { self.stopping_since() } else { self.now };
        let next = known.or_else(|| schedule::next(&spec.wake_schedules, since));
        self.draft.status.next_wake_time = next.map(seconds);
        if let Some(next) = next {
            self.look_by(next);
        }
    }

    fn begin_stop(&mut self, why: &'static str, message: &str) {
        if !draft::is_stopping(&self.before) {
            let touch = self.touch();
            self.draft.stopping(why, touch, message.to_owned());
        }
    }

    fn stop_alive(&mut self, why: &'static str, pod: &AlivePod) {
        let stopping = draft::is_stopping(&self.before);
        self.begin_stop(why, "saving and stopping");
        self.draft.status.pod_uid = Some(pod.uid.clone());
        let memory = self.observed.memory.about(Some(&pod.uid));
        let Some(ip) = pod.ip.clone() else {
            // Nothing has run yet that could be saved.
            let version = pod.version.clone();
            self.then.push(Action::DeletePod { uid: pod.uid.clone(), version });
            return;
        };
        let idle = why == suspended::IDLE;
        match memory.drain.as_ref().map(|drain| (drain.at, &drain.what)) {
            Some((at, Drain::Done(_))) if self.is_drained(at) => {
                self.then.push(Action::DeletePod { uid: pod.uid.clone(), version: None });
            }
            Some((_, Drain::Refused)) if idle => self.take_back(pod, None),
            Some((_, Drain::Unanswered(why))) if idle => self.take_back(pod, Some(why.clone())),
            Some((at, Drain::Unanswered(why)))
                if stopping && memory.drain_asked.is_some_and(|asked| at > asked + GIVE_UP_DRAIN) =>
            {
                self.notes.push(Note {
                    warning: true,
                    reason: "SidecarSilent",
                    message: format!("stopping without a drain, the sidecar did not answer: {why}"),
                });
                // It may have come up just now, and would answer.
                let version = pod.version.clone();
                self.then.push(Action::DeletePod { uid: pod.uid.clone(), version });
            }
            Some((at, Drain::Unanswered(_))) if self.now < at + DRAIN_AGAIN => {
                self.look_by(at + DRAIN_AGAIN);
            }
            _ => self.ask_to_drain(pod, ip, idle),
        }
    }

    /// Whether an answer of then, that the workspace is drained, still holds.
    pub(super) fn is_drained(&self, at: Timestamp) -> bool {
        self.now < at + DRAINED_FOR
    }

    /// Since when the workspace is on its way to a stop.
    fn stopping_since(&self) -> Timestamp {
        let ready = draft::condition(&self.before, ConditionType::Ready);
        ready.map_or(self.now, |ready| ready.last_transition_time.0)
    }

    fn ask_to_drain(&mut self, pod: &AlivePod, ip: String, idle: bool) {
        // The status has whole seconds: the last activity may be up to one later.
        let since = self.before.last_activity_time.as_ref().map(|time| time.0 + SignedDuration::from_secs(1));
        let mode = if idle { DrainMode::IfIdle } else { DrainMode::Force };
        self.then.push(Action::Drain {
            pod_uid: pod.uid.clone(),
            ip,
            request: DrainRequest { mode, idle_since_time: since.filter(|_| idle), deadline_seconds: None },
        });
    }

    /// The workspace is not idle after all, or nobody can tell: it stays up.
    fn take_back(&mut self, pod: &AlivePod, silence: Option<String>) {
        self.draft.running();
        self.draft.status.endpoint = pod.ip.as_deref().map(crate::build::endpoint);
        self.draft.status.suspend_reason = None;
        let status = if pod.ready { "True" } else { "False" };
        let reason = if pod.ready { ready::READY } else { ready::STARTING };
        self.draft.set(ConditionType::Ready, status, reason, "not idle after all: it stays up".to_owned());
        self.draft.status.last_activity_time = Some(seconds(self.now));
        if let Some(silence) = silence {
            self.notes.push(Note {
                warning: true,
                reason: "SidecarSilent",
                message: format!("not stopped, the sidecar did not answer the drain: {silence}"),
            });
        }
        self.look_by(self.now + DRAIN_AGAIN);
    }
}
