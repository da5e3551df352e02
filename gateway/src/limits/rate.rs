//! How often something may happen, counted by key, in bounded memory.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const MINUTE: Duration = Duration::from_mins(1);
/// A full table is searched for what can be dropped at most this often.
const SWEEP: Duration = Duration::from_secs(1);
/// So many spans one spending takes at most: nobody has to wait for ever.
const MOST_SPANS: u32 = 2;

/// So many times a minute or in another span, and as many at once.
///
/// For each key one moment is kept (GCRA): when all that has happened would have been spread out evenly. A key whose
/// moment has passed is as one that was never seen, and can be dropped. When all of a full table are in use, the keys that
/// have no place in it share one moment, so that neither memory nor what gets through grows with their number.
pub(crate) struct Rate<K> {
    /// `None`: as often as anybody likes.
    interval: Option<Duration>,
    span: Duration,
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
        Self::over(MINUTE, per_minute.into(), most_keys)
    }

    /// `most`: how many in each span; 0 means no limit.
    pub(crate) fn over(span: Duration, most: u64, most_keys: usize) -> Self {
        let nanoseconds = span.as_nanos().checked_div(most.into());
        let interval =
            nanoseconds.map(|each| Duration::from_nanos(u64::try_from(each.max(1)).unwrap_or(u64::MAX)));
        let state = State { moments: HashMap::new(), shared: None, swept: None };
        Self { interval, span, most_keys, state: Mutex::new(state) }
    }

    /// Counts one more, or tells after what time there is room for one.
    pub(crate) fn take(&self, key: K) -> Result<(), Duration> {
        self.with_moment(key, |moment, interval, now| {
            let next = (*moment).max(now) + interval;
            self.room(next, now).inspect(|()| *moment = next)
        })
        .unwrap_or(Ok(()))
    }

    /// Tells after what time there is room for one, if there is none, and counts nothing.
    pub(crate) fn look(&self, key: K) -> Result<(), Duration> {
        let looked =
            self.with_moment(key, |moment, interval, now| self.room((*moment).max(now) + interval, now));
        looked.unwrap_or(Ok(()))
    }

    /// Counts so many, whether there is room for them or not.
    pub(crate) fn spend(&self, key: K, many: u64) {
        let many = u32::try_from(many).unwrap_or(u32::MAX);
        self.with_moment(key, |moment, interval, now| {
            let spent = interval.saturating_mul(many).min(self.span.saturating_mul(MOST_SPANS));
            *moment = (*moment).max(now) + spent;
        });
    }

    /// Whether what has happened up to that moment fits.
    fn room(&self, moment: Instant, now: Instant) -> Result<(), Duration> {
        match moment.saturating_duration_since(now).checked_sub(self.span) {
            Some(over) if !over.is_zero() => Err(over),
            _ => Ok(()),
        }
    }

    /// Does something with the moment of a key, if there is a limit at all.
    fn with_moment<T>(&self, key: K, act: impl FnOnce(&mut Instant, Duration, Instant) -> T) -> Option<T> {
        let interval = self.interval?;
        let now = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(moment) = state.moments.get_mut(&key) {
            return Some(act(moment, interval, now));
        }
        if state.moments.len() >= self.most_keys && state.swept.is_none_or(|swept| swept + SWEEP <= now) {
            state.swept = Some(now);
            state.moments.retain(|_, moment| *moment > now);
        }
        if state.moments.len() >= self.most_keys {
            return Some(act(state.shared.get_or_insert(now), interval, now));
        }
        Some(act(state.moments.entry(key).or_insert(now), interval, now))
    }

    #[cfg(test)]
    fn kept(&self) -> usize {
        self.state.lock().unwrap().moments.len()
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
    async fn what_is_spent_without_room_is_waited_for() {
        let hour = Duration::from_hours(1);
        let rate = Rate::over(hour, 100, 10);
        assert_eq!(rate.look(1), Ok(()));
        rate.spend(1, 99);
        assert_eq!(rate.look(1), Ok(()), "one is left");
        rate.spend(1, 51);
        assert_eq!(rate.look(1), Err(hour * 51 / 100));
        assert_eq!((rate.look(2), rate.kept()), (Ok(()), 2), "another key has its own");
        tokio::time::advance(hour * 51 / 100).await;
        assert_eq!(rate.look(1), Ok(()));
        rate.spend(1, u64::MAX);
        assert!(rate.look(1).unwrap_err() <= hour * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn zero_is_no_limit() {
        let rate = Rate::new(0, 1);
        rate.spend(1, 10_000);
        assert_eq!(rate.look(1), Ok(()));
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
