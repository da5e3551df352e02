//! The agent behind its unix socket: whether it is up, and the calls of its lifecycle.

mod client;
mod events;
mod pool;
mod tools;
mod watch;

pub(crate) use client::{AgentError, Status};
pub(crate) use events::EventReader;
pub(crate) use pool::{Connection, SendError};
pub(crate) use tools::ReadOnlyTools;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, watch as channel};
use tokio::time::sleep;

use pool::Pool;

/// Pause before the next try when the agent's queue of new connections is full.
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(5);

/// What is known of the agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// Whether it answers.
    pub(crate) ready: bool,
    /// When it first did.
    pub(crate) first_ready: Option<Timestamp>,
    /// What it does without a request.
    pub(crate) busy: Vec<String>,
    /// Commit of its repository.
    pub(crate) commit: Option<String>,
}

/// The agent of this workspace.
pub(crate) struct Agent {
    pool: Arc<Pool>,
    known: channel::Sender<Known>,
    look_again: Notify,
    /// Pages of the list of tools that were asked for.
    lists: AtomicU64,
}

impl Agent {
    /// The agent at a socket, not yet known to be up: [`Agent::watch`] finds out.
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self {
            pool: Pool::new(socket),
            known: channel::Sender::new(Known::default()),
            look_again: Notify::new(),
            lists: AtomicU64::default(),
        }
    }

    /// What is known of it now.
    pub(crate) fn known(&self) -> Known {
        self.known.borrow().clone()
    }

    /// Whether it answered when it was last looked at.
    pub(crate) fn is_ready(&self) -> bool {
        self.known.borrow().ready
    }

    /// A connection to the agent, as soon as it is up. Nothing of any request has been sent when this waits.
    pub(crate) async fn connection(&self) -> Connection {
        let mut known = self.known.subscribe();
        loop {
            // The sender lives as long as `self`, so this can't fail.
            let _ = known.wait_for(|known| known.ready).await;
            match self.pool.connection().await {
                Ok(connection) => return connection,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(QUEUE_FULL_PAUSE).await,
                Err(error) => self.lost(&error),
            }
        }
    }

    /// Someone could not reach it: hold requests until it is seen again.
    pub(crate) fn lost(&self, error: &(dyn std::error::Error + 'static)) {
        let was_ready = self.known.send_if_modified(|known| std::mem::replace(&mut known.ready, false));
        if was_ready {
            tracing::warn!(error, "the agent does not answer");
        }
        self.look_again.notify_one();
    }

    fn seen(&self, status: Status) {
        let Status { ready, busy, commit } = status;
        self.known.send_if_modified(|known| {
            let first_ready = known.first_ready.or_else(|| ready.then(Timestamp::now));
            let commit = commit.or_else(|| known.commit.clone());
            let next = Known { ready, first_ready, busy, commit };
            if next.ready != known.ready {
                tracing::info!(ready = next.ready, "the agent's state changed");
            }
            let changed = next != *known;
            *known = next;
            changed
        });
    }

    fn saved(&self, commit: &str) {
        self.known.send_modify(|known| known.commit = Some(commit.to_owned()));
    }
}
