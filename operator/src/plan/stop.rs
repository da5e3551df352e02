//! The workspace shall stop: drain it, delete its pod, keep its volume. [no client]

use dexorder_crds::condition::{ConditionType, ready, suspended};
use dexorder_protocol::control::{DrainMode, DrainRequest};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::{Action, AlivePod, Next, Note, Planner, PodState, draft, draft::seconds, memory::Drain};

/// A stop that was asked for goes on without the sidecar's answer after this time; the agent saves when it is ended.
const GIVE_UP_DRAIN: SignedDuration = SignedDuration::from_secs(60);
/// A silent sidecar is asked again to drain after this time.
pub(super) const DRAIN_AGAIN: SignedDuration = SignedDuration::from_secs(2);

impl Planner<'_> {
    pub(super) fn stop(&mut self, why: &'static str) {
        match self.pod.clone() {
            PodState::Absent | PodState::Foreign => self.stopped(why),
            PodState::Terminating => self.begin_stop(why, "the pod is ending"),
            PodState::Ended(_) => {
                self.begin_stop(why, "the pod has ended");
                if let Some(uid) = self.observed.pod.and_then(|pod| pod.metadata.uid.clone()) {
                    self.then.push(Action::DeletePod { uid });
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
            suspended::REQUESTED => "stopped because spec.operatingMode asked for it; the volume is kept",
            _ => "stopped because it was idle; the volume is kept and the next touch starts it",
        };
        self.draft.suspended(why, message.to_owned());
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
            self.then.push(Action::DeletePod { uid: pod.uid.clone() });
            return;
        };
        let idle = why == suspended::IDLE;
        match memory.drain.as_ref().map(|drain| (drain.at, &drain.what)) {
            Some((_, Drain::Done(_))) => self.then.push(Action::DeletePod { uid: pod.uid.clone() }),
            Some((_, Drain::Refused)) if idle => self.take_back(pod, None),
            Some((_, Drain::Unanswered(why))) if idle => self.take_back(pod, Some(why.clone())),
            Some((at, Drain::Unanswered(why))) if stopping && at > self.stopping_since() + GIVE_UP_DRAIN => {
                self.notes.push(Note {
                    warning: true,
                    reason: "SidecarSilent",
                    message: format!("stopping without a drain, the sidecar did not answer: {why}"),
                });
                self.then.push(Action::DeletePod { uid: pod.uid.clone() });
            }
            Some((at, Drain::Unanswered(_))) if self.now < at + DRAIN_AGAIN => {
                self.next = Next::At(at + DRAIN_AGAIN);
            }
            _ => self.ask_to_drain(pod, ip, idle),
        }
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
        self.next = Next::At(self.now + DRAIN_AGAIN);
    }
}
