//! How much of something may be kept at once by all requests together.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What one place stands for, in bytes.
const UNIT: usize = 1024;

/// So many bytes at once.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    places: Arc<Semaphore>,
}

/// What one request has of a budget. It goes back when the request is done.
#[derive(Debug)]
pub(crate) struct Held {
    budget: Budget,
    permit: Option<OwnedSemaphorePermit>,
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(bytes / UNIT)) }
    }

    pub(crate) fn held(&self) -> Held {
        Held { budget: self.clone(), permit: None }
    }
}

impl Held {
    /// Makes it so many bytes in all; false if there is no room.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let has = self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let Some(more) = bytes.div_ceil(UNIT).checked_sub(has).filter(|more| *more > 0) else {
            return true;
        };
        let more = u32::try_from(more).ok();
        let Some(more) =
            more.and_then(|more| Arc::clone(&self.budget.places).try_acquire_many_owned(more).ok())
        else {
            return false;
        };
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            None => self.permit = Some(more),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_together_hold_no_more_than_there_is_and_give_it_back() {
        let budget = Budget::new(10 * UNIT);
        let (mut first, mut second) = (budget.held(), budget.held());
        assert!(first.grow(1) && first.grow(UNIT) && first.grow(6 * UNIT));
        assert!(second.grow(4 * UNIT) && !second.grow(4 * UNIT + 1) && second.grow(4 * UNIT));
        drop(first);
        assert!(second.grow(10 * UNIT) && !second.grow(usize::MAX));
        assert!(!budget.held().grow(1));
        drop(second);
        assert!(budget.held().grow(10 * UNIT));
    }
}
