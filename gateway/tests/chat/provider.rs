//! A model provider that says what the test has written, in the wire format of OpenAI or of Anthropic, cut into
//! pieces of any size.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// The wire formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    OpenAi,
    Anthropic,
}

pub(crate) const BOTH: [Dialect; 2] = [Dialect::OpenAi, Dialect::Anthropic];

impl Dialect {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
        }
    }
}

/// One answer.
#[derive(Clone, Debug)]
pub(crate) enum Say {
    Text(&'static str),
    /// The same, and nothing of its tokens.
    Untold(&'static str),
    /// Text, then calls at once: name and arguments as they are written.
    Calls(&'static str, Vec<(&'static str, &'static str)>),
    Status(u16, &'static [(&'static str, &'static str)]),
    /// Half of a text, then the stream ends.
    Breaks(&'static str),
    /// Half of a text, then silence for ever.
    Hangs(&'static str),
}

/// The provider.
pub(crate) struct Provider {
    pub(crate) address: SocketAddr,
    state: Arc<Inner>,
}

struct Inner {
    dialect: Dialect,
    script: Mutex<VecDeque<Say>>,
    seen: Mutex<Vec<(HeaderMap, Value)>>,
    piece: usize,
    /// Streams that the gateway has left.
    left: Arc<Mutex<usize>>,
}

impl Provider {
    pub(crate) async fn start(dialect: Dialect, piece: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Inner {
            dialect,
            script: Mutex::default(),
            seen: Mutex::default(),
            piece,
            left: Arc::default(),
        });
        let path = match dialect {
            Dialect::OpenAi => "/v1/chat/completions",
            Dialect::Anthropic => "/v1/messages",
        };
        let router = Router::new().route(path, post(answer)).with_state(Arc::clone(&state));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, state }
    }

    pub(crate) fn script(&self, script: impl IntoIterator<Item = Say>) {
        self.state.script.lock().unwrap().extend(script);
    }

    /// The bodies of the requests so far.
    pub(crate) fn asked(&self) -> Vec<Value> {
        self.state.seen.lock().unwrap().iter().map(|(_, body)| body.clone()).collect()
    }

    pub(crate) fn headers(&self) -> HeaderMap {
        self.state.seen.lock().unwrap().last().unwrap().0.clone()
    }

    pub(crate) fn left(&self) -> usize {
        *self.state.left.lock().unwrap()
    }

    /// The system prompt of a request.
    pub(crate) fn system(&self, body: &Value) -> String {
        let text = match self.state.dialect {
            Dialect::OpenAi => &body["messages"][0]["content"],
            Dialect::Anthropic => &body["system"][0]["text"],
        };
        text.as_str().unwrap().to_owned()
    }

    /// The names of the tools of a request.
    pub(crate) fn tools(&self, body: &Value) -> Vec<String> {
        let name = |tool: &Value| match self.state.dialect {
            Dialect::OpenAi => tool["function"]["name"].as_str().unwrap().to_owned(),
            Dialect::Anthropic => tool["name"].as_str().unwrap().to_owned(),
        };
        body["tools"].as_array().unwrap().iter().map(name).collect()
    }

    /// The results of tools in a request, in order: content and whether it failed.
    pub(crate) fn results(&self, body: &Value) -> Vec<(String, bool)> {
        let messages = body["messages"].as_array().unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        match self.state.dialect {
            Dialect::OpenAi => messages
                .iter()
                .filter(|message| message["role"] == "tool")
                .map(|message| text(&message["content"]))
                .map(|content| match content.strip_prefix("Error: ") {
                    Some(content) => (content.to_owned(), true),
                    None => (content, false),
                })
                .collect(),
            Dialect::Anthropic => messages
                .iter()
                .flat_map(|message| message["content"].as_array().unwrap())
                .filter(|block| block["type"] == "tool_result")
                .map(|block| (text(&block["content"]), block["is_error"] == true))
                .collect(),
        }
    }
}

struct Left(Option<Arc<Mutex<usize>>>);

impl Drop for Left {
    fn drop(&mut self) {
        if let Some(left) = &self.0 {
            *left.lock().unwrap() += 1;
        }
    }
}

async fn answer(State(state): State<Arc<Inner>>, headers: HeaderMap, body: String) -> Response {
    let body: Value = serde_json::from_str(&body).unwrap();
    check(state.dialect, &body);
    let streamed = body["stream"].clone();
    state.seen.lock().unwrap().push((headers, body));
    let Some(say) = state.script.lock().unwrap().pop_front() else {
        return (StatusCode::BAD_REQUEST, r#"{"error":{"message":"the script is over"}}"#).into_response();
    };
    if streamed != json!(true) {
        assert_eq!(state.dialect, Dialect::OpenAi);
        return Json(whole(&say)).into_response();
    }
    let (mut text, end) = match &say {
        Say::Status(status, headers) => {
            let body = json!({"error": {"type": "x", "message": "the provider says no"}}).to_string();
            let mut response = (StatusCode::from_u16(*status).unwrap(), body).into_response();
            for (name, value) in *headers {
                response.headers_mut().insert(*name, value.parse().unwrap());
            }
            return response;
        }
        Say::Untold(words) => {
            let text = write(state.dialect, words, &[]);
            let told = |event: &&str| !event.contains("_tokens\":");
            (text.split_inclusive("\n\n").filter(told).collect(), End::Whole)
        }
        Say::Text(words) => (write(state.dialect, words, &[]), End::Whole),
        Say::Calls(words, calls) => (write(state.dialect, words, calls), End::Whole),
        Say::Breaks(words) => (write(state.dialect, words, &[]), End::Breaks),
        Say::Hangs(words) => (write(state.dialect, words, &[]), End::Hangs),
    };
    if end != End::Whole {
        // Up to the end of the text's last piece.
        let last = text.rfind(r#""text_delta""#).or_else(|| text.rfind(r#""content":"#)).unwrap();
        text.truncate(last + text[last..].find("\n\n").unwrap() + 2);
    }
    let pieces: Vec<Bytes> = text.as_bytes().chunks(state.piece).map(Bytes::copy_from_slice).collect();
    let mut left = Left(Some(Arc::clone(&state.left)));
    let tail = stream::once(async move {
        match end {
            End::Whole | End::Breaks => {
                let _whole = left.0.take();
                Ok::<_, std::io::Error>(Bytes::new())
            }
            End::Hangs => {
                let _left = left;
                std::future::pending().await
            }
        }
    });
    let body = Body::from_stream(stream::iter(pieces).map(Ok).chain(tail));
    ([("content-type", "text/event-stream")], body).into_response()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    Breaks,
    Hangs,
}

/// What real providers refuse: calls without results, empty contents, sides that do not take turns.
fn check(dialect: Dialect, body: &Value) {
    let messages = body["messages"].as_array().unwrap();
    let mut open: Vec<Value> = Vec::new();
    let mut before = Value::Null;
    for message in messages {
        match dialect {
            Dialect::OpenAi if message["role"] == "tool" => {
                let id = &message["tool_call_id"];
                assert!(open.contains(id), "a result of no call: {message}");
                open.retain(|call| call != id);
            }
            Dialect::OpenAi => {
                assert!(open.is_empty(), "calls without results before {message}");
                assert!(message["content"].is_string(), "some servers take nothing else: {message}");
                let calls = message["tool_calls"].as_array().into_iter().flatten();
                open.extend(calls.map(|call| call["id"].clone()));
            }
            Dialect::Anthropic => {
                assert_ne!(message["role"], before, "two messages of one side: {body}");
                before = message["role"].clone();
                let blocks = message["content"].as_array().unwrap();
                assert!(!blocks.is_empty());
                for block in blocks {
                    match block["type"].as_str().unwrap() {
                        "text" => assert_ne!(block["text"], ""),
                        "tool_use" => open.push(block["id"].clone()),
                        _ => open.retain(|call| *call != block["tool_use_id"]),
                    }
                }
                assert!(message["role"] == "assistant" || open.is_empty(), "calls without results: {body}");
            }
        }
    }
    assert!(open.is_empty(), "calls without results");
}

fn write(dialect: Dialect, words: &str, calls: &[(&str, &str)]) -> String {
    match dialect {
        Dialect::OpenAi => open_ai(words, calls),
        Dialect::Anthropic => anthropic(words, calls),
    }
}

/// An answer as OpenAI gives it at once.
fn whole(say: &Say) -> Value {
    let (words, calls): (&str, &[(&str, &str)]) = match say {
        Say::Text(words) => (words, &[]),
        Say::Calls(words, calls) => (words, calls),
        _ => panic!("this is said in pieces alone: {say:?}"),
    };
    let call = |(index, (name, arguments)): (usize, &(&str, &str))| {
        let function = json!({"name": name, "arguments": arguments});
        json!({"id": format!("call_{index}"), "type": "function", "function": function})
    };
    let calls: Vec<Value> = calls.iter().enumerate().map(call).collect();
    let finish = if calls.is_empty() { "stop" } else { "tool_calls" };
    let content = if words.is_empty() { Value::Null } else { json!(words) };
    let message = json!({"role": "assistant", "content": content, "tool_calls": calls});
    json!({
        "id": "c", "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    })
}

/// A text in three pieces.
fn thirds(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    let size = characters.len().div_ceil(3).max(1);
    characters.chunks(size).map(|piece| piece.iter().collect()).collect()
}

fn open_ai(words: &str, calls: &[(&str, &str)]) -> String {
    let chunk = |delta: &Value, finish: &Value| {
        let choices = json!([{"index": 0, "delta": delta, "finish_reason": finish}]);
        format!("data: {}\n\n", json!({"id": "c", "object": "chat.completion.chunk", "choices": choices}))
    };
    let mut text = chunk(&json!({"role": "assistant", "content": ""}), &Value::Null);
    for piece in thirds(words) {
        text += &chunk(&json!({"content": piece}), &Value::Null);
    }
    for (index, (name, arguments)) in calls.iter().enumerate() {
        // The ids are the same in each answer, as some servers have it.
        let call = json!({
            "index": index, "id": format!("call_{index}"), "type": "function",
            "function": {"name": name, "arguments": ""},
        });
        text += &chunk(&json!({"tool_calls": [call]}), &Value::Null);
        for piece in thirds(arguments) {
            let call = json!({"index": index, "function": {"arguments": piece}});
            text += &chunk(&json!({"tool_calls": [call]}), &Value::Null);
        }
    }
    let finish = if calls.is_empty() { "stop" } else { "tool_calls" };
    text += &chunk(&json!({}), &json!(finish));
    let usage = json!({
        "prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110,
        "prompt_tokens_details": {"cached_tokens": 40},
    });
    let last = json!({"id": "c", "choices": [], "usage": usage});
    text.push_str("data: ");
    text.push_str(&last.to_string());
    text.push_str("\n\n");
    text + "data: [DONE]\n\n"
}

fn anthropic(words: &str, calls: &[(&str, &str)]) -> String {
    let event = |value: Value| format!("event: {}\ndata: {value}\n\n", value["type"].as_str().unwrap());
    let usage = json!({"input_tokens": 60, "cache_read_input_tokens": 40, "output_tokens": 1});
    let mut text = event(json!({"type": "message_start", "message": {"id": "m", "usage": usage}}));
    text += &event(json!({"type": "ping"}));
    let mut index = 0;
    if !words.is_empty() {
        let block = json!({"type": "text", "text": ""});
        text += &event(json!({"type": "content_block_start", "index": 0, "content_block": block}));
        for piece in thirds(words) {
            let delta = json!({"type": "text_delta", "text": piece});
            text += &event(json!({"type": "content_block_delta", "index": 0, "delta": delta}));
        }
        text += &event(json!({"type": "content_block_stop", "index": 0}));
        index = 1;
    }
    for (name, arguments) in calls {
        let block = json!({"type": "tool_use", "id": format!("toolu_{index}"), "name": name, "input": {}});
        text += &event(json!({"type": "content_block_start", "index": index, "content_block": block}));
        for piece in thirds(arguments) {
            let delta = json!({"type": "input_json_delta", "partial_json": piece});
            text += &event(json!({"type": "content_block_delta", "index": index, "delta": delta}));
        }
        text += &event(json!({"type": "content_block_stop", "index": index}));
        index += 1;
    }
    let reason = if calls.is_empty() { "end_turn" } else { "tool_use" };
    let usage = json!({"output_tokens": 10});
    text += &event(json!({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage}));
    text + &event(json!({"type": "message_stop"}))
}
