//! How often something may happen, counted by key, in bounded memory.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const MINUTE: Duration = Duration::from_mins(1);
/// A full table is searched for what can be dropped at most this often.
const SWEEP: Duration = Duration::from_secs(1);

/// So many times a minute, and as many at once.
///
/// For each key one moment is kept (GCRA): when all that has happened would have been spread out evenly. A key whose
/// moment has passed is as one that was never seen, and can be dropped. When all of a full table are in use, the keys that
/// have no place in it share one moment, so that neither memory nor what gets through grows with their number.
pub(crate) struct Rate<K> {
    /// `None`: as often as anybody likes.
    interval: Option<Duration>,
    most_keys: usize,
    state: Mutex<State<K>>,
}

struct State<K> {
    moments: HashMap<K, Instant>,
    /// That of all keys without a place.
    shared: Option<Instant>,
    swept: Option<Instant>,
}

impl<K: Eq + Hash> Rate<K> {
    /// `per_minute`: 0 means no limit.
    pub(crate) fn new(per_minute: u32, most_keys: usize) -> Self {
        let interval = MINUTE.checked_div(per_minute);
        let state = State { moments: HashMap::new(), shared: None, swept: None };
        Self { interval, most_keys, state: Mutex::new(state) }
    }

    /// Counts one more, or tells after what time there is room for one.
    pub(crate) fn take(&self, key: K) -> Result<(), Duration> {
        let Some(interval) = self.interval else {
            return Ok(());
        };
        let now = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(moment) = state.moments.get_mut(&key) {
            return advance(moment, interval, now);
        }
        if state.moments.len() >= self.most_keys && state.swept.is_none_or(|swept| swept + SWEEP <= now) {
            state.swept = Some(now);
            state.moments.retain(|_, moment| *moment > now);
        }
        if state.moments.len() >= self.most_keys {
            return advance(state.shared.get_or_insert(now), interval, now);
        }
        advance(state.moments.entry(key).or_insert(now), interval, now)
    }

    #[cfg(test)]
    fn kept(&self) -> usize {
        self.state.lock().unwrap().moments.len()
    }
}

fn advance(moment: &mut Instant, interval: Duration, now: Instant) -> Result<(), Duration> {
    let next = (*moment).max(now) + interval;
    match next.saturating_duration_since(now).checked_sub(MINUTE) {
        Some(over) if !over.is_zero() => Err(over),
        _ => {
            *moment = next;
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(rate: &Rate<u32>, key: u32, tries: usize) -> usize {
        (0..tries).filter(|_| rate.take(key).is_ok()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_minutes_worth_may_come_at_once_and_then_as_time_goes_on() {
        let rate = Rate::new(6, 10);
        assert_eq!(taken(&rate, 1, 20), 6);
        assert_eq!(rate.take(1), Err(Duration::from_secs(10)));
        assert_eq!(taken(&rate, 2, 20), 6, "another key has its own");
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(taken(&rate, 1, 20), 1);
        tokio::time::advance(Duration::from_mins(5)).await;
        assert_eq!(taken(&rate, 1, 20), 6, "nothing is saved up");
    }

    #[tokio::test(start_paused = true)]
    async fn zero_is_no_limit() {
        let rate = Rate::new(0, 1);
        assert_eq!(taken(&rate, 1, 10_000), 10_000);
        assert_eq!(rate.kept(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_keys_fills_no_memory_and_gets_little_through() {
        let rate = Rate::new(3, 100);
        let passed: usize = (0..10_000).map(|key| taken(&rate, key, 1)).sum();
        assert_eq!((rate.kept(), passed), (100, 103));
        assert_eq!(taken(&rate, 5, 10), 2, "who was there before is not touched by it");
        tokio::time::advance(Duration::from_mins(2)).await;
        assert_eq!(taken(&rate, 20_000, 10), 3);
        assert_eq!(rate.kept(), 1);
    }
}
