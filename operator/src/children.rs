//! Which pod and which claim are a workspace's: those of its name, or a member of the warm pool that it was given.
//! [no client]

use std::sync::Arc;

use dexorder_crds::{UserWorkspace, keys};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::{
    Resource, ResourceExt,
    runtime::reflector::{ObjectRef, Store},
};

use crate::{context::Context, plan, pool::Free};

/// A member that was just taken over, as the API server answered. The watches may not show it yet.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    /// Its claim.
    pub claim: Option<Arc<PersistentVolumeClaim>>,
    /// Its pod.
    pub pod: Option<Arc<Pod>>,
}

impl Context {
    /// The claim of the workspace.
    pub(crate) fn claim_of(&self, workspace: &UserWorkspace) -> Option<Arc<PersistentVolumeClaim>> {
        let own = keys::child_name(&workspace.name_any());
        if let Some(claim) = get(&self.stores.claims, workspace, &own) {
            return Some(claim);
        }
        let taken = self.notebook.read(&workspace.uid().unwrap_or_default()).taken.claim;
        if let Some(claim) = taken.and_then(|taken| newest(&self.stores.claims, taken)) {
            return Some(claim).filter(|claim| plan::bears(claim.as_ref(), workspace));
        }
        let shown = workspace.status.as_ref().and_then(|status| status.claim_name.as_deref());
        if shown == Some(own.as_str()) {
            return None;
        }
        let theirs = |claim: &PersistentVolumeClaim| {
            is_member(claim) && claim.namespace() == workspace.namespace() && plan::bears(claim, workspace)
        };
        let shown =
            shown.and_then(|name| get(&self.stores.claims, workspace, name)).filter(|claim| theirs(claim));
        // An operator that ended in between may have written it nowhere else but on the claim.
        shown.or_else(|| {
            let all = self.stores.claims.state_filter(theirs);
            all.into_iter().min_by_key(|claim| claim.name_any())
        })
    }

    /// The pod of the workspace with that claim. A member that is on the claim is the workspace's until it is gone.
    pub(crate) fn pod_of(
        &self,
        workspace: &UserWorkspace,
        claim: Option<&PersistentVolumeClaim>,
    ) -> Option<Arc<Pod>> {
        let uid = workspace.uid().unwrap_or_default();
        let taken = self.notebook.read(&uid).taken.pod;
        if let Some(taken) = taken
            && let Some(pod) = newest(&self.stores.pods, taken.clone())
            && pod.metadata.uid == taken.metadata.uid
        {
            return Some(pod);
        }
        let on_claim = claim.filter(|claim| is_member(*claim)).map(ResourceExt::name_any);
        if let Some(pod) = on_claim.and_then(|name| get(&self.stores.pods, workspace, &name)) {
            return Some(pod);
        }
        let own = get(&self.stores.pods, workspace, &keys::child_name(&workspace.name_any()));
        own.or_else(|| {
            let shown = workspace.status.as_ref()?.pod_name.as_deref()?;
            let pod = get(&self.stores.pods, workspace, shown)?;
            let owned = pod.owner_references().iter().any(|owner| owner.uid == uid);
            owned.then_some(pod)
        })
    }

    /// A member that the workspace may take over. As many as wait before it are left for them.
    pub(crate) fn member_for(&self, workspace: &UserWorkspace) -> Option<Free> {
        let uid = workspace.uid().unwrap_or_default();
        let known = workspace.status.as_ref().is_some_and(|status| status.start_time.is_some());
        if known || self.desk.scope.namespace != workspace.namespace() || self.notebook.read(&uid).made_claim
        {
            return None;
        }
        let tier = &workspace.spec.tier;
        let mut free = self.desk.ready(tier).into_iter().filter_map(|name| {
            let pod = get(&self.stores.pods, workspace, &name)?;
            let claim = get(&self.stores.claims, workspace, &name)?;
            let spoken_for = self.desk.is_spoken_for(pod.metadata.uid.as_deref().unwrap_or_default());
            Free::of(pod, claim).filter(|_| !spoken_for)
        });
        free.nth(self.line.ahead(&uid, tier))
    }
}

fn is_member<K: Resource>(object: &K) -> bool {
    object.meta().name.as_deref().and_then(keys::member_of).is_some()
}

fn get<K>(store: &Store<K>, workspace: &UserWorkspace, name: &str) -> Option<Arc<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    store.get(&ObjectRef::new(name).within(workspace.metadata.namespace.as_deref().unwrap_or_default()))
}

/// The object as the watch shows it, or as it was answered if that is newer. None if it is gone.
fn newest<K>(store: &Store<K>, answered: Arc<K>) -> Option<Arc<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let name = answered.name_any();
    let stored = store.get(&ObjectRef::new(&name).within(&answered.namespace().unwrap_or_default()))?;
    // Resource versions of one kind of object can be compared as numbers (KEP-5504).
    let version = |object: &K| object.resource_version().and_then(|version| version.parse::<u64>().ok());
    Some(if version(&answered) > version(&stored) { answered } else { stored })
}
