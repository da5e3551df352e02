//! Takes a member of the warm pool over: its claim, then its pod, then its sidecar. [client]
//!
//! Each write holds only if the object is as it was seen, so whoever comes second loses. An operator that ends between two
//! of them leaves a claim that bears its workspace: from there the next one goes on.

use std::sync::Arc;

use dexorder_crds::{UserWorkspace, keys};
use dexorder_protocol::control::Assignment;
use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, Pod},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
    jiff::Timestamp,
};
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    build,
    context::Context,
    execute::ExecuteError,
    plan::{self, Memory, Start, StartKind},
    pool::{self, Free},
    watch::{trim_claim, trim_pod},
};

/// How often a pod that has changed meanwhile is looked at again.
const MOST_TRIES: usize = 3;

impl Context {
    /// Takes the member over. That somebody else was first is no failure: the next plan sees what is left.
    pub(crate) async fn take_over(
        &self,
        workspace: &UserWorkspace,
        member: &Free,
        owners: &[OwnerReference],
        assignment: &Assignment,
        asked: Timestamp,
    ) -> Result<(), ExecuteError> {
        if !self.desk.speak_for(&member.pod.uid().unwrap_or_default()) {
            return Ok(());
        }
        let uid = workspace.uid().unwrap_or_default();
        // Until the answer is there the claim may be the workspace's or not.
        self.notebook.update(&uid, |page| page.doubtful = Some(member.claim.name_any()));
        let mut patch = guarded(member.claim.as_ref(), workspace);
        patch["metadata"]["ownerReferences"] = json!(owners);
        patch["metadata"]["annotations"] = json!({
            keys::USER_ID: workspace.spec.user_id,
            keys::AUTH_MODE: workspace.spec.auth.mode.as_str(),
        });
        let answer = self.patch::<PersistentVolumeClaim>(workspace, &member.claim.name_any(), &patch).await;
        self.desk.wake.notify_one();
        let claim = match answer {
            Ok(claim) => claim,
            Err(error) if matches!(error.code(), Some(404 | 409)) => {
                self.notebook.update(&uid, |page| page.doubtful = None);
                return Ok(());
            }
            Err(error) => {
                if error.code().is_some_and(|code| code < 500) {
                    self.notebook.update(&uid, |page| page.doubtful = None);
                }
                return Err(error);
            }
        };
        self.note_claim(&uid, claim);
        self.take_pod(workspace, &member.pod, assignment, asked).await
    }

    /// Takes the pod over whose claim is the workspace's already, and tells its sidecar.
    pub(crate) async fn take_pod(
        &self,
        workspace: &UserWorkspace,
        pod: &Pod,
        assignment: &Assignment,
        asked: Timestamp,
    ) -> Result<(), ExecuteError> {
        let name = pod.name_any();
        let mut seen = pod.clone();
        for _ in 0..MOST_TRIES {
            let mut patch = guarded(&seen, workspace);
            patch["metadata"]["ownerReferences"] =
                json!(build::owner(workspace).into_iter().collect::<Vec<_>>());
            patch["metadata"]["annotations"] = json!({ keys::ASSIGNMENT: json!(assignment).to_string() });
            match self.patch::<Pod>(workspace, &name, &patch).await {
                Ok(taken) => {
                    self.pod_is_taken(workspace, taken, assignment, asked).await;
                    return Ok(());
                }
                Err(error) if matches!(error.code(), Some(404 | 409)) => {}
                Err(error) => return Err(error),
            }
            // Its status has changed, or it is gone, or this is the second time.
            let api: Api<Pod> = self.namespaced(workspace);
            let present = self.timed("get", "Pod", name.clone(), api.get_opt(&name)).await?;
            match present.filter(|present| present.metadata.uid == pod.metadata.uid) {
                Some(present)
                    if present
                        .owner_references()
                        .iter()
                        .any(|owner| Some(&owner.uid) == workspace.metadata.uid.as_ref()) =>
                {
                    self.pod_is_taken(workspace, present, assignment, asked).await;
                    return Ok(());
                }
                Some(present) if pool::free(&present) && present.metadata.deletion_timestamp.is_none() => {
                    seen = present;
                }
                _ => return Ok(()),
            }
        }
        Ok(())
    }

    async fn pod_is_taken(
        &self,
        workspace: &UserWorkspace,
        mut pod: Pod,
        assignment: &Assignment,
        asked: Timestamp,
    ) {
        trim_pod(&mut pod);
        let pod_uid = pod.uid().unwrap_or_default();
        let ip = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
        let start = Start { kind: StartKind::Warm, asked, created: self.clock.now() };
        self.notebook.update(&workspace.uid().unwrap_or_default(), |page| {
            page.memory = Memory::of_start(pod_uid.clone(), start);
            page.taken.pod = Some(Arc::new(pod));
        });
        if let Some(ip) = ip {
            self.assign(workspace, pod_uid, &ip, assignment).await;
        }
    }

    /// Asks for the claim of which nobody knows whether it was taken over.
    pub(crate) async fn settle_doubt(&self, workspace: &UserWorkspace) -> Result<(), ExecuteError> {
        let uid = workspace.uid().unwrap_or_default();
        let Some(name) = self.notebook.read(&uid).doubtful else {
            return Ok(());
        };
        let api: Api<PersistentVolumeClaim> = self.namespaced(workspace);
        let present = self.timed("get", "PersistentVolumeClaim", name.clone(), api.get_opt(&name)).await?;
        match present.filter(|present| plan::bears(present, workspace)) {
            Some(claim) => self.note_claim(&uid, claim),
            None => self.notebook.update(&uid, |page| page.doubtful = None),
        }
        Ok(())
    }

    fn note_claim(&self, uid: &str, mut claim: PersistentVolumeClaim) {
        trim_claim(&mut claim);
        self.notebook.update(uid, |page| {
            page.doubtful = None;
            page.taken.claim = Some(Arc::new(claim));
        });
    }

    async fn patch<K>(&self, workspace: &UserWorkspace, name: &str, patch: &Value) -> Result<K, ExecuteError>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        let api: Api<K> = self.namespaced(workspace);
        let params =
            PatchParams { field_manager: Some(keys::FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let full_name = format!("{}/{name}", workspace.metadata.namespace.as_deref().unwrap_or_default());
        let kind = if K::kind(&()) == "Pod" { "Pod" } else { "PersistentVolumeClaim" };
        let patch = Patch::Merge(patch);
        self.call("patch", kind, full_name, api.patch(name, &params, &patch)).await
    }
}

/// A patch that takes the object out of its pool and gives it to the workspace, if it is as it was seen.
fn guarded<K: Resource>(object: &K, workspace: &UserWorkspace) -> Value {
    let mut labels = json!({ keys::WORKSPACE_LABEL: workspace.name_any() });
    labels[keys::POOL_LABEL] = Value::Null;
    json!({"metadata": {
        "uid": object.meta().uid,
        "resourceVersion": object.meta().resource_version,
        "labels": labels,
    }})
}
