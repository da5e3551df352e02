//! Turns as they are written to the workspace, in two steps that stand there once each: what the user said, before the
//! model's answer reaches anybody, and what came of it.

use std::collections::HashMap;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::llm::{Call, Message, Stop, Usage};
use super::summary::Summary;
use super::workspace::UserWorkspace;

const TAKEN: &str = "another run of the same turn was kept first";
const SAVE_TIMEOUT: Duration = Duration::from_secs(30);
const SAVE_TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The agent's bound of a message, with room for the rest of it.
const MOST_CONTENT: usize = 450_000;
/// Under this name stand arguments that were no JSON object.
pub(super) const UNREADABLE: &str = "unreadable";
/// Under this name a turn says how many of the conversation's messages the summary covers from then on.
pub(super) const SUMMARISED: &str = "summarised";
/// Under this name a turn says that the provider did not tell all of its tokens.
pub(super) const ESTIMATED: &str = "tokens_estimated";
/// What follows the turn's name in the key of what came of it.
pub(super) const END: &str = ".end";
/// The status of what the user said: nothing has come of it yet. If nothing ever does, the turn was interrupted.
pub(super) const OPEN: &str = "open";

/// How a turn ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Complete,
    /// The client or the gateway left before the end.
    Interrupted,
    Failed(String),
}

/// What came of a turn.
pub(crate) struct Record<'a> {
    /// The user's message first.
    pub(crate) messages: &'a [Message],
    pub(crate) ending: &'a Ending,
    pub(crate) model: &'a str,
    pub(crate) usage: Usage,
    pub(crate) stop: Stop,
    pub(crate) rounds: usize,
    /// A new summary of what was talked about.
    pub(crate) summary: Option<&'a Summary>,
}

/// Where a turn is kept.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) workspace: UserWorkspace,
    pub(crate) conversation: String,
    pub(crate) turn: String,
    /// How often the turn was run before.
    pub(crate) attempt: usize,
}

/// The size of a conversation before and after a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) before: u64,
    pub(crate) after: u64,
}

/// What became of the first step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Begun {
    /// What the user said is kept. The workspace may tell where.
    Kept(Option<Sizes>),
    /// Someone else keeps this very turn.
    Taken,
    /// The workspace keeps no turns, and says why.
    Refused(String),
    /// It is not known.
    Failed,
}

impl Begun {
    /// Whether the turn may go on. `remembered`: the size of the conversation that its prompt was made of, if that was not
    /// read but remembered: then it must be the size that the first step found.
    pub(crate) fn fits(&self, remembered: Option<u64>) -> bool {
        match (self, remembered) {
            (Self::Taken, _) => false,
            (_, None) => true,
            (Self::Kept(Some(sizes)), Some(bytes)) => sizes.before == bytes,
            _ => false,
        }
    }
}

/// What became of a write.
struct Written {
    /// It was not there before.
    new: bool,
    sizes: Option<Sizes>,
}

/// The first step on its way.
pub(crate) type Beginning = Shared<BoxFuture<'static, Begun>>;

enum Failure {
    Refused(String),
    Failed(String),
}

impl Failure {
    fn into_text(self) -> String {
        match self {
            Self::Refused(text) | Self::Failed(text) => text,
        }
    }
}

impl Place {
    /// Begins to write what the user said. It goes on when nobody waits for it any more.
    pub(crate) fn begin(&self, text: &str) -> Beginning {
        let place = self.clone();
        let arguments = self.beginning(text);
        let task = tokio::spawn(async move {
            match place.append(&arguments).await {
                Ok(Written { new: true, sizes }) => Begun::Kept(sizes),
                Ok(Written { new: false, .. }) => Begun::Taken,
                Err(Failure::Refused(why)) => Begun::Refused(why),
                Err(Failure::Failed(_)) => Begun::Failed,
            }
        });
        async move { task.await.unwrap_or(Begun::Failed) }.boxed().shared()
    }

    /// The first step.
    fn beginning(&self, text: &str) -> Value {
        let line = json!({"role": "user", "content": bounded(text), "data": {"status": OPEN}});
        self.arguments(&self.turn, &[line], "interrupted")
    }

    /// The lines of a turn that was kept in two steps, as they stand in the workspace, but for their times.
    pub(crate) fn lines(&self, text: &str, record: &Record<'_>) -> Vec<Value> {
        let ending = self.ending(&end_key(&self.turn, self.attempt), record, 1);
        [self.beginning(text), ending].iter().flat_map(kept_lines).collect()
    }

    /// Writes what came of the turn; all of it, if the first step did not do its part. Returns the size of the
    /// conversation then, if nothing else was written to it since the first step.
    pub(crate) async fn end(&self, record: &Record<'_>, begun: Option<Begun>) -> Result<Option<u64>, String> {
        let mut first = None;
        match begun {
            Some(Begun::Refused(why)) => return Err(why),
            Some(Begun::Taken) => return Err(TAKEN.to_owned()),
            Some(Begun::Kept(sizes)) => first = sizes,
            None | Some(Begun::Failed) => {
                if self.write(&self.turn, record, 0).await?.new {
                    return Ok(None);
                }
            }
        }
        let written = self.write(&end_key(&self.turn, self.attempt), record, 1).await?;
        if !written.new {
            return Err(TAKEN.to_owned());
        }
        let both = first.zip(written.sizes);
        Ok(both.filter(|(first, last)| first.after == last.before).map(|(_, last)| last.after))
    }

