//! A small HTTP server that stands at the agent's socket, in a runtime of its own so that it can die like a process.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, mpsc, watch};

/// Header of a test's request that chooses what the agent does with it.
pub(crate) const DO: &str = "x-do";

pub(crate) struct Agent {
    pub(crate) state: Arc<AgentState>,
    runtime: Option<Runtime>,
}

/// What a test sees of the agent, and how it steers it.
pub(crate) struct AgentState {
    /// Requests to `/mcp` that were read whole.
    pub(crate) seen: Mutex<Vec<Seen>>,
    /// Requests to `/mcp` that arrived.
    pub(crate) executed: AtomicUsize,
    /// Requests of the sidecar's own for the list of tools, which are not counted above.
    pub(crate) listed: AtomicUsize,
    /// Tools by name, each with its mark.
    pub(crate) tools: Mutex<Vec<(&'static str, Option<bool>)>>,
    /// The same, at the moment of the last save.
    pub(crate) executed_at_save: AtomicUsize,
    pub(crate) saves: AtomicUsize,
    pub(crate) save_fails: AtomicBool,
    /// What a save says of the git remote.
    pub(crate) remote: Mutex<Value>,
    pub(crate) ready: AtomicBool,
    pub(crate) busy: Mutex<Vec<String>>,
    /// Requests to `/mcp` that run.
    pub(crate) running: watch::Sender<usize>,
    /// Lets waiting requests end.
    pub(crate) release: Semaphore,
    /// Chunks for the next streams, in the order of their requests.
    pub(crate) streams: Mutex<Vec<mpsc::Receiver<Bytes>>>,
    /// Chunks of request bodies as they come.
    pub(crate) uploads: mpsc::UnboundedSender<Bytes>,
    pub(crate) uploaded: tokio::sync::Mutex<mpsc::UnboundedReceiver<Bytes>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) uri: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Counts a request as running while it lives.
struct Running(Arc<AgentState>);

impl Running {
    fn new(state: &Arc<AgentState>) -> Self {
        state.running.send_modify(|running| *running += 1);
        Self(Arc::clone(state))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.send_modify(|running| *running -= 1);
    }
}

/// Serves at an agent's socket, in a runtime of its own.
pub(crate) fn serve(socket: &Path, router: Router) -> Runtime {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = {
        let _inside = runtime.enter();
        // What an agent that crashed leaves behind.
        let _ = std::fs::remove_file(socket);
        UnixListener::bind(socket).unwrap()
    };
    runtime.spawn(async move { axum::serve(listener, router).await });
    runtime
}

/// Ends an agent at once, with all its connections.
pub(crate) fn end(runtime: Runtime) {
    // On a thread of its own, as a runtime must not be waited for inside another. When a process has ended, its connections
    // are closed; so they are here.
    let _ = std::thread::spawn(move || runtime.shutdown_timeout(Duration::from_secs(5))).join();
}

impl Agent {
    pub(crate) fn start(socket: &Path) -> Self {
        let (uploads, uploaded) = mpsc::unbounded_channel();
        let state = Arc::new(AgentState {
            seen: Mutex::default(),
            executed: AtomicUsize::new(0),
            listed: AtomicUsize::new(0),
            tools: Mutex::new(vec![("show", Some(true)), ("delete", Some(false)), ("plain", None)]),
            executed_at_save: AtomicUsize::new(0),
            saves: AtomicUsize::new(0),
            save_fails: AtomicBool::new(false),
            remote: Mutex::new(Value::Null),
            ready: AtomicBool::new(true),
            busy: Mutex::default(),
            running: watch::Sender::new(0),
            release: Semaphore::new(0),
            streams: Mutex::default(),
            uploads,
            uploaded: tokio::sync::Mutex::new(uploaded),
        });
        let router = Router::new()
            .route("/lifecycle/status", get(status))
            .route("/lifecycle/save", post(save))
            .route("/mcp", any(mcp))
            .with_state(Arc::clone(&state));
        Self { state, runtime: Some(serve(socket, router)) }
    }

