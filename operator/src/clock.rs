//! The time of day, as the operator reads it.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// The machine's clock, or one that goes with the runtime's, so that a test can turn it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock(Option<(Timestamp, Instant)>);

impl Clock {
    /// A clock that shows this time now and goes with the runtime's.
    pub fn of_runtime(now: Timestamp) -> Self {
        Self(Some((now, Instant::now())))
    }

    /// The time of day.
    pub fn now(&self) -> Timestamp {
        match self.0 {
            None => Timestamp::now(),
            Some((began, at)) => {
                began + SignedDuration::try_from(at.elapsed()).unwrap_or(SignedDuration::ZERO)
            }
        }
    }
}
