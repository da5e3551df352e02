//! What was read of users' workspaces, kept from turn to turn: for each user apart, bounded, and only as long as the
//! workspace would tell of a change.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::history::Talk;

/// How many users' answers are kept.
const MOST_USERS: usize = 256;
/// Most bytes of one user.
const MOST_BYTES: usize = 256 * 1024;
/// So many conversations of one user are known to be others' too.
const MOST_SHARED: usize = 64;
/// The workspace's hint of 0 says that an answer may be out of date at once, to one who does not hear of changes. One
/// who does may keep it, but not for long: what is changed by hand in the pod is told late.
const LISTENED: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_mins(5);
/// A user without a turn for so long is forgotten.
const LINGER: Duration = Duration::from_mins(5);

/// The memories of all users.
#[derive(Default)]
pub(crate) struct Cache {
    memories: Mutex<HashMap<String, Arc<Memory>>>,
}

/// What is kept of one user's workspace while one pod runs.
pub(crate) struct Memory {
    pod: String,
    state: Mutex<State>,
    talks: Mutex<Talks>,
    /// Ends the listening, when the user is forgotten.
    pub(crate) gone: CancellationToken,
}

/// What is remembered of conversations.
#[derive(Default)]
struct Talks {
    /// That of the last turn, with its name. It is not believed: the workspace says whether it still holds.
    last: Option<(String, Talk)>,
    /// Others add to these, too, such as another replica: they are read each time.
    shared: HashSet<String>,
}

struct State {
    entries: HashMap<String, Entry>,
    bytes: usize,
    /// What the workspace promised to tell changes of.
    covered: HashSet<String>,
    /// Counts what changed, so that an answer that was on its way meanwhile is not kept.
    changes: u64,
    used: Instant,
}

struct Entry {
    value: Arc<Value>,
    bytes: usize,
    until: Instant,
}

/// An answer with the workspace's hint how long it stays true.
#[derive(Clone, Debug)]
pub(crate) struct Hinted {
    pub(crate) value: Value,
    pub(crate) bytes: usize,
    pub(crate) ttl: Duration,
}

impl Cache {
    /// The memory of a user. The second value is true if it is new: then someone must listen for it.
    pub(crate) fn memory(&self, user: &str, pod: &str) -> (Arc<Memory>, bool) {
        let now = Instant::now();
        let mut memories = self.lock();
        if let Some(memory) = memories.get(user).filter(|memory| memory.pod == pod) {
            memory.lock().used = now;
            return (Arc::clone(memory), false);
        }
        memories.retain(|_, memory| {
            let stays = now.duration_since(memory.lock().used) < LINGER;
            if !stays {
                memory.gone.cancel();
            }
            stays
        });
        if memories.len() >= MOST_USERS && !memories.contains_key(user) {
            let oldest = memories.iter().min_by_key(|(_, memory)| memory.lock().used);
            if let Some(oldest) = oldest.map(|(user, _)| user.clone()) {
                forget(&mut memories, &oldest);
            }
        }
        forget(&mut memories, user);
        let memory = Arc::new(Memory::new(pod, now));
        memories.insert(user.to_owned(), Arc::clone(&memory));
        (memory, true)
    }

