//! The gate that every request passes. Counting and closing happen under one lock, so that no request can slip
//! between the look that finds the workspace idle and the refusal of new work.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use dexorder_protocol::control::NotIdle;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::activity::{Activity, Kind};

/// The gate of one workspace.
pub(crate) struct Gate {
    start: Timestamp,
    state: Mutex<State>,
    closed: CancellationToken,
    cut_calls: CancellationToken,
    cut_streams: CancellationToken,
    calls_ended: Notify,
}

struct State {
    activity: Activity,
    closed: bool,
}

/// The right of one request to run. It counts until it is dropped.
pub(crate) struct Pass {
    gate: Arc<Gate>,
    kind: Kind,
}

/// What the gate sees at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Snapshot {
    pub(crate) start: Timestamp,
    pub(crate) activity: Activity,
    pub(crate) closed: bool,
}

impl Gate {
    pub(crate) fn new() -> Arc<Self> {
        let start = now();
        Arc::new(Self {
            start,
            state: Mutex::new(State { activity: Activity::new(start), closed: false }),
            closed: CancellationToken::new(),
            cut_calls: CancellationToken::new(),
            cut_streams: CancellationToken::new(),
            calls_ended: Notify::new(),
        })
    }

    /// Lets a request in, or nothing once the gate is closed.
    pub(crate) fn enter(self: &Arc<Self>, kind: Kind) -> Option<Pass> {
        let mut state = self.lock();
        if state.closed {
            return None;
        }
        state.activity.begin(kind, now());
        Some(Pass { gate: Arc::clone(self), kind })
    }

    /// Something happened that is no request and counts all the same.
    pub(crate) fn touch(&self) {
        self.lock().activity.touch(Kind::Call, now());
    }

    /// Whether the gate could be closed as idle now.
    pub(crate) fn check_idle(&self, since: Timestamp) -> Result<(), NotIdle> {
        idle(&self.lock().activity, since)
    }

    /// Closes the gate if nothing runs and nothing has happened after `since`: one step, nothing gets between.
    pub(crate) fn close_if_idle(&self, since: Timestamp) -> Result<(), NotIdle> {
        let mut state = self.lock();
        idle(&state.activity, since)?;
        state.closed = true;
        drop(state);
        self.closed.cancel();
        Ok(())
    }

    /// Closes the gate whatever runs.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.closed.cancel();
    }

    /// Waits until the gate is closed.
    pub(crate) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// Waits until no call runs.
    pub(crate) async fn quiet(&self) {
        loop {
            let mut ended = std::pin::pin!(self.calls_ended.notified());
            ended.as_mut().enable();
            if self.lock().activity.in_flight == 0 {
                return;
            }
            ended.await;
        }
    }

    /// Cuts off the calls that still run and says how many they were.
    pub(crate) fn cut_calls(&self) -> u32 {
        let running = self.lock().activity.in_flight;
        self.cut_calls.cancel();
        running
    }

    /// Ends the streams that listen.
    pub(crate) fn cut_streams(&self) {
        self.cut_streams.cancel();
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let state = self.lock();
        Snapshot { start: self.start, activity: state.activity, closed: state.closed }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass {
    /// Something passed on this request's stream.
    pub(crate) fn touch(&self) {
        self.gate.lock().activity.touch(self.kind, now());
    }

    /// The agent has answered this request.
    pub(crate) fn answered(&self) {
        self.gate.lock().activity.answer(self.kind, now());
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Is cancelled when the request is to end before its time.
    pub(crate) fn cut(&self) -> CancellationToken {
        match self.kind {
            Kind::Call => self.gate.cut_calls.clone(),
            Kind::Listen => self.gate.cut_streams.clone(),
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        state.activity.end(self.kind, now());
        let quiet = state.activity.in_flight == 0;
        drop(state);
        if quiet {
            self.gate.calls_ended.notify_waiters();
        }
    }
}

fn idle(activity: &Activity, since: Timestamp) -> Result<(), NotIdle> {
    if activity.in_flight > 0 {
        Err(NotIdle::InFlight)
    } else if activity.last > since {
        Err(NotIdle::Active)
    } else {
        Ok(())
    }
}

/// The time in microseconds: what a Kubernetes `MicroTime` keeps, so that a time that was reported compares equal when
/// it comes back.
fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_micros())
        .ok()
        .and_then(|micros| Timestamp::from_microsecond(micros).ok())
        .unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_closes_as_idle_only_when_nothing_runs_and_nothing_happened_since() {
        let gate = Gate::new();
        let before = gate.snapshot().start;
        let call = gate.enter(Kind::Call).unwrap();
        assert_eq!(gate.close_if_idle(Timestamp::MAX), Err(NotIdle::InFlight));
        thread::sleep(Duration::from_millis(1));
        drop(call);
        assert_eq!(gate.close_if_idle(before), Err(NotIdle::Active));
        let reported = gate.snapshot().activity.last;
        assert_eq!(gate.close_if_idle(reported), Ok(()));
        assert!(gate.enter(Kind::Call).is_none());
    }

    #[test]
    fn a_listener_does_not_keep_it_open_but_is_refused_once_it_is_closed() {
        let gate = Gate::new();
        let stream = gate.enter(Kind::Listen).unwrap();
        assert_eq!(gate.close_if_idle(gate.snapshot().start), Ok(()));
        assert!(gate.enter(Kind::Listen).is_none());
        assert_eq!(gate.snapshot().activity.open_streams, 1);
        drop(stream);
        assert_eq!(gate.snapshot().activity.open_streams, 0);
    }

    #[test]
    fn nothing_runs_once_it_was_closed_as_idle_however_many_threads_push() {
        for _ in 0..50 {
            let gate = Gate::new();
            let closed = AtomicBool::new(false);
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        while let Some(pass) = gate.enter(Kind::Call) {
                            // The longer it runs, the surer it is seen if it had slipped through.
                            thread::sleep(Duration::from_micros(50));
                            assert!(!closed.load(Ordering::SeqCst), "a call ran after the gate was closed");
                            drop(pass);
                            thread::sleep(Duration::from_micros(50));
                        }
                    });
                }
                while gate.close_if_idle(Timestamp::MAX).is_err() {
                    thread::yield_now();
                }
                closed.store(true, Ordering::SeqCst);
                assert_eq!(gate.snapshot().activity.in_flight, 0);
            });
        }
    }

    #[tokio::test]
    async fn quiet_waits_for_the_last_call() {
        let gate = Gate::new();
        let (first, second) = (gate.enter(Kind::Call).unwrap(), gate.enter(Kind::Call).unwrap());
        gate.close();
        let waiting = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.quiet().await }
        });
        drop(first);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(second);
        waiting.await.unwrap();
    }
}
