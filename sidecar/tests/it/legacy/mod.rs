//! Clients of the revisions before 2026-07-28, with an agent that speaks that one alone.

mod asking;
mod calls;
mod ending;
mod modes;
mod newest;
mod sessions;
mod streams;
mod tools;

use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::client::{Answer, full};
use crate::sidecar::{Place, Sidecar, USER};
use newest::Newest;

pub(super) const SOON: Duration = Duration::from_secs(10);

async fn started() -> (Sidecar, Newest) {
    started_with(&[]).await
}

async fn started_with(over: &[(&str, &str)]) -> (Sidecar, Newest) {
    let sidecar = Sidecar::start_with(Place::new(), over).await;
    let agent = Newest::start(&sidecar.place.socket());
    sidecar.ready().await;
    (sidecar, agent)
}

/// What a client that answers everything declares.
pub(super) fn all_capabilities() -> Value {
    json!({
        "roots": {"listChanged": true}, "sampling": {}, "elicitation": {"form": {}, "url": {}},
    })
}

/// A client with a session, or without.
#[derive(Clone)]
pub(super) struct Client<'a> {
    pub(super) sidecar: &'a Sidecar,
    pub(super) revision: &'static str,
    pub(super) session: Option<String>,
}

/// The events of a response.
pub(super) struct Events {
    answer: Answer,
    rest: String,
}

impl<'a> Client<'a> {
    /// Opens a session.
    pub(super) async fn connect(sidecar: &'a Sidecar, capabilities: &Value) -> Self {
        Self::of(sidecar, "2025-11-25", capabilities).await
    }

    pub(super) async fn of(sidecar: &'a Sidecar, revision: &'static str, capabilities: &Value) -> Self {
        let mut client = Self { sidecar, revision, session: None };
        let answer = client.initialize(capabilities).await;
        assert_eq!(answer.status, StatusCode::OK);
        client.session = Some(answer.header("mcp-session-id").expect("there is no session").to_owned());
        let told = client.post(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
        assert_eq!(told.status, StatusCode::ACCEPTED);
        assert_eq!(told.text().await, "");
        client
    }

    pub(super) async fn initialize(&self, capabilities: &Value) -> Answer {
        let info = json!({"name": "test", "version": "1"});
        let params =
            json!({"protocolVersion": self.revision, "capabilities": capabilities, "clientInfo": info});
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params});
        let headers = self.sidecar.place.bare_headers(USER);
        self.sidecar.request(Method::POST, headers, full(message.to_string())).await
    }

    pub(super) fn headers(&self) -> HeaderMap {
        let mut headers = self.sidecar.place.bare_headers(USER);
        headers.insert("mcp-protocol-version", self.revision.parse().unwrap());
        if let Some(session) = &self.session {
            headers.insert("mcp-session-id", session.parse().unwrap());
        }
        headers
    }

    pub(super) async fn post(&self, message: &Value) -> Answer {
        self.sidecar.request(Method::POST, self.headers(), full(message.to_string())).await
    }

    pub(super) async fn send(&self, id: impl Into<Value>, method: &str, params: Value) -> Answer {
        self.post(&json!({"jsonrpc": "2.0", "id": id.into(), "method": method, "params": params})).await
    }

    /// The result of a request that is answered with JSON.
    pub(super) async fn result(&self, method: &str, params: Value) -> Value {
        let answer = self.send(7, method, params).await;
        assert_eq!(answer.status, StatusCode::OK);
        let mut message = answer.json().await;
        assert_eq!(message["id"], 7);
        assert!(message["error"].is_null(), "{message}");
        message["result"].take()
    }

    pub(super) async fn error(&self, method: &str, params: Value) -> Value {
        let answer = self.send(7, method, params).await;
        assert_eq!(
            answer.status,
            StatusCode::OK,
            "a client of an old revision reads an error from a good response"
        );
        let mut message = answer.json().await;
        assert_eq!(message["id"], 7);
        message["error"].take()
    }

    /// Calls a tool that is answered with a stream.
    pub(super) async fn stream(&self, id: impl Into<Value>, tool: &str) -> Events {
        let answer = self.send(id, "tools/call", json!({"name": tool, "arguments": {}})).await;
        Events::of(answer)
    }

    pub(super) async fn listen(&self) -> Events {
        Events::of(self.sidecar.request(Method::GET, self.headers(), full("")).await)
    }

    /// Answers a request of the server's.
    pub(super) async fn answer(&self, request: &Value, result: Value) -> StatusCode {
        let answer = self.post(&json!({"jsonrpc": "2.0", "id": request["id"], "result": result})).await;
        answer.status
    }

    pub(super) async fn cancel(&self, id: impl Into<Value>) {
        let params = json!({"requestId": id.into(), "reason": "enough"});
        let told = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params});
        assert_eq!(self.post(&told).await.status, StatusCode::ACCEPTED);
    }
}

impl Events {
    pub(super) fn of(answer: Answer) -> Self {
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.header("content-type"), Some("text/event-stream"));
        assert_eq!(answer.header("x-accel-buffering"), Some("no"));
        Self { answer, rest: String::new() }
    }

    /// The next message, nothing at the end.
    pub(super) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.rest.find("\n\n") {
                let event: String = self.rest.drain(..end + 2).collect();
                let data = event.trim_end().strip_prefix("event: message\ndata: ").expect("an event");
                assert!(!data.contains('\n'), "an event of one line");
                return Some(serde_json::from_str(data).unwrap());
            }
            let chunk = timeout(SOON, self.answer.chunk()).await.expect("nothing came").unwrap()?;
            self.rest.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The next message, which must come.
    pub(super) async fn message(&mut self) -> Value {
        self.next().await.expect("the stream ended")
    }
}

/// The text of a tool's result.
pub(super) fn text(message: &Value) -> &str {
    message["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text: {message}"))
}

/// Waits until no call runs.
pub(super) async fn until_idle(sidecar: &Sidecar) {
    timeout(SOON, async {
        while sidecar.report().await["inFlight"] != 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("a call never ended");
}
