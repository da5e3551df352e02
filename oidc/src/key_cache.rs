//! The keys of one issuer, kept and refreshed. An unknown key identifier leads to one fetch however many requests
//! bring it, and never to more than one fetch in a while: what comes too early for the next fetch waits for it, as the
//! issuer may have begun to sign with a new key since the last one. Keys that can't be refreshed stay good for a day.

use std::collections::HashMap;
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
/// So many identifiers that the issuer lacked are remembered, of so many bytes at most.
const MOST_LACKING: usize = 1000;
const LONGEST_LACKING: usize = 256;

pub(crate) struct KeyCache {
    fetcher: Fetcher,
    min_interval: Duration,
    current: RwLock<Option<Snapshot>>,
    /// The last fetch. Its lock is held during a fetch and while one is waited for, so that there is one at a time.
    last_try: Mutex<Option<Try>>,
    /// Identifiers that a fetch was made for in vain, and when: an issuer publishes a key before it signs with it, so
    /// nothing is gained by waiting for the next one.
    lacking: std::sync::Mutex<HashMap<Option<String>, Instant>>,
}

/// A fetch.
#[derive(Clone, Copy)]
struct Try {
    at: Instant,
    failed: bool,
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
        Self {
            fetcher,
            min_interval,
            current: RwLock::new(None),
            last_try: Mutex::new(None),
            lacking: std::sync::Mutex::default(),
        }
    }

    /// The keys, if there are any that may be used.
    pub(crate) fn snapshot(&self) -> Option<Snapshot> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone().filter(Snapshot::usable)
    }

    /// Keys that hold the one of that identifier. Fetches them if they aren't known yet, as soon as that may be.
    pub(crate) async fn with_key(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Snapshot, TokenError> {
        let has = |snapshot: &Snapshot| snapshot.keys.find(kid, algorithm).is_some();
        if let Some(snapshot) = self.snapshot().filter(has) {
            return Ok(snapshot);
        }
        // Keys that never change hold no others later, and what was looked for a moment ago is not there.
        if self.fetcher.interval().is_none() || self.was_lacking(kid) {
            return self.snapshot().map_or(Err(TokenError::KeysUnavailable), |_| Err(TokenError::UnknownKey));
        }
        let asked = Instant::now();
        let mut last_try = self.last_try.lock().await;
        // Someone else may have fetched while this one waited for the lock.
        if let Some(snapshot) = self.snapshot().filter(has) {
            return Ok(snapshot);
        }
        let due = last_try.map(|last| last.at + self.min_interval);
        if last_try.is_none_or(|last| last.at <= asked) {
            // Without any keys there is nobody who would be let in after the wait: the client may come again.
            if let Some(due) = due.filter(|_| self.snapshot().is_some()) {
                tokio::time::sleep_until(due).await;
            }
            if due.is_none_or(|due| due <= Instant::now()) {
                self.refresh_now(&mut last_try).await;
            }
        }
        let failed = last_try.is_none_or(|last| last.failed);
        drop(last_try);
        let snapshot = self.snapshot().ok_or(TokenError::KeysUnavailable)?;
        if has(&snapshot) {
            return Ok(snapshot);
        }
        if failed {
            return Err(TokenError::KeysUnavailable);
        }
        self.note_lacking(kid);
        Err(TokenError::UnknownKey)
    }

    /// Whether the issuer lacked a key a moment ago.
    fn was_lacking(&self, kid: Option<&str>) -> bool {
        let lacking = self.lacking.lock().unwrap_or_else(PoisonError::into_inner);
        lacking.get(&kid.map(str::to_owned)).is_some_and(|at| at.elapsed() < self.min_interval)
    }

    fn note_lacking(&self, kid: Option<&str>) {
        let mut lacking = self.lacking.lock().unwrap_or_else(PoisonError::into_inner);
        if lacking.len() >= MOST_LACKING {
            lacking.retain(|_, at| at.elapsed() < self.min_interval);
        }
        if lacking.len() < MOST_LACKING && kid.is_none_or(|kid| kid.len() <= LONGEST_LACKING) {
            lacking.insert(kid.map(str::to_owned), Instant::now());
        }
    }

    /// Fetches for the first time.
    pub(crate) async fn load(&self) -> Result<(), FetchError> {
        let mut last_try = self.last_try.lock().await;
        let at = Instant::now();
        *last_try = Some(Try { at, failed: true });
        self.store(self.fetcher.fetch().await?);
        *last_try = Some(Try { at, failed: false });
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
            self.refresh_now(&mut last_try).await;
        }
    }

    /// Fetches, and notes it beforehand: a request that is given up meanwhile has had its fetch.
    async fn refresh_now(&self, last_try: &mut Option<Try>) {
        let at = Instant::now();
        *last_try = Some(Try { at, failed: true });
        match self.fetcher.fetch().await {
            Ok(keys) => {
                self.store(keys);
                *last_try = Some(Try { at, failed: false });
            }
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
