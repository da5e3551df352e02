//! The hands of the operator: carries out one action or write at a time, each with a time limit. [client]

mod claims;
mod error;
mod pods;

use std::time::Duration;

use dexorder_crds::{UserWorkspace, UserWorkspaceStatus, keys};
use k8s_openapi::api::core::v1::Event as CoreEvent;
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
    runtime::events::{Event, EventType},
};
use serde_json::json;

pub use error::ExecuteError;

use crate::{
    context::Context,
    plan::{Action, Memory, Note, Seen, Start, trouble},
};

/// How long one call to the API server may take.
const API_TIMEOUT: Duration = Duration::from_secs(10);
/// The most events of a pod that are read.
const MOST_EVENTS: u32 = 100;

/// Whether an action taught something that the next plan needs at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Learnt {
    /// Nothing: changes arrive by the watches.
    Nothing,
    /// The sidecar answered, or did not.
    Something,
}

impl Context {
    /// Carries out one action for a workspace.
    pub async fn perform(&self, workspace: &UserWorkspace, action: Action) -> Result<Learnt, ExecuteError> {
        let uid = workspace.uid().unwrap_or_default();
        let asks = matches!(
            action,
            Action::Ask { .. }
                | Action::Drain { .. }
                | Action::RotateKey { .. }
                | Action::Announce { .. }
                | Action::TakePod { .. }
                | Action::Assign { .. }
        );
        match action {
            Action::CreateClaim(claim) => {
                self.notebook.update(&uid, |page| page.made_claim = true);
                self.create_claim(workspace, &claim).await?;
            }
            Action::TakeOver { member, owners, assignment, asked } => {
                let call = self.take_over(workspace, &member, &owners, &assignment, asked);
                Box::pin(call).await?;
                return Ok(Learnt::Something);
            }
            Action::TakePod { pod, assignment, asked } => {
                Box::pin(self.take_pod(workspace, &pod, &assignment, asked)).await?;
            }
            Action::Assign { pod_uid, ip, assignment } => {
                self.assign(workspace, pod_uid, &ip, &assignment).await;
            }
            Action::SetClaimOwners(owners) => {
                let patch = json!({"metadata": {"ownerReferences": owners}});
                self.patch_claim(workspace, &patch).await?;
            }
            Action::MarkClaim(mode) => {
                let patch = json!({"metadata": {"annotations": {keys::AUTH_MODE: mode}}});
                self.patch_claim(workspace, &patch).await?;
            }
            Action::CreatePod { pod, kind, asked } => {
                let start = Start { kind, asked, created: self.clock.now() };
                if let Some(pod_uid) = self.create_pod(workspace, &pod).await? {
                    self.notebook.update(&uid, |page| page.memory = Memory::of_start(pod_uid, start));
                }
            }
            Action::DeletePod { uid: pod_uid, version } => {
                self.delete_pod_once(workspace, &uid, pod_uid, version).await?;
            }
            Action::Line { asked } => {
                self.join_line(workspace, asked);
                return Ok(Learnt::Something);
            }
            Action::DeleteWorkspace => self.delete_workspace(workspace).await?,
            Action::ReadEvents { pod_uid } => {
                self.read_events(workspace, pod_uid).await?;
                return Ok(Learnt::Something);
            }
            Action::Ask { pod_uid, ip } => self.ask(workspace, pod_uid, &ip).await,
            Action::Drain { pod_uid, ip, request } => self.drain(workspace, pod_uid, &ip, &request).await,
            Action::RotateKey { pod_uid, ip, request } => {
                self.rotate_key(workspace, pod_uid, &ip, request).await;
            }
            Action::Announce { pod_uid, ip, deadline, message } => {
                self.announce(workspace, pod_uid, &ip, deadline, message).await;
            }
        }
        Ok(if asks { Learnt::Something } else { Learnt::Nothing })
    }

