//! How much anonymous visitors may ask for: each session, those without one together, and all.

use std::collections::HashMap;
use std::time::Instant;

use super::session::Id;
use crate::config::PublicConfig;
use crate::rate::Bucket;

/// The quota of one workspace.
pub(super) struct Quota {
    most_sessions: usize,
    session_calls: u32,
    all: Bucket,
    /// Requests without a session: half of all at most, so that they never take the place of those who have one.
    newcomers: Bucket,
    sessions: HashMap<Id, Kept>,
}

/// A session whose client came back.
struct Kept {
    end: i64,
    calls: Bucket,
}

impl Quota {
    pub(super) fn new(config: &PublicConfig, now: Instant) -> Self {
        let share = |number: u32| Bucket::new(number, number, now);
        Self {
            most_sessions: usize::try_from(config.sessions).unwrap_or(usize::MAX),
            session_calls: config.session_calls_per_minute,
            all: share(config.calls_per_minute),
            newcomers: share(config.calls_per_minute.div_ceil(2)),
            sessions: HashMap::new(),
        }
    }

    /// Takes one request of a session, or of nobody's, or says how many seconds to wait.
    pub(super) fn take(&mut self, session: Option<Id>, end: i64, now: i64, at: Instant) -> Result<(), u32> {
        match session {
            Some(id) => self.kept(id, end, now, at)?.calls.take(at)?,
            None => self.newcomers.take(at)?,
        }
        self.all.take(at)
    }

    fn kept(&mut self, id: Id, end: i64, now: i64, at: Instant) -> Result<&mut Kept, u32> {
        if !self.sessions.contains_key(&id) && self.sessions.len() >= self.most_sessions {
            self.forget_ended(now);
            if self.sessions.len() >= self.most_sessions {
                let next = self.sessions.values().map(|kept| kept.end).min().unwrap_or(now);
                return Err(u32::try_from(next.saturating_sub(now)).unwrap_or(u32::MAX).clamp(1, 3600));
            }
        }
        let calls = self.session_calls;
        let kept =
            self.sessions.entry(id).or_insert_with(|| Kept { end, calls: Bucket::new(calls, calls, at) });
        kept.end = kept.end.max(end);
        Ok(kept)
    }

    /// Sessions whose clients came back and that have not ended.
    pub(super) fn sessions(&mut self, now: i64) -> usize {
        self.forget_ended(now);
        self.sessions.len()
    }

    fn forget_ended(&mut self, now: i64) {
        self.sessions.retain(|_, kept| kept.end > now);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn quota(sessions: u32, all: u32, session: u32, at: Instant) -> Quota {
        let config = PublicConfig {
            session_lifetime: Duration::from_mins(15),
            sessions,
            calls_per_minute: all,
            session_calls_per_minute: session,
            concurrent: 1,
        };
        Quota::new(&config, at)
    }

    const ONE: Option<Id> = Some([1; 16]);
    const TWO: Option<Id> = Some([2; 16]);
    const THREE: Option<Id> = Some([3; 16]);

    #[test]
    fn each_session_has_its_own_share() {
        let at = Instant::now();
        let mut quota = quota(10, 100, 2, at);
        for _ in 0..2 {
            assert_eq!(quota.take(ONE, 900, 0, at), Ok(()));
        }
        assert!(quota.take(ONE, 900, 0, at).is_err());
        assert_eq!(quota.take(TWO, 900, 0, at), Ok(()));
        assert_eq!(quota.take(ONE, 900, 0, at + Duration::from_mins(1)), Ok(()));
    }

    #[test]
    fn who_has_no_session_leaves_half_for_those_who_have() {
        let at = Instant::now();
        let mut quota = quota(10, 10, 100, at);
        assert_eq!((0..50).filter(|_| quota.take(None, 900, 0, at).is_ok()).count(), 5);
        assert_eq!((0..50).filter(|_| quota.take(ONE, 900, 0, at).is_ok()).count(), 5);
    }

    #[test]
    fn sessions_at_once_are_bounded_and_make_place_when_they_end() {
        let at = Instant::now();
        let mut quota = quota(2, 100, 100, at);
        assert_eq!(quota.take(ONE, 900, 0, at), Ok(()));
        assert_eq!(quota.take(TWO, 950, 50, at), Ok(()));
        assert_eq!(quota.take(THREE, 1000, 100, at), Err(800));
        assert_eq!(quota.take(TWO, 1000, 100, at), Ok(()));
        assert_eq!(quota.take(THREE, 1800, 900, at), Ok(()));
        assert_eq!(quota.sessions(900), 2);
        assert_eq!(quota.sessions(1000), 1);
    }
}
