//! The agent's list of tools, and which of them it marks as read-only, kept for a while.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::body::Body;
use dexorder_protocol::MCP_PATH;
use dexorder_protocol::headers::{USER, is_event_stream};
use dexorder_protocol::mcp::{CAPABILITIES_KEY, CLIENT_INFO_KEY, VERSION_KEY};
use http::header::HOST;
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::Agent;
use super::events::EventReader;
use crate::headers::{NEWEST_REVISION, mirror};
use crate::refusal::Refusal;

/// How long a list is taken as true.
const FRESH: Duration = Duration::from_mins(1);
/// How long a list is taken as true that lacks the tool which is asked for.
const FRESH_ENOUGH: Duration = Duration::from_secs(5);
/// How long the agent may take, its start included.
const LIMIT: Duration = Duration::from_secs(30);
const ANSWER_BYTES: usize = 4 * 1024 * 1024;
/// More pages than any agent has.
const PAGES: usize = 50;
const LIST_TOOLS: &str = "tools/list";

/// The list. Whoever asks while it is fetched waits for it.
#[derive(Default)]
pub(crate) struct ReadOnlyTools(Mutex<Option<List>>);

struct List {
    names: HashSet<String>,
    at: Instant,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    tools: Vec<Tool>,
    next_cursor: Option<String>,
}

/// A tool as the agent lists it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Tool {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) input_schema: Value,
    annotations: Option<Annotations>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Annotations {
    read_only_hint: Option<bool>,
}

/// Why the agent gave no list.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListError {
    #[error("the agent did not list its tools within {LIMIT:?}")]
    Timeout,
    #[error("the agent broke off its list of tools")]
    Broken,
    #[error("the agent answered tools/list with {0}")]
    Status(StatusCode),
    #[error("the agent's list of tools can't be read")]
    Unreadable,
}

impl ReadOnlyTools {
    /// Whether the agent lists a tool of this name as read-only.
    pub(crate) async fn has(&self, name: &str, user: &HeaderValue, agent: &Agent) -> Result<bool, Refusal> {
        let mut list = self.0.lock().await;
        if let Some(list) = list.as_ref() {
            let has = list.names.contains(name);
            if list.at.elapsed() < if has { FRESH } else { FRESH_ENOUGH } {
                return Ok(has);
            }
        }
        let tools = match agent.tools(user).await {
            Err(ListError::Timeout) => return Err(Refusal::AgentStarting),
            Err(error) => {
                tracing::warn!(%error, "what visitors may call is not known");
                return Err(Refusal::Unavailable("the workspace's tools can't be listed now"));
            }
            Ok(tools) => tools,
        };
        let names: HashSet<_> = tools.into_iter().filter(Tool::is_read_only).map(|tool| tool.name).collect();
        let has = names.contains(name);
        *list = Some(List { names, at: Instant::now() });
        Ok(has)
    }
}

impl Tool {
    fn is_read_only(&self) -> bool {
        self.annotations.as_ref().and_then(|annotations| annotations.read_only_hint) == Some(true)
    }
}

impl Agent {
    /// All tools that the agent lists, once it is up.
    pub(crate) async fn tools(&self, user: &HeaderValue) -> Result<Vec<Tool>, ListError> {
        timeout(LIMIT, self.all_pages(user)).await.unwrap_or(Err(ListError::Timeout))
    }

    async fn all_pages(&self, user: &HeaderValue) -> Result<Vec<Tool>, ListError> {
        let mut tools = Vec::new();
        let mut cursor = None;
        for _ in 0..PAGES {
            let page = self.page(user, cursor.as_deref()).await?;
            tools.extend(page.tools);
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(tools);
            }
        }
        Err(ListError::Unreadable)
    }

    async fn page(&self, user: &HeaderValue, cursor: Option<&str>) -> Result<Page, ListError> {
        let mut connection = self.connection().await;
        let id = self.lists.fetch_add(1, Ordering::Relaxed);
        let response = connection.send(request(id, user, cursor)).await.map_err(|_| ListError::Broken)?;
        let (status, is_stream) = (response.status(), is_event_stream(response.headers()));
        let body = Limited::new(response.into_body(), ANSWER_BYTES)
            .collect()
            .await
            .map_err(|_| ListError::Broken)?
            .to_bytes();
        connection.give_back();
        if status != StatusCode::OK {
            return Err(ListError::Status(status));
        }
        let last = if is_stream { last_event(&body) } else { Some(body.into()) };
        let mut answer: Value =
            serde_json::from_slice(&last.ok_or(ListError::Unreadable)?).map_err(|_| ListError::Unreadable)?;
        serde_json::from_value(answer["result"].take()).map_err(|_| ListError::Unreadable)
    }
}

/// The data of the last event of a stream: the answer, which ends it.
fn last_event(stream: &[u8]) -> Option<Vec<u8>> {
    let mut events = EventReader::default();
    events.push(stream);
    std::iter::from_fn(|| events.next()).last()
}

fn request(id: u64, user: &HeaderValue, cursor: Option<&str>) -> Request<Body> {
    let mut params = json!({"_meta": {
        VERSION_KEY: NEWEST_REVISION,
        CLIENT_INFO_KEY: {"name": "dexorder-sidecar", "version": env!("CARGO_PKG_VERSION")},
        CAPABILITIES_KEY: {},
    }});
    if let Some(cursor) = cursor {
        params["cursor"] = json!(cursor);
    }
    let body = json!({"jsonrpc": "2.0", "id": format!("tools-{id}"), "method": LIST_TOOLS, "params": params});
    let mut request = Request::new(Body::from(body.to_string()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = http::Uri::from_static(MCP_PATH);
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_static("localhost"));
    headers.insert(USER, user.clone());
    mirror(headers, LIST_TOOLS, None);
    request
}
