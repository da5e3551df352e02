//! For tests: the process ends after so many writes to the API server, as if it were killed between two of them.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts down the writes that are left.
#[derive(Debug, Default)]
pub struct Ending(Option<AtomicU64>);

impl Ending {
    /// Ends after so many writes, or never.
    pub fn after(writes: Option<u64>) -> Self {
        Self(writes.map(AtomicU64::new))
    }

    /// A write was answered. Whoever waits for the answer does not get it if this was the last one.
    pub(crate) fn wrote(&self) {
        if self.0.as_ref().is_some_and(|left| left.fetch_sub(1, Ordering::SeqCst) == 1) {
            tracing::warn!("ending at once, as --end-after-writes asks for");
            std::process::abort();
        }
    }
}
