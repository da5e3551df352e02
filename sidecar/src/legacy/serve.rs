//! Serves the requests of old clients. A request passes these phases: who sent it, all of its body, may this sender do that,
//! in which session, what is it.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, StatusCode};
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout};

use super::call::{Call, Request, Step, Stop};
use super::codes::METHOD_NOT_FOUND;
use super::downgrade;
use super::initialize::initialize;
use super::listen::{Listener, Listening};
use super::members::Members;
use super::message::{self, Message};
use super::outgoing;
use super::reply::{done, error, event_stream, json_response, stream, without_header};
use super::revision::Revision;
use super::session::Session;
use super::session_methods::{keep, notification};
use super::stream::{Events, Messages};
use crate::activity::Kind;
use crate::auth::{Caller, Users};
use crate::gate::Pass;
use crate::headers::{self, PROTOCOL_VERSION, SESSION_ID};
use crate::metrics::Outcome;
use crate::proxy::{Refused, check_head, refuse, with_session};
use crate::refusal::Refusal;
use crate::relay::{Record, discard, whole};
use crate::server::App;

/// The largest body: that of mode Direct, which has the largest.
const BODY_BYTES: usize = crate::direct::BODY_BYTES;
/// A larger body takes one of few places, so that the memory of all together is bounded.
const SMALL_BODY_BYTES: usize = 1024 * 1024;
/// How long a large body waits for its place.
const PLACE_TIME: Duration = Duration::from_secs(10);

/// What the older revisions don't have. Tasks of 2025-11-25 are another thing than those of later extensions.
const NEWEST_ONLY: [&str; 2] = ["server/discover", "subscriptions/listen"];
const TASKS: &str = "tasks/";

/// A request whose sender may send it.
struct Admitted<'a> {
    caller: Caller,
    users: &'a Users,
    /// The client's headers that go on.
    headers: HeaderMap,
    session: Session,
    body: Bytes,
    place: Option<OwnedSemaphorePermit>,
    /// The client named its revision in a header.
    names_revision: bool,
}

/// Serves a request of an older revision.
pub(crate) async fn serve(
    app: Arc<App>,
    revision: Revision,
    parts: Parts,
    body: Body,
    mut record: Record,
) -> Response {
    let method = parts.method.clone();
    let mut admitted = match admit(&app, revision, parts, body).await {
        Ok(admitted) => admitted,
        Err(Refused { refusal, id }) => {
            tracing::debug!(%refusal, "refused a request of an older revision");
            record.set(refusal.reason().into());
            return refuse(&app, refusal, id);
        }
    };
    let session = admitted.caller.session.take();
    let response = match method {
        Method::GET => listen(&app, admitted, record).await,
        Method::DELETE => end(&app, &admitted, record),
        _ => post(&app, admitted, record).await,
    };
    with_session(response, session)
}

async fn admit(app: &App, revision: Revision, mut parts: Parts, body: Body) -> Result<Admitted<'_>, Refused> {
    let (mut caller, users) = match check_head(app, &parts) {
        Ok(checked) => checked,
        Err(refusal) => return Err(Refused { refusal, id: discard(body).await }),
    };
    let limit = users.body_limit().unwrap_or(BODY_BYTES);
    let may_be_large = parts.method == Method::POST && limit > SMALL_BODY_BYTES;
    let place = match if may_be_large { place(app, &parts.headers).await } else { Ok(None) } {
        Ok(place) => place,
        Err(refusal) => return Err(Refused { refusal, id: discard(body).await }),
    };
    let body = whole(body, limit).await.map_err(|refusal| Refused { refusal, id: None })?;
    let refused = |refusal| Refused { refusal, id: dexorder_protocol::jsonrpc::request_id(&body) };
    users.check_body(&mut caller, &parts.method, &body, &app.agent).await.map_err(refused)?;
    let session = Session::of_request(&parts.headers, revision)
        .and_then(|session| match session.nonce {
            Some(nonce) if app.legacy.sessions.has_ended(nonce) => Err(Refusal::UnknownSession),
            _ => Ok(session),
        })
        .map_err(refused)?;
    let names_revision = parts.headers.contains_key(PROTOCOL_VERSION);
    headers::to_agent(&mut parts.headers, &caller.user);
    Ok(Admitted { caller, users, headers: parts.headers, session, body, place, names_revision })
}

