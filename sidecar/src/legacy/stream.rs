//! The body of a response that is a stream of events: each is made when the one before has gone out. Dropping it drops
//! whatever makes them.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};

/// Makes the messages of a stream.
pub(super) trait Messages: Send + Sized + 'static {
    /// The next message, nothing at the end.
    fn next(&mut self) -> impl Future<Output = Option<String>> + Send;
}

/// A stream of messages.
pub(super) struct Events<M> {
    first: Option<String>,
    state: State<M>,
}

type Making<M> = Pin<Box<dyn Future<Output = (M, Option<String>)> + Send>>;

enum State<M> {
    Waiting(M),
    Making(Making<M>),
    Ended,
}

impl<M: Messages> Events<M> {
    /// A stream that begins with `first`.
    pub(super) fn new(first: Option<String>, messages: M) -> Self {
        Self { first, state: State::Waiting(messages) }
    }
}

// Nothing in it is borrowed from it.
impl<M> Unpin for Events<M> {}

impl<M: Messages> Body for Events<M> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(event(&first))));
        }
        let mut making = match std::mem::replace(&mut self.state, State::Ended) {
            State::Waiting(mut messages) => Box::pin(async move {
                let message = messages.next().await;
                (messages, message)
            }),
            State::Making(making) => making,
            State::Ended => return Poll::Ready(None),
        };
        let Poll::Ready((messages, message)) = making.as_mut().poll(cx) else {
            self.state = State::Making(making);
            return Poll::Pending;
        };
        let Some(message) = message else { return Poll::Ready(None) };
        self.state = State::Waiting(messages);
        Poll::Ready(Some(Ok(event(&message))))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && matches!(self.state, State::Ended)
    }
}

/// A message as an event of one line. An agent may write its JSON over several: between two of its tokens, where a line's
/// end is as good as a space.
fn event(message: &str) -> Frame<Bytes> {
    let message = message.replace(['\n', '\r'], " ");
    Frame::data(Bytes::from(format!("event: message\ndata: {message}\n\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_over_several_lines_is_one_event() {
        let frame = event("{\r\n\"a\":\n1}");
        assert_eq!(frame.into_data().unwrap(), "event: message\ndata: {  \"a\": 1}\n\n");
    }
}
