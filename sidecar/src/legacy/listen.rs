//! The stream that an old client opens with GET: what changes at the agent, by a subscription of the newest revision
//! (2026-07-28, basic/patterns/subscriptions), and what the sidecar itself has to tell.

use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{HeaderMap, Request};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::call::Stop;
use super::codes::METHOD_NOT_FOUND;
use super::downgrade;
use super::exchange::{Exchange, Heard};
use super::level::Level;
use super::members::{Members, raw};
use super::outgoing::{Inputs, Outgoing};
use super::session::Session;
use super::sessions::{Stream, Wanted};
use super::stream::Messages;
use crate::announce::News;
use crate::gate::Pass;
use crate::headers::LISTEN_METHOD;
use crate::metrics::Outcome;
use crate::proxy::{Turn, forward};
use crate::relay::Record;
use crate::server::App;

const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";
/// Pause before the agent is listened to again that ended its stream.
const PAUSE: Duration = Duration::from_secs(1);

/// Who listens.
pub(super) struct Listener {
    pub(super) session: Session,
    /// The client's headers that go on.
    pub(super) headers: HeaderMap,
    pub(super) pass: Pass,
    pub(super) record: Record,
    pub(super) _place: Option<OwnedSemaphorePermit>,
    /// When the client's own session ends.
    pub(super) until: Option<Instant>,
}

/// A stream that is open.
pub(super) struct Listening {
    app: Arc<App>,
    listener: Listener,
    news: News,
    /// Nothing for a client without a session, which can't subscribe to anything.
    stream: Option<Stream>,
    wanted: Option<watch::Receiver<Wanted>>,
    cut: CancellationToken,
    replaced: CancellationToken,
    current: Option<Exchange>,
    opening: Option<Opening>,
    again_at: Option<Instant>,
}

/// A subscription that is being made, with the version of what was wanted then. The one before lives until it is there.
type Opening = Pin<Box<dyn Future<Output = Result<(Exchange, u64), NoSubscription>> + Send>>;

/// Why there is no subscription.
#[derive(Debug)]
enum NoSubscription {
    NotOffered,
    Later,
}

/// What happened.
enum Event {
    Told(String),
    Opened(Result<(Exchange, u64), NoSubscription>),
    /// The agent said something that is not for the client.
    Nothing,
    /// The agent ended its stream.
    Ended,
    Again,
    Over(Outcome),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Filter<'a> {
    tools_list_changed: bool,
    prompts_list_changed: bool,
    resources_list_changed: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    resource_subscriptions: Vec<&'a str>,
}

impl Listening {
    pub(super) fn new(app: Arc<App>, listener: Listener) -> Self {
        let stream = listener.session.nonce.map(|nonce| app.legacy.sessions.of(nonce).open_stream());
        Self {
            news: app.announcer.listen(),
            wanted: stream.as_ref().map(|stream| stream.wanted.clone()),
            cut: listener.pass.cut(),
            replaced: stream.as_ref().map(|stream| stream.replaced.clone()).unwrap_or_default(),
            stream,
            current: None,
            opening: None,
            again_at: None,
            app,
            listener,
        }
    }

    /// Subscribes, as soon as the agent is up.
    pub(super) async fn begin(&mut self) -> Result<(), Stop> {
        let (request, version) = self.request().map_err(Stop::NotBegun)?;
        let (response, connection) = forward(&self.app, &self.cut, request, Turn::First).await?;
        let exchange = Exchange::new(response, connection, Arc::clone(&self.app.legacy.answer_places))?;
        self.opening = Some(Box::pin(acknowledged(exchange, version)));
        Ok(())
    }

    pub(super) const fn record(&mut self) -> &mut Record {
        &mut self.listener.record
    }

    /// Subscribes anew to what is wanted now.
    fn reopen(&mut self) {
        self.again_at = None;
        let Ok((request, version)) = self.request() else { return };
        let (app, cut) = (Arc::clone(&self.app), self.cut.clone());
        self.opening = Some(Box::pin(async move {
            let (response, connection) =
                forward(&app, &cut, request, Turn::Later).await.map_err(|_| NoSubscription::Later)?;
            let exchange = Exchange::new(response, connection, Arc::clone(&app.legacy.answer_places))
                .map_err(|_| NoSubscription::Later)?;
            acknowledged(exchange, version).await
        }));
    }