/// A place for a body that is large, or may be.
async fn place(app: &App, headers: &HeaderMap) -> Result<Option<OwnedSemaphorePermit>, Refusal> {
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length <= SMALL_BODY_BYTES) {
        return Ok(None);
    }
    let place = timeout(PLACE_TIME, Arc::clone(&app.legacy.request_places).acquire_owned()).await;
    place.ok().and_then(Result::ok).map(Some).ok_or(Refusal::TooMany { seconds: 1 })
}

async fn post(app: &Arc<App>, admitted: Admitted<'_>, mut record: Record) -> Response {
    let body = admitted.body.clone();
    let message = match message::read(&body) {
        Ok(message) => message,
        Err(refusal) => {
            record.set(refusal.reason().into());
            return refuse(app, refusal, dexorder_protocol::jsonrpc::request_id(&body));
        }
    };
    match message {
        Message::Request { id, method, params } => {
            if !admitted.names_revision && outgoing::is_newest(&params) {
                record.set(Outcome::InvalidRequest);
                return without_header(&id);
            }
            // Counted from here on: what is refused above keeps nothing awake.
            let Some(pass) = app.gate.enter(Kind::Call) else {
                admitted.users.not_begun(&admitted.caller);
                record.set(Outcome::Draining);
                return refuse(app, Refusal::Draining, Some(id));
            };
            request(app, admitted, Asked { id, method: &method, params }, pass, record).await
        }
        Message::Notification { method, params } => {
            record.set(Outcome::Answered);
            notification(app, admitted.session.nonce, &method, &params);
            StatusCode::ACCEPTED.into_response()
        }
        Message::Answer { id, outcome } => {
            let Some(nonce) = admitted.session.nonce else {
                let refusal = Refusal::Malformed("nothing was asked of a client that has no session");
                record.set(refusal.reason().into());
                return refuse(app, refusal, None);
            };
            record.set(Outcome::Answered);
            let outcome = outcome.map(ToOwned::to_owned).map_err(ToOwned::to_owned);
            if !app.legacy.questions.answer(nonce, &id, outcome) {
                // It came late, or twice, or is another session's. Official clients end their session at any other status.
                tracing::debug!("dropped an answer that nobody waits for");
            }
            StatusCode::ACCEPTED.into_response()
        }
    }
}

/// A request's own parts.
struct Asked<'a> {
    id: Value,
    method: &'a str,
    params: Members<'a>,
}

async fn request(
    app: &Arc<App>,
    admitted: Admitted<'_>,
    asked: Asked<'_>,
    pass: Pass,
    mut record: Record,
) -> Response {
    let Asked { id, method, params } = asked;
    match method {
        "initialize" => {
            let cut = pass.cut();
            match initialize(app, &id, &params, &admitted.headers, &cut).await {
                Ok(answer) => {
                    pass.answered();
                    record.set(Outcome::Answered);
                    let mut response = json_response(answer.text);
                    if let Some(session) = answer.session {
                        response.headers_mut().insert(HeaderName::from_static(SESSION_ID), session);
                    }
                    response
                }
                Err(stop) => stopped(app, &admitted, &stop, id, &mut record),
            }
        }
        "ping" => {
            record.set(Outcome::Answered);
            done(&id)
        }
        "logging/setLevel" | "resources/subscribe" | "resources/unsubscribe" => {
            record.set(Outcome::Answered);
            let kept = keep(app, admitted.session.nonce, method, &params).await;
            match kept {
                Ok(()) => done(&id),
                Err(error) => json_response(downgrade::response(&id, Err(&error))),
            }
        }
        _ if NEWEST_ONLY.contains(&method) || method.starts_with(TASKS) => {
            record.set(Outcome::Answered);
            let error = error(METHOD_NOT_FOUND, "this revision has no such method here");
            json_response(downgrade::response(&id, Err(&error)))
        }
        _ => call(app, admitted, Asked { id, method, params }, pass, record).await,
    }
}

