//! What is kept of sessions, in memory and no longer than this process lives: the level of log messages, subscriptions,
//! and what runs. Nothing that a request needs is among it: a session of which nothing is kept
//! is as good as any. All of it is bounded.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::level::Level;
use super::session::Nonce;

/// Sessions of which something is kept and nothing runs. Of more, the one that was longest not used is forgotten.
const MOST_SESSIONS: usize = 128;
/// Sessions that were ended by their clients and are known for it.
const MOST_ENDED: usize = 1024;
const MOST_URIS: usize = 64;
const MOST_URI_BYTES: usize = 8 * 1024;
/// How long a subscription waits for the stream that is to carry it.
const SUBSCRIBE_TIME: Duration = Duration::from_secs(5);

/// All of them.
#[derive(Default)]
pub(super) struct Sessions {
    state: Mutex<State>,
    clock: AtomicU64,
}

#[derive(Default)]
struct State {
    kept: HashMap<Nonce, Arc<Kept>>,
    ended: VecDeque<Nonce>,
}

/// What is kept of one session.
pub(super) struct Kept {
    used: AtomicU64,
    ended: CancellationToken,
    level: Mutex<Level>,
    running: Mutex<HashMap<String, Running>>,
    /// What the client wants to hear of.
    wanted: watch::Sender<Wanted>,
    /// The version of it that its stream carries, nothing without a stream.
    carried: watch::Sender<Option<u64>>,
    stream: Mutex<Option<CancellationToken>>,
}

/// Resources that a client subscribed to.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    pub(super) version: u64,
    pub(super) uris: BTreeSet<String>,
}

struct Running {
    serial: u64,
    stop: CancellationToken,
}

/// A request that runs. Its client can cancel it until this is dropped.
pub(super) struct Cancellable {
    kept: Arc<Kept>,
    id: String,
    serial: u64,
    pub(super) stop: CancellationToken,
}

/// The stream of a session's notifications.
pub(super) struct Stream {
    kept: Arc<Kept>,
    /// Another stream has taken its place, or the session was ended.
    pub(super) replaced: CancellationToken,
    pub(super) wanted: watch::Receiver<Wanted>,
}

/// A session has as many subscriptions as it may have.
#[derive(Debug, thiserror::Error)]
#[error("a session may have {MOST_URIS} subscriptions with URIs of {MOST_URI_BYTES} bytes together")]
pub(super) struct TooManySubscriptions;

impl Sessions {
    /// What is kept of a session, made anew if there is nothing.
    pub(super) fn of(&self, nonce: Nonce) -> Arc<Kept> {
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        let mut state = lock(&self.state);
        if !state.kept.contains_key(&nonce) {
            while state.kept.len() >= MOST_SESSIONS && state.forget_one() {}
            state.kept.insert(nonce, Arc::new(Kept::new()));
        }
        let kept = state.kept.entry(nonce).or_insert_with(|| Arc::new(Kept::new()));
        kept.used.store(now, Ordering::Relaxed);
        Arc::clone(kept)
    }

    /// What is kept of a session, if there is something.
    pub(super) fn known(&self, nonce: Nonce) -> Option<Arc<Kept>> {
        lock(&self.state).kept.get(&nonce).cloned()
    }

    /// Ends a session with all that runs in it.
    pub(super) fn end(&self, nonce: Nonce) {
        let mut state = lock(&self.state);
        if let Some(kept) = state.kept.remove(&nonce) {
            kept.ended.cancel();
        }
        if !state.ended.contains(&nonce) {
            if state.ended.len() >= MOST_ENDED {
                state.ended.pop_front();
            }
            state.ended.push_back(nonce);
        }
    }

    pub(super) fn has_ended(&self, nonce: Nonce) -> bool {
        lock(&self.state).ended.contains(&nonce)
    }
}

impl State {
    /// Forgets the session that was longest not used and that nothing uses now.
    fn forget_one(&mut self) -> bool {
        let idle = self.kept.iter().filter(|(_, kept)| Arc::strong_count(kept) == 1);
        let oldest = idle.min_by_key(|(_, kept)| kept.used.load(Ordering::Relaxed)).map(|(nonce, _)| *nonce);
        oldest.is_some_and(|nonce| self.kept.remove(&nonce).is_some())
    }
}

