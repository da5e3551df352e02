//! A sidecar for the tests: checks identities as the real one does, and behaves as it is told.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use dexorder_protocol::jsonrpc::{INTERNAL_ERROR, Reason, error_body};
use dexorder_protocol::{Issuer, TrustedKeys, headers, identity};
use futures::channel::mpsc;
use http::{HeaderMap, Method, StatusCode, Uri};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Identifier of a session that an agent keeps.
pub(crate) const OF_AGENT: &str = "of-the-agent";

/// How a sidecar answers.
pub(crate) enum Behaviour {
    /// With the user that it verified.
    Answer,
    /// The same, with a session of the agent's own.
    AnswerInSession,
    /// With an event stream that the test feeds.
    Stream(mpsc::UnboundedReceiver<Result<Bytes, std::io::Error>>),
    /// 503: refuses work for good.
    Draining,
    /// 503: the agent is not up.
    AgentStarting,
    /// With this status and reason.
    Refuse(StatusCode, Reason),
    /// Closes the connection without an answer.
    BreakOff,
    /// Never.
    Silent,
}

/// A request that arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A sidecar. It ends when it is dropped.
pub(crate) struct Sidecar {
    pub(crate) address: SocketAddr,
    state: Arc<Inner>,
    server: JoinHandle<()>,
}

struct Inner {
    workspace_uid: String,
    trusted: Arc<TrustedKeys>,
    behaviour: Mutex<Behaviour>,
    seen: Mutex<Vec<Seen>>,
    /// Requests whose answer nobody waited for.
    abandoned: Arc<Mutex<usize>>,
}

impl Sidecar {
    pub(crate) async fn start(workspace_uid: &str, trusted: Arc<TrustedKeys>) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), workspace_uid, trusted).await
    }

    pub(crate) async fn start_at(
        address: SocketAddr,
        workspace_uid: &str,
        trusted: Arc<TrustedKeys>,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Inner {
            workspace_uid: workspace_uid.to_owned(),
            trusted,
            behaviour: Mutex::new(Behaviour::Answer),
            seen: Mutex::default(),
            abandoned: Arc::default(),
        });
        let router = Router::new()
            .fallback(any(answer))
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&state));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, state, server }
    }

    pub(crate) fn endpoint(&self) -> String {
        endpoint(self.address)
    }

    pub(crate) fn behave(&self, behaviour: Behaviour) {
        *self.state.behaviour.lock().unwrap() = behaviour;
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    pub(crate) fn abandoned(&self) -> usize {
        *self.state.abandoned.lock().unwrap()
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// URL of a sidecar at an address.
pub(crate) fn endpoint(address: SocketAddr) -> String {
    format!("http://{address}/mcp")
}

/// Counts when it is dropped before the end.
struct Waiting(Option<Arc<Mutex<usize>>>);

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(count) = &self.0 {
            *count.lock().unwrap() += 1;
        }
    }
}

async fn answer(
    State(state): State<Arc<Inner>>,
    method: Method,
    uri: Uri,
    map: HeaderMap,
    body: Bytes,
) -> Response {
    let token = map.get(headers::IDENTITY).map_or("", |value| value.to_str().unwrap());
    let now = jiff::Timestamp::now().as_second();
    let claims = identity::verify(token, &state.trusted, Issuer::Gateway, &state.workspace_uid, now);
    let Ok(claims) = claims else {
        return refuse(StatusCode::UNAUTHORIZED, Reason::Unauthenticated);
    };
    let id = serde_json::from_slice::<Value>(&body).map_or(Value::Null, |message| message["id"].clone());
    state.seen.lock().unwrap().push(Seen { method, path: uri.path().to_owned(), headers: map, body });
    let mut waiting = Waiting(Some(Arc::clone(&state.abandoned)));
    let behaviour = std::mem::replace(&mut *state.behaviour.lock().unwrap(), Behaviour::Answer);
    let (response, next) = match behaviour {
        Behaviour::Answer => {
            let body = json!({"jsonrpc": "2.0", "id": id, "result": {"user": claims.sub}});
            // As that of a public workspace does.
            let session = [(headers::SESSION, "session-of-the-workspace")];
            ((session, axum::Json(body)).into_response(), Behaviour::Answer)
        }
        Behaviour::AnswerInSession => {
            let body = json!({"jsonrpc": "2.0", "id": id, "result": {"user": claims.sub}});
            (([("mcp-session-id", OF_AGENT)], axum::Json(body)).into_response(), Behaviour::AnswerInSession)
        }
        Behaviour::Stream(events) => {
            let body = Body::from_stream(events);
            (([("content-type", "text/event-stream")], body).into_response(), Behaviour::Answer)
        }
        Behaviour::Draining => {
            (refuse(StatusCode::SERVICE_UNAVAILABLE, Reason::Draining), Behaviour::Draining)
        }
        Behaviour::AgentStarting => {
            (refuse(StatusCode::SERVICE_UNAVAILABLE, Reason::AgentStarting), Behaviour::Answer)
        }
        Behaviour::Refuse(status, reason) => (refuse(status, reason), Behaviour::Refuse(status, reason)),
        Behaviour::BreakOff => {
            let _ = waiting.0.take();
            // The server drops the connection of a handler that panics.
            panic!("the sidecar ends in the middle of a request");
        }
        Behaviour::Silent => {
            std::future::pending::<()>().await;
            unreachable!("nothing ends this wait");
        }
    };
    *state.behaviour.lock().unwrap() = next;
    let _ = waiting.0.take();
    response
}

fn refuse(status: StatusCode, reason: Reason) -> Response {
    let body = axum::Json(error_body(None, INTERNAL_ERROR, reason, "refused"));
    (status, [(headers::REASON, reason.as_str())], body).into_response()
}
