//! Which tools the agent marks as read-only, asked of the agent itself and kept for a while.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use axum::body::Body;
use dexorder_protocol::MCP_PATH;
use dexorder_protocol::headers::{USER, is_event_stream};
use http::header::{ACCEPT, CONTENT_TYPE, HOST};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::Agent;
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
const REVISION: &str = "2026-07-28";

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

#[derive(Deserialize)]
struct Tool {
    name: String,
    annotations: Option<Annotations>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Annotations {
    read_only_hint: Option<bool>,
}

/// Why the agent gave no list.
#[derive(Debug, thiserror::Error)]
enum ListError {
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
        let names = match timeout(LIMIT, agent.read_only_tools(user)).await {
            Err(_) => return Err(Refusal::AgentStarting),
            Ok(Err(error)) => {
                tracing::warn!(%error, "what visitors may call is not known");
                return Err(Refusal::Unavailable("the workspace's tools can't be listed now"));
            }
            Ok(Ok(names)) => names,
        };
        let has = names.contains(name);
        *list = Some(List { names, at: Instant::now() });
        Ok(has)
    }
}

impl Agent {
    async fn read_only_tools(&self, user: &HeaderValue) -> Result<HashSet<String>, ListError> {
        let mut names = HashSet::new();
        let mut cursor = None;
        for _ in 0..PAGES {
            let page = self.tools(user, cursor.as_deref()).await?;
            names.extend(page.tools.into_iter().filter_map(|tool| {
                let read_only = tool.annotations.and_then(|annotations| annotations.read_only_hint);
                (read_only == Some(true)).then_some(tool.name)
            }));
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(names);
            }
        }
        Err(ListError::Unreadable)
    }

    async fn tools(&self, user: &HeaderValue, cursor: Option<&str>) -> Result<Page, ListError> {
        let mut connection = self.connection().await;
        let response = connection.send(request(user, cursor)).await.map_err(|_| ListError::Broken)?;
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
        let text = std::str::from_utf8(&body).map_err(|_| ListError::Unreadable)?;
        let answer = if is_stream { last_event(text) } else { text.to_owned() };
        let mut answer: Value = serde_json::from_str(&answer).map_err(|_| ListError::Unreadable)?;
        serde_json::from_value(answer["result"].take()).map_err(|_| ListError::Unreadable)
    }
}

fn request(user: &HeaderValue, cursor: Option<&str>) -> Request<Body> {
    let mut params = json!({"_meta": {
        "io.modelcontextprotocol/protocolVersion": REVISION,
        "io.modelcontextprotocol/clientInfo": {"name": "dexorder-sidecar", "version": env!("CARGO_PKG_VERSION")},
        "io.modelcontextprotocol/clientCapabilities": {},
    }});
    if let Some(cursor) = cursor {
        params["cursor"] = json!(cursor);
    }
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": params});
    let mut request = Request::new(Body::from(body.to_string()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = http::Uri::from_static(MCP_PATH);
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_static("localhost"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
    headers.insert(HeaderName::from_static("mcp-protocol-version"), HeaderValue::from_static(REVISION));
    headers.insert(HeaderName::from_static("mcp-method"), HeaderValue::from_static("tools/list"));
    headers.insert(HeaderName::from_static(USER), user.clone());
    request
}

/// The data of the last event of a stream: the answer, which ends it.
fn last_event(stream: &str) -> String {
    let normal = stream.replace("\r\n", "\n");
    let data = |event: &str| {
        let lines = event.lines().filter_map(|line| line.strip_prefix("data:"));
        lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n")
    };
    normal.split("\n\n").map(data).filter(|data| !data.is_empty()).last().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_the_last_event_with_data() {
        let stream =
            ": hello\r\n\r\nevent: message\r\ndata: {\"a\":1}\r\n\r\ndata: {\"b\":\ndata: 2}\n\n: bye\n\n";
        assert_eq!(last_event(stream), "{\"b\":\n2}");
        assert_eq!(last_event(""), "");
    }
}
