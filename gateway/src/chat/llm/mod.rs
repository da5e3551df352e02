//! Large language models: what is asked of one, what comes back, and the two wire formats.

mod anthropic;
mod client;
mod offline;
mod openai;
mod sse;
#[cfg(test)]
mod tests;

use std::time::Duration;

use futures::future::BoxFuture;
use http::HeaderMap;
use serde_json::Value;

pub(crate) use client::Llm;
pub(crate) use sse::Events as SseEvents;

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    User(String),
    Assistant { text: String, calls: Vec<Call> },
    Result { call: String, content: String, failed: bool },
}

impl Message {
    /// Roughly how large it is in a prompt, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        /// What stands around a call or a result.
        const AROUND: usize = 40;
        match self {
            Self::User(text) => text.len(),
            Self::Assistant { text, calls } => {
                let call = |call: &Call| call.name.len() + call.arguments.len() + AROUND;
                text.len() + calls.iter().map(call).sum::<usize>()
            }
            Self::Result { content, .. } => content.len() + AROUND,
        }
    }
}

/// A tool call as the model wrote it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) name: String,
    /// JSON, if the model kept to what it was told.
    pub(crate) arguments: String,
}

/// A tool as the model sees it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ToolSpec {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) parameters: Value,
}

/// One question to a model.
#[derive(Clone, Debug)]
pub(crate) struct Prompt {
    pub(crate) model: String,
    pub(crate) system: String,
    pub(crate) messages: Vec<Message>,
    pub(crate) tools: Vec<ToolSpec>,
    /// Whether tools may still be called. If not, they are still described: earlier calls are in the messages.
    pub(crate) may_call: bool,
    pub(crate) max_tokens: u32,
    pub(crate) temperature: Option<f64>,
    pub(crate) top_p: Option<f64>,
}

impl Prompt {
    /// Roughly how large it is, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let messages = self.messages.iter().map(Message::bytes).sum::<usize>();
        let tool = |tool: &ToolSpec| tool.description.len() + tool.parameters.to_string().len();
        self.system.len() + messages + self.tools.iter().map(tool).sum::<usize>()
    }
}

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Delta {
    Text(String),
    /// A tool call begins. The index tells the calls of one answer apart.
    Call {
        index: u64,
        id: String,
        name: String,
    },
    Arguments {
        index: u64,
        text: String,
    },
    Usage(Usage),
    Stop(Stop),
    /// The stream is whole: what follows is not read.
    End,
}

/// Why a model stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stop {
    #[default]
    End,
    Calls,
    Length,
    Refusal,
}

impl Stop {
    const ALL: [Self; 4] = [Self::End, Self::Calls, Self::Length, Self::Refusal];

    /// The word for it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::End => "end",
            Self::Calls => "calls",
            Self::Length => "length",
            Self::Refusal => "refusal",
        }
    }

    /// The one that this is the word for.
    pub(crate) fn named(word: &str) -> Self {
        Self::ALL.into_iter().find(|stop| stop.as_str() == word).unwrap_or_default()
    }
}

/// Tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// All of the prompt, cached or not.
    pub(crate) input: u64,
    pub(crate) output: u64,
    /// The part of the input that came from the provider's cache.
    pub(crate) cached: u64,
    /// The provider did not tell all of it.
    pub(crate) estimated: bool,
}

impl Usage {
    pub(crate) const fn total(self) -> u64 {
        self.input + self.output
    }

    /// What a question and an answer of so many bytes take if nobody tells: a token of English text has about four.
    pub(crate) const fn estimate(asked: usize, answered: usize) -> Self {
        Self {
            input: asked.div_ceil(4) as u64,
            output: answered.div_ceil(4) as u64,
            cached: 0,
            estimated: true,
        }
    }
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.input += other.input;
        self.output += other.output;
        self.cached += other.cached;
        self.estimated |= other.estimated;
    }
}

/// Why there is no answer. The texts are for the user's client: they hold no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LlmError {
    #[error("the model's provider can't be reached: try again")]
    Unreachable,
    #[error("the model's provider has too much to do (status {status}): try again later")]
    Busy { status: u16, after: Option<Duration> },
    #[error("the model's provider refused the request (status {status}): {message}")]
    Refused { status: u16, message: String },
    #[error("the model's answer broke off")]
    BrokeOff,
    #[error("the model was silent for too long")]
    Silent,
    #[error("the model's provider sent something that can't be read: {0}")]
    Malformed(String),
    #[error("the key of the model's provider can't be used: an operator must check chat.apiKeyFile")]
    Key,
}

impl LlmError {
    /// Whether the same request may do better a little later.
    const fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable | Self::Busy { .. } | Self::BrokeOff | Self::Silent)
    }
}

/// Takes the pieces of an answer as they come.
pub(crate) trait Sink: Send {
    fn take(&mut self, delta: Delta) -> BoxFuture<'_, ()>;
}

/// A wire format.
trait Dialect: Send + Sync {
    /// What follows the base URL.
    fn path(&self) -> &'static str;
    fn authorize(&self, key: &str, headers: &mut HeaderMap) -> Result<(), LlmError>;
    fn body(&self, prompt: &Prompt) -> Value;
    fn reader(&self) -> Box<dyn Reader>;
}

/// Reads the events of one answer.
trait Reader: Send {
    fn event(&mut self, data: &str) -> Result<Vec<Delta>, LlmError>;

    /// Reads an answer that came at once.
    fn whole(&mut self, body: &str) -> Result<Vec<Delta>, LlmError>;
}

/// The text of a provider's error body, bounded.
fn error_message(body: &[u8]) -> String {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let found = value
        .pointer("/error/message")
        .or_else(|| value.get("message"))
        .or_else(|| value.get("error"))
        .and_then(Value::as_str);
    let text = found.map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned);
    text.chars().take(500).collect()
}
