//! What every look at a workspace shares.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use dexorder_crds::{UserWorkspace, WorkspaceTier};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::{
    Client,
    runtime::{
        events::Recorder,
        reflector::{ObjectRef, Store},
    },
};

use crate::{
    build::Settings, children::Taken, clock::Clock, ending::Ending, line::Line, metrics::Metrics,
    plan::Memory, pool::Desk, sidecar::Sidecars,
};

/// What every look at a workspace shares.
pub struct Context {
    /// For writes.
    pub client: Client,
    /// For the sidecars' control API.
    pub sidecars: Sidecars,
    /// For events.
    pub recorder: Recorder,
    /// For Prometheus.
    pub metrics: std::sync::Arc<Metrics>,
    /// What every pod is built with, as it is now.
    pub settings: Shared<Settings>,
    /// What the API server has, as far as it is known here.
    pub stores: Stores,
    /// What is remembered of each workspace, by UID.
    pub notebook: Notebook,
    /// Who has which member of the warm pools.
    pub desk: Desk,
    /// Who may start now, and who waits.
    pub line: Line,
    /// The time of day.
    pub clock: Clock,
    /// When the process ends, in a test.
    pub ending: Ending,
    /// Whose turn has come.
    pub turns: tokio::sync::mpsc::Sender<ObjectRef<UserWorkspace>>,
}

/// A value that may be replaced while it is read.
#[derive(Debug)]
pub struct Shared<T>(RwLock<Arc<T>>);

impl<T> Shared<T> {
    /// With that value at first.
    pub fn new(value: T) -> Self {
        Self(RwLock::new(Arc::new(value)))
    }

    /// The value as it is now.
    pub fn get(&self) -> Arc<T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts another in its place.
    pub fn set(&self, value: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
    }
}

/// The watched objects.
#[derive(Clone)]
pub struct Stores {
    /// All workspaces.
    pub workspaces: Store<UserWorkspace>,
    /// All tiers.
    pub tiers: Store<WorkspaceTier>,
    /// The pods of workspaces.
    pub pods: Store<Pod>,
    /// The claims of workspaces.
    pub claims: Store<PersistentVolumeClaim>,
}

/// What is remembered of one workspace.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// What the plan may know.
    pub memory: Memory,
    /// Resource version after the last write of the status: an older copy in a store is out of date.
    pub written: Option<u64>,
    /// A claim of the warm pool of which nobody knows whether it was taken over: the answer never came.
    pub doubtful: Option<String>,
    /// The member of the warm pool that was taken over.
    pub taken: Taken,
    /// Whether a claim of its own was made, or tried to be.
    pub made_claim: bool,
    /// The pod whose deletion was accepted last, and when. The watch may still show it for a moment.
    pub deleted: Option<(String, tokio::time::Instant)>,
    /// Failed looks in a row.
    pub failures: u32,
}

/// Pages by the workspaces' UIDs.
#[derive(Debug, Default)]
pub struct Notebook(Mutex<HashMap<String, Page>>);

impl Notebook {
    /// A copy of the page of that workspace.
    pub fn read(&self, uid: &str) -> Page {
        self.pages().get(uid).cloned().unwrap_or_default()
    }

    /// Changes the page of that workspace.
    pub fn update<T>(&self, uid: &str, change: impl FnOnce(&mut Page) -> T) -> T {
        change(self.pages().entry(uid.to_owned()).or_default())
    }

    /// Forgets workspaces that are gone.
    pub fn retain(&self, exists: impl Fn(&str) -> bool) {
        self.pages().retain(|uid, _| exists(uid));
    }

    // A poisoned lock holds pages that are each whole: a change is one assignment.
    fn pages(&self) -> std::sync::MutexGuard<'_, HashMap<String, Page>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
