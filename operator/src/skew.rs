//! How far the clocks of sidecars are from this one. [no client]
//!
//! A sidecar judges an identity and tells of activity by its own clock. Two clocks that differ by minutes must neither
//! make it refuse the operator nor make a workspace look idle, so times are translated where they come in and go out.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// The date of an answer has whole seconds, and the answer has taken a moment: what is less is no difference.
const LEAST: SignedDuration = SignedDuration::from_secs(3);
/// A difference that changes by less than this is the same one.
const STEADY: SignedDuration = SignedDuration::from_secs(2);
/// What is more is no difference of clocks but a wrong date.
const MOST: SignedDuration = SignedDuration::from_hours(1);

/// The differences by the workspaces' UIDs: the sidecar's clock less this one. Only those that matter are kept.
#[derive(Debug, Default)]
pub(crate) struct Skews(Mutex<HashMap<String, SignedDuration>>);

impl Skews {
    /// How far the sidecar's clock is ahead.
    pub(crate) fn of(&self, workspace_uid: &str) -> SignedDuration {
        self.known().get(workspace_uid).copied().unwrap_or_default()
    }

    /// Learns from the date of an answer that arrived now. Tells whether the difference is another than before.
    pub(crate) fn learn(&self, workspace_uid: &str, date: Timestamp, now: Timestamp) -> bool {
        let skew = date.duration_since(now);
        let mut known = self.known();
        let before = known.get(workspace_uid).copied().unwrap_or_default();
        if (skew - before).abs() < STEADY {
            return false;
        }
        if skew.abs() < LEAST || skew.abs() > MOST {
            return known.remove(workspace_uid).is_some();
        }
        known.insert(workspace_uid.to_owned(), skew);
        true
    }

    /// Forgets workspaces that are gone.
    pub(crate) fn retain(&self, exists: impl Fn(&str) -> bool) {
        self.known().retain(|uid, _| exists(uid));
    }

    // Each change is one assignment.
    fn known(&self) -> MutexGuard<'_, HashMap<String, SignedDuration>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_learnt_kept_while_it_is_steady_and_forgotten_when_it_is_gone() {
        let skews = Skews::default();
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let seconds = SignedDuration::from_secs;
        let learn = |skew| skews.learn("uid", now + seconds(skew), now);
        assert!(!learn(2), "no difference");
        assert!(learn(-300));
        assert!(!learn(-301), "the same one");
        assert_eq!(skews.of("uid"), seconds(-300));
        assert_eq!(skews.of("other"), seconds(0));
        assert!(learn(300));
        assert!(learn(1));
        assert_eq!(skews.of("uid"), seconds(0));
        assert!(!learn(100_000), "a wrong date");
        assert_eq!(skews.of("uid"), seconds(0));
    }
}
