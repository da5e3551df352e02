//! The wire format of Anthropic's messages API.

use std::collections::HashMap;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::{Delta, Dialect, LlmError, Message, Prompt, Reader, Stop, Usage, error_message};

const VERSION: HeaderName = HeaderName::from_static("anthropic-version");
const KEY: HeaderName = HeaderName::from_static("x-api-key");

pub(super) struct Anthropic;

impl Dialect for Anthropic {
    fn path(&self) -> &'static str {
        "/messages"
    }

    fn authorize(&self, key: &str, headers: &mut HeaderMap) -> Result<(), LlmError> {
        headers.insert(VERSION, HeaderValue::from_static("2023-06-01"));
        if !key.is_empty() {
            let mut value = HeaderValue::from_str(key).map_err(|_| LlmError::Key)?;
            value.set_sensitive(true);
            headers.insert(KEY, value);
        }
        Ok(())
    }

    fn body(&self, prompt: &Prompt) -> Value {
        let mut body = json!({
            "model": prompt.model,
            // What stays the same from turn to turn is cached by the provider up to this mark.
            "system": [{"type": "text", "text": prompt.system, "cache_control": {"type": "ephemeral"}}],
            "messages": messages(&prompt.messages),
            "stream": true,
            "max_tokens": prompt.max_tokens,
        });
        if !prompt.tools.is_empty() {
            body["tools"] = prompt
                .tools
                .iter()
                .map(|tool| json!({"name": tool.name, "description": tool.description, "input_schema": tool.parameters}))
                .collect();
            body["tool_choice"] = json!({"type": if prompt.may_call { "auto" } else { "none" }});
        }
        if let Some(temperature) = prompt.temperature {
            body["temperature"] = json!(temperature.min(1.0));
        }
        if let Some(top_p) = prompt.top_p {
            body["top_p"] = json!(top_p);
        }
        body
    }

    fn reader(&self) -> Box<dyn Reader> {
        Box::new(Answer::default())
    }
}

/// Messages in turn: those of one side that follow each other become one, as the API wants it.
fn messages(messages: &[Message]) -> Vec<Value> {
    let mut sides: Vec<(&str, Vec<Value>)> = Vec::new();
    for message in messages {
        let (role, blocks) = blocks(message);
        if blocks.is_empty() {
            continue;
        }
        match sides.last_mut() {
            Some((last, content)) if *last == role => content.extend(blocks),
            _ => sides.push((role, blocks)),
        }
    }
    sides.into_iter().map(|(role, content)| json!({"role": role, "content": content})).collect()
}

fn blocks(message: &Message) -> (&'static str, Vec<Value>) {
    let text = |text: &str| {
        let filled = !text.trim().is_empty();
        filled.then(|| json!({"type": "text", "text": text}))
    };
    match message {
        Message::User(content) => ("user", text(content).into_iter().collect()),
        Message::Assistant { text: content, calls } => {
            let calls = calls.iter().map(|call| {
                let input: Value = serde_json::from_str(&call.arguments).unwrap_or_default();
                let input = if input.is_object() { input } else { json!({}) };
                json!({"type": "tool_use", "id": call.id, "name": call.name, "input": input})
            });
            ("assistant", text(content).into_iter().chain(calls).collect())
        }
        Message::Result { call, content, failed } => (
            "user",
            vec![json!({
                "type": "tool_result", "tool_use_id": call, "content": content, "is_error": failed,
            })],
        ),
    }
}

/// What was said of the answer so far.
#[derive(Default)]
struct Answer {
    usage: Usage,
    /// What a call begins with, until pieces of its arguments come.
    begun: HashMap<u64, Value>,
}

impl Reader for Answer {
    fn event(&mut self, data: &str) -> Result<Vec<Delta>, LlmError> {
        let event: Value =
            serde_json::from_str(data).map_err(|error| LlmError::Malformed(error.to_string()))?;
        let index = event["index"].as_u64().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(match event["type"].as_str().unwrap_or_default() {
            "message_start" => {
                self.count(&event["message"]["usage"]);
                Vec::new()
            }
            "content_block_start" if event["content_block"]["type"] == "tool_use" => {
                let block = &event["content_block"];
                self.begun.insert(index, block["input"].clone());
                vec![Delta::Call { index, id: text(&block["id"]), name: text(&block["name"]) }]
            }
            "content_block_delta" => match event["delta"]["type"].as_str().unwrap_or_default() {
                "text_delta" => vec![Delta::Text(text(&event["delta"]["text"]))],
                "input_json_delta" => {
                    let piece = text(&event["delta"]["partial_json"]);
                    if piece.is_empty() {
                        return Ok(Vec::new());
                    }
                    self.begun.remove(&index);
                    vec![Delta::Arguments { index, text: piece }]
                }
                _ => Vec::new(),
            },
            // A call without pieces has its arguments in the beginning.
            "content_block_stop" => match self.begun.remove(&index) {
                Some(input) => vec![Delta::Arguments { index, text: input.to_string() }],
                None => Vec::new(),
            },
            "message_delta" => {
                self.count(&event["usage"]);
                event["delta"]["stop_reason"]
                    .as_str()
                    .map(|reason| Delta::Stop(stop(reason)))
                    .into_iter()
                    .collect()
            }
            "message_stop" => vec![Delta::Usage(self.usage), Delta::End],
            "error" => {
                let status = match event["error"]["type"].as_str().unwrap_or_default() {
                    "overloaded_error" => 529,
                    "rate_limit_error" => 429,
                    "api_error" | "timeout_error" => 500,
                    _ => 400,
                };
                return Err(super::client::failure(status, None, error_message(data.as_bytes())));
            }
            _ => Vec::new(),
        })
    }

    fn whole(&mut self, _: &str) -> Result<Vec<Delta>, LlmError> {
        Err(LlmError::Malformed("expected a stream of events".to_owned()))
    }
}

impl Answer {
    /// Later counts of the same stream are totals: each replaces the one before.
    fn count(&mut self, usage: &Value) {
        let number = |name: &str| usage[name].as_u64();
        if let Some(output) = number("output_tokens") {
            self.usage.output = output;
        }
        if let Some(input) = number("input_tokens") {
            let cached = number("cache_read_input_tokens").unwrap_or_default();
            let written = number("cache_creation_input_tokens").unwrap_or_default();
            self.usage.input = input + cached + written;
            self.usage.cached = cached;
        }
    }
}

fn stop(reason: &str) -> Stop {
    match reason {
        "tool_use" => Stop::Calls,
        "max_tokens" | "model_context_window_exceeded" => Stop::Length,
        "refusal" => Stop::Refusal,
        _ => Stop::End,
    }
}
