//! The wire format of OpenAI's chat completions, which many servers speak.

use http::{HeaderMap, HeaderValue, header};
use serde_json::{Value, json};

use super::{Call, Delta, Dialect, LlmError, Message, Prompt, Reader, Stop, Usage, error_message};
use crate::config::{Answers, TokensParameter};

pub(super) struct OpenAi {
    pub(super) tokens: TokensParameter,
    pub(super) answers: Answers,
}

impl Dialect for OpenAi {
    fn path(&self) -> &'static str {
        "/chat/completions"
    }

    fn authorize(&self, key: &str, headers: &mut HeaderMap) -> Result<(), LlmError> {
        let mut value = HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| LlmError::Key)?;
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
        Ok(())
    }

    fn body(&self, prompt: &Prompt) -> Value {
        let mut messages = vec![json!({"role": "system", "content": prompt.system})];
        messages.extend(prompt.messages.iter().map(message));
        let mut body = json!({
            "model": prompt.model,
            "messages": messages,
            "stream": self.answers == Answers::Streamed,
        });
        if self.answers == Answers::Streamed {
            body["stream_options"] = json!({"include_usage": true});
        }
        body[self.tokens.as_str()] = Value::from(prompt.max_tokens);
        if !prompt.tools.is_empty() {
            body["tools"] = prompt.tools.iter().map(tool).collect();
            body["tool_choice"] = Value::from(if prompt.may_call { "auto" } else { "none" });
        }
        if let Some(temperature) = prompt.temperature {
            body["temperature"] = json!(temperature);
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

fn message(message: &Message) -> Value {
    match message {
        Message::User(text) => json!({"role": "user", "content": text}),
        Message::Assistant { text, calls } if calls.is_empty() => {
            json!({"role": "assistant", "content": text})
        }
        Message::Assistant { text, calls } => {
            let calls: Vec<Value> = calls.iter().map(call).collect();
            // Some servers refuse null in place of an empty text.
            json!({"role": "assistant", "content": text, "tool_calls": calls})
        }
        Message::Result { call, content, failed } => {
            let content = if *failed { format!("Error: {content}") } else { content.clone() };
            json!({"role": "tool", "tool_call_id": call, "content": content})
        }
    }
}

fn call(call: &Call) -> Value {
    json!({
        "id": call.id, "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    })
}

fn tool(tool: &super::ToolSpec) -> Value {
    json!({
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
    })
}

/// Which calls of the answer have begun.
#[derive(Default)]
struct Answer {
    begun: std::collections::HashSet<u64>,
}

impl Reader for Answer {
    fn event(&mut self, data: &str) -> Result<Vec<Delta>, LlmError> {
        if data.trim() == "[DONE]" {
            return Ok(vec![Delta::End]);
        }
        let chunk: Value =
            serde_json::from_str(data).map_err(|error| LlmError::Malformed(error.to_string()))?;
        if chunk.get("error").is_some_and(|error| !error.is_null()) {
            let status = chunk.pointer("/error/code").and_then(Value::as_u64).unwrap_or(500);
            return Err(super::client::failure(
                u16::try_from(status).unwrap_or(500),
                None,
                error_message(data.as_bytes()),
            ));
        }
        let mut deltas = Vec::new();
        if let Some(choice) = chunk.pointer("/choices/0") {
            self.choice(choice, &mut deltas);
        }
        if let Some(usage) = chunk.get("usage").filter(|usage| usage.is_object()) {
            let number = |pointer: &str| usage.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
            deltas.push(Delta::Usage(Usage {
                input: number("/prompt_tokens"),
                output: number("/completion_tokens"),
                cached: number("/prompt_tokens_details/cached_tokens"),
                estimated: false,
            }));
        }
        Ok(deltas)
    }

    /// It has the form of a chunk, with the message in place of the delta.
    fn whole(&mut self, body: &str) -> Result<Vec<Delta>, LlmError> {
        self.event(body)
    }
}

impl Answer {
    fn choice(&mut self, choice: &Value, deltas: &mut Vec<Delta>) {
        let delta = if choice["message"].is_object() { &choice["message"] } else { &choice["delta"] };
        if let Some(text) = delta["content"].as_str().filter(|text| !text.is_empty()) {
            deltas.push(Delta::Text(text.to_owned()));
        }
        if let Some(text) = delta["refusal"].as_str().filter(|text| !text.is_empty()) {
            deltas.push(Delta::Text(text.to_owned()));
        }
        let calls = delta["tool_calls"].as_array().map(Vec::as_slice).unwrap_or_default();
        for (position, call) in calls.iter().enumerate() {
            // Some servers leave the index out when they send a call whole.
            let index = call["index"].as_u64().unwrap_or(position as u64);
            let function = &call["function"];
            if self.begun.insert(index) {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                deltas.push(Delta::Call { index, id: text(&call["id"]), name: text(&function["name"]) });
            }
            if let Some(text) = function["arguments"].as_str().filter(|text| !text.is_empty()) {
                deltas.push(Delta::Arguments { index, text: text.to_owned() });
            } else if function["arguments"].is_object() {
                deltas.push(Delta::Arguments { index, text: function["arguments"].to_string() });
            }
        }
        if let Some(reason) = choice["finish_reason"].as_str() {
            deltas.push(Delta::Stop(match reason {
                "tool_calls" | "function_call" => Stop::Calls,
                "length" => Stop::Length,
                "content_filter" => Stop::Refusal,
                _ => Stop::End,
            }));
        }
    }
}
