//! How many workspaces anonymous visitors may have.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Places for workspaces that are being made: they count before the cluster shows them.
#[derive(Default)]
pub(super) struct Places(Arc<AtomicUsize>);

/// A place, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Place(Arc<AtomicUsize>);

impl Places {
    /// Takes a place, if fewer than `most` are in use beside those that are `known`.
    pub(super) fn take(&self, known: usize, most: usize) -> Option<Place> {
        let taken = self.0.fetch_add(1, Ordering::AcqRel);
        let place = Place(Arc::clone(&self.0));
        (known.saturating_add(taken) < most).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_it_is_given_back() {
        let places = Places::default();
        let first = places.take(1, 3).unwrap();
        let second = places.take(1, 3).unwrap();
        assert!(places.take(1, 3).is_none());
        drop(first);
        assert!(places.take(2, 3).is_none());
        assert!(places.take(1, 3).is_some());
        drop(second);
        assert_eq!(places.0.load(Ordering::Acquire), 0);
    }
}
