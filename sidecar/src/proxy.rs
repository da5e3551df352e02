//! The MCP port. A request passes these phases: who sent it, what does it ask for, may it run, is the agent up, send it, relay
//! the answer. Those of the revisions before 2026-07-28 go another way.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::any;
use dexorder_protocol::headers::SESSION;
use dexorder_protocol::jsonrpc::request_id;
use dexorder_protocol::{DIRECT_KEY_PATH, DIRECT_SESSION_PATH, MCP_PATH};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Uri, Version};
use hyper::body::Incoming;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::agent::{Connection, SendError};
use crate::auth::{Ambiguous, Caller, Users};
use crate::direct;
use crate::gate::Pass;
use crate::headers;
use crate::legacy::{self, Revision};
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
    match Revision::of_request(&parts.headers) {
        Ok(None) => {}
        // Apart, so that the state of a request of the newest revision stays small.
        Ok(Some(revision)) => return Box::pin(legacy::serve(app, revision, parts, body, record)).await,
        Err(Ambiguous) => {
            let refusal = Refusal::Malformed("it names its revision twice");
            record.set(refusal.reason().into());
            return refuse(&app, refusal, discard(body).await);
        }
    }
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
    let request = to_agent(parts, Body::new(Remembered::new(body, memory.clone())), &caller);
    match forward(&app, &pass.cut(), request, Turn::First).await {
        Ok((response, connection)) => {
            pass.answered();
            let (mut parts, body) = response.into_parts();
            headers::to_client(&mut parts.headers);
            let relayed = Relayed::new(body, pass, record, connection);
            let relayed = relayed.with_place(caller.place.take()).with_limit(caller.listens);
            with_session(Response::from_parts(parts, Body::new(relayed)), caller.session)
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

/// Gives a client of mode Public its session.
pub(crate) fn with_session(mut response: Response, session: Option<HeaderValue>) -> Response {
    if let Some(session) = session {
        response.headers_mut().insert(HeaderName::from_static(SESSION), session);
    }
    response
}

/// Refuses a request.
pub(crate) fn refuse(app: &App, refusal: Refusal, id: Option<Value>) -> Response {
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
pub(crate) struct Refused {
    pub(crate) refusal: Refusal,
    pub(crate) id: Option<Value>,
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

/// Checks what a request's head says: method and sender.
pub(crate) fn check_head<'a>(app: &'a App, parts: &Parts) -> Result<(Caller, &'a Users), Refusal> {
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

/// Which time a request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Nothing of it was done: it may be refused yet.
    First,
    /// It goes on with what was begun.
    Later,
}

/// A request that got no response from the agent.
pub(crate) struct Failed {
    pub(crate) refusal: Refusal,
    /// The request, if nothing of it was sent.
    pub(crate) unsent: Option<Box<Request>>,
}

/// Sends the request as soon as the agent is up, and waits for the head of the response. `cut` ends that.
pub(crate) async fn forward(
    app: &App,
    cut: &CancellationToken,
    request: Request,
    turn: Turn,
) -> Result<(Response<Incoming>, Connection), Failed> {
    let until = Instant::now() + app.hold_timeout;
    let mut request = Box::new(request);
    loop {
        let found = tokio::select! {
            // In this order: a request that may still be refused is, once the workspace stops.
            biased;
            () = app.gate.closed(), if turn == Turn::First => Err(Refusal::Draining),
            found = timeout_at(until, app.agent.connection()) => found.map_err(|_| Refusal::AgentStarting),
        };
        let mut connection = match found {
            Ok(connection) => connection,
            Err(refusal) => return Err(Failed { refusal, unsent: Some(request) }),
        };
        let sent = tokio::select! {
            sent = connection.send(*request) => sent,
            () = cut.cancelled() => return Err(Failed { refusal: Refusal::CutOff, unsent: None }),
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