impl Kept {
    fn new() -> Self {
        Self {
            used: AtomicU64::default(),
            ended: CancellationToken::new(),
            level: Mutex::new(Level::USUAL),
            running: Mutex::default(),
            wanted: watch::Sender::default(),
            carried: watch::Sender::default(),
            stream: Mutex::default(),
        }
    }

    pub(super) fn level(&self) -> Level {
        *lock(&self.level)
    }

    pub(super) fn set_level(&self, level: Level) {
        *lock(&self.level) = level;
    }

    /// A request begins. Its client has no other of this id (2025-11-25, basic, Requests).
    pub(super) fn begin(self: &Arc<Self>, id: &Value) -> Cancellable {
        let id = id.to_string();
        let stop = self.ended.child_token();
        let mut running = lock(&self.running);
        let serial = running.get(&id).map_or(0, |earlier| earlier.serial + 1);
        running.insert(id.clone(), Running { serial, stop: stop.clone() });
        Cancellable { kept: Arc::clone(self), id, serial, stop }
    }

    /// Stops a request that runs.
    pub(super) fn cancel(&self, id: &Value) {
        if let Some(running) = lock(&self.running).get(&id.to_string()) {
            running.stop.cancel();
        }
    }

    /// Subscribes to a resource. Returns when the session's stream carries it, if there is a stream.
    pub(super) async fn subscribe(&self, uri: String) -> Result<(), TooManySubscriptions> {
        let mut fits = true;
        self.wanted.send_if_modified(|wanted| {
            let bytes: usize = wanted.uris.iter().map(String::len).sum();
            fits = wanted.uris.contains(&uri)
                || (wanted.uris.len() < MOST_URIS && bytes + uri.len() <= MOST_URI_BYTES);
            let changed = fits && wanted.uris.insert(uri);
            wanted.version += u64::from(changed);
            changed
        });
        if !fits {
            return Err(TooManySubscriptions);
        }
        let version = self.wanted.borrow().version;
        let mut carried = self.carried.subscribe();
        // A stream that can't carry it in time leaves the subscription as it is: it comes with the next one.
        let _ =
            timeout(SUBSCRIBE_TIME, carried.wait_for(|carried| carried.is_none_or(|of| of >= version))).await;
        Ok(())
    }

    pub(super) fn unsubscribe(&self, uri: &str) {
        self.wanted.send_if_modified(|wanted| {
            let changed = wanted.uris.remove(uri);
            wanted.version += u64::from(changed);
            changed
        });
    }

    /// Opens the session's stream, in the place of one that is open: a client that lost its connection comes back before
    /// anybody here has seen it go.
    pub(super) fn open_stream(self: &Arc<Self>) -> Stream {
        let replaced = self.ended.child_token();
        if let Some(earlier) = lock(&self.stream).replace(replaced.clone()) {
            earlier.cancel();
        }
        self.carried.send_replace(Some(0));
        Stream { kept: Arc::clone(self), replaced, wanted: self.wanted.subscribe() }
    }
}

impl Stream {
    /// The stream carries what was wanted in this version.
    pub(super) fn carries(&self, version: u64) {
        if !self.replaced.is_cancelled() {
            self.kept.carried.send_replace(Some(version));
        }
    }

    pub(super) fn level(&self) -> Level {
        self.kept.level()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.replaced.is_cancelled() {
            lock(&self.kept.stream).take();
            self.kept.carried.send_replace(None);
        }
    }
}

