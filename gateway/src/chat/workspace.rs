//! MCP requests of the gateway's own to a user's workspace: the newest revision, one POST for each, no session.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dexorder_crds::condition::ready;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::error::ChatError;
use crate::app::App;
use crate::mcp;
use crate::refusal::Refusal;
use crate::wake::{Purpose, Tries};

const REVISION: &str = "2026-07-28";
/// Most bytes of an answer.
const MOST: usize = 16 * 1024 * 1024;
/// A workspace that answers within this time is not worth the news that it is waking.
const AWAKE: Duration = Duration::from_millis(100);

static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// Why a request to the workspace has no result.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum McpError {
    #[error("{0}")]
    Refused(#[from] Refusal),
    #[error("{message} (code {code})")]
    Error { code: i64, message: String },
    #[error("it gave no answer in time")]
    Late,
    #[error("it broke off")]
    BrokeOff,
    #[error("its answer is larger than {MOST} bytes")]
    TooLarge,
    #[error("its answer is no MCP: {0}")]
    Malformed(&'static str),
}

/// The result of a tool.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ToolResult {
    pub(crate) text: String,
    pub(crate) structured: Value,
    pub(crate) failed: bool,
}

/// One user's workspace.
#[derive(Clone)]
pub(crate) struct UserWorkspace {
    pub(crate) app: Arc<App>,
    pub(crate) user: String,
}

impl UserWorkspace {
    /// Wakes the workspace if it must be; `waking` is called if so. Returns how long its first answers may take: a
    /// workspace that is starting takes connections before its agent answers.
    pub(crate) async fn connect(&self, waking: impl AsyncFnOnce(String)) -> Result<Duration, ChatError> {
        let config = &self.app.config;
        let begun = Instant::now();
        let tries = Tries::default();
        let deadline = begun + config.wake_timeout;
        let connect = self.app.connector.connect(&self.user, &tries, Purpose::Work, deadline);
        tokio::pin!(connect);
        if self.state() == ready::READY
            && let Ok(found) = tokio::time::timeout(AWAKE, &mut connect).await
        {
            return Ok(found.map(|_| config.chat.context_timeout)?);
        }
        waking(self.state()).await;
        connect.await?;
        Ok(config.wake_timeout.saturating_sub(begun.elapsed()).max(config.chat.context_timeout))
    }

    /// What the workspace is doing: the reason of its `Ready`.
    pub(crate) fn state(&self) -> String {
        let workspace = self.app.workspaces.current(&self.user);
        let known = workspace.as_ref().and_then(|workspace| workspace.ready.as_ref());
        known.map_or(ready::PENDING, |state| &state.reason).to_owned()
    }

    /// The text of a resource.
    pub(crate) async fn read(&self, uri: &str, within: Duration) -> Result<String, McpError> {
        let result = self.request("resources/read", Some(uri), json!({"uri": uri}), within).await?;
        let contents =
            result["contents"].as_array().ok_or(McpError::Malformed("a resource without contents"))?;
        Ok(contents.iter().filter_map(|content| content["text"].as_str()).collect())
    }

    /// All tools, as the workspace describes them.
    pub(crate) async fn tools(&self, within: Duration) -> Result<Vec<Value>, McpError> {
        let (mut tools, mut cursor) = (Vec::new(), Value::Null);
        for _ in 0..20 {
            let params = if cursor.is_null() { json!({}) } else { json!({"cursor": cursor}) };
            let mut result = self.request("tools/list", None, params, within).await?;
            match result["tools"].take() {
                Value::Array(page) => tools.extend(page),
                _ => return Err(McpError::Malformed("a list of tools without tools")),
            }
            cursor = result["nextCursor"].take();
            if cursor.is_null() {
                return Ok(tools);
            }
        }
        Err(McpError::Malformed("a list of tools that does not end"))
    }

