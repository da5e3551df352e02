//! An agent that speaks the revision 2026-07-28 alone, and notes whatever the specification does not allow in a request.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, mpsc, watch};

use super::tools;
use crate::agent::{end, serve};

/// As with the official SDK.
const MOST_BODY: usize = 4 * 1024 * 1024;
const META: &str = "io.modelcontextprotocol/";

/// The agent.
pub(crate) struct Newest {
    pub(super) state: Arc<Seen>,
    runtime: Option<Runtime>,
}

/// What it saw, and how a test steers it.
pub(crate) struct Seen {
    /// Bodies of requests, as they were sent.
    pub(super) requests: Mutex<Vec<Value>>,
    /// What was not allowed.
    pub(super) violations: Mutex<Vec<String>>,
    ids: Mutex<HashSet<String>>,
    pub(super) listeners: Mutex<Vec<(Value, mpsc::UnboundedSender<Value>)>>,
    pub(super) listened: AtomicUsize,
    pub(super) running: watch::Sender<usize>,
    /// Lets waiting calls end.
    pub(super) release: Semaphore,
    /// The tool `route` mirrors its argument in a header of another name.
    pub(super) renamed: AtomicBool,
}

/// Counts a request as running while it lives.
pub(super) struct Running(Arc<Seen>);

impl Running {
    pub(super) fn new(state: &Arc<Seen>) -> Self {
        state.running.send_modify(|running| *running += 1);
        Self(Arc::clone(state))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.send_modify(|running| *running -= 1);
    }
}

impl Newest {
    pub(super) fn start(socket: &Path) -> Self {
        let state = Arc::new(Seen {
            requests: Mutex::default(),
            violations: Mutex::default(),
            ids: Mutex::default(),
            listeners: Mutex::default(),
            listened: AtomicUsize::new(0),
            running: watch::Sender::new(0),
            release: Semaphore::new(0),
            renamed: AtomicBool::new(false),
        });
        let router = Router::new()
            .route("/lifecycle/status", get(|| async { Json(json!({"ready": true})) }))
            .route("/lifecycle/save", post(|| async { Json(json!({"commit": "c", "clean": true})) }))
            .route("/mcp", any(mcp))
            .with_state(Arc::clone(&state));
        Self { state, runtime: Some(serve(socket, router)) }
    }

    pub(super) fn kill(mut self) {
        end(self.runtime.take().unwrap());
    }

    /// Methods of the requests so far.
    pub(super) fn methods(&self) -> Vec<String> {
        let requests = self.state.requests.lock().unwrap();
        requests.iter().map(|request| request["method"].as_str().unwrap().to_owned()).collect()
    }

    pub(super) fn last(&self) -> Value {
        self.state.requests.lock().unwrap().last().cloned().expect("the agent saw no request")
    }

    /// Waits until so many requests run.
    pub(super) async fn running(&self, number: usize) {
        let mut running = self.state.running.subscribe();
        tokio::time::timeout(Duration::from_secs(10), running.wait_for(|running| *running == number))
            .await
            .unwrap_or_else(|_| panic!("there were never {number} requests running"))
            .unwrap();
    }

    /// Tells those who listen of a change.
    pub(super) fn publish(&self, method: &str, params: &Value) {
        let mut listeners = self.state.listeners.lock().unwrap();
        listeners.retain(|(request, sender)| {
            let filter = &request["params"]["notifications"];
            let wanted = match method {
                "notifications/tools/list_changed" => filter["toolsListChanged"] == true,
                "notifications/resources/updated" => filter["resourceSubscriptions"]
                    .as_array()
                    .is_some_and(|uris| uris.contains(&params["uri"])),
                _ => false,
            };
            !wanted || sender.send(of_subscription(request, method, params.clone())).is_ok()
        });
    }

    /// Fails if anything came that the newest revision does not allow.
    pub(super) fn check(&self) {
        assert_eq!(*self.state.violations.lock().unwrap(), Vec::<String>::new());
    }
}

impl Drop for Newest {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            end(runtime);
        }
    }
}

