//! The MCP endpoint. A request passes in this order: origin, token, headers, body, workspace, sidecar. What is refused
//! on the way never wakes a workspace.

mod headers;
mod message;
pub(crate) mod origin;
mod relay;
mod session;
mod upstream;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use dexorder_protocol::headers::IDENTITY;
use dexorder_protocol::jsonrpc;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use crate::app::App;
use crate::auth::AuthError;
use crate::metrics::Outcome;
use crate::refusal::Refusal;
use crate::wake::{Pod, Purpose, Tries, Trouble};
use relay::Relay;
use session::Session;
pub(crate) use session::SessionKey;
use upstream::Sent;
pub(crate) use upstream::Upstream;

/// How long the body of a request may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// The body of a request without a valid token is read up to this size, for its id.
const READ_FOR_ID: usize = 64 * 1024;
const READ_FOR_ID_TIMEOUT: Duration = Duration::from_secs(1);
/// Of a body that is over the limit, so much is read and dropped before the connection is closed.
const MOST_DROPPED: usize = 64 * 1024 * 1024;
/// Pause before a pod is asked again that was dialled or has held the request already.
const PAUSE: Duration = Duration::from_millis(50);
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A request that was checked.
struct Checked {
    user: String,
    purpose: Purpose,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
    /// The id of the JSON-RPC request.
    id: Option<Value>,
    /// The session that it belongs to.
    session: Option<Session>,
    /// It asks for a session.
    initializes: bool,
}

/// A refusal with the id of the request that it answers.
struct Refused {
    refusal: Refusal,
    id: Option<Value>,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, id: None }
    }
}

/// Serves the endpoint.
pub(crate) async fn serve(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    let begun = Instant::now();
    let number = app.next_request_id();
    let method = request.method().clone();
    let page = origin::check(request.headers(), &app.config.allowed_origins);
    let (mut response, outcome) = match page.clone() {
        Ok(Some(_)) if method == Method::OPTIONS => {
            (origin::preflight(request.headers()), Outcome::Forwarded)
        }
        Ok(_) => answer(&app, request, begun).await,
        Err(refusal) => refuse(&app, &refusal.into()),
    };
    app.metrics.request(&method, outcome);
    let headers = response.headers_mut();
    if let Ok(Some(origin)) = page {
        origin::permit(headers, origin);
    }
    if let Ok(value) = HeaderValue::from_str(&number) {
        headers.insert(REQUEST_ID, value);
    }
    tracing::debug!(
        request = number,
        %method,
        status = response.status().as_u16(),
        outcome = outcome.as_str(),
        milliseconds = begun.elapsed().as_secs_f64() * 1000.0,
        "request"
    );
    response
}

async fn answer(app: &App, request: Request<Body>, begun: Instant) -> (Response, Outcome) {
    let checked = match check(app, request).await {
        Ok(checked) => checked,
        Err(refused) => return refuse(app, &refused),
    };
    match forward(app, &checked, begun + app.config.wake_timeout).await {
        Ok((response, pod)) => {
            app.metrics.response_head(begun.elapsed());
            (respond(app, response, &checked, &pod), Outcome::Forwarded)
        }
        // A session that an agent kept ended with its pod.
        Err(Refusal::NotAwake) if checked.method == Method::DELETE && checked.session.is_some() => {
            refuse(app, &Refusal::NoSession.into())
        }
        Err(refusal) => refuse(app, &Refused { refusal, id: checked.id }),
    }
}

fn refuse(app: &App, refused: &Refused) -> (Response, Outcome) {
    let Refused { refusal, id } = refused;
    if let Refusal::Auth(error) = refusal {
        app.metrics.auth_failure(*error);
    }
    (refusal.response(id.clone(), &app.metadata_url), Outcome::Refused(refusal.reason()))
}

/// Checks who asks and whether it is a request. Nothing of the cluster is touched.
async fn check(app: &App, request: Request<Body>) -> Result<Checked, Refused> {
    let (parts, body) = request.into_parts();
    let Parts { method, headers, .. } = parts;
    if !matches!(method, Method::POST | Method::GET | Method::DELETE) {
        return Err(Refusal::Method.into());
    }
    let user = match app.auth.authenticate(&headers).await {
        Ok(user) => user,
        Err(error) => return Err(unauthenticated(error, &headers, body).await),
    };
    let mut forwarded = headers::to_sidecar(&headers)?;
    let session = session::enter(&mut forwarded, &user, &app.signer.session_key());
    let checked = |session, purpose, body, id, initializes| Checked {
        user,
        purpose,
        method: method.clone(),
        headers: forwarded,
        body,
        id,
        session,
        initializes,
    };
    match method {
        Method::POST => {
            headers::check_post(&headers)?;
            let body = read_body(&headers, body, app.config.body_limit).await?;
            let message = message::read(&body)
                .map_err(|refusal| Refused { id: jsonrpc::request_id(&body), refusal })?;
            let session = session.map_err(|refusal| Refused { id: message.id.clone(), refusal })?;
            let purpose = if message.listens { Purpose::Listen } else { Purpose::Work };
            Ok(checked(session, purpose, body, message.id, message.initializes))
        }
        Method::GET => {
            headers::check_get(&headers)?;
            Ok(checked(session?, Purpose::Listen, Bytes::new(), None, false))
        }
        // Ends a session, if the agent keeps one: nothing that a stopped workspace would be woken for.
        _ => match session? {
            Some(session) if !session.kept_by_agent => Err(Refusal::SessionStays.into()),
            session => Ok(checked(session, Purpose::Listen, Bytes::new(), None, false)),
        },
    }
}

