//! Asking the sidecar for its report. [no client]

use k8s_openapi::jiff::Timestamp;

use super::{Action, AlivePod, Planner, idle::ASK_AGAIN, memory::Memory};

impl Planner<'_> {
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
        let until = memory.silence.as_ref().map(|silence| silence.at + ASK_AGAIN);
        until.filter(|until| self.now < *until)
    }
}
