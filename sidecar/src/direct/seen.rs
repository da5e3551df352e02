//! What was used in this run, until it would be too old anyway.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};

/// Nonces by their hash, so that each takes the same place.
pub(super) struct Seen {
    most: usize,
    until: Mutex<HashMap<[u8; 32], i64>>,
}

/// What became of a nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Nobody used it before.
    First,
    /// Somebody did.
    Again,
    /// Nothing more can be remembered, so nothing more is taken.
    Full,
}

impl Seen {
    pub(super) fn new(most: usize) -> Self {
        Self { most, until: Mutex::default() }
    }

    /// Takes a nonce that is good up to and including a second.
    pub(super) fn take(&self, nonce: &str, until: i64, now: i64) -> Taken {
        let hash = hash(nonce);
        let mut known = self.lock();
        if known.contains_key(&hash) {
            return Taken::Again;
        }
        if known.len() >= self.most {
            known.retain(|_, until| *until >= now);
            if known.len() >= self.most {
                return Taken::Full;
            }
        }
        known.insert(hash, until);
        Taken::First
    }

    /// It was not used after all.
    pub(super) fn give_back(&self, nonce: &str) {
        self.lock().remove(&hash(nonce));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], i64>> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hash(nonce: &str) -> [u8; 32] {
    Sha256::digest(nonce).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_taken_once_unless_it_is_given_back() {
        let seen = Seen::new(10);
        assert_eq!(seen.take("a", 100, 0), Taken::First);
        assert_eq!(seen.take("a", 100, 0), Taken::Again);
        seen.give_back("a");
        assert_eq!(seen.take("a", 100, 0), Taken::First);
    }

    #[test]
    fn what_is_full_takes_nothing_rather_than_forget_what_is_still_good() {
        let seen = Seen::new(2);
        assert_eq!(seen.take("a", 10, 0), Taken::First);
        assert_eq!(seen.take("b", 20, 0), Taken::First);
        assert_eq!(seen.take("c", 30, 10), Taken::Full);
        assert_eq!(seen.take("c", 30, 11), Taken::First);
        assert_eq!(seen.take("b", 20, 11), Taken::Again);
    }
}
