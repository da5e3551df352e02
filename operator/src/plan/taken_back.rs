//! A stop that is not wanted any more: taken back while the sidecar still works, brought to its end if it does not.
//! [no client]

use dexorder_crds::condition::ConditionType;
use dexorder_protocol::control::{DrainMode, DrainRequest};

use super::{
    Action, AlivePod, Planner, draft,
    idle::ASK_AGAIN,
    memory::{Drain, Memory, Seen},
    stop::DRAIN_AGAIN,
};

impl Planner<'_> {
    /// The workspace was touched while it was being stopped. If its sidecar refuses work already, the stop goes on
    /// and the next pod starts after it.
    pub(super) fn stop_was_taken_back(&mut self, pod: &AlivePod, memory: &Memory) -> bool {
        let since =
            draft::condition(&self.before, ConditionType::Ready).map(|ready| ready.last_transition_time.0);
        // Written by a replica whose clock was ahead: any answer of late will do.
        let since = since.map(|since| if since > self.now { self.now - ASK_AGAIN } else { since });
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

    /// What a drained sidecar refuses needs another pod.
    pub(super) fn finish_drain(&mut self, pod: &AlivePod) {
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
}
