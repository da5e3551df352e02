//! What the looks at workspaces and the keeper of the pool share: which members are ready, and which are spoken for.
//! [no client]

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use dexorder_crds::keys;
use kube::{Resource, ResourceExt};
use tokio::{sync::Notify, time::Instant};

/// Whoever has spoken for a member has taken it, or failed to, after this time.
const SPOKEN_FOR: Duration = Duration::from_mins(1);

/// Which members the operator keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Namespace of the members. Without one there is no pool.
    pub namespace: Option<String>,
    /// Name of the operator, if it has one.
    pub operator: Option<String>,
}

impl Scope {
    /// Whether a member with these labels is one of those, wherever it is.
    pub fn holds<K: Resource>(&self, member: &K) -> bool {
        member.labels().get(keys::OPERATOR_LABEL) == self.operator.as_ref()
    }
}

/// The desk at which members are given away.
#[derive(Debug, Default)]
pub struct Desk {
    /// Which members the operator keeps.
    pub scope: Scope,
    /// Wakes the keeper.
    pub wake: Notify,
    ready: Mutex<HashMap<String, Vec<String>>>,
    spoken_for: Mutex<HashMap<String, Instant>>,
}

impl Desk {
    /// A desk for those members.
    pub fn new(scope: Scope) -> Self {
        Self { scope, ..Self::default() }
    }

    /// Names of the members of that tier that were ready when the keeper last looked.
    pub fn ready(&self, tier: &str) -> Vec<String> {
        lock(&self.ready).get(tier).cloned().unwrap_or_default()
    }

    pub(super) fn set_ready(&self, tier: &str, names: Vec<String>) {
        let mut ready = lock(&self.ready);
        if names.is_empty() {
            ready.remove(tier);
        } else {
            ready.insert(tier.to_owned(), names);
        }
    }

    /// Speaks for the member whose pod has this UID. Only one can.
    pub fn speak_for(&self, pod_uid: &str) -> bool {
        let mut all = lock(&self.spoken_for);
        if all.get(pod_uid).is_some_and(|at| at.elapsed() < SPOKEN_FOR) {
            return false;
        }
        all.insert(pod_uid.to_owned(), Instant::now());
        true
    }

    /// Whether somebody has spoken for it.
    pub fn is_spoken_for(&self, pod_uid: &str) -> bool {
        lock(&self.spoken_for).get(pod_uid).is_some_and(|at| at.elapsed() < SPOKEN_FOR)
    }

    pub(super) fn tidy(&self) {
        lock(&self.spoken_for).retain(|_, at| at.elapsed() < SPOKEN_FOR);
    }
}

// Each change is one call: a poisoned lock holds whole values.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
