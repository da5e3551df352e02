//! The body of a response on its way to the client: passes on what comes, unbuffered. On an event stream that is
//! silent for a while it puts a comment between two events, so that no intermediary takes the stream for dead.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};

use crate::metrics::Raised;

/// Silence after which a comment is sent.
pub(super) const SILENCE: Duration = Duration::from_secs(15);
/// A comment, and the empty line that ends it: clients take the two for an event without data and drop it.
const COMMENT: &[u8] = b": keep-alive\n\n";

pin_project! {
    /// A response's body.
    pub(super) struct Relay<B> {
        #[pin]
        inner: B,
        #[pin]
        events: Option<Events>,
        // Ends the stream with the next event. Only for streams that carry no answer.
        stop: Option<BoxFuture<'static, ()>>,
        stopping: bool,
        stopped: bool,
    }
}

pin_project! {
    /// What an event stream needs besides.
    struct Events {
        #[pin]
        silence: Sleep,
        tail: Tail,
        _open: Raised,
    }
}

impl<B> Relay<B> {
    /// A body that is passed on as it is.
    pub(super) fn plain(inner: B) -> Self {
        Self { inner, events: None, stop: None, stopping: false, stopped: false }
    }

    /// An event stream. `open` counts it, `stop` ends it.
    pub(super) fn events(inner: B, open: Raised, stop: Option<BoxFuture<'static, ()>>) -> Self {
        let events = Events { silence: sleep(SILENCE), tail: Tail::default(), _open: open };
        Self { inner, events: Some(events), stop, stopping: false, stopped: false }
    }
}

impl<B: Body<Data = Bytes>> Body for Relay<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let Some(events) = this.events.as_pin_mut() else {
            return this.inner.poll_frame(context);
        };
        if *this.stopped {
            return Poll::Ready(None);
        }
        let mut events = events.project();
        if let Poll::Ready(frame) = this.inner.poll_frame(context) {
            if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
                events.tail.take(data);
                events.silence.reset(Instant::now() + SILENCE);
            }
            return Poll::Ready(frame);
        }
        if let Some(stop) = this.stop
            && stop.poll_unpin(context).is_ready()
        {
            *this.stop = None;
            *this.stopping = true;
        }
        if *this.stopping && events.tail.between_events() {
            *this.stopped = true;
            return Poll::Ready(None);
        }
        loop {
            ready!(events.silence.as_mut().poll(context));
            events.silence.as_mut().reset(Instant::now() + SILENCE);
            if events.tail.between_events() {
                return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(COMMENT)))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.stopped || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.events.is_some() { SizeHint::default() } else { self.inner.size_hint() }
    }
}

/// The last bytes that passed.
#[derive(Default)]
struct Tail {
    last: [u8; 4],
    any: bool,
}

impl Tail {
    fn take(&mut self, data: &[u8]) {
        self.any |= !data.is_empty();
        for byte in &data[data.len().saturating_sub(4)..] {
            self.last.rotate_left(1);
            self.last[3] = *byte;
        }
    }

    /// Whether an event has just ended, or none has begun.
    fn between_events(&self) -> bool {
        !self.any || [&b"\n\n"[..], b"\r\r", b"\r\n\r\n"].iter().any(|end| self.last.ends_with(end))
    }
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt, channel::mpsc};
    use http_body_util::{BodyExt, StreamBody};
    use tokio::time::timeout;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::metrics::Metrics;

    type Sender = mpsc::UnboundedSender<Result<Frame<Bytes>, std::convert::Infallible>>;

    fn stream(
        stop: Option<&CancellationToken>,
    ) -> (Sender, Pin<Box<impl Body<Data = Bytes, Error: std::fmt::Debug>>>) {
        let (sender, receiver) = mpsc::unbounded();
        let stop = stop.map(|token| token.clone().cancelled_owned().boxed());
        let relay = Relay::events(StreamBody::new(receiver.boxed()), Metrics::new().stream(), stop);
        (sender, Box::pin(relay))
    }

    fn send(sender: &Sender, text: &'static str) {
        sender.unbounded_send(Ok(Frame::data(Bytes::from_static(text.as_bytes())))).unwrap();
    }

    async fn next(body: &mut (impl Body<Data = Bytes, Error: std::fmt::Debug> + Unpin)) -> Option<Bytes> {
        body.frame().await.map(|frame| frame.unwrap().into_data().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn silence_between_events_is_broken_by_a_comment() {
        let (sender, mut body) = stream(None);
        let begun = Instant::now();
        assert_eq!(next(&mut body).await.unwrap(), COMMENT);
        assert_eq!(begun.elapsed().as_secs(), SILENCE.as_secs());
        send(&sender, "data: 1\n\n");
        assert_eq!(next(&mut body).await.unwrap(), "data: 1\n\n");
        assert_eq!(next(&mut body).await.unwrap(), COMMENT);
        assert_eq!(begun.elapsed().as_secs(), 2 * SILENCE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn no_comment_stands_inside_an_event() {
        let (sender, mut body) = stream(None);
        send(&sender, "data: half");
        assert_eq!(next(&mut body).await.unwrap(), "data: half");
        let waiting = tokio::time::timeout(SILENCE * 10, next(&mut body)).await;
        assert!(waiting.is_err(), "a comment cut the event in two");
        send(&sender, " done\r\n");
        send(&sender, "\r\n");
        assert_eq!(next(&mut body).await.unwrap(), " done\r\n");
        assert_eq!(next(&mut body).await.unwrap(), "\r\n");
        assert_eq!(next(&mut body).await.unwrap(), COMMENT);
        drop(sender);
        assert!(next(&mut body).await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_only_listens_ends_at_the_shutdown() {
        let token = CancellationToken::new();
        let (sender, mut body) = stream(Some(&token));
        send(&sender, "data: 1\n\n");
        token.cancel();
        assert_eq!(next(&mut body).await.unwrap(), "data: 1\n\n");
        assert!(next(&mut body).await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_only_between_two_events() {
        let token = CancellationToken::new();
        let (sender, mut body) = stream(Some(&token));
        send(&sender, "data: 1\n");
        token.cancel();
        assert_eq!(next(&mut body).await.unwrap(), "data: 1\n");
        assert!(timeout(SILENCE / 2, next(&mut body)).await.is_err());
        send(&sender, "\n");
        assert_eq!(next(&mut body).await.unwrap(), "\n");
        assert!(next(&mut body).await.is_none());
    }
}
