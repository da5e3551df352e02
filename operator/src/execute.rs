//! The hands of the operator: carries out one action or write at a time, each with a time limit. [client]

use std::time::Duration;

use dexorder_crds::{UserWorkspace, UserWorkspaceStatus, condition::ready, keys};
use k8s_openapi::api::core::v1::{Event as CoreEvent, PersistentVolumeClaim, Pod};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
    runtime::events::{Event, EventType},
};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    context::Context,
    plan::{Action, ClaimState, Memory, Note, PodState, Seen, Start, trouble},
};

/// How long one call to the API server may take.
const API_TIMEOUT: Duration = Duration::from_secs(10);

/// The most events of a pod that are read.
const MOST_EVENTS: u32 = 100;
/// A change of an object is seen by its watch within this time.
const WATCH_LAG: Duration = Duration::from_secs(5);

/// Why an action failed.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    /// The API server refused or could not be reached.
    #[error("failed to {verb} {kind} {name}: {source}")]
    Api {
        /// What was tried.
        verb: &'static str,
        /// On which kind of object.
        kind: &'static str,
        /// Namespace and name of the object.
        name: String,
        /// What failed.
        #[source]
        source: Box<kube::Error>,
    },
    /// The claim of the workspace's name is not the workspace's.
    #[error("{0}")]
    ClaimTaken(String),
    /// The pod of the workspace's name is not the workspace's.
    #[error("pod {0} belongs to something else; delete it or give the workspace another name")]
    PodNameTaken(String),
    /// The API server did not answer.
    #[error("failed to {verb} {kind} {name}: no answer within {API_TIMEOUT:?}")]
    Timeout {
        /// What was tried.
        verb: &'static str,
        /// On which kind of object.
        kind: &'static str,
        /// Namespace and name of the object.
        name: String,
    },
}

impl ExecuteError {
    /// The HTTP status of a refusal.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            Self::ClaimTaken(_) | Self::PodNameTaken(_) | Self::Timeout { .. } => None,
        }
    }

    /// Whether somebody else wrote in between: look again soon.
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }

    /// The reason of `Ready` if it fails for good: a permission, a quota, an invalid object, a name that is taken.
    pub fn refusal(&self) -> Option<&'static str> {
        match self {
            Self::ClaimTaken(_) => Some(ready::STORAGE_NOT_READY),
            Self::PodNameTaken(_) => Some(ready::POD_NAME_TAKEN),
            Self::Api { .. } => matches!(self.code(), Some(400 | 403 | 422)).then_some(ready::REFUSED_BY_API),
            Self::Timeout { .. } => None,
        }
    }
}

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

    async fn create_claim(
        &self,
        workspace: &UserWorkspace,
        claim: &PersistentVolumeClaim,
    ) -> Result<(), ExecuteError> {
        let api: Api<PersistentVolumeClaim> = self.namespaced(workspace);
        let name = full_name(workspace, &claim.name_any());
        let answer = self
            .call("create", "PersistentVolumeClaim", name.clone(), api.create(&post_params(), claim))
            .await;
        match answer {
            Err(error) if error.is_conflict() => {
                // A claim without the product's labels is not among the watched ones.
                let child = claim.name_any();
                let present = self.timed("get", "PersistentVolumeClaim", name, api.get_opt(&child)).await?;
                let state = ClaimState::of(present.as_ref(), &workspace.spec);
                let (_, _, message) = state.condition(&child);
                if state.usable() { Ok(()) } else { Err(ExecuteError::ClaimTaken(message)) }
            }
            other => other.map(drop),
        }
    }

    async fn patch_claim(
        &self,
        workspace: &UserWorkspace,
        patch: &serde_json::Value,
    ) -> Result<(), ExecuteError> {
        let api: Api<PersistentVolumeClaim> = self.namespaced(workspace);
        let own = || keys::child_name(&workspace.name_any());
        let name = self.claim_of(workspace).map_or_else(own, |claim| claim.name_any());
        let params =
            PatchParams { field_manager: Some(keys::FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(patch);
        let call = api.patch_metadata(&name, &params, &patch);
        self.call("patch", "PersistentVolumeClaim", full_name(workspace, &name), call).await.map(drop)
    }

    /// The UID of the new pod, or nothing if there is a pod of that name already.
    async fn create_pod(&self, workspace: &UserWorkspace, pod: &Pod) -> Result<Option<String>, ExecuteError> {
        let api: Api<Pod> = self.namespaced(workspace);
        let name = full_name(workspace, &pod.name_any());
        match self.call("create", "Pod", name.clone(), api.create(&post_params(), pod)).await {
            Ok(made) => Ok(made.uid()),
            Err(error) if error.is_conflict() => {
                // A pod without the product's labels is not among the watched ones.
                let present = self.timed("get", "Pod", name, api.get_opt(&pod.name_any())).await?;
                match PodState::of(present.as_ref(), workspace) {
                    PodState::Foreign => Err(ExecuteError::PodNameTaken(pod.name_any())),
                    _ => Ok(None),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Deletes the pod unless that was just done: a look that comes before the watch need not do it again.
    async fn delete_pod_once(
        &self,
        workspace: &UserWorkspace,
        workspace_uid: &str,
        pod_uid: String,
        version: Option<String>,
    ) -> Result<(), ExecuteError> {
        let just_deleted = |(uid, at): (String, Instant)| uid == pod_uid && at.elapsed() < WATCH_LAG;
        if self.notebook.read(workspace_uid).deleted.is_some_and(just_deleted) {
            return Ok(());
        }
        let deleted = self.delete_pod(workspace, &pod_uid, version).await;
        if deleted.as_ref().is_err_and(ExecuteError::is_conflict) {
            // The pod has changed: whoever was silent before may answer now.
            self.notebook.update(workspace_uid, |page| page.memory.forget_silence());
        }
        deleted?;
        self.notebook.update(workspace_uid, |page| page.deleted = Some((pod_uid, Instant::now())));
        Ok(())
    }

    /// Deletes the pod with that UID. That it is gone, or replaced by another, is fine. That it has changed is not, if
    /// it may be deleted only as it was observed.
    async fn delete_pod(
        &self,
        workspace: &UserWorkspace,
        pod_uid: &str,
        version: Option<String>,
    ) -> Result<(), ExecuteError> {
        let as_observed = version.is_some();
        let api: Api<Pod> = self.namespaced(workspace);
        let name = self.pod_name(workspace, pod_uid);
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: Some(pod_uid.to_owned()), resource_version: version }),
            ..DeleteParams::default()
        };
        match self.call("delete", "Pod", full_name(workspace, &name), api.delete(&name, &params)).await {
            Err(error) if error.code() == Some(404) || (error.is_conflict() && !as_observed) => Ok(()),
            other => other.map(drop),
        }
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

    /// Reads what the events of a pod say of a start that takes long.
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

    /// The name of the workspace's pod with that UID.
    fn pod_name(&self, workspace: &UserWorkspace, pod_uid: &str) -> String {
        let pod = self.pod_of(workspace, self.claim_of(workspace).as_deref());
        let pod = pod.filter(|pod| pod.metadata.uid.as_deref() == Some(pod_uid));
        pod.map_or_else(|| keys::child_name(&workspace.name_any()), |pod| pod.name_any())
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