    /// Runs a tool.
    pub(crate) async fn call(
        &self,
        name: &str,
        arguments: &Value,
        within: Duration,
    ) -> Result<ToolResult, McpError> {
        let params = json!({"name": name, "arguments": arguments});
        let mut result = self.request("tools/call", Some(name), params, within).await?;
        if result["resultType"] == "input_required" {
            return Ok(ToolResult {
                text: "the tool asks for input that can't be given in a chat".to_owned(),
                structured: Value::Null,
                failed: true,
            });
        }
        let blocks = result["content"].as_array().ok_or(McpError::Malformed("a result without content"))?;
        let mut text = blocks.iter().map(block).collect::<Vec<_>>().join("\n");
        let failed = result["isError"] == true;
        let structured = result["structuredContent"].take();
        if text.is_empty() && !structured.is_null() {
            text = structured.to_string();
        }
        Ok(ToolResult { text, structured, failed })
    }

    async fn request(
        &self,
        method: &str,
        name: Option<&str>,
        mut params: Value,
        within: Duration,
    ) -> Result<Value, McpError> {
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": REVISION,
            "io.modelcontextprotocol/clientInfo":
                {"name": "dexorder-gateway", "version": env!("CARGO_PKG_VERSION")},
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        let id = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let body = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        let deadline = Instant::now() + within;
        let answer = timeout_at(deadline, async {
            let headers = headers(method, name)?;
            let body = Bytes::from(body.to_string());
            let response = mcp::send(&self.app, &self.user, headers, body, deadline).await?;
            answer(response, id).await
        });
        answer.await.unwrap_or(Err(McpError::Late))
    }
}

/// A block of a tool's result as text for a model.
fn block(block: &Value) -> String {
    match block["type"].as_str().unwrap_or_default() {
        "text" => block["text"].as_str().unwrap_or_default().to_owned(),
        "resource" => match block["resource"]["text"].as_str() {
            Some(text) => text.to_owned(),
            None => format!("[resource {}]", block["resource"]["uri"]),
        },
        kind => format!("[{kind}, not shown]"),
    }
}

fn headers(method: &str, name: Option<&str>) -> Result<HeaderMap, McpError> {
    let value = |text: &str| {
        HeaderValue::from_str(text).map_err(|_| McpError::Malformed("a name that can't stand in a header"))
    };
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
    headers.insert(HeaderName::from_static("mcp-protocol-version"), HeaderValue::from_static(REVISION));
    headers.insert(HeaderName::from_static("mcp-method"), value(method)?);
    if let Some(name) = name {
        headers.insert(HeaderName::from_static("mcp-name"), value(name)?);
    }
    Ok(headers)
}

/// The answer to a request: the body, or the event of a stream with the request's id.
async fn answer(response: http::Response<Incoming>, id: u64) -> Result<Value, McpError> {
    let streams = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"));
    let body = Limited::new(response.into_body(), MOST).collect().await;
    let body = body.map_err(|error| {
        if error.is::<http_body_util::LengthLimitError>() { McpError::TooLarge } else { McpError::BrokeOff }
    })?;
    let bytes = body.to_bytes();
    let mut messages: Vec<Value> = if streams {
        String::from_utf8_lossy(&bytes)
            .lines()
            .filter_map(|line| serde_json::from_str(line.strip_prefix("data:")?.trim_start()).ok())
            .collect()
    } else {
        serde_json::from_slice(&bytes).into_iter().collect()
    };
    let found = messages
        .iter_mut()
        .find(|message| message["id"] == id || (message["id"].is_null() && message["error"].is_object()));
    let message = found.ok_or(McpError::Malformed("it holds no answer to the request"))?;
    if message["error"].is_object() {
        let error = &message["error"];
        return Err(McpError::Error {
            code: error["code"].as_i64().unwrap_or_default(),
            message: error["message"].as_str().unwrap_or("no message").chars().take(2000).collect(),
        });
    }
    match message["result"].take() {
        result @ Value::Object(_) => Ok(result),
        _ => Err(McpError::Malformed("it holds no result")),
    }
}