impl Drop for Cancellable {
    fn drop(&mut self) {
        let mut running = lock(&self.kept.running);
        if running.get(&self.id).is_some_and(|running| running.serial == self.serial) {
            running.remove(&self.id);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ONE: Nonce = [1; 16];
    const TWO: Nonce = [2; 16];

    #[test]
    fn a_request_is_cancelled_by_its_id_in_its_session_while_it_runs() {
        let sessions = Sessions::default();
        let (one, two) = (sessions.of(ONE), sessions.of(TWO));
        let running = one.begin(&json!(7));
        for (kept, id) in [(&two, json!(7)), (&one, json!("7")), (&one, json!(8))] {
            kept.cancel(&id);
            assert!(!running.stop.is_cancelled(), "{id}");
        }
        let again = one.begin(&json!(7));
        drop(running);
        one.cancel(&json!(7));
        assert!(again.stop.is_cancelled());
    }

    #[test]
    fn sessions_are_forgotten_the_longest_unused_first_but_none_that_is_in_use() {
        let sessions = Sessions::default();
        let nonce = |number: usize| {
            let mut nonce = Nonce::default();
            nonce[..8].copy_from_slice(&number.to_be_bytes());
            nonce
        };
        let busy = sessions.of(nonce(0));
        let _running = busy.begin(&json!(1));
        for number in 1..MOST_SESSIONS {
            sessions.of(nonce(number)).set_level(Level::Error);
        }
        sessions.of(nonce(1));
        sessions.of(nonce(MOST_SESSIONS));
        assert!(sessions.known(nonce(2)).is_none(), "the longest unused");
        for number in [0, 1, 3, MOST_SESSIONS] {
            assert!(sessions.known(nonce(number)).is_some(), "{number}");
        }
    }

    #[test]
    fn a_session_that_its_client_ended_stays_ended() {
        let sessions = Sessions::default();
        let running = sessions.of(ONE).begin(&json!(1));
        assert!(!sessions.has_ended(ONE));
        sessions.end(ONE);
        assert!(sessions.has_ended(ONE) && running.stop.is_cancelled());
        for number in 0..MOST_ENDED {
            let mut nonce = [9; 16];
            nonce[..8].copy_from_slice(&number.to_be_bytes());
            sessions.end(nonce);
        }
        assert!(!sessions.has_ended(ONE), "memory is bounded");
    }

    #[tokio::test]
    async fn a_subscription_waits_for_the_stream_and_only_for_it() {
        let sessions = Sessions::default();
        let kept = sessions.of(ONE);
        kept.subscribe("a://1".to_owned()).await.unwrap();
        let mut stream = kept.open_stream();
        let wanted = stream.wanted.borrow_and_update().clone();
        assert_eq!(wanted.uris.iter().collect::<Vec<_>>(), ["a://1"]);
        let waiting = tokio::spawn({
            let kept = Arc::clone(&kept);
            async move { kept.subscribe("a://2".to_owned()).await }
        });
        stream.wanted.changed().await.unwrap();
        assert!(!waiting.is_finished());
        stream.carries(stream.wanted.borrow().version);
        waiting.await.unwrap().unwrap();
        kept.unsubscribe("a://1");
        stream.wanted.changed().await.unwrap();
        assert_eq!(stream.wanted.borrow().uris.len(), 1);
    }

    #[tokio::test]
    async fn a_client_that_comes_back_takes_the_place_of_its_old_stream() {
        let sessions = Sessions::default();
        let kept = sessions.of(ONE);
        let first = kept.open_stream();
        let second = kept.open_stream();
        assert!(first.replaced.is_cancelled() && !second.replaced.is_cancelled());
        drop(first);
        assert_eq!(*kept.carried.borrow(), Some(0));
        drop(second);
        assert_eq!(*kept.carried.borrow(), None);
    }

    #[tokio::test]
    async fn subscriptions_are_bounded_in_number_and_size() {
        let sessions = Sessions::default();
        let kept = sessions.of(ONE);
        for number in 0..MOST_URIS {
            kept.subscribe(format!("a://{number}")).await.unwrap();
        }
        assert!(kept.subscribe("a://more".to_owned()).await.is_err());
        assert!(kept.subscribe("a://0".to_owned()).await.is_ok(), "it has that one");
        assert!(sessions.of(TWO).subscribe("x".repeat(MOST_URI_BYTES + 1)).await.is_err());
    }
}
