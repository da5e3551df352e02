//! Connections to the agent's unix socket, kept for the next request while they are fresh.
//!
//! A connection is made before a request is handed to it. So it is always known whether a request that failed has
//! reached the agent: only one that has not is ever tried again.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// How long a connection waits for its next request: less than the agent's own limit (5 s), so that a request never
/// meets a connection that is just being closed.
const FRESH: Duration = Duration::from_secs(2);
/// How many connections wait.
const WAITING: usize = 16;

/// The connections to one socket.
pub(super) struct Pool {
    socket: PathBuf,
    waiting: Mutex<Vec<Waiting>>,
}

struct Waiting {
    sender: SendRequest<Body>,
    since: Instant,
}

/// A connection that serves one request. Dropped before the end of the response, it is closed, and the agent sees
/// that nobody waits for it any more.
pub(crate) struct Connection {
    sender: SendRequest<Body>,
    pool: Arc<Pool>,
}

/// A request that got no response.
pub(crate) enum SendError {
    /// The agent never saw it. Here it is.
    NotSent(Box<Request<Body>>),
    /// The agent may have acted on it.
    Sent(hyper::Error),
}

impl Pool {
    pub(super) fn new(socket: PathBuf) -> Arc<Self> {
        Arc::new(Self { socket, waiting: Mutex::default() })
    }

    /// A waiting connection, or a new one.
    pub(super) async fn connection(self: &Arc<Self>) -> io::Result<Connection> {
        if let Some(sender) = self.take() {
            return Ok(Connection { sender, pool: Arc::clone(self) });
        }
        let stream = UnixStream::connect(&self.socket).await?;
        let (sender, driver) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(async move {
            // Whoever waits for the response gets the error, too.
            if let Err(error) = driver.await {
                tracing::debug!(%error, "a connection to the agent ended");
            }
        });
        Ok(Connection { sender, pool: Arc::clone(self) })
    }

    fn take(&self) -> Option<SendRequest<Body>> {
        let mut waiting = self.lock();
        waiting.retain(Waiting::is_usable);
        let ready = waiting.iter().rposition(|waiting| waiting.sender.is_ready())?;
        Some(waiting.swap_remove(ready).sender)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn is_usable(&self) -> bool {
        !self.sender.is_closed() && self.since.elapsed() < FRESH
    }
}

impl Connection {
    /// Sends a request and waits for the head of its response.
    pub(crate) async fn send(&mut self, request: Request<Body>) -> Result<Response<Incoming>, SendError> {
        self.sender.try_send_request(request).await.map_err(|mut error| match error.take_message() {
            Some(request) => SendError::NotSent(Box::new(request)),
            None => SendError::Sent(error.into_error()),
        })
    }

    /// Keeps the connection for the next request, now that the response has ended.
    pub(crate) fn give_back(self) {
        let Self { sender, pool } = self;
        let mut waiting = pool.lock();
        waiting.retain(Waiting::is_usable);
        if waiting.len() < WAITING {
            waiting.push(Waiting { sender, since: Instant::now() });
        }
    }
}
