//! The key of a workspace of auth mode Direct: shown by its thumbprint, changed on request. [no client]

use dexorder_crds::{AuthMode, keys};

use super::{Action, AlivePod, Planner, memory::Memory};

impl Planner<'_> {
    /// Shows the key, and has it changed if the annotation asks for that.
    pub(super) fn follow_key(&mut self, pod: &AlivePod, memory: &Memory) {
        if self.observed.workspace.spec.auth.mode != AuthMode::Direct {
            self.draft.status.public_key = None;
            return;
        }
        let request = self.rotation_request();
        let Some(report) = memory.report.as_ref().map(|report| &report.what) else {
            if request.is_some() || self.before.public_key.is_none() {
                self.ask(pod, memory);
            }
            return;
        };
        if report.public_key.is_some() {
            self.draft.status.public_key.clone_from(&report.public_key);
        }
        let Some(request) = request.filter(|request| report.key_rotation.as_ref() != Some(request)) else {
            return;
        };
        match (self.silent_until(memory), &pod.ip) {
            (Some(until), _) => self.look_by(until),
            (None, Some(ip)) => {
                let action = Action::RotateKey { pod_uid: pod.uid.clone(), ip: ip.clone(), request };
                self.first.push(action);
            }
            (None, None) => {}
        }
    }

    fn rotation_request(&self) -> Option<String> {
        self.observed.workspace.metadata.annotations.as_ref()?.get(keys::ROTATE_DIRECT_KEY).cloned()
    }
}
