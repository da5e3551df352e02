//! The watches: narrowed by label, trimmed before anything is stored. [client]

use std::fmt::Debug;

use dexorder_crds::keys;
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, Pod, PodSpec};
use kube::{
    Api, Resource, ResourceExt,
    runtime::{
        WatchStreamExt,
        reflector::{Lookup, Store, reflector, store},
        watcher::{self, watcher},
    },
};
use serde::de::DeserializeOwned;

/// A store and the stream that fills it and tells what changed.
pub struct Watched<K: Lookup + Clone + 'static>
where
    K::DynamicType: std::hash::Hash + Eq + Clone,
{
    /// What the API server has.
    pub store: Store<K>,
    /// Each object that was made, changed or deleted.
    pub changes: futures::stream::BoxStream<'static, Result<K, watcher::Error>>,
}

/// Watches every object of that API, each trimmed before it is stored.
pub fn watch<K>(api: Api<K>, config: watcher::Config, trim: fn(&mut K)) -> Watched<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let (store, writer) = store();
    let events = watcher(api, config).default_backoff().modify(trim);
    let changes = reflector(writer, events).touched_objects().boxed();
    Watched { store, changes: logged(changes).boxed() }
}

/// Only what belongs to workspaces and the warm pool. One watch for both: what is taken over never leaves it.
pub fn of_workspaces() -> watcher::Config {
    watcher::Config::default().labels(&format!(
        "app.kubernetes.io/managed-by={},app.kubernetes.io/name={}",
        keys::MANAGED_BY,
        keys::APP_NAME
    ))
}

/// The workspaces of the operator of that name, or those that are labelled with no operator.
pub fn of_operator(name: Option<&str>) -> watcher::Config {
    let label = keys::OPERATOR_LABEL;
    watcher::Config::default()
        .labels(&name.map_or_else(|| format!("!{label}"), |name| format!("{label}={name}")))
}

/// The managed fields are the larger part of most objects, and nobody reads them here.
pub fn trim<K: Resource>(object: &mut K) {
    object.managed_fields_mut().clear();
}

/// Of a pod the operator reads its owners, what it was made from, the keys that it trusts, to whom it was
/// given, its node and its status.
pub fn trim_pod(pod: &mut Pod) {
    trim(pod);
    let read = [keys::TEMPLATE_HASH, keys::IDENTITY_KEYS, keys::ASSIGNMENT];
    pod.annotations_mut().retain(|key, _| read.contains(&key.as_str()));
    let node_name = pod.spec.take().and_then(|spec| spec.node_name);
    pod.spec = Some(PodSpec { node_name, ..PodSpec::default() });
}

/// Of a claim the plan reads its owners, its user, its auth mode, what it was made from, the node of its volume and its
/// phase.
pub fn trim_claim(claim: &mut PersistentVolumeClaim) {
    trim(claim);
    let read = [keys::USER_ID, keys::AUTH_MODE, keys::SELECTED_NODE, keys::TEMPLATE_HASH];
    claim.annotations_mut().retain(|key, _| read.contains(&key.as_str()));
    claim.spec = Some(PersistentVolumeClaimSpec::default());
}

fn logged<K>(
    changes: impl Stream<Item = Result<K, watcher::Error>>,
) -> impl Stream<Item = Result<K, watcher::Error>>
where
    K: Resource<DynamicType = ()>,
{
    changes.inspect(|change| {
        if let Err(error) = change {
            tracing::warn!(kind = %K::kind(&()), %error, "a watch broke off and is tried again");
        }
    })
}
