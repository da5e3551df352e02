//! The MCP port. A request passes these phases: who sent it, may it run, is the agent up, send it, relay the answer.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::any;
use dexorder_protocol::MCP_PATH;
use http::request::Parts;
use http::{HeaderMap, Method, Uri, Version};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use crate::agent::{Connection, SendError};
use crate::auth::Caller;
use crate::gate::Pass;
use crate::headers;
use crate::metrics::Outcome;
use crate::refusal::Refusal;
use crate::relay::{Memory, Record, Relayed, Remembered, discard};
use crate::server::App;

/// Everything that is served at the MCP port.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new().route(MCP_PATH, any(serve)).fallback(not_found).with_state(app)
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
    let (caller, pass) = match admit(&app, &parts.method, &parts.headers) {
        Ok(admitted) => admitted,
        Err(refusal) => {
            tracing::debug!(%refusal, "refused a request");
            record.set(refusal.reason().into());
            return refusal.response(discard(body).await);
        }
    };
    let memory = Memory::default();
    let request = to_agent(parts, Body::new(Remembered::new(body, memory.clone())), &caller);
    match forward(&app, &pass, request).await {
        Ok((response, connection)) => {
            let (mut parts, body) = response.into_parts();
            headers::to_client(&mut parts.headers);
            Response::from_parts(parts, Body::new(Relayed::new(body, pass, record, connection)))
        }
        Err(Failed { refusal, unsent }) => {
            record.set(refusal.reason().into());
            // A request that was not sent has its body still to come; it passes the memory on its way.
            if let Some(request) = unsent {
                discard(request.into_body()).await;
            }
            refusal.response(memory.request_id())
        }
    }
}

/// Checks method and sender and lets the request in. From here on it counts as running.
fn admit(app: &App, method: &Method, headers: &HeaderMap) -> Result<(Caller, Pass), Refusal> {
    if !matches!(*method, Method::POST | Method::GET | Method::DELETE) {
        return Err(Refusal::Method);
    }
    let caller = app.users.check(headers)?;
    let pass = app.gate.enter(headers::kind(method, headers)).ok_or(Refusal::Draining)?;
    Ok((caller, pass))
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