    /// Ends the agent at once, with all its connections. Its socket stays behind.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            end(runtime);
        }
    }

    /// Waits until that many requests run.
    pub(crate) async fn running(&self, number: usize) {
        let mut running = self.state.running.subscribe();
        tokio::time::timeout(Duration::from_secs(10), running.wait_for(|running| *running == number))
            .await
            .unwrap_or_else(|_| panic!("there were never {number} requests running"))
            .unwrap();
    }

    pub(crate) fn executed(&self) -> usize {
        self.state.executed.load(Ordering::SeqCst)
    }

    pub(crate) fn saves(&self) -> usize {
        self.state.saves.load(Ordering::SeqCst)
    }

    pub(crate) fn last_seen(&self) -> Seen {
        self.state.seen.lock().unwrap().last().cloned().expect("the agent saw no request")
    }

    /// The next stream's other end.
    pub(crate) fn stream(&self) -> mpsc::Sender<Bytes> {
        let (sender, receiver) = mpsc::channel(1);
        self.state.streams.lock().unwrap().push(receiver);
        sender
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.end();
    }
}

async fn status(State(state): State<Arc<AgentState>>) -> Json<Value> {
    let (ready, busy) = (state.ready.load(Ordering::SeqCst), state.busy.lock().unwrap().clone());
    let commit = format!("c{}", state.saves.load(Ordering::SeqCst));
    Json(json!({"ready": ready, "busy": busy, "commit": commit}))
}

async fn save(State(state): State<Arc<AgentState>>) -> Response {
    if state.save_fails.load(Ordering::SeqCst) {
        return (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({"error": "the disk is full"})))
            .into_response();
    }
    state.executed_at_save.store(state.executed.load(Ordering::SeqCst), Ordering::SeqCst);
    let number = state.saves.fetch_add(1, Ordering::SeqCst) + 1;
    let remote = state.remote.lock().unwrap().clone();
    Json(json!({"commit": format!("c{number}"), "clean": true, "remote": remote})).into_response()
}

async fn mcp(State(state): State<Arc<AgentState>>, request: Request) -> Response {
    if request.headers().get("mcp-method").is_some_and(|method| method == "tools/list") {
        return list_tools(&state, request).await;
    }
    state.executed.fetch_add(1, Ordering::SeqCst);
    let running = Running::new(&state);
    let (parts, mut body) = request.into_parts();
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let Some(chunk) = frame.ok().and_then(|frame| frame.into_data().ok()) else { break };
        let _ = state.uploads.send(chunk.clone());
        whole.extend_from_slice(&chunk);
    }
    let what = parts.headers.get(DO).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    let seen =
        Seen { method: parts.method, uri: parts.uri.to_string(), headers: parts.headers, body: whole.into() };
    state.seen.lock().unwrap().push(seen);
    match what.as_str() {
        "wait" => state.release.acquire().await.unwrap().forget(),
        "stream" => return stream(&state, running),
        _ => {}
    }
    let pretending = [("dexorder-reason", "Draining"), ("set-cookie", "a=b")];
    (pretending, Json(json!({"jsonrpc": "2.0", "id": 1, "result": {}}))).into_response()
}

/// One tool a page, the first page as a stream of events.
async fn list_tools(state: &AgentState, request: Request) -> Response {
    state.listed.fetch_add(1, Ordering::SeqCst);
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let asked: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(asked["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
    let tools = state.tools.lock().unwrap().clone();
    let at: usize = asked["params"]["cursor"].as_str().map_or(0, |cursor| cursor.parse().unwrap());
    let (name, mark) = tools[at];
    let mut result = json!({"tools": [{"name": name, "inputSchema": {}, "annotations": {}}]});
    if let Some(mark) = mark {
        result["tools"][0]["annotations"]["readOnlyHint"] = json!(mark);
    }
    if at + 1 < tools.len() {
        result["nextCursor"] = json!((at + 1).to_string());
    }
    let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": result});
    if at == 0 {
        return ([(CONTENT_TYPE, "text/event-stream")], format!("event: message\ndata: {answer}\n\n"))
            .into_response();
    }
    Json(answer).into_response()
}

fn stream(state: &AgentState, running: Running) -> Response {
    let mut chunks = state.streams.lock().unwrap().remove(0);
    let frames = futures_of(move |cx| {
        let _ = &running;
        chunks.poll_recv(cx)
    });
    ([(CONTENT_TYPE, "text/event-stream")], Body::new(StreamBody::new(frames))).into_response()
}

/// A stream of frames from a poll function.
fn futures_of(
    mut poll: impl FnMut(&mut std::task::Context<'_>) -> std::task::Poll<Option<Bytes>>,
) -> impl futures::Stream<Item = Result<http_body::Frame<Bytes>, std::convert::Infallible>> {
    futures::stream::poll_fn(move |cx| {
        poll(cx).map(|chunk| chunk.map(|chunk| Ok(http_body::Frame::data(chunk))))
    })
}