fn of_subscription(request: &Value, method: &str, mut params: Value) -> Value {
    params["_meta"] = json!({format!("{META}subscriptionId"): request["id"]});
    json!({"jsonrpc": "2.0", "method": method, "params": params})
}

async fn mcp(State(state): State<Arc<Seen>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    if body.len() > MOST_BODY {
        return (StatusCode::PAYLOAD_TOO_LARGE, "Request body too large").into_response();
    }
    let request: Value = serde_json::from_slice(&body).unwrap_or_default();
    if let Err(problem) = check(&state, &parts.method, &parts.headers, &request) {
        state.violations.lock().unwrap().push(format!("{problem}: {request}"));
        let error = json!({"code": -32020, "message": problem});
        return (
            StatusCode::BAD_REQUEST,
            Json(json!({"jsonrpc": "2.0", "id": request["id"], "error": error})),
        )
            .into_response();
    }
    state.requests.lock().unwrap().push(request.clone());
    answer(&state, &parts.headers, request).await
}

fn check(state: &Seen, method: &Method, headers: &HeaderMap, request: &Value) -> Result<(), String> {
    let ensure = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
    let all = |name: &str| -> Vec<&str> {
        headers.get_all(name).iter().map(|value| value.to_str().unwrap_or("no text")).collect()
    };
    ensure(method == Method::POST, "no POST")?;
    ensure(all("mcp-protocol-version") == ["2026-07-28"], "MCP-Protocol-Version")?;
    ensure(all("content-type") == ["application/json"], "Content-Type")?;
    ensure(all("accept") == ["application/json, text/event-stream"], "Accept")?;
    for none in ["mcp-session-id", "last-event-id", "authorization", "dexorder-identity"] {
        ensure(all(none).is_empty(), none)?;
    }
    ensure(request["jsonrpc"] == "2.0" && request["method"].is_string(), "no request")?;
    ensure(all("mcp-method") == [request["method"].as_str().unwrap()], "Mcp-Method")?;
    let params = &request["params"];
    let name = match request["method"].as_str().unwrap() {
        "tools/call" | "prompts/get" => &params["name"],
        "resources/read" => &params["uri"],
        _ => &Value::Null,
    };
    let mirrored: Vec<_> = all("mcp-name").into_iter().map(decoded).collect();
    ensure(mirrored == name.as_str().map(str::to_owned).into_iter().collect::<Vec<_>>(), "Mcp-Name")?;
    let meta = |key: &str| &params["_meta"][format!("{META}{key}")];
    ensure(*meta("protocolVersion") == "2026-07-28", "_meta of the protocol version")?;
    ensure(meta("clientCapabilities").is_object(), "_meta of the capabilities")?;
    ensure(meta("clientInfo").is_object() || meta("clientInfo").is_null(), "_meta of the client")?;
    for none in ["task", "protocolVersion", "capabilities", "clientInfo"] {
        ensure(params[none].is_null(), none)?;
    }
    for gone in ["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"] {
        ensure(request["method"] != gone, gone)?;
    }
    let mirrored: Vec<_> = headers.keys().filter(|name| name.as_str().starts_with("mcp-param-")).collect();
    if request["method"] == "tools/call" && params["name"] == "route" {
        let name = if state.renamed.load(Ordering::SeqCst) { "mcp-param-zone" } else { "mcp-param-region" };
        let expected: Vec<_> = params["arguments"]["region"].as_str().into_iter().collect();
        let sent: Vec<_> = all(name).into_iter().map(decoded).collect();
        if sent != expected && state.renamed.load(Ordering::SeqCst) {
            // The client may know an older list.
            return Ok(());
        }
        ensure(sent == expected, "Mcp-Param")?;
    } else {
        ensure(mirrored.is_empty(), "Mcp-Param of a tool without")?;
    }
    let fresh = state.ids.lock().unwrap().insert(request["id"].to_string());
    ensure(fresh, "the id was used before")
}

fn decoded(value: &str) -> String {
    match value.strip_prefix("=?base64?").and_then(|value| value.strip_suffix("?=")) {
        Some(text) => String::from_utf8(STANDARD.decode(text).unwrap()).unwrap(),
        None => value.to_owned(),
    }
}

