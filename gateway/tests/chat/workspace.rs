//! A workspace behind its sidecar: resources, tools and conversations, over MCP of the newest revision.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use dexorder_protocol::headers::IDENTITY;
use dexorder_protocol::{Issuer, TrustedKeys, identity};
use futures::stream;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, watch};

/// The workspace of one user.
pub(crate) struct Workspace {
    pub(crate) address: SocketAddr,
    pub(crate) state: Arc<Inner>,
}

pub(crate) struct Inner {
    uid: String,
    trusted: Arc<TrustedKeys>,
    pub(crate) resources: Mutex<BTreeMap<&'static str, &'static str>>,
    pub(crate) conversations: Mutex<HashMap<String, Vec<Value>>>,
    /// Calls of tools: name and arguments.
    pub(crate) calls: Mutex<Vec<(String, Value)>>,
    /// How many of the next appends are carried out and then not answered.
    pub(crate) lost_answers: Mutex<usize>,
    /// Lets calls of `wait` end.
    pub(crate) go: Notify,
    /// Calls of `wait` that were cancelled.
    pub(crate) cancelled: Mutex<usize>,
    /// Requests, by method.
    pub(crate) requests: Mutex<Vec<String>>,
    /// The addresses of resources that were read.
    pub(crate) reads: Mutex<Vec<String>>,
    /// Streams that listen for changes.
    listeners: Mutex<Vec<mpsc::UnboundedSender<Value>>>,
    /// Nothing is appended and appends are not answered, until it is set back.
    pub(crate) hold_appends: watch::Sender<bool>,
    /// Nothing is read, until it is set back.
    pub(crate) hold_reads: watch::Sender<bool>,
}

impl Workspace {
    pub(crate) async fn start(uid: &str, trusted: Arc<TrustedKeys>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let resources = BTreeMap::from([
            ("context://system-prompt", "Answer briefly."),
            ("context://user-profile", "Trades BTC."),
            ("context://workspace-state", "{\"chart\": \"BTC/USD\"}"),
            ("context://conversation-summary", ""),
            ("indicators://list", "{\"indicators\": [\"rsi\"]}"),
            ("strategies://list", "{\"strategies\": []}"),
        ]);
        let state = Arc::new(Inner {
            uid: uid.to_owned(),
            trusted,
            resources: Mutex::new(resources),
            conversations: Mutex::default(),
            calls: Mutex::default(),
            lost_answers: Mutex::default(),
            go: Notify::new(),
            cancelled: Mutex::default(),
            requests: Mutex::default(),
            reads: Mutex::default(),
            listeners: Mutex::default(),
            hold_appends: watch::Sender::new(false),
            hold_reads: watch::Sender::new(false),
        });
        let router = Router::new().route("/mcp", post(answer)).with_state(Arc::clone(&state));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, state }
    }

    pub(crate) fn conversation(&self, id: &str) -> Vec<Value> {
        self.state.conversations.lock().unwrap().get(id).cloned().unwrap_or_default()
    }

    /// The arguments of the calls of a tool.
    pub(crate) fn calls(&self, name: &str) -> Vec<Value> {
        let calls = self.state.calls.lock().unwrap();
        calls.iter().filter(|(called, _)| called == name).map(|(_, arguments)| arguments.clone()).collect()
    }

    /// Changes a resource and tells those who listen.
    pub(crate) fn change(&self, uri: &'static str, text: &'static str) {
        self.state.resources.lock().unwrap().insert(uri, text);
        self.state.tell("notifications/resources/updated", &json!({"uri": uri}));
    }

    /// How often a resource was read.
    pub(crate) fn reads(&self, uri: &str) -> usize {
        self.state.reads.lock().unwrap().iter().filter(|read| *read == uri).count()
    }

    /// Streams that listen now.
    pub(crate) fn listeners(&self) -> usize {
        let mut listeners = self.state.listeners.lock().unwrap();
        listeners.retain(|listener| !listener.is_closed());
        listeners.len()
    }

    /// Ends the streams that listen, as a pod does that stops.
    pub(crate) fn end_listeners(&self) {
        self.state.listeners.lock().unwrap().clear();
    }

    pub(crate) fn cancelled(&self) -> usize {
        *self.state.cancelled.lock().unwrap()
    }
}

