//! Tells the clients that listen: an MCP notification on their open streams, between two events of the agent's.
//!
//! Only the GET streams of the revisions before 2026-07-28 take one. A stream of `subscriptions/listen` must carry nothing
//! but what its client asked for, and log messages can't be asked for there.

use std::collections::HashMap;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dexorder_protocol::control::{NotifyLevel, NotifyRequest};
use serde_json::json;
use tokio::sync::mpsc;

use crate::legacy::Level;

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
    open: HashMap<u64, mpsc::Sender<Notice>>,
}

/// A message, and how much it matters.
type Notice = (Level, String);

/// One open stream's end of it.
pub(crate) struct News {
    announcer: Arc<Announcer>,
    number: u64,
    messages: mpsc::Receiver<Notice>,
}

impl Announcer {
    /// A stream was opened.
    pub(crate) fn listen(self: &Arc<Self>) -> News {
        let (sender, messages) = mpsc::channel(WAITING);
        let mut listeners = self.lock();
        let number = listeners.next;
        listeners.next += 1;
        listeners.open.insert(number, sender);
        News { announcer: Arc::clone(self), number, messages }
    }

    /// Puts a notification on every open stream, and says how many those are.
    pub(crate) fn notify(&self, request: &NotifyRequest) -> u32 {
        let message = json!({
            "jsonrpc": "2.0",
            "method": "notifications/message",
            "params": {"level": request.level, "logger": "dexorder", "data": request.message},
        });
        let level = match request.level {
            NotifyLevel::Info => Level::Info,
            NotifyLevel::Notice => Level::Notice,
            NotifyLevel::Warning => Level::Warning,
        };
        let notice = (level, message.to_string());
        let told = self.lock().open.values().filter(|sender| sender.try_send(notice.clone()).is_ok()).count();
        u32::try_from(told).unwrap_or(u32::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Listeners> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl News {
    /// The next notification.
    pub(crate) async fn next(&mut self) -> Notice {
        match self.messages.recv().await {
            Some(notice) => notice,
            // The sender ends with this very listener.
            None => pending().await,
        }
    }
}

impl Drop for News {
    fn drop(&mut self) {
        self.announcer.lock().open.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_was_closed_is_told_nothing() {
        let announcer = Arc::new(Announcer::default());
        let request =
            NotifyRequest { level: NotifyLevel::Notice, message: "the workspace stops soon".to_owned() };
        assert_eq!(announcer.notify(&request), 0);
        let (one, two) = (announcer.listen(), announcer.listen());
        assert_eq!(announcer.notify(&request), 2);
        drop(one);
        assert_eq!(announcer.notify(&request), 1);
        drop(two);
        assert_eq!(announcer.notify(&request), 0);
    }
}
