//! Messages of MCP as the gateway itself sends them: the newest revision, one POST for each, no session.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dexorder_protocol::mcp::{CAPABILITIES_KEY, CLIENT_INFO_KEY, REVISION, VERSION_KEY};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::refusal::Refusal;

/// Most bytes of an answer.
const MOST: usize = 16 * 1024 * 1024;

static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// Why a request has no result.
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

/// A request of the newest revision: its id, headers and body.
pub(crate) fn message(
    method: &str,
    name: Option<&str>,
    mut params: Value,
) -> Result<(u64, HeaderMap, Bytes), McpError> {
    params["_meta"] = json!({
        VERSION_KEY: REVISION,
        CLIENT_INFO_KEY: client_info(),
        CAPABILITIES_KEY: {},
    });
    let id = next_id();
    let body = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
    Ok((id, headers(method, name)?, Bytes::from(body.to_string())))
}

/// A number that no other request of this gateway has.
pub(crate) fn next_id() -> u64 {
    NUMBERS.fetch_add(1, Ordering::Relaxed)
}

/// How the gateway names itself.
pub(crate) fn client_info() -> Value {
    json!({"name": "dexorder-gateway", "version": env!("CARGO_PKG_VERSION")})
}

/// The hint how long an answer stays true.
pub(crate) fn ttl(result: &Value) -> Duration {
    Duration::from_millis(result["ttlMs"].as_u64().unwrap_or_default())
}

/// The result of a tool, as MCP gives it.
pub(crate) fn tool_result(mut result: Value) -> Result<ToolResult, McpError> {
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
    let mut headers = plain_headers();
    headers.insert(HeaderName::from_static("mcp-protocol-version"), HeaderValue::from_static(REVISION));
    headers.insert(HeaderName::from_static("mcp-method"), value(method)?);
    if let Some(name) = name {
        headers.insert(HeaderName::from_static("mcp-name"), value(name)?);
    }
    Ok(headers)
}

/// The headers of a message of any revision.
pub(crate) fn plain_headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
    headers
}

/// Whether a response is a stream of events.
pub(crate) fn streams(response: &http::Response<Incoming>) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"))
}

/// The answer to a request: the body, or the event of a stream with the request's id.
pub(crate) async fn answer(response: http::Response<Incoming>, id: u64) -> Result<Value, McpError> {
    let streamed = streams(&response);
    let body = Limited::new(response.into_body(), MOST).collect().await;
    let body = body.map_err(|error| {
        if error.is::<http_body_util::LengthLimitError>() { McpError::TooLarge } else { McpError::BrokeOff }
    })?;
    let bytes = body.to_bytes();
    let mut messages: Vec<Value> = if streamed {
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
