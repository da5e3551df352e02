//! Asks a provider: sends the request, tries again what may pass, and reads the stream of the answer.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body::Body;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use tokio::time::{sleep, timeout};

use super::anthropic::Anthropic;
use super::openai::OpenAi;
use super::sse::Events;
use super::{Delta, Dialect, LlmError, Prompt, Reader, Sink, error_message, offline};
use crate::chat::web::{self, WebClient, WebError};
use crate::config::{Answers, ChatConfig, Provider};

const ERROR_TIMEOUT: Duration = Duration::from_secs(10);
/// Silence on a stream after which it is given up. Providers send pings.
const SILENCE: Duration = Duration::from_mins(3);
const TRIES: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// A provider that wants a longer pause is not waited for.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
const ERROR_BYTES: usize = 64 * 1024;
const WHOLE_BYTES: usize = 16 * 1024 * 1024;

/// The configured model provider.
pub(crate) enum Llm {
    Offline,
    Remote(Box<Remote>),
}

/// A provider behind a URL.
pub(crate) struct Remote {
    dialect: Box<dyn Dialect>,
    uri: String,
    key: Option<PathBuf>,
    client: WebClient,
    /// How long the head of an answer is waited for.
    patience: Duration,
}

impl Llm {
    pub(crate) fn new(config: &ChatConfig) -> Result<Self, WebError> {
        let dialect: Box<dyn Dialect> = match config.provider {
            Provider::Offline => return Ok(Self::Offline),
            Provider::OpenAi => Box::new(OpenAi { tokens: config.tokens_parameter, answers: config.answers }),
            Provider::Anthropic => Box::new(Anthropic),
        };
        if let Some(path) = &config.api_key_file {
            web::check("chat.apiKeyFile", path)?;
        }
        let client = web::client("chat", config.ca_file.as_deref())?;
        let uri = format!("{}{}", config.base_url, dialect.path());
        let key = config.api_key_file.clone();
        // The head of an answer that comes at once comes with its end.
        let patience = if config.answers == Answers::Whole { config.timeout } else { SILENCE };
        Ok(Self::Remote(Box::new(Remote { dialect, uri, key, client, patience })))
    }

    /// Asks, and passes the answer on piece by piece. Nothing is tried again once a piece was passed on. Dropping the
    /// future cancels the request.
    pub(crate) async fn ask(&self, prompt: &Prompt, sink: &mut dyn Sink) -> Result<(), LlmError> {
        match self {
            Self::Offline => {
                offline::answer(prompt, sink).await;
                Ok(())
            }
            Self::Remote(remote) => remote.ask(prompt, sink).await,
        }
    }
}

impl Remote {
    async fn ask(&self, prompt: &Prompt, sink: &mut dyn Sink) -> Result<(), LlmError> {
        let body = Bytes::from(self.dialect.body(prompt).to_string());
        let (mut pause, mut tries) = (FIRST_PAUSE, 1);
        loop {
            let mut begun = false;
            let error = match self.try_once(body.clone(), sink, &mut begun).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let wanted = match &error {
                LlmError::Busy { after: Some(after), .. } => *after,
                _ => pause,
            };
            if begun || tries == TRIES || !error.may_pass() || wanted > LONGEST_PAUSE {
                return Err(error);
            }
            tracing::warn!(%error, tries, "the model is asked again");
            sleep(wanted).await;
            pause *= 2;
            tries += 1;
        }
    }

    async fn try_once(&self, body: Bytes, sink: &mut dyn Sink, begun: &mut bool) -> Result<(), LlmError> {
        let response = timeout(self.patience, self.client.request(self.request(body).await?))
            .await
            .map_err(|_| LlmError::Silent)?
            .map_err(|error| {
                tracing::debug!(%error, "a model's provider could not be asked");
                LlmError::Unreachable
            })?;
        if !response.status().is_success() {
            return Err(refused(response).await);
        }
        let kind = response.headers().get(header::CONTENT_TYPE);
        if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json")) {
            return read_whole(response.into_body(), self.dialect.reader(), sink).await;
        }
        read(response.into_body(), self.dialect.reader(), sink, begun).await
    }

    async fn request(&self, body: Bytes) -> Result<Request<Full<Bytes>>, LlmError> {
        let key = match &self.key {
            Some(path) => tokio::fs::read_to_string(path).await.map_err(|error| {
                tracing::error!(%error, "the key of the model's provider can't be read");
                LlmError::Key
            })?,
            None => String::new(),
        };
        let mut request = Request::post(&self.uri)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "text/event-stream")
            .header(header::USER_AGENT, concat!("dexorder-gateway/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(body))
            .map_err(|_| LlmError::Unreachable)?;
        self.dialect.authorize(key.trim(), request.headers_mut())?;
        if key.trim().is_empty() {
            request.headers_mut().remove(header::AUTHORIZATION);
        }
        Ok(request)
    }
}

