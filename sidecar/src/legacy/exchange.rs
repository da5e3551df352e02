//! One request to the agent and what comes back: notifications, then the answer, as JSON or as a stream of events.

use std::sync::Arc;
use std::time::Duration;

use dexorder_protocol::headers::{essence, is_event_stream};
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::agent::{Connection, EventReader};

/// The largest message.
const MOST_BYTES: usize = 8 * 1024 * 1024;
/// A larger one takes one of few places, so that the memory of all together is bounded.
const SMALL_BYTES: usize = 1024 * 1024;
/// How long a stream may take to end after the answer, to be used for another request.
const END_TIME: Duration = Duration::from_secs(1);

/// A request that the agent works on. Dropping it cancels the request: the agent sees its connection close.
pub(super) struct Exchange {
    incoming: Incoming,
    connection: Connection,
    form: Form,
    places: Arc<Semaphore>,
    place: Option<OwnedSemaphorePermit>,
}

enum Form {
    Whole(Vec<u8>),
    Events(EventReader),
}

/// What the agent said.
#[derive(Debug)]
pub(super) enum Heard {
    Notification(Vec<u8>),
    /// The last of it.
    Answer(Vec<u8>),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExchangeError {
    #[error("the agent broke off")]
    Broken,
    #[error("the agent's message is over {MOST_BYTES} bytes")]
    TooLarge,
    #[error("the agent's answer with status {0} is no JSON-RPC message")]
    NoMessage(StatusCode),
}

#[derive(Deserialize)]
struct Outline {
    method: Option<IgnoredAny>,
    id: Option<IgnoredAny>,
    result: Option<IgnoredAny>,
    error: Option<IgnoredAny>,
}

impl Exchange {
    pub(super) fn new(
        response: Response<Incoming>,
        connection: Connection,
        places: Arc<Semaphore>,
    ) -> Result<Self, ExchangeError> {
        let is_json = essence(response.headers()).as_deref() == Some("application/json");
        let form = match is_event_stream(response.headers()) {
            true => Form::Events(EventReader::default()),
            false if is_json => Form::Whole(Vec::new()),
            false => return Err(ExchangeError::NoMessage(response.status())),
        };
        Ok(Self { incoming: response.into_body(), connection, form, places, place: None })
    }

    /// Whether notifications may come before the answer.
    pub(super) const fn is_stream(&self) -> bool {
        matches!(self.form, Form::Events(_))
    }

    /// The next message. Nothing is lost if this is not waited for to the end.
    pub(super) async fn next(&mut self) -> Result<Heard, ExchangeError> {
        loop {
            if let Form::Events(events) = &mut self.form {
                while let Some(text) = events.next() {
                    if let Some(heard) = sort(text) {
                        return Ok(heard);
                    }
                }
            }
            self.take_place().await?;
            match self.incoming.frame().await {
                Some(Ok(frame)) => {
                    let Some(chunk) = frame.data_ref() else { continue };
                    match &mut self.form {
                        Form::Whole(text) => text.extend_from_slice(chunk),
                        Form::Events(events) => events.push(chunk),
                    }
                }
                Some(Err(_)) => return Err(ExchangeError::Broken),
                None => {
                    return match &mut self.form {
                        Form::Whole(text) => match sort(std::mem::take(text)) {
                            Some(heard @ Heard::Answer(_)) => Ok(heard),
                            Some(Heard::Notification(_)) | None => {
                                Err(ExchangeError::NoMessage(StatusCode::OK))
                            }
                        },
                        Form::Events(_) => Err(ExchangeError::Broken),
                    };
                }
            }
        }
    }

    /// Waits for the answer, whatever comes before it.
    pub(super) async fn answer(&mut self) -> Result<Vec<u8>, ExchangeError> {
        loop {
            if let Heard::Answer(text) = self.next().await? {
                return Ok(text);
            }
        }
    }

    /// The answer was heard: keeps the connection for another request, as soon as the response ends.
    pub(super) fn done(self) {
        let Self { mut incoming, connection, .. } = self;
        tokio::spawn(async move {
            let end = async { while let Some(Ok(_)) = incoming.frame().await {} };
            if timeout(END_TIME, end).await.is_ok() {
                connection.give_back();
            }
        });
    }

    async fn take_place(&mut self) -> Result<(), ExchangeError> {
        let bytes = match &self.form {
            Form::Whole(text) => text.len(),
            Form::Events(events) => events.len(),
        };
        if bytes > MOST_BYTES {
            return Err(ExchangeError::TooLarge);
        }
        if bytes > SMALL_BYTES && self.place.is_none() {
            // The semaphore is never closed.
            self.place = Arc::clone(&self.places).acquire_owned().await.ok();
        }
        Ok(())
    }
}

/// Tells the kinds of messages apart. An agent of the newest revision sends no requests.
fn sort(text: Vec<u8>) -> Option<Heard> {
    let outline: Outline = serde_json::from_slice(&text).ok()?;
    match outline {
        Outline { method: Some(_), id: None, .. } => Some(Heard::Notification(text)),
        Outline { method: None, result: Some(_), .. } | Outline { method: None, error: Some(_), .. } => {
            Some(Heard::Answer(text))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_sorted() {
        let kind = |text: &str| sort(text.as_bytes().to_vec());
        assert!(matches!(kind(r#"{"jsonrpc":"2.0","method":"x"}"#), Some(Heard::Notification(_))));
        assert!(matches!(kind(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#), Some(Heard::Answer(_))));
        assert!(matches!(kind(r#"{"jsonrpc":"2.0","id":null,"error":{}}"#), Some(Heard::Answer(_))));
        for none in [r#"{"id":1,"method":"ping"}"#, "[]", "{}", "no JSON", ""] {
            assert!(kind(none).is_none(), "{none}");
        }
    }
}
