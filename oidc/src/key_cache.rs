//! The keys of one issuer, kept and refreshed. An unknown key identifier leads to one fetch however many requests
//! bring it, and never to more than one fetch in a while. Keys that can't be refreshed stay good for a day.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jsonwebtoken::Algorithm;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::error::TokenError;
use crate::fetch::{FetchError, Fetcher};
use crate::keys::Keys;

/// The shortest time between two fetches that unknown key identifiers lead to.
pub(crate) const MIN_INTERVAL: Duration = Duration::from_secs(10);
/// Keys older than this are no longer used.
const MAX_AGE: Duration = Duration::from_hours(24);

pub(crate) struct KeyCache {
    fetcher: Fetcher,
    min_interval: Duration,
    current: RwLock<Option<Snapshot>>,
    /// When a fetch was last tried. Its lock is held during a fetch, so that there is one at a time.
    last_try: Mutex<Option<Instant>>,
}

/// The keys as they were at one time.
#[derive(Clone)]
pub(crate) struct Snapshot {
    pub(crate) keys: Arc<Keys>,
    /// Grows when the keys change.
    pub(crate) generation: u64,
    fetched: Instant,
    immutable: bool,
}

impl Snapshot {
    fn usable(&self) -> bool {
        self.immutable || self.fetched.elapsed() < MAX_AGE
    }
}

impl KeyCache {
    pub(crate) fn new(fetcher: Fetcher, min_interval: Duration) -> Self {
        Self { fetcher, min_interval, current: RwLock::new(None), last_try: Mutex::new(None) }
    }

    /// The keys, if there are any that may be used.
    pub(crate) fn snapshot(&self) -> Option<Snapshot> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone().filter(Snapshot::usable)
    }

    /// Keys that hold the one of that identifier. Fetches them if they aren't known yet.
    pub(crate) async fn with_key(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Snapshot, TokenError> {
        let has = |snapshot: &Snapshot| snapshot.keys.find(kid, algorithm).is_some();
        if let Some(snapshot) = self.snapshot().filter(has) {
            return Ok(snapshot);
        }
        let asked = Instant::now();
        let mut last_try = self.last_try.lock().await;
        // Someone else may have fetched while this one waited for the lock.
        let fresh = last_try.is_some_and(|at| at > asked || at.elapsed() < self.min_interval);
        if !fresh {
            *last_try = Some(Instant::now());
            self.refresh_now().await;
        }
        drop(last_try);
        let snapshot = self.snapshot().ok_or(TokenError::KeysUnavailable)?;
        if has(&snapshot) { Ok(snapshot) } else { Err(TokenError::UnknownKey) }
    }

    /// Fetches for the first time.
    pub(crate) async fn load(&self) -> Result<(), FetchError> {
        *self.last_try.lock().await = Some(Instant::now());
        self.store(self.fetcher.fetch().await?);
        Ok(())
    }

    /// Fetches at the interval of the source, for ever. New keys are taken and withdrawn ones forgotten.
    pub(crate) async fn keep_fresh(&self) {
        let Some(interval) = self.fetcher.interval() else {
            return;
        };
        loop {
            tokio::time::sleep(interval).await;
            let mut last_try = self.last_try.lock().await;
            *last_try = Some(Instant::now());
            self.refresh_now().await;
        }
    }

    async fn refresh_now(&self) {
        match self.fetcher.fetch().await {
            Ok(keys) => self.store(keys),
            Err(error) => {
                tracing::warn!(%error, "an issuer's keys can't be refreshed; the known ones stay in use");
            }
        }
    }

    fn store(&self, keys: Keys) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let immutable = self.fetcher.interval().is_none();
        let fetched = Instant::now();
        *current = Some(match current.take() {
            Some(old) if old.keys.same(&keys) => Snapshot { fetched, ..old },
            old => {
                let generation = old.map_or(0, |old| old.generation + 1);
                Snapshot { keys: Arc::new(keys), generation, fetched, immutable }
            }
        });
    }
}
