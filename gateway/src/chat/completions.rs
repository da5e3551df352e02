//! Answers in the form of OpenAI's chat completions. Tools run on this side, so the client sees the text alone.

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::error::ChatError;
use super::event::{Event, Events};
use super::llm::{Stop, Usage};
use super::stream::{self, Writer, data};
use crate::clock;

/// What stands in every chunk.
pub(crate) struct Head {
    pub(crate) turn: String,
    pub(crate) conversation: String,
    pub(crate) model: String,
}

/// What a turn has said, in the form of the API.
struct Told {
    head: Head,
    created: i64,
    /// Messages of the model so far: what follows one is set apart.
    messages: usize,
    context: Value,
    saved: Option<Result<(), String>>,
}

impl Told {
    fn new(head: Head) -> Self {
        Self { head, created: clock::seconds(), messages: 0, context: Value::Null, saved: None }
    }

    /// The text that an event adds to the answer.
    fn text(&mut self, event: &Event) -> Option<String> {
        match event {
            Event::TextStart { .. } => {
                self.messages += 1;
                (self.messages > 1).then(|| "\n\n".to_owned())
            }
            Event::Text { text, .. } => Some(text.clone()),
            _ => None,
        }
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::Context(report) => self.context = report.clone(),
            Event::Saved(saved) => self.saved = Some(saved.clone()),
            _ => {}
        }
    }

    fn object(&self, kind: &str) -> Value {
        json!({
            "id": format!("chatcmpl-{}", self.head.turn),
            "object": kind,
            "created": self.created,
            "model": self.head.model,
        })
    }

    /// What OpenAI's API has no word for.
    fn extra(&self, limit: Option<&str>, usage: Usage) -> Value {
        let error = self.saved.as_ref().and_then(|saved| saved.as_ref().err());
        json!({
            "conversation_id": self.head.conversation,
            "saved": matches!(self.saved, Some(Ok(()))),
            "save_error": error,
            "limit": limit,
            "usage_estimated": usage.estimated,
            "context": self.context,
        })
    }
}

fn usage(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.total(),
        "prompt_tokens_details": {"cached_tokens": usage.cached},
    })
}

const fn reason(stop: Stop) -> &'static str {
    match stop {
        Stop::End | Stop::Calls => "stop",
        Stop::Length => "length",
        Stop::Refusal => "content_filter",
    }
}

/// The whole answer at once. Dropping the future interrupts the turn.
pub(crate) async fn whole(mut events: Events, head: Head) -> Result<Response, ChatError> {
    let mut told = Told::new(head);
    let mut text = String::new();
    while let Some(event) = events.recv().await {
        told.note(&event);
        text.push_str(&told.text(&event).unwrap_or_default());
        match event {
            Event::Finished { stop, usage: used, limit } => {
                let mut body = told.object("chat.completion");
                body["choices"] = json!([{
                    "index": 0,
                    "message": {"role": "assistant", "content": text, "refusal": null},
                    "logprobs": null,
                    "finish_reason": reason(stop),
                }]);
                body["usage"] = usage(used);
                body["dexorder"] = told.extra(limit, used);
                let mut response = Json(body).into_response();
                stream::name(&mut response, &told.head.conversation);
                return Ok(response);
            }
            Event::Failed(error) => return Err(error),
            _ => {}
        }
    }
    Err(ChatError::ShuttingDown)
}

/// The answer in chunks.
pub(crate) struct Chunks {
    told: Told,
    with_usage: bool,
}

impl Chunks {
    pub(crate) fn new(head: Head, with_usage: bool) -> Self {
        Self { told: Told::new(head), with_usage }
    }

    fn chunk(&self, delta: &Value, finish: Option<&str>) -> Value {
        let mut chunk = self.told.object("chat.completion.chunk");
        chunk["choices"] = json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]);
        chunk
    }
}

impl Writer for Chunks {
    fn begin(&mut self) -> String {
        let mut chunk = self.chunk(&json!({"role": "assistant", "content": ""}), None);
        chunk["dexorder"] = json!({"conversation_id": self.told.head.conversation});
        data(&chunk)
    }

    fn event(&mut self, event: Event) -> String {
        self.told.note(&event);
        if let Some(text) = self.told.text(&event) {
            return data(&self.chunk(&json!({"content": text}), None));
        }
        match event {
            Event::Finished { stop, usage: used, limit } => {
                let mut last = self.chunk(&json!({}), Some(reason(stop)));
                last["dexorder"] = self.told.extra(limit, used);
                let mut text = data(&last);
                if self.with_usage {
                    let mut chunk = self.told.object("chat.completion.chunk");
                    chunk["choices"] = json!([]);
                    chunk["usage"] = usage(used);
                    text.push_str(&data(&chunk));
                }
                text + "data: [DONE]\n\n"
            }
            Event::Failed(error) => data(&error.body()),
            _ => String::new(),
        }
    }
}
