//! Claims: made, and their metadata changed. [client]

use dexorder_crds::{UserWorkspace, keys};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};

use super::{ExecuteError, full_name, post_params};
use crate::{context::Context, plan::ClaimState};

impl Context {
    pub(super) async fn create_claim(
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

    pub(super) async fn patch_claim(
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
}
