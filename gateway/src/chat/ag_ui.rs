//! The turn as events of the AG-UI protocol. What the protocol has no word for are CUSTOM events named `dexorder.*`.

use serde_json::{Value, json};

use super::event::Event;
use super::llm::{Stop, Usage};
use super::stream::{Writer, data};

/// Writes one run.
pub(crate) struct Writing {
    pub(crate) thread: String,
    pub(crate) id: String,
    pub(crate) model: String,
}

fn custom(name: &str, value: &Value) -> Value {
    json!({"type": "CUSTOM", "name": format!("dexorder.{name}"), "value": value})
}

impl Writing {
    fn finished(&self, stop: Stop, usage: Usage, limit: Option<&str>) -> Value {
        let stop = match stop {
            Stop::End | Stop::Calls => "end",
            Stop::Length => "length",
            Stop::Refusal => "refusal",
        };
        json!({
            "type": "RUN_FINISHED", "threadId": self.thread, "runId": self.id,
            "result": {
                "stop": stop, "limit": limit, "model": self.model,
                "usage": {
                    "input": usage.input, "output": usage.output, "cached": usage.cached,
                    "estimated": usage.estimated,
                },
            },
        })
    }
}

impl Writer for Writing {
    fn begin(&mut self) -> String {
        data(&json!({"type": "RUN_STARTED", "threadId": self.thread, "runId": self.id}))
    }

    fn event(&mut self, event: Event) -> String {
        data(&match event {
            Event::Waking { state, message } => {
                custom("waking", &json!({"state": state, "message": message}))
            }
            Event::Context(report) => custom("context", &report),
            Event::TextStart { message } => {
                json!({"type": "TEXT_MESSAGE_START", "messageId": message, "role": "assistant"})
            }
            Event::Text { message, text } => {
                json!({"type": "TEXT_MESSAGE_CONTENT", "messageId": message, "delta": text})
            }
            Event::TextEnd { message } => json!({"type": "TEXT_MESSAGE_END", "messageId": message}),
            Event::CallStart { id, name, message } => json!({
                "type": "TOOL_CALL_START", "toolCallId": id, "toolCallName": name, "parentMessageId": message,
            }),
            Event::CallArguments { id, text } => {
                json!({"type": "TOOL_CALL_ARGS", "toolCallId": id, "delta": text})
            }
            Event::CallEnd { id } => json!({"type": "TOOL_CALL_END", "toolCallId": id}),
            Event::CallResult { id, message, content, failed } => json!({
                "type": "TOOL_CALL_RESULT", "messageId": message, "toolCallId": id, "content": content,
                "role": "tool", "metadata": {"failed": failed},
            }),
            Event::Saved(saved) => custom("saved", &json!({"saved": saved.is_ok(), "error": saved.err()})),
            Event::Finished { stop, usage, limit } => self.finished(stop, usage, limit),
            Event::Failed(error) => {
                json!({"type": "RUN_ERROR", "message": error.to_string(), "code": error.code()})
            }
        })
    }
}