/// Reads an answer that came at once. It is passed on only when all of it is there.
async fn read_whole(
    body: impl Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
    mut reader: Box<dyn Reader>,
    sink: &mut dyn Sink,
) -> Result<(), LlmError> {
    let whole = timeout(SILENCE, Limited::new(body, WHOLE_BYTES).collect()).await;
    let bytes = whole.map_err(|_| LlmError::Silent)?.map_err(|_| LlmError::BrokeOff)?.to_bytes();
    for delta in reader.whole(&String::from_utf8_lossy(&bytes))? {
        sink.take(delta).await;
    }
    Ok(())
}

/// Reads the stream of an answer to its end. `begun` is set once a piece of it was passed on.
pub(super) async fn read(
    mut body: impl Body<Data = Bytes> + Unpin,
    mut reader: Box<dyn Reader>,
    sink: &mut dyn Sink,
    begun: &mut bool,
) -> Result<(), LlmError> {
    let mut events = Events::default();
    while let Some(frame) = timeout(SILENCE, body.frame()).await.map_err(|_| LlmError::Silent)? {
        let Ok(data) = frame.map_err(|_| LlmError::BrokeOff)?.into_data() else {
            continue;
        };
        let whole =
            events.push(&data).map_err(|_| LlmError::Malformed("an event is too large".to_owned()))?;
        for event in whole {
            for delta in reader.event(&event)? {
                if delta == Delta::End {
                    return Ok(());
                }
                *begun |= !matches!(delta, Delta::Usage(_));
                sink.take(delta).await;
            }
        }
    }
    Err(LlmError::BrokeOff)
}

async fn refused(response: Response<Incoming>) -> LlmError {
    let (parts, body) = response.into_parts();
    let body = timeout(ERROR_TIMEOUT, Limited::new(body, ERROR_BYTES).collect()).await;
    let bytes = body.ok().and_then(Result::ok).map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let after = retry_after(&parts.headers, Timestamp::now());
    failure(parts.status.as_u16(), after, error_message(&bytes))
}

/// What a status means.
pub(super) fn failure(status: u16, after: Option<Duration>, message: String) -> LlmError {
    match status {
        408 | 409 | 429 | 500.. => LlmError::Busy { status, after },
        // What the provider says of the gateway's own key is no concern of the user.
        401 | 403 => {
            tracing::error!(status, "the model's provider refuses the key");
            LlmError::Key
        }
        _ => LlmError::Refused { status, message },
    }
}

/// `Retry-After` in seconds or as a date (RFC 9110, section 10.2.3), or its finer relative.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = |name: &str| headers.get(name).map(HeaderValue::to_str)?.ok().map(str::trim);
    let number = |name: &str| text(name)?.parse::<f64>().ok();
    let finer = number("retry-after-ms").map(|milliseconds| milliseconds / 1000.0);
    if let Some(seconds) = finer.or_else(|| number("retry-after")) {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = rfc2822::DateTimeParser::new().parse_timestamp(text("retry-after")?).ok()?;
    // A date that has passed: at once.
    Some(date.duration_since(now).try_into().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    #[test]
    fn a_provider_says_when_in_seconds_milliseconds_or_as_a_date() {
        let now: Timestamp = "1994-11-06T08:49:07Z".parse().unwrap();
        let after = |pairs: &[(&'static str, &'static str)]| {
            let pairs = pairs
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
            retry_after(&pairs.collect(), now)
        };
        assert_eq!(after(&[("retry-after", "7")]), Some(Duration::from_secs(7)));
        assert_eq!(
            after(&[("retry-after", "7"), ("retry-after-ms", "250")]),
            Some(Duration::from_millis(250))
        );
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(after(&[("retry-after", date)]), Some(Duration::from_secs(30)));
        let passed = "Sun, 06 Nov 1994 08:48:00 GMT";
        assert_eq!(after(&[("retry-after", passed)]), Some(Duration::ZERO));
        for nonsense in ["soon", "-1", ""] {
            assert_eq!(after(&[("retry-after", nonsense)]), None, "{nonsense:?}");
        }
        assert_eq!(after(&[]), None);
    }
}
