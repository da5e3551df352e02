//! The wall clock in the forms that tokens and annotations need.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// Seconds since the epoch.
pub(crate) fn seconds() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX)
}

/// Now in RFC 3339, UTC, with microseconds.
pub(crate) fn rfc3339() -> String {
    format!("{:.6}", Timestamp::now())
}
