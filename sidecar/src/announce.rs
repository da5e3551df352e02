//! Tells the clients that listen: an MCP notification on their open streams, between two events of the agent's.
//!
//! Only the GET streams of revision 2025-11-25 take one. A stream of `subscriptions/listen` (2026-07-28) must carry
//! nothing but what its client asked for, and log messages can't be asked for there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use dexorder_protocol::control::NotifyRequest;
use serde_json::json;
use tokio::sync::mpsc;

/// How many notifications a client may be behind.
const WAITING: usize = 8;

/// The streams that are open.
#[derive(Default)]
pub(crate) struct Announcer {
    listeners: Mutex<Listeners>,
}

#[derive(Default)]
struct Listeners {
    next: u64,
    open: HashMap<u64, mpsc::Sender<Bytes>>,
}

/// One open stream's end of it.
pub(crate) struct News {
    announcer: Arc<Announcer>,
    number: u64,
    events: mpsc::Receiver<Bytes>,
    place: Place,
}

/// Where in the agent's stream of events the last byte was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    /// Inside of an event: something follows before the next may begin.
    inside: bool,
    /// The line so far is empty.
    line_empty: bool,
    /// The last byte was a carriage return, which may be half of a line's end.
    after_return: bool,
}

impl Announcer {
    /// A stream was opened.
    pub(crate) fn listen(self: &Arc<Self>) -> News {
        let (sender, events) = mpsc::channel(WAITING);
        let mut listeners = self.lock();
        let number = listeners.next;
        listeners.next += 1;
        listeners.open.insert(number, sender);
        News { announcer: Arc::clone(self), number, events, place: Place::default() }
    }

    /// Puts a notification on every open stream, and says how many those are.
    pub(crate) fn notify(&self, request: &NotifyRequest) -> u32 {
        let message = json!({
            "jsonrpc": "2.0",
            "method": "notifications/message",
            "params": {"level": request.level, "logger": "dexorder", "data": request.message},
        });
        let event = Bytes::from(format!("event: message\ndata: {message}\n\n"));
        let told = self.lock().open.values().filter(|sender| sender.try_send(event.clone()).is_ok()).count();
        u32::try_from(told).unwrap_or(u32::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Listeners> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl News {
    /// Notes what the agent sent.
    pub(crate) fn passed(&mut self, bytes: &[u8]) {
        self.place.pass(bytes);
    }

    /// The next notification, if the agent's last event has ended.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        if self.place.inside {
            return Poll::Pending;
        }
        match self.events.poll_recv(cx) {
            Poll::Ready(Some(event)) => Poll::Ready(event),
            // The sender ends with this very listener.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

impl Drop for News {
    fn drop(&mut self) {
        self.announcer.lock().open.remove(&self.number);
    }
}

impl Place {
    fn pass(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let half_seen = std::mem::replace(&mut self.after_return, *byte == b'\r');
            if *byte == b'\n' && half_seen {
                continue;
            }
            if matches!(byte, b'\r' | b'\n') {
                self.inside = !self.line_empty && self.inside;
                self.line_empty = true;
            } else {
                self.inside = true;
                self.line_empty = false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn inside(bytes: &[u8]) -> bool {
        let mut place = Place::default();
        place.pass(bytes);
        place.inside
    }

    #[test]
    fn an_event_ends_with_an_empty_line() {
        for open in ["d", "data: 1\n", "data: 1\r\n", "data: 1\n\ndata", "id: 1\ndata: 2\n", ": hi\n"] {
            assert!(inside(open.as_bytes()), "{open:?}");
        }
        for ended in ["", "data: 1\n\n", "data: 1\r\n\r\n", "data: 1\r\r", ": hi\n\n", "a\n\nb\n\n", "\n\n"] {
            assert!(!inside(ended.as_bytes()), "{ended:?}");
        }
    }

    proptest! {
        #[test]
        fn it_makes_no_difference_how_the_stream_is_cut(text in "[ab\r\n]{0,40}", cut in any::<prop::sample::Index>()) {
            let mut place = Place::default();
            let at = cut.index(text.len() + 1);
            place.pass(&text.as_bytes()[..at]);
            place.pass(&text.as_bytes()[at..]);
            prop_assert_eq!(place.inside, inside(text.as_bytes()));
        }
    }

    #[test]
    fn a_stream_that_was_closed_is_told_nothing() {
        let announcer = Arc::new(Announcer::default());
        let request = NotifyRequest {
            level: dexorder_protocol::control::NotifyLevel::Notice,
            message: "the workspace stops soon".to_owned(),
        };
        assert_eq!(announcer.notify(&request), 0);
        let (one, two) = (announcer.listen(), announcer.listen());
        assert_eq!(announcer.notify(&request), 2);
        drop(one);
        assert_eq!(announcer.notify(&request), 1);
        drop(two);
        assert_eq!(announcer.notify(&request), 0);
    }
}
