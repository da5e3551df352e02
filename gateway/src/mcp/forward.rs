//! Finds a pod and sends the request. What a sidecar has not begun is sent again, to the next pod if need be; what it
//! may have begun never is.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use dexorder_protocol::headers::IDENTITY;
use futures::FutureExt;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, Method, Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::headers;
use super::relay::Relay;
use super::session::{self, Session};
use super::upstream::Sent;
use super::way::{Kind, Way};
use crate::app::App;
use crate::clock;
use crate::limits::Held;
use crate::refusal::Refusal;
use crate::visitors::{Newcomer, Visitor};
use crate::wake::{Pod, Purpose, Tries, Trouble};

/// Pause before a pod is asked again that was dialled or has held the request already.
const PAUSE: Duration = Duration::from_millis(50);

/// A request that was checked.
pub(super) struct Checked {
    pub(super) way: Way,
    pub(super) purpose: Purpose,
    pub(super) method: Method,
    /// Where at the sidecar, if not at its MCP endpoint.
    pub(super) path: Option<&'static str>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// The id of the JSON-RPC request.
    pub(super) id: Option<Value>,
    /// The session that it belongs to.
    pub(super) session: Option<Session>,
    /// It asks for a session.
    pub(super) initializes: bool,
    /// The visitor who sent it, and what to give one whose first request it is.
    pub(super) visitor: Option<Visitor>,
    pub(super) newcomer: Option<Newcomer>,
    /// What its body counts for, as long as it is kept.
    pub(super) _held: Option<Held>,
}

impl Checked {
    /// A message of the gateway's own.
    pub(super) fn message(way: Way, purpose: Purpose, headers: HeaderMap, body: Bytes) -> Self {
        Self {
            way,
            purpose,
            method: Method::POST,
            path: None,
            headers,
            body,
            id: None,
            session: None,
            initializes: false,
            visitor: None,
            newcomer: None,
            _held: None,
        }
    }
}

/// Sends the request until it is answered or the deadline comes.
pub(super) async fn forward(
    app: &App,
    checked: &Checked,
    deadline: Instant,
) -> Result<(Response<Incoming>, Pod), Refusal> {
    let mut tries = Tries::default();
    loop {
        let pod = app.connector.connect(&checked.way.caller, &tries, checked.purpose, deadline).await?;
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
                // The proof of mode Direct is good once: its client signs another.
                if checked.way.kind == Kind::Direct || Instant::now() + PAUSE >= deadline {
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
    let identity = app.signer.identity(&pod.workspace_uid, &checked.way.subject).map_err(|error| {
        tracing::error!(%error, "no identity could be signed");
        Refusal::Signing
    })?;
    let mut request = Request::new(Full::new(checked.body.clone()));
    *request.method_mut() = checked.method.clone();
    *request.uri_mut() = uri(&pod.endpoint.uri, checked.path);
    *request.headers_mut() = checked.headers.clone();
    request.headers_mut().insert(HeaderName::from_static(IDENTITY), identity);
    Ok(request)
}

/// The sidecar's endpoint, or another path there.
fn uri(endpoint: &Uri, path: Option<&'static str>) -> Uri {
    let mut parts = endpoint.clone().into_parts();
    if let Some(path) = path {
        parts.path_and_query = Some(PathAndQuery::from_static(path));
    }
    Uri::from_parts(parts).unwrap_or_else(|_| endpoint.clone())
}

/// Comes when a stream that listens has to end: at the shutdown, and with the visitor's time if a visitor's it is.
fn over(app: &App, visitor: Option<&Visitor>) -> impl Future<Output = ()> + use<> {
    let shutdown = app.shutdown.clone();
    let left = visitor.map(|visitor| visitor.end().saturating_sub(clock::seconds()));
    let left = left.map(|seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or_default()));
    async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = sleep(left.unwrap_or_default()), if left.is_some() => {}
        }
    }
}

/// Makes the sidecar's answer the client's.
pub(super) fn respond(
    app: &App,
    response: Response<Incoming>,
    checked: &Checked,
    pod: &Pod,
) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    let relay = if headers::is_event_stream(&parts.headers) {
        let stop = (checked.purpose == Purpose::Listen).then(|| over(app, checked.visitor.as_ref()).boxed());
        Relay::events(body, app.metrics.stream(), stop)
    } else {
        Relay::plain(body)
    };
    headers::to_client(&mut parts.headers, checked.way.kind);
    if checked.initializes && parts.status.is_success() {
        let begun = session::begin(
            &mut parts.headers,
            &checked.way.subject,
            checked.visitor.as_ref(),
            &pod.workspace_uid,
            &app.signer.seals(),
        );
        if let Err(error) = begun {
            tracing::error!(%error, "a client got no session");
        }
    } else {
        session::leave(&mut parts.headers, checked.session.as_ref());
    }
    Response::from_parts(parts, Body::new(relay))
}
