//! Server-sent events to clients: what a turn says as it comes, and comments while it is silent.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::event::{Event, Events};
use super::request::CONVERSATION;
use crate::metrics::Raised;

/// Silence after which a comment is sent.
const SILENCE: Duration = Duration::from_secs(15);
const COMMENT: &[u8] = b": keep-alive\n\n";

/// Writes events in the form of one API.
pub(crate) trait Writer: Send + 'static {
    /// What is sent before anything has happened.
    fn begin(&mut self) -> String;
    /// What is sent for an event. Nothing, if the API has no word for it.
    fn event(&mut self, event: Event) -> String;
}

/// One event with JSON as its data.
pub(crate) fn data(value: &Value) -> String {
    format!("data: {value}\n\n")
}

struct State<W> {
    writer: W,
    events: Events,
    first: Option<String>,
    _open: Raised,
}

/// A response that streams the turn. Dropping it, as a client that leaves does, interrupts the turn. `first`: an event
/// that has come already.
pub(crate) fn response(
    mut writer: impl Writer,
    events: Events,
    first: Event,
    conversation: &str,
    open: Raised,
) -> Response {
    let mut begin = writer.begin();
    begin.push_str(&writer.event(first));
    let state = State { writer, events, first: Some(begin), _open: open };
    let body = Body::from_stream(stream::unfold(state, |mut state| async move {
        let bytes = next(&mut state).await?;
        Some((Ok::<_, std::convert::Infallible>(bytes), state))
    }));
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    name(&mut response, conversation);
    response
}

/// Names the conversation in a response.
pub(crate) fn name(response: &mut Response, conversation: &str) {
    if let Ok(value) = HeaderValue::from_str(conversation) {
        response.headers_mut().insert(HeaderName::from_static(CONVERSATION), value);
    }
}

async fn next<W: Writer>(state: &mut State<W>) -> Option<Bytes> {
    if let Some(first) = state.first.take().filter(|first| !first.is_empty()) {
        return Some(Bytes::from(first));
    }
    // What the API has no word for leaves the client in silence, too.
    let silent = Instant::now() + SILENCE;
    loop {
        match timeout_at(silent, state.events.recv()).await {
            Ok(None) => return None,
            Ok(Some(event)) => {
                let text = state.writer.event(event);
                if !text.is_empty() {
                    return Some(Bytes::from(text));
                }
            }
            Err(_) => return Some(Bytes::from_static(COMMENT)),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tokio::time::sleep;

    use super::*;
    use crate::chat::ag_ui::Writing;
    use crate::chat::event;
    use crate::metrics::Metrics;

    fn waking() -> Event {
        Event::Waking { state: "Starting".to_owned(), message: String::new() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_turn_keeps_its_stream_alive_and_ends_when_the_client_leaves() {
        let (sender, events) = event::channel();
        let writer = Writing { thread: "t".to_owned(), id: "r".to_owned(), model: "m".to_owned() };
        let first = waking();
        let response = response(writer, events, first, "t", Metrics::new().stream());
        assert_eq!(response.headers()[CONVERSATION], "t");
        let mut body = response.into_body();
        let mut next = async || body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(
            next()
                .await
                .starts_with(b"data: {\"runId\":\"r\",\"threadId\":\"t\",\"type\":\"RUN_STARTED\"}\n\n")
        );
        let begun = Instant::now();
        assert_eq!((next().await, begun.elapsed()), (Bytes::from_static(COMMENT), SILENCE));
        assert_eq!(next().await, COMMENT);
        assert!(!sender.is_closed());
        drop(body);
        assert!(sender.is_closed(), "the turn hears of it");
    }

    /// Has a word for nothing.
    struct Mute;

    impl Writer for Mute {
        fn begin(&mut self) -> String {
            "begun".to_owned()
        }

        fn event(&mut self, _: Event) -> String {
            String::new()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn events_that_the_client_does_not_see_are_silence() {
        let (sender, events) = event::channel();
        let first = waking();
        let mut body = response(Mute, events, first, "t", Metrics::new().stream()).into_body();
        tokio::spawn(async move {
            loop {
                sleep(SILENCE * 2 / 3).await;
                let told = waking();
                if sender.send(told).await.is_err() {
                    return;
                }
            }
        });
        let mut next = async || body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(next().await, "begun");
        let begun = Instant::now();
        assert_eq!((next().await, begun.elapsed()), (Bytes::from_static(COMMENT), SILENCE));
        assert_eq!((next().await, begun.elapsed()), (Bytes::from_static(COMMENT), SILENCE * 2));
    }
}
