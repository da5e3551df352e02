//! Clients of the revisions before 2026-07-28, which open a session with `initialize`. Their requests are translated, so
//! that the agent sees the newest revision alone; all that a session is stands in its identifier.

mod call;
mod codes;
mod downgrade;
mod exchange;
mod initialize;
mod input;
mod level;
mod listen;
mod members;
mod message;
mod outgoing;
mod parameters;
mod questions;
mod reply;
mod revision;
mod serve;
mod session;
mod session_methods;
mod sessions;
mod stream;
mod tools;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Semaphore;

pub(crate) use level::Level;
use questions::Questions;
pub(crate) use revision::Revision;
pub(crate) use serve::serve;
use sessions::Sessions;
use tools::Tools;

/// So many large requests, and as many large answers, are in memory at once.
const LARGE_AT_ONCE: usize = 2;

/// What is known of old clients, in memory.
pub(crate) struct Legacy {
    sessions: Sessions,
    questions: Arc<Questions>,
    tools: Tools,
    request_places: Arc<Semaphore>,
    answer_places: Arc<Semaphore>,
    last_id: AtomicU64,
}

impl Legacy {
    pub(crate) fn new() -> Self {
        Self {
            sessions: Sessions::default(),
            questions: Arc::default(),
            tools: Tools::default(),
            request_places: Arc::new(Semaphore::new(LARGE_AT_ONCE)),
            answer_places: Arc::new(Semaphore::new(LARGE_AT_ONCE)),
            last_id: AtomicU64::default(),
        }
    }

    /// The id of a request to the agent. A request that comes again has another (2026-07-28, basic/patterns/mrtr).
    fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }
}
