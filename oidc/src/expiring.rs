//! A bounded map whose entries end at a time of their own.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Values by key, each until a second since the epoch.
pub struct Expiring<K, V> {
    most: usize,
    entries: Mutex<HashMap<K, (V, i64)>>,
}

impl<K: Eq + Hash + Clone, V: Clone> Expiring<K, V> {
    /// At most that many.
    pub fn new(most: usize) -> Self {
        Self { most, entries: Mutex::new(HashMap::new()) }
    }

    /// The value of a key, if its time has not come.
    pub fn get(&self, key: &K, now: i64) -> Option<V> {
        self.lock().get(key).filter(|(_, until)| *until > now).map(|(value, _)| value.clone())
    }

    /// Keeps a value until a time. A full map first drops what has ended, then, if nothing has, one in two entries.
    pub fn put(&self, key: K, value: V, until: i64, now: i64) {
        let mut entries = self.lock();
        if entries.len() >= self.most && !entries.contains_key(&key) {
            entries.retain(|_, (_, until)| *until > now);
            if entries.len() >= self.most {
                let mut keep = false;
                entries.retain(|_, _| {
                    keep = !keep;
                    keep
                });
            }
        }
        entries.insert(key, (value, until));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, (V, i64)>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_ends_at_its_time() {
        let map = Expiring::new(10);
        map.put("a", 1, 100, 0);
        assert_eq!(map.get(&"a", 99), Some(1));
        assert_eq!(map.get(&"a", 100), None);
    }

    #[test]
    fn it_never_outgrows_its_bound_and_drops_what_has_ended_first() {
        let map = Expiring::new(4);
        map.put(0, "lasting", 1_000, 0);
        for key in 1..4 {
            map.put(key, "short", 10, 0);
        }
        map.put(4, "new", 1_000, 20);
        assert_eq!(map.get(&0, 20), Some("lasting"));
        for key in 5..100 {
            map.put(key, "new", 1_000, 20);
            assert!(map.lock().len() <= 4);
            assert_eq!(map.get(&key, 20), Some("new"));
        }
    }
}
