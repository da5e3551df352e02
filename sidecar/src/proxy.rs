//! The MCP port. A request passes these phases: who sent it, what does it ask for, may it run, is the agent up, send it, relay the answer.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::any;
use dexorder_protocol::headers::{SESSION, is_event_stream};
use dexorder_protocol::jsonrpc::request_id;
use dexorder_protocol::{DIRECT_KEY_PATH, DIRECT_SESSION_PATH, MCP_PATH};
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, Uri, Version};
use hyper::body::Incoming;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use crate::agent::{Connection, SendError};
use crate::auth::{Caller, Users};
use crate::direct;
use crate::gate::Pass;
use crate::headers;
use crate::metrics::Outcome;
use crate::refusal::Refusal;
use crate::relay::{Memory, Record, Relayed, Remembered, discard, whole};
use crate::server::App;

/// Everything that is served at the MCP port.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route(MCP_PATH, any(serve))
        .route(DIRECT_KEY_PATH, any(direct::key))
        .route(DIRECT_SESSION_PATH, any(direct::session))
        .fallback(not_found)
        .with_state(app)
}

async fn not_found(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let mut record = Record::new(Arc::clone(&app.metrics), headers::kind(&parts.method, &parts.headers));
    record.set(Outcome::NotFound);
    Refusal::NotFound.response(discard(body).await)
}

async fn serve(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let mut record = Record::new(Arc::clone(&app.metrics), headers::kind(&parts.method, &parts.headers));
    let admitted = match admit(&app, &parts, body).await {
        Ok(admitted) => admitted,
        Err(Refused { refusal, id }) => {
            tracing::debug!(%refusal, "refused a request");
            record.set(refusal.reason().into());
            return refuse(&app, refusal, id);
        }
    };
    let Admitted { mut caller, users, pass, body } = admitted;
    let memory = Memory::default();
    let is_get = parts.method == Method::GET;
    let request = to_agent(parts, Body::new(Remembered::new(body, memory.clone())), &caller);
    match forward(&app, &pass, request).await {
        Ok((response, connection)) => {
            pass.answered();
            let (mut parts, body) = response.into_parts();
            headers::to_client(&mut parts.headers);
            let news = takes_news(is_get, &parts.headers).then(|| app.announcer.listen());
            if let Some(session) = caller.session {
                parts.headers.insert(HeaderName::from_static(SESSION), session);
            }
            let relayed = Relayed::new(body, pass, record, connection).with_news(news);
            let relayed = relayed.with_place(caller.place.take()).with_limit(caller.listens);
            Response::from_parts(parts, Body::new(relayed))
        }
        Err(Failed { refusal, unsent }) => {
            record.set(refusal.reason().into());
            // A request that was not sent has its body still to come; it passes the memory on its way.
            if let Some(request) = unsent {
                users.not_begun(&caller);
                discard(request.into_body()).await;
            }
            refuse(&app, refusal, memory.request_id())
        }
    }
}

/// Whether a response is a stream that the sidecar may put notifications on.
fn takes_news(is_get: bool, headers: &HeaderMap) -> bool {
    is_get && is_event_stream(headers) && !headers.contains_key(CONTENT_LENGTH)
}

fn refuse(app: &App, refusal: Refusal, id: Option<Value>) -> Response {
    match app.tenancy.tenant().map(|tenant| &tenant.users) {
        Some(Users::Direct(mode)) => refusal.response_with(id, Some(mode.run())),
        _ => refusal.response(id),
    }
}

/// A request that may run. It counts as running.
struct Admitted<'a> {
    caller: Caller,
    users: &'a Users,
    pass: Pass,
    body: Body,
}

/// A request that may not.
struct Refused {
    refusal: Refusal,
    id: Option<Value>,
}

/// Checks method, sender and, where the auth mode asks for it, the body, and lets the request in.
async fn admit<'a>(app: &'a App, parts: &Parts, body: Body) -> Result<Admitted<'a>, Refused> {
    let (mut caller, users) = match check_head(app, parts) {
        Ok(checked) => checked,
        Err(refusal) => return Err(Refused { refusal, id: discard(body).await }),
    };
    let enter = || app.gate.enter(headers::kind(&parts.method, &parts.headers)).ok_or(Refusal::Draining);
    let Some(limit) = users.body_limit() else {
        return match enter() {
            Ok(pass) => Ok(Admitted { caller, users, pass, body }),
            Err(refusal) => Err(Refused { refusal, id: discard(body).await }),
        };
    };
    let body = whole(body, limit).await.map_err(|refusal| Refused { refusal, id: None })?;
    let refused = |refusal| Refused { refusal, id: request_id(&body) };
    users.check_body(&mut caller, &parts.method, &body, &app.agent).await.map_err(refused)?;
    match enter() {
        Ok(pass) => Ok(Admitted { caller, users, pass, body: Body::from(body) }),
        Err(refusal) => {
            users.not_begun(&caller);
            Err(refused(refusal))
        }
    }
}

fn check_head<'a>(app: &'a App, parts: &Parts) -> Result<(Caller, &'a Users), Refusal> {
    if !matches!(parts.method, Method::POST | Method::GET | Method::DELETE) {
        return Err(Refusal::Method("POST, GET, DELETE"));
    }
    let users = &app.tenancy.tenant().ok_or(Refusal::Unassigned)?.users;
    Ok((users.check(&parts.method, &parts.headers)?, users))
}

fn to_agent(mut parts: Parts, body: Body, caller: &Caller) -> Request {
    headers::to_agent(&mut parts.headers, &caller.user);
    // In the form that a server expects, without scheme and authority.
    if let Some(path) = parts.uri.path_and_query() {
        parts.uri = Uri::from(path.clone());
    }
    parts.version = Version::HTTP_11;
    parts.extensions.clear();
    Request::from_parts(parts, body)
}

/// A request that got no response from the agent.
struct Failed {
    refusal: Refusal,
    /// The request, if nothing of it was sent.
    unsent: Option<Box<Request>>,
}

/// Sends the request as soon as the agent is up, and waits for the head of the response.
async fn forward(
    app: &App,
    pass: &Pass,
    request: Request,
) -> Result<(Response<Incoming>, Connection), Failed> {
    let until = Instant::now() + app.hold_timeout;
    let mut request = Box::new(request);
    loop {
        let found = tokio::select! {
            // In this order: a request that may still be refused is, once the workspace stops.
            biased;
            () = app.gate.closed() => Err(Refusal::Draining),
            found = timeout_at(until, app.agent.connection()) => found.map_err(|_| Refusal::AgentStarting),
        };
        let mut connection = match found {
            Ok(connection) => connection,
            Err(refusal) => return Err(Failed { refusal, unsent: Some(request) }),
        };
        let sent = tokio::select! {
            sent = connection.send(*request) => sent,
            () = pass.cut().cancelled_owned() => return Err(Failed { refusal: Refusal::CutOff, unsent: None }),
        };
        match sent {
            Ok(response) => return Ok((response, connection)),
            Err(SendError::NotSent(unsent)) => request = unsent,
            Err(SendError::Sent(error)) => {
                app.agent.lost(&error);
                return Err(Failed { refusal: Refusal::AgentUnavailable, unsent: None });
            }
        }
    }
}