/// A small body is read before the refusal, so that it can name the request that it answers.
async fn unauthenticated(error: AuthError, headers: &HeaderMap, body: Body) -> Refused {
    let length =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    let id = match length {
        Some(1..=READ_FOR_ID) => {
            match timeout(READ_FOR_ID_TIMEOUT, Limited::new(body, READ_FOR_ID).collect()).await {
                Ok(Ok(body)) => jsonrpc::request_id(&body.to_bytes()),
                _ => None,
            }
        }
        _ => None,
    };
    Refused { refusal: Refusal::Auth(error), id }
}

/// The whole body, up to the limit. What is over the limit is read too, and dropped: a client that is still sending
/// when the connection closes never sees the answer.
pub(crate) async fn read_body(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Refusal> {
    let announced =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let keep = announced.is_none_or(|length| length <= limit as u64);
    timeout(BODY_TIMEOUT, collect(body, limit, keep))
        .await
        .unwrap_or(Err(Refusal::BodyTimeout(BODY_TIMEOUT.as_secs())))
}

async fn collect(mut body: Body, limit: usize, keep: bool) -> Result<Bytes, Refusal> {
    let (mut kept, mut dropped) = (BytesMut::new(), 0);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Refusal::BodyBroken)?.into_data() else {
            continue;
        };
        if keep && dropped == 0 && kept.len() + data.len() <= limit {
            kept.extend_from_slice(&data);
        } else {
            kept = BytesMut::new();
            dropped += data.len();
            if dropped > MOST_DROPPED {
                break;
            }
        }
    }
    if dropped > 0 { Err(Refusal::TooLarge(limit)) } else { Ok(kept.freeze()) }
}

/// Sends a message of the gateway's own to a user's workspace, as those of clients are sent.
pub(crate) async fn send(
    app: &App,
    user: &str,
    purpose: Purpose,
    headers: HeaderMap,
    body: Bytes,
    deadline: Instant,
) -> Result<Response<Incoming>, Refusal> {
    let (user, method) = (user.to_owned(), Method::POST);
    let (id, session, initializes) = (None, None, false);
    let message = Checked { user, purpose, method, headers, body, id, session, initializes };
    forward(app, &message, deadline).await.map(|(response, _)| response)
}

/// Finds a pod and sends the request. What a sidecar has not begun is sent again, to the next pod if need be; what it
/// may have begun never is.
async fn forward(
    app: &App,
    checked: &Checked,
    deadline: Instant,
) -> Result<(Response<Incoming>, Pod), Refusal> {
    let mut tries = Tries::default();
    loop {
        let pod = app.connector.connect(&checked.user, &tries, checked.purpose, deadline).await?;
        if checked.session.as_ref().is_some_and(|session| session.workspace_uid != pod.workspace_uid) {
            return Err(Refusal::NoSession);
        }
        match app.upstream.send(request(app, checked, &pod)?).await {
            Sent::Answered(response) => return Ok((response, pod)),
            Sent::Draining => {
                app.metrics.retry("Draining");
                tries.failed(Trouble::Draining(pod.uid));
            }
            Sent::Unreachable => {
                app.metrics.retry("Unreachable");
                if tries.failed(Trouble::Unreachable(pod.uid)) {
                    sleep(PAUSE).await;
                }
            }
            Sent::AgentStarting(response) => {
                if Instant::now() + PAUSE >= deadline {
                    return Ok((response, pod));
                }
                app.metrics.retry("AgentStarting");
                sleep(PAUSE).await;
            }
            Sent::Distrusted => {
                tracing::warn!(
                    workspace = pod.workspace,
                    "the sidecar refused this gateway's identity: its trusted keys may be out of date"
                );
                return Err(Refusal::IdentityRefused);
            }
            Sent::BrokeOff => return Err(Refusal::BrokeOff),
        }
    }
}

fn request(app: &App, checked: &Checked, pod: &Pod) -> Result<Request<Full<Bytes>>, Refusal> {
    let identity = app.signer.identity(&pod.workspace_uid, &checked.user).map_err(|error| {
        tracing::error!(%error, "no identity could be signed");
        Refusal::Signing
    })?;
    let mut request = Request::new(Full::new(checked.body.clone()));
    *request.method_mut() = checked.method.clone();
    *request.uri_mut() = pod.endpoint.uri.clone();
    *request.headers_mut() = checked.headers.clone();
    request.headers_mut().insert(HeaderName::from_static(IDENTITY), identity);
    Ok(request)
}

fn respond(app: &App, response: Response<Incoming>, checked: &Checked, pod: &Pod) -> Response {
    let (mut parts, body) = response.into_parts();
    let relay = if headers::is_event_stream(&parts.headers) {
        let stop = (checked.purpose == Purpose::Listen).then(|| app.shutdown.clone().cancelled_owned());
        Relay::events(body, app.metrics.stream(), stop)
    } else {
        Relay::plain(body)
    };
    headers::to_client(&mut parts.headers);
    if checked.initializes && parts.status.is_success() {
        let key = app.signer.session_key();
        if let Err(error) = session::begin(&mut parts.headers, &checked.user, &pod.workspace_uid, &key) {
            tracing::error!(%error, "a client got no session");
        }
    } else {
        session::leave(&mut parts.headers, checked.session.as_ref());
    }
    Response::from_parts(parts, Body::new(relay))
}