    /// Nobody listens any more: what is kept in this memory can't be trusted.
    pub(crate) fn drop_memory(&self, user: &str, memory: &Arc<Memory>) {
        let mut memories = self.lock();
        if memories.get(user).is_some_and(|known| Arc::ptr_eq(known, memory)) {
            memories.remove(user);
        }
        memory.uncover();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Memory>>> {
        self.memories.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn forget(memories: &mut HashMap<String, Arc<Memory>>, user: &str) {
    if let Some(memory) = memories.remove(user) {
        memory.gone.cancel();
        memory.uncover();
    }
}

impl Memory {
    fn new(pod: &str, now: Instant) -> Self {
        let (entries, covered) = (HashMap::new(), HashSet::new());
        Self {
            pod: pod.to_owned(),
            state: Mutex::new(State { entries, bytes: 0, covered, changes: 0, used: now }),
            talks: Mutex::default(),
            gone: CancellationToken::new(),
        }
    }

    /// What is remembered of a conversation.
    pub(crate) fn talk(&self, conversation: &str) -> Option<Talk> {
        let talks = self.talks();
        talks.last.as_ref().filter(|(known, _)| known == conversation).map(|(_, talk)| talk.clone())
    }

    /// Remembers a conversation, if it is not too large, in place of the one before.
    pub(crate) fn remember(&self, conversation: &str, talk: Option<Talk>) {
        let fits = |bytes: u64| usize::try_from(bytes).is_ok_and(|bytes| bytes <= MOST_BYTES);
        let mut talks = self.talks();
        let own = !talks.shared.contains(conversation);
        let talk = talk.filter(|talk| own && talk.bytes.is_some_and(fits));
        talks.last = talk.map(|talk| (conversation.to_owned(), talk));
    }

    /// What was remembered of a conversation did not hold. A model that was asked in vain costs more than a reading.
    pub(crate) fn is_shared(&self, conversation: &str) {
        let mut talks = self.talks();
        if talks.shared.len() >= MOST_SHARED {
            talks.shared.clear();
        }
        talks.shared.insert(conversation.to_owned());
        talks.last = None;
    }

    fn talks(&self) -> MutexGuard<'_, Talks> {
        self.talks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is kept under a key, while it is fresh.
    pub(crate) fn get(&self, key: &str) -> Option<Arc<Value>> {
        let state = self.lock();
        let entry = state.entries.get(key).filter(|entry| entry.until > Instant::now());
        entry.map(|entry| Arc::clone(&entry.value))
    }

    /// The moment before a question to the workspace; [`Memory::put`] takes it with the answer.
    pub(crate) fn moment(&self) -> u64 {
        self.lock().changes
    }

    /// Keeps an answer, unless something changed since the question or nobody would hear of a change.
    pub(crate) fn put(&self, key: &str, answer: &Hinted, moment: u64) {
        let mut state = self.lock();
        if state.changes != moment || !state.covered.contains(key) {
            return;
        }
        state.remove(key);
        if state.bytes + answer.bytes <= MOST_BYTES {
            state.bytes += answer.bytes;
            let until = Instant::now() + answer.ttl.clamp(LISTENED, LONGEST);
            let value = Arc::new(answer.value.clone());
            state.entries.insert(key.to_owned(), Entry { value, bytes: answer.bytes, until });
        }
    }

    /// From now on changes of these are heard of.
    pub(crate) fn cover(&self, keys: HashSet<String>) {
        let mut state = self.lock();
        state.changes += 1;
        state.covered = keys;
    }

    /// Something has changed.
    pub(crate) fn changed(&self, key: &str) {
        let mut state = self.lock();
        state.changes += 1;
        state.remove(key);
    }

    /// Anything may have changed.
    pub(crate) fn clear(&self) {
        let mut state = self.lock();
        state.changes += 1;
        state.entries.clear();
        state.bytes = 0;
    }

    fn uncover(&self) {
        self.cover(HashSet::new());
        self.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remove(&mut self, key: &str) {
        if let Some(entry) = self.entries.remove(key) {
            self.bytes -= entry.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hinted(text: &str, ttl: Duration) -> Hinted {
        Hinted { value: Value::from(text), bytes: text.len(), ttl }
    }

    fn covering(cache: &Cache, user: &str) -> Arc<Memory> {
        let (memory, new) = cache.memory(user, "pod-1");
        assert!(new);
        memory.cover(["a", "b"].map(str::to_owned).into());
        memory
    }

    fn put(memory: &Memory, key: &str, text: &str) {
        memory.put(key, &hinted(text, Duration::ZERO), memory.moment());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_kept_for_its_user_alone_until_its_time_or_a_change() {
        let cache = Cache::default();
        let (one, other) = (covering(&cache, "one"), covering(&cache, "other"));
        put(&one, "a", "of one");
        assert_eq!(one.get("a").as_deref(), Some(&Value::from("of one")));
        assert_eq!(other.get("a"), None);
        assert!(Arc::ptr_eq(&cache.memory("one", "pod-1").0, &one));
        one.changed("b");
        assert!(one.get("a").is_some());
        one.changed("a");
        assert_eq!(one.get("a"), None);
        put(&one, "a", "new");
        tokio::time::advance(LISTENED).await;
        assert_eq!(one.get("a"), None, "too old");
        one.put("a", &hinted("longer", Duration::from_mins(1)), one.moment());
        tokio::time::advance(LISTENED).await;
        assert!(one.get("a").is_some(), "the workspace's hint is longer");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_kept_that_changed_on_its_way_or_that_nobody_hears_of() {
        let cache = Cache::default();
        let (memory, _) = cache.memory("one", "pod-1");
        put(&memory, "a", "before anybody listens");
        assert_eq!(memory.get("a"), None);
        memory.cover(["a".to_owned()].into());
        let moment = memory.moment();
        memory.changed("a");
        memory.put("a", &hinted("old", Duration::ZERO), moment);
        assert_eq!(memory.get("a"), None);
        put(&memory, "b", "not covered");
        assert_eq!(memory.get("b"), None);
        put(&memory, "a", "kept");
        cache.drop_memory("one", &memory);
        assert_eq!(memory.get("a"), None, "the stream has ended");
        assert!(cache.memory("one", "pod-1").1, "and the next turn listens anew");
    }

    #[tokio::test(start_paused = true)]
    async fn another_pod_gets_an_empty_shelf_and_the_old_ones_listening_ends() {
        let cache = Cache::default();
        let memory = covering(&cache, "one");
        put(&memory, "a", "old");
        let (next, new) = cache.memory("one", "pod-2");
        assert!(new && next.get("a").is_none() && memory.gone.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_bounded_in_users_and_bytes_and_forgets_who_is_away() {
        let cache = Cache::default();
        let first = covering(&cache, "first");
        put(&first, "a", &"x".repeat(MOST_BYTES));
        put(&first, "b", "y");
        assert!(first.get("a").is_some() && first.get("b").is_none());
        for number in 0..MOST_USERS {
            tokio::time::advance(Duration::from_millis(1)).await;
            cache.memory(&number.to_string(), "pod");
        }
        assert_eq!(cache.lock().len(), MOST_USERS);
        assert!(first.gone.is_cancelled(), "the one that was used longest ago");
        tokio::time::advance(LINGER).await;
        cache.memory("new", "pod");
        assert_eq!(cache.lock().len(), 1);
    }
}
