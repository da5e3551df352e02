//! The two bodies of a proxied request, passed on frame by frame as they come.

use std::error::Error;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use dexorder_protocol::jsonrpc::request_id;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Sleep, sleep, timeout};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::activity::Kind;
use crate::agent::Connection;
use crate::gate::Pass;
use crate::metrics::{Metrics, Outcome};
use crate::refusal::Refusal;

/// How much of a request is kept to find its id, should it have to be refused.
const MEMORY_BYTES: usize = 64 * 1024;
/// How much of a refused request is read, so that its sender gets to read the refusal.
const DISCARD_BYTES: usize = 8 * 1024 * 1024;
const DISCARD_TIME: Duration = Duration::from_secs(2);
/// How long a body may take that must be read whole.
const WHOLE_TIME: Duration = Duration::from_secs(30);

/// Counts a request when it ends, however it ends. Until someone says better, the client has left.
pub(crate) struct Record {
    metrics: Arc<Metrics>,
    began: Instant,
    is_call: bool,
    outcome: Outcome,
}

impl Record {
    pub(crate) fn new(metrics: Arc<Metrics>, kind: Kind) -> Self {
        Self { metrics, began: Instant::now(), is_call: kind == Kind::Call, outcome: Outcome::ClientLeft }
    }

    pub(crate) fn set(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.metrics.request_ended(self.outcome, self.began, self.is_call);
    }
}

/// What was kept of a request's body: the chunks themselves, not copies.
#[derive(Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    chunks: Vec<Bytes>,
    bytes: usize,
}

impl Memory {
    fn keep(&self, chunk: &Bytes) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.bytes = kept.bytes.saturating_add(chunk.len());
        if kept.bytes > MEMORY_BYTES {
            kept.chunks = Vec::new();
        } else {
            kept.chunks.push(chunk.clone());
        }
    }

    /// The id of the request, if its whole body came by and was small.
    pub(crate) fn request_id(&self) -> Option<Value> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        request_id(&kept.chunks.concat())
    }
}

pin_project! {
    /// A request's body on its way to the agent.
    pub(crate) struct Remembered {
        #[pin]
        inner: Body,
        memory: Memory,
    }
}

impl Remembered {
    pub(crate) fn new(inner: Body, memory: Memory) -> Self {
        Self { inner, memory }
    }
}

impl HttpBody for Remembered {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.project();
        let frame = ready!(this.inner.poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(chunk) = frame.data_ref()
        {
            this.memory.keep(chunk);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Reads what is left of a request that is refused, for its id.
pub(crate) async fn discard(mut body: Body) -> Option<Value> {
    let memory = Memory::default();
    let read = async {
        let mut bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            let Some(chunk) = frame.data_ref() else { continue };
            bytes += chunk.len();
            memory.keep(chunk);
            if bytes > DISCARD_BYTES {
                return;
            }
        }
    };
    // A body that does not end in time has no id, as one that is too large.
    let _ = timeout(DISCARD_TIME, read).await;
    memory.request_id()
}

/// Reads a whole body, if it is not too large and comes in time.
pub(crate) async fn whole(mut body: Body, limit: usize) -> Result<Bytes, Refusal> {
    let read = async {
        let (mut chunks, mut bytes) = (Vec::new(), 0_usize);
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return Err(Refusal::Malformed("it broke off")) };
            let Ok(chunk) = frame.into_data() else { continue };
            bytes = bytes.saturating_add(chunk.len());
            if bytes > limit {
                return Err(Refusal::TooLarge(limit));
            }
            chunks.push(chunk);
        }
        Ok(if chunks.len() == 1 { chunks.swap_remove(0) } else { chunks.concat().into() })
    };
    match timeout(WHOLE_TIME, read).await {
        Err(_) => Err(Refusal::Malformed("it did not come in time")),
        Ok(Err(refusal @ Refusal::TooLarge(_))) => {
            discard(body).await;
            Err(refusal)
        }
        Ok(outcome) => outcome,
    }
}

/// Why a response ends before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RelayError {
    #[error("the workspace is stopping and cut the response off")]
    CutOff,
    #[error("the agent broke off its response")]
    Agent(#[source] hyper::Error),
}

pin_project! {
    /// A response's body on its way to the client. While it lives, the request counts as running.
    pub(crate) struct Relayed {
        #[pin]
        inner: Incoming,
        #[pin]
        cut: WaitForCancellationFutureOwned,
        ended: bool,
        pass: Pass,
        record: Record,
        connection: Option<Connection>,
        place: Option<OwnedSemaphorePermit>,
        #[pin]
        end: Option<Sleep>,
    }

    impl PinnedDrop for Relayed {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            // The server does not ask for the end of a body whose length it knows.
            if !*this.ended && this.inner.is_end_stream() {
                finish(this.record, this.connection);
            }
        }
    }
}

/// The response went through: its connection can serve the next one.
fn finish(record: &mut Record, connection: &mut Option<Connection>) {
    record.set(Outcome::Answered);
    if let Some(connection) = connection.take() {
        connection.give_back();
    }
}

impl Relayed {
    pub(crate) fn new(inner: Incoming, pass: Pass, record: Record, connection: Connection) -> Self {
        let cut = pass.cut().cancelled_owned();
        let connection = Some(connection);
        Self { inner, cut, ended: false, pass, record, connection, place: None, end: None }
    }

    /// Keeps a place among the requests at once until the response has ended.
    pub(crate) fn with_place(mut self, place: Option<OwnedSemaphorePermit>) -> Self {
        self.place = place;
        self
    }

    /// Ends a stream that listens after that time.
    pub(crate) fn with_limit(mut self, limit: Option<Duration>) -> Self {
        self.end = limit.map(sleep);
        self
    }
}

impl HttpBody for Relayed {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.project();
        if *this.ended {
            return Poll::Ready(None);
        }
        match this.inner.poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.pass.touch();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                *this.ended = true;
                finish(this.record, this.connection);
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                *this.ended = true;
                this.record.set(Outcome::AgentBrokeOff);
                Poll::Ready(Some(Err(RelayError::Agent(error).into())))
            }
            Poll::Pending => {
                let over = this.end.as_pin_mut().is_some_and(|end| end.poll(cx).is_ready());
                if !over {
                    ready!(this.cut.poll(cx));
                }
                *this.ended = true;
                this.record.set(Outcome::CutOff);
                // A listener has lost nothing: its stream just ends. Half an answer must be seen to be half.
                match this.pass.kind() {
                    Kind::Listen => Poll::Ready(None),
                    Kind::Call => Poll::Ready(Some(Err(RelayError::CutOff.into()))),
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
