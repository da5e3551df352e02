//! One piece of work for many who wait for it. It ends early when all of them have left.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};

type Running<T> = WeakShared<BoxFuture<'static, T>>;

/// Work in progress, by key.
pub(super) struct Flights<K, T: Clone> {
    running: Arc<Mutex<Map<K, T>>>,
}

struct Map<K, T: Clone> {
    next: u64,
    flights: HashMap<K, (u64, Running<T>)>,
}

impl<K: Eq + Hash + Clone + Send + 'static, T: Clone + Send + Sync + 'static> Flights<K, T> {
    pub(super) fn new() -> Self {
        Self { running: Arc::new(Mutex::new(Map { next: 0, flights: HashMap::new() })) }
    }

    /// Joins the work under that key, or begins it.
    pub(super) fn join<F>(&self, key: &K, begin: impl FnOnce() -> F) -> Shared<BoxFuture<'static, T>>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut map = lock(&self.running);
        if let Some(flight) = map.flights.get(key).and_then(|(_, flight)| flight.upgrade()) {
            return flight;
        }
        let number = map.next;
        map.next += 1;
        let work = begin();
        let end = End { running: Arc::clone(&self.running), key: key.clone(), number };
        let flight = async move {
            let _end = end;
            work.await
        }
        .boxed()
        .shared();
        if let Some(weak) = flight.downgrade() {
            map.flights.insert(key.clone(), (number, weak));
        }
        flight
    }
}

/// Forgets a flight when it ends or is left by all.
struct End<K: Eq + Hash, T: Clone> {
    running: Arc<Mutex<Map<K, T>>>,
    key: K,
    number: u64,
}

impl<K: Eq + Hash, T: Clone> Drop for End<K, T> {
    fn drop(&mut self) {
        let mut map = lock(&self.running);
        if map.flights.get(&self.key).is_some_and(|(number, _)| *number == self.number) {
            map.flights.remove(&self.key);
        }
    }
}

fn lock<K, T: Clone>(map: &Mutex<Map<K, T>>) -> MutexGuard<'_, Map<K, T>> {
    map.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn many_wait_for_one_piece_of_work() {
        let flights = Flights::<&str, u32>::new();
        let begun = Arc::new(AtomicUsize::new(0));
        let (done, wait) = oneshot::channel::<()>();
        let mut wait = Some(wait);
        let waiters: Vec<_> = (0..10)
            .map(|_| {
                flights.join(&"key", || {
                    begun.fetch_add(1, Ordering::SeqCst);
                    let wait = wait.take().unwrap();
                    async move {
                        wait.await.unwrap();
                        7
                    }
                })
            })
            .collect();
        done.send(()).unwrap();
        assert_eq!(futures::future::join_all(waiters).await, vec![7; 10]);
        assert_eq!(begun.load(Ordering::SeqCst), 1);
        assert!(lock(&flights.running).flights.is_empty());
        assert_eq!(flights.join(&"key", || async { 8 }).await, 8, "a later one begins anew");
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_ends() {
        let flights = Flights::<&str, ()>::new();
        let (alive, ended) = oneshot::channel::<()>();
        let waiter = flights.join(&"key", || async move {
            let _alive = alive;
            std::future::pending::<()>().await;
        });
        let other = waiter.clone();
        drop(waiter);
        assert!(futures::poll!(Box::pin(other.clone())).is_pending());
        drop(other);
        assert!(ended.await.is_err());
        assert!(lock(&flights.running).flights.is_empty());
    }
}
