//! Signing keys that change while the operator runs: read again, and told to the pods that run. [client]

use std::time::Duration;

use dexorder_crds::keys;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
    runtime::reflector::ObjectRef,
};
use serde_json::json;
use tokio::time::MissedTickBehavior;

use crate::{
    build::Settings,
    context::Context,
    execute::ExecuteError,
    identity::{self, IdentityKeys},
    pool,
};

/// How often the Secrets are read.
const READ_AGAIN: Duration = Duration::from_secs(10);
/// How long the reading may take.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause between two pods that are told: at most twenty a second.
const PACE: Duration = Duration::from_millis(50);

impl Context {
    /// Follows the Secrets of that namespace for as long as the operator leads.
    pub(crate) async fn follow_keys(&self, namespace: &str) {
        let mut ticks = tokio::time::interval(READ_AGAIN);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match tokio::time::timeout(READ_TIMEOUT, identity::ensure(&self.client, namespace)).await {
                Ok(Ok(keys)) => self.adopt(keys),
                Ok(Err(error)) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the signing keys can't be read: those from before stay in use"
                ),
                Err(_) => tracing::warn!("no answer about the signing keys within {READ_TIMEOUT:?}"),
            }
            self.publish_keys().await;
        }
    }

    fn adopt(&self, keys: IdentityKeys) {
        let IdentityKeys { operator, trusted } = keys;
        if self.sidecars.sign_with(operator) {
            tracing::info!("the operator signs with another key");
        }
        let settings = self.settings.get();
        if settings.identity_keys != trusted {
            self.settings.set(Settings { identity_keys: trusted, ..settings.as_ref().clone() });
            tracing::info!("the sidecars are told of other keys");
        }
    }

    /// Tells every pod of this operator that has other keys than those that are in use now.
    pub(crate) async fn publish_keys(&self) {
        let trusted = &self.settings.get().identity_keys;
        let pods = self.stores.pods.state_filter(|pod| has_others(pod, trusted) && self.is_own(pod));
        for pod in pods {
            match self.tell_keys(&pod, trusted).await {
                Ok(()) => tokio::time::sleep(PACE).await,
                // It is gone, or replaced by one that was made with the new keys.
                Err(error) if matches!(error.code(), Some(404 | 409)) => {}
                Err(error) => {
                    tracing::warn!(%error, "pods are not told of other keys yet: it is tried again");
                    return;
                }
            }
        }
    }

    /// Whether the pod is on a workspace or in a pool of this operator. Another operator beside it has keys of its own,
    /// and its pods are among the watched ones.
    fn is_own(&self, pod: &Pod) -> bool {
        let namespace = pod.namespace().unwrap_or_default();
        match pod.labels().get(keys::WORKSPACE_LABEL) {
            Some(workspace) => {
                self.stores.workspaces.get(&ObjectRef::new(workspace).within(&namespace)).is_some()
            }
            None => pool::free(pod) && self.desk.scope.holds(pod),
        }
    }

    async fn tell_keys(&self, pod: &Pod, trusted: &str) -> Result<(), ExecuteError> {
        let namespace = pod.namespace().unwrap_or_default();
        let name = pod.name_any();
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        let patch = json!({"metadata": {
            "uid": pod.metadata.uid,
            "annotations": {keys::IDENTITY_KEYS: trusted},
        }});
        let params =
            PatchParams { field_manager: Some(keys::FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(&patch);
        let call = api.patch_metadata(&name, &params, &patch);
        self.call("patch", "Pod", format!("{namespace}/{name}"), call).await.map(drop)
    }
}

/// Whether the pod may still run for a while, and its sidecar trusts other keys.
fn has_others(pod: &Pod, trusted: &str) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    pod.metadata.deletion_timestamp.is_none()
        && !matches!(phase, Some("Succeeded" | "Failed"))
        && pod.annotations().get(keys::IDENTITY_KEYS).is_none_or(|known| known != trusted)
}
