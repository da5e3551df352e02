//! Sends requests to sidecars over kept connections, and tells what became of them.

use std::time::Duration;

use bytes::Bytes;
use dexorder_protocol::headers::REASON;
use dexorder_protocol::jsonrpc::Reason;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::wake::CONNECT_TIMEOUT;

/// How long an unused connection is kept. Short: a pod may go away silently, and a new connection costs little.
const IDLE: Duration = Duration::from_secs(20);
const IDLE_PER_POD: usize = 32;

/// The connections to all sidecars.
pub(crate) struct Upstream {
    client: Client<HttpConnector, Full<Bytes>>,
}

/// What became of a request.
#[derive(Debug)]
pub(super) enum Sent {
    /// The sidecar answered.
    Answered(Response<Incoming>),
    /// It was not begun: the sidecar says that it refuses work for good.
    Draining,
    /// It was not begun: the sidecar's agent was not up in time.
    AgentStarting(Response<Incoming>),
    /// It was not begun: the sidecar does not trust this gateway, or it is another workspace's. What it says of a client
    /// whom it checks itself has another reason, and is an answer.
    Distrusted,
    /// It was not begun: nothing took the connection.
    Unreachable,
    /// It may have been begun.
    BrokeOff,
}

impl Upstream {
    pub(crate) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_keepalive(Some(Duration::from_secs(15)));
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_PER_POD)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Self { client }
    }

    /// Sends a request. Dropping the future cancels it, as does dropping the response's body.
    pub(super) async fn send(&self, request: Request<Full<Bytes>>) -> Sent {
        match self.client.request(request).await {
            Ok(response) => sort(response),
            Err(error) if error.is_connect() => Sent::Unreachable,
            Err(error) => {
                tracing::debug!(%error, "a sidecar broke off");
                Sent::BrokeOff
            }
        }
    }
}

fn sort(response: Response<Incoming>) -> Sent {
    let is = |reason: Reason| says(response.headers(), reason);
    match response.status() {
        StatusCode::SERVICE_UNAVAILABLE if is(Reason::Draining) => Sent::Draining,
        StatusCode::SERVICE_UNAVAILABLE if is(Reason::AgentStarting) => Sent::AgentStarting(response),
        StatusCode::UNAUTHORIZED if is(Reason::Unauthenticated) => Sent::Distrusted,
        StatusCode::FORBIDDEN if is(Reason::WrongUser) => Sent::Distrusted,
        _ => Sent::Answered(response),
    }
}

fn says(headers: &HeaderMap, reason: Reason) -> bool {
    headers.get(REASON).is_some_and(|value| value == reason.as_str())
}