/// Passes a request on to the agent. It is answered with JSON if nothing comes before the answer, and with a stream
/// otherwise.
async fn call(
    app: &Arc<App>,
    mut admitted: Admitted<'_>,
    asked: Asked<'_>,
    pass: Pass,
    record: Record,
) -> Response {
    let Asked { id, method, params } = asked;
    let asked = Request {
        session: admitted.session.clone(),
        user: admitted.caller.user.clone(),
        headers: admitted.headers.clone(),
        id,
        method: method.to_owned(),
        body: admitted.body.clone(),
        pass,
        record,
        _places: [admitted.caller.place.take(), admitted.place.take()],
    };
    let mut call = Call::new(Arc::clone(app), asked);
    let first = match call.begin(params).await {
        Ok(true) => return stream(Events::new(None, call)),
        Ok(false) => call.step().await,
        Err(stop) => Err(stop),
    };
    match first {
        Ok(Step::Last(answer)) => json_response(answer),
        Ok(Step::Message(message)) => stream(Events::new(Some(message), call)),
        Err(stop) => {
            let id = call.id().clone();
            stopped(app, &admitted, &stop, id, call.record())
        }
    }
}

impl Messages for Call {
    async fn next(&mut self) -> Option<String> {
        match self.step().await {
            Ok(Step::Message(message) | Step::Last(message)) => Some(message),
            Err(Stop::Cancelled) => None,
            Err(Stop::Refused(refusal) | Stop::NotBegun(refusal)) => self.broke_off(refusal),
        }
    }
}

/// The answer to a request that ended without one of the agent's.
fn stopped(app: &App, admitted: &Admitted<'_>, stop: &Stop, id: Value, record: &mut Record) -> Response {
    let refusal = match stop {
        // A request that was cancelled has no response (2025-11-25, basic/utilities/cancellation): the stream is empty.
        Stop::Cancelled => return event_stream(Body::empty()),
        Stop::NotBegun(refusal) => {
            admitted.users.not_begun(&admitted.caller);
            *refusal
        }
        Stop::Refused(refusal) => *refusal,
    };
    record.set(refusal.reason().into());
    refuse(app, refusal, Some(id))
}

async fn listen(app: &Arc<App>, mut admitted: Admitted<'_>, mut record: Record) -> Response {
    let Some(pass) = app.gate.enter(Kind::Listen) else {
        admitted.users.not_begun(&admitted.caller);
        record.set(Outcome::Draining);
        return refuse(app, Refusal::Draining, None);
    };
    let listener = Listener {
        session: admitted.session.clone(),
        headers: admitted.headers.clone(),
        pass,
        record,
        _place: admitted.caller.place.take(),
        until: admitted.caller.listens.map(|listens| Instant::now() + listens),
    };
    let mut listening = Listening::new(Arc::clone(app), listener);
    match listening.begin().await {
        Ok(()) => stream(Events::new(None, listening)),
        Err(stop) => stopped(app, &admitted, &stop, Value::Null, listening.record()),
    }
}

/// Ends a session that its client needs no more.
fn end(app: &App, admitted: &Admitted<'_>, mut record: Record) -> Response {
    let Some(nonce) = admitted.session.nonce else {
        record.set(Outcome::NotFound);
        return refuse(app, Refusal::Method("POST, GET"), None);
    };
    app.legacy.sessions.end(nonce);
    record.set(Outcome::Answered);
    StatusCode::NO_CONTENT.into_response()
}