    /// The request for a subscription, and the version of what is wanted.
    fn request(&mut self) -> Result<(Request<Body>, u64), crate::refusal::Refusal> {
        let wanted =
            self.wanted.as_mut().map(|wanted| wanted.borrow_and_update().clone()).unwrap_or_default();
        let filter = Filter {
            tools_list_changed: true,
            prompts_list_changed: true,
            resources_list_changed: true,
            resource_subscriptions: wanted.uris.iter().map(String::as_str).collect(),
        };
        let mut params = Members::default();
        params.set("notifications", raw(&filter));
        let outgoing = Outgoing {
            id: self.app.legacy.next_id(),
            method: LISTEN_METHOD,
            params,
            level: None,
            inputs: &Inputs::default(),
        };
        let request = outgoing.request(&self.listener.session, &self.listener.headers, &[])?;
        Ok((request, wanted.version))
    }

    fn level(&self) -> Level {
        self.stream.as_ref().map_or(Level::USUAL, Stream::level)
    }

    async fn event(&mut self) -> Event {
        tokio::select! {
            biased;
            () = self.cut.cancelled() => Event::Over(Outcome::CutOff),
            () = at(self.listener.until) => Event::Over(Outcome::CutOff),
            () = self.replaced.cancelled() => Event::Over(Outcome::Answered),
            (level, message) = self.news.next() => {
                if level < self.level() { Event::Nothing } else { Event::Told(message) }
            }
            opened = opened(&mut self.opening) => Event::Opened(opened),
            heard = heard(&mut self.current) => heard,
            () = changed(self.wanted.as_mut()) => Event::Again,
            () = at(self.again_at) => Event::Again,
        }
    }
}

impl Messages for Listening {
    async fn next(&mut self) -> Option<String> {
        loop {
            match self.event().await {
                Event::Told(message) => return Some(message),
                Event::Nothing => {}
                Event::Again => self.reopen(),
                Event::Ended => {
                    self.current = None;
                    if self.opening.is_none() {
                        self.again_at = Some(Instant::now() + PAUSE);
                    }
                }
                Event::Opened(opened) => {
                    self.opening = None;
                    let version = match opened {
                        Ok((exchange, version)) => {
                            self.current = Some(exchange);
                            version
                        }
                        // The sidecar's own news remain.
                        Err(NoSubscription::NotOffered) => u64::MAX,
                        Err(NoSubscription::Later) => {
                            self.again_at = Some(Instant::now() + PAUSE);
                            continue;
                        }
                    };
                    if let Some(stream) = &self.stream {
                        stream.carries(version);
                    }
                }
                Event::Over(outcome) => {
                    self.listener.record.set(outcome);
                    return None;
                }
            }
        }
    }
}

/// Waits until the agent has taken a subscription: what changes from then on is told.
async fn acknowledged(mut exchange: Exchange, version: u64) -> Result<(Exchange, u64), NoSubscription> {
    #[derive(Deserialize)]
    struct Message {
        method: Option<String>,
        error: Option<downgrade::Error>,
    }
    let (Heard::Notification(text) | Heard::Answer(text)) =
        exchange.next().await.map_err(|_| NoSubscription::Later)?;
    let message: Message = serde_json::from_slice(&text).map_err(|_| NoSubscription::Later)?;
    match message {
        Message { method: Some(method), .. } if method == ACKNOWLEDGED => Ok((exchange, version)),
        Message { error: Some(error), .. } if error.code == METHOD_NOT_FOUND => {
            Err(NoSubscription::NotOffered)
        }
        _ => Err(NoSubscription::Later),
    }
}

async fn opened(opening: &mut Option<Opening>) -> Result<(Exchange, u64), NoSubscription> {
    match opening {
        Some(opening) => opening.await,
        None => pending().await,
    }
}

async fn heard(current: &mut Option<Exchange>) -> Event {
    let Some(exchange) = current else { return pending().await };
    match exchange.next().await {
        Ok(Heard::Notification(text)) => downgrade::notification(&text).map_or(Event::Nothing, Event::Told),
        Ok(Heard::Answer(_)) | Err(_) => Event::Ended,
    }
}

async fn changed(wanted: Option<&mut watch::Receiver<Wanted>>) {
    let changed = match wanted {
        Some(wanted) => wanted.changed().await,
        None => pending().await,
    };
    if changed.is_err() {
        // What is kept of the session lives as long as the stream, so this can't be.
        pending::<()>().await;
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}