impl Inner {
    fn tell(&self, method: &str, params: &Value) {
        let message = json!({"jsonrpc": "2.0", "method": method, "params": params});
        self.listeners.lock().unwrap().retain(|listener| listener.send(message.clone()).is_ok());
    }

    /// A stream that acknowledges what it will tell, and tells it.
    fn listen(&self, params: &Value) -> Response {
        let (sender, receiver) = mpsc::unbounded_channel();
        let acknowledged = json!({
            "jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged",
            "params": {"notifications": params["notifications"]},
        });
        sender.send(acknowledged).unwrap();
        self.listeners.lock().unwrap().push(sender);
        let events = stream::unfold(receiver, |mut receiver| async move {
            let message = receiver.recv().await?;
            Some((
                Ok::<_, std::convert::Infallible>(format!("event: message\ndata: {message}\n\n")),
                receiver,
            ))
        });
        ([("content-type", "text/event-stream")], Body::from_stream(events)).into_response()
    }

    fn loses_the_answer(&self) -> bool {
        let mut lost = self.lost_answers.lock().unwrap();
        let loses = *lost > 0;
        *lost = lost.saturating_sub(1);
        loses
    }
}

async fn answer(State(state): State<Arc<Inner>>, headers: HeaderMap, body: String) -> Response {
    let header = |name: &str| headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    let now = jiff::Timestamp::now().as_second();
    let token = header(IDENTITY);
    if identity::verify(&token, &state.trusted, Issuer::Gateway, &state.uid, now).is_err() {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let message: Value = serde_json::from_str(&body).unwrap();
    let (method, params) = (message["method"].as_str().unwrap(), &message["params"]);
    state.requests.lock().unwrap().push(method.to_owned());
    // What the newest revision demands of a request.
    let named = params["name"].as_str().or_else(|| params["uri"].as_str()).unwrap_or_default();
    let version = &params["_meta"]["io.modelcontextprotocol/protocolVersion"];
    assert_eq!((header("mcp-method").as_str(), header("mcp-name").as_str()), (method, named));
    assert_eq!((header("mcp-protocol-version").as_str(), version), ("2026-07-28", &json!("2026-07-28")));
    if method == "subscriptions/listen" {
        return state.listen(params);
    }
    let result = match method {
        "resources/read" => read(&state, params["uri"].as_str().unwrap()).await,
        "tools/list" => Ok(list(params["cursor"].as_str())),
        "tools/call" => {
            let (name, arguments) = (params["name"].as_str().unwrap(), &params["arguments"]);
            state.calls.lock().unwrap().push((name.to_owned(), arguments.clone()));
            if name == "append_conversation" {
                state.hold_appends.subscribe().wait_for(|held| !held).await.unwrap();
            }
            Ok(call(&state, name, arguments).await)
        }
        _ => Err(json!({"code": -32601, "message": "no such method"})),
    };
    let lost = named == "append_conversation" && state.loses_the_answer();
    assert!(!lost, "the connection breaks before the answer");
    let mut reply = json!({"jsonrpc": "2.0", "id": message["id"]});
    match result {
        Ok(result) => reply["result"] = result,
        Err(error) => reply["error"] = error,
    }
    if named == "streamed" {
        let progress = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {}});
        let body = format!("event: message\ndata: {progress}\n\nevent: message\ndata: {reply}\n\n");
        return ([("content-type", "text/event-stream")], body).into_response();
    }
    Json(reply).into_response()
}

async fn read(state: &Inner, uri: &str) -> Result<Value, Value> {
    state.reads.lock().unwrap().push(uri.to_owned());
    state.hold_reads.subscribe().wait_for(|held| !held).await.unwrap();
    let text = state.resources.lock().unwrap().get(uri).copied();
    match text {
        Some("slow") => std::future::pending().await,
        Some(text) => Ok(json!({
            "contents": [{"uri": uri, "text": text}], "ttlMs": 0, "cacheScope": "private",
        })),
        None => Err(json!({"code": -32002, "message": "no such resource"})),
    }
}