    /// Deletes the workspace as it was observed. What it owns goes with it.
    async fn delete_workspace(&self, workspace: &UserWorkspace) -> Result<(), ExecuteError> {
        let api: Api<UserWorkspace> = self.namespaced(workspace);
        let name = workspace.name_any();
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: workspace.uid(),
                resource_version: workspace.resource_version(),
            }),
            ..DeleteParams::default()
        };
        let call = api.delete(&name, &params);
        match self.call("delete", "UserWorkspace", full_name(workspace, &name), call).await {
            Err(error) if error.code() == Some(404) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Reads what the events of a pod say.
    async fn read_events(&self, workspace: &UserWorkspace, pod_uid: String) -> Result<(), ExecuteError> {
        let api: Api<CoreEvent> = self.namespaced(workspace);
        let params =
            ListParams::default().fields(&format!("involvedObject.uid={pod_uid}")).limit(MOST_EVENTS);
        let name = full_name(workspace, &self.pod_name(workspace, &pod_uid));
        let events = self.timed("list", "Event", name, api.list(&params)).await?;
        let trouble = Seen { at: self.clock.now(), what: trouble(&events.items) };
        self.remember(workspace, pod_uid, |memory| memory.trouble = Some(trouble));
        Ok(())
    }

    /// Writes the status, provided that nobody has written to the workspace since it was observed.
    pub async fn write_status(
        &self,
        workspace: &UserWorkspace,
        status: &UserWorkspaceStatus,
    ) -> Result<UserWorkspace, ExecuteError> {
        let api: Api<UserWorkspace> = self.namespaced(workspace);
        let name = workspace.name_any();
        let body = json!({
            "apiVersion": UserWorkspace::api_version(&()),
            "kind": UserWorkspace::kind(&()),
            "metadata": {"name": name, "uid": workspace.metadata.uid, "resourceVersion": workspace.metadata.resource_version},
            "status": status,
        });
        let params = PatchParams::apply(keys::FIELD_MANAGER).force();
        let patch = Patch::Apply(&body);
        let call = api.patch_status(&name, &params, &patch);
        let written = self.call("patch", "UserWorkspace", full_name(workspace, &name), call).await?;
        let version = written.resource_version().and_then(|version| version.parse().ok());
        self.notebook.update(&workspace.uid().unwrap_or_default(), |page| page.written = version);
        Ok(written)
    }

    /// Publishes an event. A lost event is logged and no failure.
    pub async fn publish(&self, workspace: &UserWorkspace, note: Note) {
        let event = Event {
            type_: if note.warning { EventType::Warning } else { EventType::Normal },
            reason: note.reason.to_owned(),
            note: Some(note.message),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        let reference = workspace.object_ref(&());
        self.metrics.wrote("create", "Event");
        match tokio::time::timeout(API_TIMEOUT, self.recorder.publish(&event, &reference)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, workspace = %workspace.name_any(), "failed to publish an event");
            }
            Err(_) => tracing::warn!(workspace = %workspace.name_any(), "no answer to an event"),
        }
        self.ending.wrote();
    }

    pub(crate) fn namespaced<K>(&self, workspace: &UserWorkspace) -> Api<K>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), workspace.metadata.namespace.as_deref().unwrap_or_default())
    }

    /// A write, counted and with a time limit.
    pub(crate) async fn call<T>(
        &self,
        verb: &'static str,
        kind: &'static str,
        name: String,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, ExecuteError> {
        self.metrics.wrote(verb, kind);
        let answer = self.timed(verb, kind, name, call).await;
        self.ending.wrote();
        answer
    }

    pub(crate) async fn timed<T>(
        &self,
        verb: &'static str,
        kind: &'static str,
        name: String,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, ExecuteError> {
        match tokio::time::timeout(API_TIMEOUT, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(source)) => Err(ExecuteError::Api { verb, kind, name, source: Box::new(source) }),
            Err(_) => Err(ExecuteError::Timeout { verb, kind, name }),
        }
    }
}

fn post_params() -> PostParams {
    PostParams { field_manager: Some(keys::FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

fn full_name(workspace: &UserWorkspace, name: &str) -> String {
    format!("{}/{name}", workspace.metadata.namespace.as_deref().unwrap_or_default())
}
