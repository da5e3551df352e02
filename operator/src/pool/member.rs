//! What a pod or a claim of the pool says of itself. [no client]

use std::sync::Arc;

use dexorder_crds::keys;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::{Resource, ResourceExt};

/// A free, ready member.
#[derive(Clone, Debug, PartialEq)]
pub struct Free {
    /// Its pod.
    pub pod: Arc<Pod>,
    /// Its claim.
    pub claim: Arc<PersistentVolumeClaim>,
}

impl Free {
    /// Both, if they can be given away together.
    pub fn of(pod: Arc<Pod>, claim: Arc<PersistentVolumeClaim>) -> Option<Self> {
        let whole = free(pod.as_ref()) && free(claim.as_ref()) && ready(&pod) && whole_claim(&claim);
        whole.then_some(Self { pod, claim })
    }
}

/// Whether the pod or claim is in a pool and nobody's.
pub fn free<K: Resource>(object: &K) -> bool {
    object.labels().contains_key(keys::POOL_LABEL)
        && !object.labels().contains_key(keys::WORKSPACE_LABEL)
        && !object.annotations().contains_key(keys::USER_ID)
        && !object.annotations().contains_key(keys::ASSIGNMENT)
}

/// Whether the claim can be given away.
pub(super) fn whole_claim(claim: &PersistentVolumeClaim) -> bool {
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    claim.metadata.deletion_timestamp.is_none() && phase != Some("Lost")
}

/// Whether the pod has ended and will not come back.
pub(super) fn ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Failed" | "Succeeded"))
}

/// Whether the agent answers.
pub(super) fn ready(pod: &Pod) -> bool {
    let Some(status) = &pod.status else { return false };
    let ready = |all: &Vec<_>| {
        all.iter().any(|one: &k8s_openapi::api::core::v1::PodCondition| {
            one.type_ == "Ready" && one.status == "True"
        })
    };
    pod.metadata.deletion_timestamp.is_none()
        && !ended(pod)
        && status.pod_ip.as_ref().is_some_and(|ip| !ip.is_empty())
        && status.conditions.as_ref().is_some_and(ready)
}

/// What the pod or the claim was made from.
pub(super) fn hash<K: Resource>(object: &K) -> Option<&str> {
    object.annotations().get(keys::TEMPLATE_HASH).map(String::as_str)
}
