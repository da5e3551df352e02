//! Follows the workspaces of the namespace. One that can't be read is skipped, not the rest.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dexorder_crds::UserWorkspace;
use futures::StreamExt;
use kube::core::DeserializeGuard;
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use tokio::sync::watch;
use tokio::time::Instant;

use super::index::Index;
use super::record::Workspace;

/// How long the watch may be broken before the gateway counts as not ready. What is known stays in use.
const BROKEN_AFTER: Duration = Duration::from_secs(15);
/// Length of one watch call. A connection that died silently is noticed five seconds after it.
const WATCH_SECONDS: u32 = 60;
/// Time before a broken watch is begun anew: the shortest, doubled each time, and the longest.
const MIN_PAUSE: Duration = Duration::from_millis(250);
const MAX_PAUSE: Duration = Duration::from_secs(8);

/// Whether what is known of the workspaces is complete and current.
pub(crate) struct Health {
    listed: watch::Sender<bool>,
    broken_since: Mutex<Option<Instant>>,
}

impl Health {
    pub(crate) fn new() -> Self {
        Self { listed: watch::Sender::new(false), broken_since: Mutex::new(None) }
    }

    /// Waits for the first complete list.
    pub(crate) async fn listed(&self) {
        // The sender lives as long as this object: the wait can't fail.
        let _ = self.listed.subscribe().wait_for(|listed| *listed).await;
    }

    /// What is wrong, if something is.
    pub(crate) fn problem(&self) -> Option<&'static str> {
        if !*self.listed.borrow() {
            return Some("the workspaces have not been listed yet");
        }
        let broken = *self.broken_since.lock().unwrap_or_else(PoisonError::into_inner);
        broken
            .filter(|since| since.elapsed() >= BROKEN_AFTER)
            .map(|_| "the watch of the workspaces is broken")
    }

    fn works(&self) {
        *self.broken_since.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn broken(&self) {
        self.broken_since.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Instant::now);
    }
}

/// Follows the workspaces, for ever.
///
/// After an error the list is fetched anew, though the watcher could go on where it was: only a complete list proves
/// that nothing was missed, and a resumed watch would stay silent until something changes.
pub(crate) async fn follow(
    api: Api<DeserializeGuard<UserWorkspace>>,
    index: Arc<Index>,
    health: Arc<Health>,
) {
    let mut pause = MIN_PAUSE;
    loop {
        let config = watcher::Config::default().timeout(WATCH_SECONDS);
        let mut events = std::pin::pin!(watcher(api.clone(), config));
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    if matches!(event, watcher::Event::InitDone) {
                        pause = MIN_PAUSE;
                    }
                    take(event, &index, &health);
                }
                Err(error) => {
                    tracing::warn!(%error, "the watch of the workspaces broke; it is begun anew");
                    health.broken();
                    break;
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

fn take(event: watcher::Event<DeserializeGuard<UserWorkspace>>, index: &Index, health: &Health) {
    match event {
        watcher::Event::Init => index.begin_list(),
        watcher::Event::InitApply(resource) => {
            if let Some(workspace) = read(resource) {
                index.add_to_list(workspace);
            }
        }
        watcher::Event::InitDone => {
            index.end_list();
            health.listed.send_replace(true);
            health.works();
            tracing::info!(workspaces = index.len(), "workspaces listed");
        }
        watcher::Event::Apply(resource) => {
            if let Some(workspace) = read(resource) {
                index.apply(workspace);
            }
            health.works();
        }
        watcher::Event::Delete(resource) => {
            index.delete(&resource.name_any());
            health.works();
        }
    }
}

fn read(resource: DeserializeGuard<UserWorkspace>) -> Option<Workspace> {
    match resource.0 {
        Ok(resource) => Workspace::of(resource),
        Err(invalid) => {
            let name = invalid.metadata.name.unwrap_or_default();
            tracing::warn!(name, error = invalid.error, "a workspace can't be read and is skipped");
            None
        }
    }
}
