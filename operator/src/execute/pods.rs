//! Pods: made, and deleted by their UID. [client]

use std::time::Duration;

use dexorder_crds::{UserWorkspace, keys};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Preconditions},
};
use tokio::time::Instant;

use super::{ExecuteError, full_name, post_params};
use crate::{context::Context, plan::PodState};

/// A change of an object is seen by its watch within this time.
const WATCH_LAG: Duration = Duration::from_secs(5);

impl Context {
    /// The UID of the new pod, or nothing if there is a pod of that name already.
    pub(super) async fn create_pod(
        &self,
        workspace: &UserWorkspace,
        pod: &Pod,
    ) -> Result<Option<String>, ExecuteError> {
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
    pub(super) async fn delete_pod_once(
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

    /// The name of the workspace's pod with that UID.
    pub(super) fn pod_name(&self, workspace: &UserWorkspace, pod_uid: &str) -> String {
        let pod = self.pod_of(workspace, self.claim_of(workspace).as_deref());
        let pod = pod.filter(|pod| pod.metadata.uid.as_deref() == Some(pod_uid));
        pod.map_or_else(|| keys::child_name(&workspace.name_any()), |pod| pod.name_any())
    }
}