    /// Writes the lines of a turn but the first ones.
    async fn write(&self, key: &str, record: &Record<'_>, first: usize) -> Result<Written, String> {
        let mut arguments = self.ending(key, record, first);
        if let Some(summary) = record.summary {
            arguments["summary"] = Value::from(summary.text.as_str());
        }
        self.append(&arguments).await.map_err(Failure::into_text)
    }

    /// The lines of a turn but the first ones, and what it took.
    fn ending(&self, key: &str, record: &Record<'_>, first: usize) -> Value {
        let state = if *record.ending == Ending::Complete { "complete" } else { "interrupted" };
        let mut arguments = self.arguments(key, &record.lines()[first..], state);
        arguments["usage"] = json!({
            "model": record.model,
            "input_tokens": record.usage.input,
            "output_tokens": record.usage.output,
        });
        arguments
    }

    fn arguments(&self, key: &str, lines: &[Value], state: &str) -> Value {
        json!({
            "conversation": self.conversation,
            "idempotency_key": key,
            "messages": lines,
            "state": state,
        })
    }

    /// Tried again as often as the workspace does not answer: the key makes it stand there once.
    async fn append(&self, arguments: &Value) -> Result<Written, Failure> {
        let (mut pause, mut tries) = (FIRST_PAUSE, 1);
        loop {
            let error = match self.workspace.call("append_conversation", arguments, SAVE_TIMEOUT).await {
                Ok(result) if result.failed => return Err(Failure::Refused(result.text)),
                // Whether an earlier try was carried out, and at what size, nobody knows.
                Ok(_) if tries > 1 => return Ok(Written { new: true, sizes: None }),
                Ok(result) => {
                    let number = |name: &str| result.structured[name].as_u64();
                    let sizes = number("bytes_before").zip(number("bytes"));
                    return Ok(Written {
                        new: result.structured["appended"] != false,
                        sizes: sizes.map(|(before, after)| Sizes { before, after }),
                    });
                }
                Err(error) => error,
            };
            if tries == SAVE_TRIES {
                return Err(Failure::Failed(error.to_string()));
            }
            tracing::warn!(%error, tries, "a turn could not be saved and is tried again");
            sleep(pause).await;
            pause *= 2;
            tries += 1;
        }
    }
}

/// The lines of a write as the workspace keeps them.
fn kept_lines(arguments: &Value) -> Vec<Value> {
    let mut lines = arguments["messages"].as_array().cloned().unwrap_or_default();
    for line in &mut lines {
        line["key"] = arguments["idempotency_key"].clone();
    }
    if let Some(last) = lines.last_mut() {
        last["turn"] = json!({"state": arguments["state"], "usage": arguments["usage"]});
    }
    lines
}

fn end_key(turn: &str, attempt: usize) -> String {
    if attempt == 0 { format!("{turn}{END}") } else { format!("{turn}{END}.{attempt}") }
}

impl Record<'_> {
    /// The messages as the agent keeps them; the user's is the first.
    pub(super) fn lines(&self) -> Vec<Value> {
        let results: HashMap<&str, &Message> = self
            .messages
            .iter()
            .filter_map(|message| match message {
                Message::Result { call, .. } => Some((call.as_str(), message)),
                _ => None,
            })
            .collect();
        let mut lines: Vec<Value> =
            self.messages.iter().filter_map(|message| line(message, &results)).collect();
        // What is kept of the turn as a whole stands on the last line, which is the assistant's.
        if !matches!(self.messages.last(), Some(Message::Assistant { calls, .. }) if calls.is_empty()) {
            lines.push(json!({"role": "assistant", "content": ""}));
        }
        let (status, reason) = match self.ending {
            Ending::Complete => ("complete", None),
            Ending::Interrupted => ("interrupted", None),
            Ending::Failed(why) => ("failed", Some(why)),
        };
        if let Some(last) = lines.last_mut() {
            last["data"] = json!({
                "status": status, "reason": reason, "rounds": self.rounds, "stop": self.stop.as_str(),
                "cached_tokens": self.usage.cached,
            });
            if self.usage.estimated {
                last["data"][ESTIMATED] = Value::from(true);
            }
            if let Some(summary) = self.summary {
                last["data"][SUMMARISED] = Value::from(summary.covers);
            }
        }
        lines
    }
}

/// A message as the agent keeps it: results stand beside their calls.
fn line(message: &Message, results: &HashMap<&str, &Message>) -> Option<Value> {
    match message {
        Message::User(text) => Some(json!({"role": "user", "content": bounded(text)})),
        Message::Assistant { text, calls } => {
            let mut line = json!({"role": "assistant", "content": bounded(text)});
            if !calls.is_empty() {
                line["tool_calls"] = calls.iter().map(|call| kept_call(call, results)).collect();
            }
            Some(line)
        }
        Message::Result { .. } => None,
    }
}

fn kept_call(call: &Call, results: &HashMap<&str, &Message>) -> Value {
    let arguments = match serde_json::from_str(&call.arguments) {
        Ok(arguments @ Value::Object(_)) => arguments,
        _ if call.arguments.trim().is_empty() => json!({}),
        _ => json!({UNREADABLE: bounded(&call.arguments)}),
    };
    let mut kept = json!({"id": call.id, "name": call.name, "arguments": arguments});
    if let Some(Message::Result { content, failed, .. }) = results.get(call.id.as_str()) {
        kept["result"] = Value::from(bounded(content));
        kept["is_error"] = Value::from(*failed);
    }
    kept
}

fn bounded(text: &str) -> &str {
    &text[..text.floor_char_boundary(MOST_CONTENT)]
}
