//! An MCP server of the platform: of the newest revision, or of the one before with sessions.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Era {
    Newest,
    Older,
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    state: Arc<Inner>,
}

struct Inner {
    era: Era,
    seen: Mutex<Vec<(HeaderMap, Value)>>,
    sessions: Mutex<Vec<String>>,
    credential: Mutex<String>,
}

impl Server {
    pub(crate) async fn start(era: Era, credential: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let credential = Mutex::new(credential.to_owned());
        let (seen, sessions) = (Mutex::default(), Mutex::default());
        let state = Arc::new(Inner { era, seen, sessions, credential });
        let router = Router::new().route("/mcp", post(answer)).with_state(Arc::clone(&state));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, state }
    }

    /// The requests of a method: headers and parameters.
    pub(crate) fn seen(&self, method: &str) -> Vec<(HeaderMap, Value)> {
        let seen = self.state.seen.lock().unwrap();
        let of = seen.iter().filter(|(_, message)| message["method"] == method);
        of.map(|(headers, message)| (headers.clone(), message["params"].clone())).collect()
    }

    pub(crate) fn forget_sessions(&self) {
        self.state.sessions.lock().unwrap().clear();
    }

    pub(crate) fn set_credential(&self, credential: &str) {
        credential.clone_into(&mut self.state.credential.lock().unwrap());
    }
}

async fn answer(State(state): State<Arc<Inner>>, headers: HeaderMap, body: String) -> Response {
    let header = |name: &str| headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    let message: Value = serde_json::from_str(&body).unwrap();
    if header("authorization") != format!("Bearer {}", state.credential.lock().unwrap()) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    state.seen.lock().unwrap().push((headers.clone(), message.clone()));
    let method = message["method"].as_str().unwrap();
    let (id, params) = (&message["id"], &message["params"]);
    let reply = |result: Value| json!({"jsonrpc": "2.0", "id": id, "result": result});
    if state.era == Era::Older {
        if method == "initialize" {
            let mut sessions = state.sessions.lock().unwrap();
            // The number of the request, so that no session has the name of one that was forgotten.
            let session = format!("session-{id}");
            sessions.push(session.clone());
            let result = reply(json!({"protocolVersion": "2025-06-18", "capabilities": {}}));
            return ([("mcp-session-id", session)], Json(result)).into_response();
        }
        if header("mcp-session-id").is_empty() {
            return StatusCode::BAD_REQUEST.into_response();
        }
        if !state.sessions.lock().unwrap().contains(&header("mcp-session-id")) {
            return StatusCode::NOT_FOUND.into_response();
        }
        assert_eq!(header("mcp-protocol-version"), "2025-06-18");
        if id.is_null() {
            return StatusCode::ACCEPTED.into_response();
        }
    } else {
        assert_eq!(
            (header("mcp-method").as_str(), header("mcp-protocol-version").as_str()),
            (method, "2026-07-28")
        );
    }
    let result = match method {
        "server/discover" => json!({"supportedVersions": ["2026-07-28"]}),
        "tools/list" => {
            let tool = |name: &str| json!({"name": name, "inputSchema": {"type": "object"}});
            let tools: Vec<Value> = ["quote", "transfer", "never"].map(tool).into();
            json!({"tools": tools})
        }
        "tools/call" => {
            let text = format!("{} of {}", params["name"].as_str().unwrap(), params["arguments"]);
            json!({"content": [{"type": "text", "text": text}]})
        }
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    let body = format!("event: message\ndata: {}\n\n", reply(result));
    ([("content-type", "text/event-stream")], body).into_response()
}
