//! A rate limit: so many a minute, in a burst or spread out.

use std::time::{Duration, Instant};

/// What is left of a minute's share.
pub(crate) struct Bucket {
    per_minute: f64,
    burst: f64,
    left: f64,
    at: Instant,
}

impl Bucket {
    /// A full share.
    pub(crate) fn new(per_minute: u32, burst: u32, now: Instant) -> Self {
        Self { per_minute: per_minute.into(), burst: burst.into(), left: burst.into(), at: now }
    }

    /// Takes one, or says how many seconds to wait for it.
    pub(crate) fn take(&mut self, now: Instant) -> Result<(), u32> {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * self.per_minute / 60.0).min(self.burst);
        self.at = self.at.max(now);
        if self.left >= 1.0 {
            self.left -= 1.0;
            return Ok(());
        }
        let wait = Duration::from_secs_f64((1.0 - self.left) * 60.0 / self.per_minute);
        // Rounded up: whoever waits that long gets it.
        Err(u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_used_up_and_grows_back() {
        let start = Instant::now();
        let mut bucket = Bucket::new(60, 3, start);
        for _ in 0..3 {
            assert_eq!(bucket.take(start), Ok(()));
        }
        let wait = bucket.take(start).unwrap_err();
        assert!((1..=2).contains(&wait), "{wait}");
        assert_eq!(bucket.take(start + Duration::from_secs(wait.into())), Ok(()));
    }

    #[test]
    fn what_is_saved_up_is_bounded() {
        let start = Instant::now();
        let mut bucket = Bucket::new(60, 3, start);
        let later = start + Duration::from_hours(1);
        assert_eq!((0..10).filter(|_| bucket.take(later).is_ok()).count(), 3);
    }
}
