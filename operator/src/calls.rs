//! What the operator asks of a sidecar, and what it remembers of the answer. [client]

use dexorder_crds::UserWorkspace;
use dexorder_protocol::control::{Assignment, DrainRequest, NotifyLevel, NotifyRequest};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use crate::{
    context::Context,
    plan::{Answered, Drain, Memory, Note, Seen},
};

impl Context {
    /// Asks for the report.
    pub(crate) async fn ask(&self, workspace: &UserWorkspace, pod_uid: String, ip: &str) {
        let answer = self.sidecars.report(ip, &workspace.uid().unwrap_or_default()).await;
        let at = self.clock.now();
        self.metrics.called_sidecar(if answer.is_ok() { "report" } else { "report_failed" });
        self.remember(workspace, pod_uid, |memory| match answer {
            Ok(report) => {
                memory.report = Some(Seen { at, what: report });
                memory.silence = None;
            }
            Err(error) => {
                tracing::warn!(workspace = %workspace.name_any(), %error, "the sidecar gave no report");
                memory.silence = Some(Seen { at, what: error.to_string() });
            }
        });
    }

    /// Tells the sidecar of a pod that was taken over whom it serves.
    pub(crate) async fn assign(
        &self,
        workspace: &UserWorkspace,
        pod_uid: String,
        ip: &str,
        assignment: &Assignment,
    ) {
        let answer = self.sidecars.assign(ip, &pod_uid, assignment).await;
        let at = self.clock.now();
        self.metrics.called_sidecar(if answer.is_ok() { "assigned" } else { "assign_failed" });
        self.remember(workspace, pod_uid, |memory| match answer {
            Ok(report) => {
                memory.report = Some(Seen { at, what: report });
                memory.silence = None;
            }
            Err(error) => {
                tracing::warn!(workspace = %workspace.name_any(), %error, "the sidecar did not take its assignment");
                memory.silence = Some(Seen { at, what: error.to_string() });
            }
        });
    }

    /// Asks to drain.
    pub(crate) async fn drain(
        &self,
        workspace: &UserWorkspace,
        pod_uid: String,
        ip: &str,
        request: &DrainRequest,
    ) {
        let answer = self.sidecars.drain(ip, &workspace.uid().unwrap_or_default(), request).await;
        let at = self.clock.now();
        self.remember(workspace, pod_uid.clone(), |memory| {
            memory.drain_asked.get_or_insert(at);
        });
        self.metrics.called_sidecar(match &answer {
            Ok(outcome) if outcome.drained => "drained",
            Ok(_) => "drain_refused",
            Err(_) => "drain_failed",
        });
        self.remember(workspace, pod_uid, |memory| match answer {
            Ok(outcome) if outcome.drained => {
                memory.drain = Some(Seen { at, what: Drain::Done(outcome) });
                memory.silence = None;
            }
            Ok(outcome) => {
                memory.report = outcome.report.map(|report| Seen { at, what: *report });
                memory.drain = Some(Seen { at, what: Drain::Refused });
                memory.silence = None;
            }
            Err(error) => {
                tracing::warn!(workspace = %workspace.name_any(), %error, "the sidecar did not drain");
                memory.drain = Some(Seen { at, what: Drain::Unanswered(error.to_string()) });
            }
        });
    }

    /// Asks for another key.
    pub(crate) async fn rotate_key(
        &self,
        workspace: &UserWorkspace,
        pod_uid: String,
        ip: &str,
        request: String,
    ) {
        let answer = self.sidecars.rotate_key(ip, &workspace.uid().unwrap_or_default(), &request).await;
        let at = self.clock.now();
        self.metrics.called_sidecar(if answer.is_ok() { "key_rotated" } else { "key_rotation_failed" });
        self.remember(workspace, pod_uid, |memory| match answer {
            Ok(outcome) => {
                if let Some(report) = memory.report.as_mut() {
                    report.what.public_key = Some(outcome.public_key);
                    report.what.key_rotation = Some(request);
                }
            }
            Err(error) => {
                tracing::warn!(workspace = %workspace.name_any(), %error, "the sidecar did not rotate its key");
                memory.silence = Some(Seen { at, what: error.to_string() });
            }
        });
    }

    /// Tells people and clients that the workspace is about to stop.
    pub(crate) async fn announce(
        &self,
        workspace: &UserWorkspace,
        pod_uid: String,
        ip: &str,
        deadline: Timestamp,
        message: String,
    ) {
        let note = NotifyRequest { level: NotifyLevel::Notice, message: message.clone() };
        let told = self.sidecars.notify(ip, &workspace.uid().unwrap_or_default(), &note).await;
        self.metrics.called_sidecar(if told.is_ok() { "notified" } else { "notify_failed" });
        if let Err(error) = told {
            tracing::warn!(workspace = %workspace.name_any(), %error, "the sidecar did not pass on the announcement");
        }
        self.publish(workspace, Note { warning: true, reason: "IdleStopAnnounced", message }).await;
        self.remember(workspace, pod_uid, |memory| memory.announced = Some(deadline));
    }

    /// Counts the first answer after a start, once.
    pub(crate) fn count_answer(&self, workspace: &UserWorkspace, answered: Answered) {
        self.metrics.answered(&workspace.spec.tier, answered);
        self.notebook.update(&workspace.uid().unwrap_or_default(), |page| page.memory.told_answer = true);
    }

    /// Notes something about a pod of the workspace. What was known of another pod is forgotten.
    pub(crate) fn remember(
        &self,
        workspace: &UserWorkspace,
        pod_uid: String,
        note: impl FnOnce(&mut Memory),
    ) {
        self.notebook.update(&workspace.uid().unwrap_or_default(), |page| {
            page.memory = page.memory.about(Some(&pod_uid));
            page.memory.pod_uid = Some(pod_uid);
            note(&mut page.memory);
        });
    }
}