async fn answer(state: &Arc<Seen>, headers: &HeaderMap, request: Value) -> Response {
    let params = &request["params"];
    let hints = |mut result: Value| {
        result["ttlMs"] = json!(0);
        result["cacheScope"] = json!("private");
        result
    };
    let result = match request["method"].as_str().unwrap() {
        "server/discover" => hints(json!({
            "supportedVersions": ["2026-07-28"],
            "capabilities": {
                "tools": {"listChanged": true}, "prompts": {"listChanged": true},
                "resources": {"subscribe": true, "listChanged": true}, "completions": {},
            },
            "instructions": "be brief",
        })),
        "tools/list" => hints(tools::list(params, state.renamed.load(Ordering::SeqCst))),
        "tools/call" => return tools::call(state, headers, request).await,
        "resources/list" => {
            hints(json!({"resources": [{"uri": "a://b", "name": "b"}], "nextCursor": params["cursor"]}))
        }
        "resources/templates/list" => hints(json!({"resourceTemplates": []})),
        "resources/read" if params["uri"] == "a://b" => {
            hints(json!({"contents": [{"uri": "a://b", "text": "text"}]}))
        }
        "resources/read" => {
            let error =
                json!({"code": -32602, "message": "no such resource", "data": {"uri": params["uri"]}});
            return failed(&request, StatusCode::BAD_REQUEST, &error);
        }
        "prompts/list" => hints(json!({"prompts": []})),
        "prompts/get" => match params["inputResponses"]["topic"]["content"]["topic"].as_str() {
            Some(topic) => {
                json!({"messages": [{"role": "user", "content": {"type": "text", "text": topic}}]})
            }
            None => tools::ask(&json!({"topic": tools::form("topic")}), None),
        },
        "completion/complete" => json!({"completion": {"values": [params["argument"]["value"]]}}),
        "subscriptions/listen" => return listen(state, request),
        _ => {
            return failed(
                &request,
                StatusCode::NOT_FOUND,
                &json!({"code": -32601, "message": "Method not found"}),
            );
        }
    };
    complete(&request, result)
}

pub(super) fn complete(request: &Value, result: Value) -> Response {
    Json(message(request, result)).into_response()
}

/// A response, with what the newest revision has in each.
pub(super) fn message(request: &Value, mut result: Value) -> Value {
    if result["resultType"].is_null() {
        result["resultType"] = json!("complete");
    }
    result["_meta"] = json!({format!("{META}serverInfo"): {"name": "newest", "version": "7"}});
    json!({"jsonrpc": "2.0", "id": request["id"], "result": result})
}

pub(super) fn failed(request: &Value, status: StatusCode, error: &Value) -> Response {
    (status, Json(json!({"jsonrpc": "2.0", "id": request["id"], "error": error}))).into_response()
}

fn listen(state: &Arc<Seen>, request: Value) -> Response {
    let (sender, receiver) = mpsc::unbounded_channel();
    let acknowledged = json!({"notifications": request["params"]["notifications"]});
    sender.send(of_subscription(&request, "notifications/subscriptions/acknowledged", acknowledged)).unwrap();
    state.listeners.lock().unwrap().push((request, sender));
    state.listened.fetch_add(1, Ordering::SeqCst);
    events(receiver, Running::new(state))
}

/// A stream of messages. It counts as running while it is open.
pub(super) fn events(mut messages: mpsc::UnboundedReceiver<Value>, running: Running) -> Response {
    let frames = futures::stream::poll_fn(move |cx| {
        let _ = &running;
        messages.poll_recv(cx).map(|message| {
            // Written over several lines, as is allowed.
            let event = |message: Value| {
                let text = format!("{message:#}").replace('\n', "\r\ndata: ");
                Bytes::from(format!("event: message\r\ndata: {text}\r\n\r\n"))
            };
            message.map(|message| Ok::<_, std::convert::Infallible>(http_body::Frame::data(event(message))))
        })
    });
    ([(CONTENT_TYPE, "text/event-stream")], Body::new(StreamBody::new(frames))).into_response()
}