/// Two pages.
fn list(cursor: Option<&str>) -> Value {
    let tool = |name: &str| {
        json!({
            "name": name, "description": format!("About {name}. More."),
            "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}},
            "annotations": {"readOnlyHint": name != "set_profile"},
        })
    };
    let page = |names: &[&str]| names.iter().map(|name| tool(name)).collect::<Vec<_>>();
    match cursor {
        None => json!({"tools": page(&["echo", "fail", "big", "platform_time"]), "nextCursor": "2"}),
        Some(_) => {
            json!({"tools": page(&["wait", "streamed", "set_profile", "append_conversation", "read_conversation"])})
        }
    }
}

async fn call(state: &Inner, name: &str, arguments: &Value) -> Value {
    let text = |text: &str| json!({"content": [{"type": "text", "text": text}], "isError": false});
    let structured = |value: Value| json!({"content": [{"type": "text", "text": value.to_string()}], "structuredContent": value});
    match name {
        "echo" | "streamed" => text(&format!("echo of {}", arguments["text"].as_str().unwrap_or("nothing"))),
        "set_profile" => {
            state.resources.lock().unwrap().insert("context://user-profile", "Trades tin.");
            text("set")
        }
        "platform_time" => text("the workspace's own time"),
        "fail" => json!({"content": [{"type": "text", "text": "it is broken"}], "isError": true}),
        "big" => text(&"€".repeat(100_000)),
        "wait" => {
            let mut cancelled = Cancelled(Some(state));
            state.go.notified().await;
            cancelled.0 = None;
            text("waited")
        }
        "append_conversation" => structured(append(state, arguments)),
        "read_conversation" => {
            let id = arguments["conversation"].as_str().unwrap();
            let messages = state.conversations.lock().unwrap().get(id).cloned().unwrap_or_default();
            let last = usize::try_from(arguments["last"].as_u64().unwrap()).unwrap();
            let shown = &messages[messages.len().saturating_sub(last)..];
            let bytes = size(&messages);
            structured(
                json!({"conversation": id, "total": messages.len(), "bytes": bytes, "messages": shown}),
            )
        }
        "list_conversations" => {
            let conversations = state.conversations.lock().unwrap();
            let entry = |(id, lines): (&String, &Vec<Value>)| json!({"conversation": id, "bytes": lines.len(), "changed": "2026-11-24T00:00:00Z"});
            structured(json!({"conversations": conversations.iter().map(entry).collect::<Vec<_>>()}))
        }
        "delete_conversation" => {
            let id = arguments["conversation"].as_str().unwrap();
            assert!(state.conversations.lock().unwrap().remove(id).is_some());
            structured(json!({"path": id, "commit": "c", "changed": true}))
        }
        _ => json!({"content": [{"type": "text", "text": "Unknown tool"}], "isError": true}),
    }
}

/// Counts a call that ends before its time.
struct Cancelled<'a>(Option<&'a Inner>);

impl Drop for Cancelled<'_> {
    fn drop(&mut self) {
        if let Some(state) = self.0 {
            *state.cancelled.lock().unwrap() += 1;
        }
    }
}

/// Once for each key, as the agent does it.
fn append(state: &Inner, arguments: &Value) -> Value {
    let mut conversations = state.conversations.lock().unwrap();
    let id = arguments["conversation"].as_str().unwrap().to_owned();
    let lines = conversations.entry(id).or_default();
    let before = size(lines);
    let key = &arguments["idempotency_key"];
    if lines.iter().any(|line| line["key"] == *key) {
        return json!({
            "appended": false, "changed": false, "path": "p", "commit": "c", "bytes_before": before, "bytes": before,
        });
    }
    for message in arguments["messages"].as_array().unwrap() {
        let mut line = message.clone();
        line["key"] = key.clone();
        line["time"] = json!("2026-11-24T00:00:00Z");
        lines.push(line);
    }
    let turn = json!({"state": arguments["state"], "usage": arguments["usage"]});
    lines.last_mut().unwrap()["turn"] = turn;
    let bytes = size(lines);
    json!({
        "appended": true, "changed": true, "path": "p", "commit": "c", "bytes_before": before, "bytes": bytes,
    })
}

/// The size of a conversation's file.
fn size(lines: &[Value]) -> usize {
    lines.iter().map(|line| line.to_string().len() + 1).sum()
}
