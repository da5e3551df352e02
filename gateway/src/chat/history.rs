//! Turns as they are kept in the workspace: written once by an idempotency key, and read back into the prompt.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::error::ChatError;
use super::llm::{Call, Message, Usage};
use super::summary::{Forgotten, Summary};
use super::workspace::UserWorkspace;

/// How many of the newest messages are read back.
const LAST: usize = 1000;
const READ_TIMEOUT: Duration = Duration::from_secs(30);
const SAVE_TIMEOUT: Duration = Duration::from_secs(30);
const SAVE_TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The agent's bound of a message, with room for the rest of it.
const MOST_CONTENT: usize = 450_000;
/// Under this name stand arguments that were no JSON object.
const UNREADABLE: &str = "unreadable";
/// Under this name a turn says how many of the conversation's messages the summary covers from then on.
const SUMMARISED: &str = "summarised";

/// How a turn ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Complete,
    /// The client or the gateway left before the end.
    Interrupted,
    Failed(String),
}

/// A turn to keep.
pub(crate) struct Record<'a> {
    pub(crate) conversation: &'a str,
    pub(crate) turn: &'a str,
    pub(crate) messages: &'a [Message],
    pub(crate) ending: &'a Ending,
    pub(crate) model: &'a str,
    pub(crate) usage: Usage,
    pub(crate) rounds: usize,
    /// A new summary of what was talked about.
    pub(crate) summary: Option<&'a Summary>,
}

impl Record<'_> {
    /// Writes the turn. Tried again as often as the workspace does not answer: the key makes it stand there once.
    pub(crate) async fn save(&self, workspace: &UserWorkspace) -> Result<(), String> {
        let state = if *self.ending == Ending::Complete { "complete" } else { "interrupted" };
        let mut arguments = json!({
            "conversation": self.conversation,
            "idempotency_key": self.turn,
            "messages": self.lines(),
            "state": state,
            "usage": {
                "model": self.model,
                "input_tokens": self.usage.input,
                "output_tokens": self.usage.output,
            },
        });
        if let Some(summary) = self.summary {
            arguments["summary"] = Value::from(summary.text.as_str());
        }
        let (mut pause, mut tries) = (FIRST_PAUSE, 1);
        loop {
            let error = match workspace.call("append_conversation", &arguments, SAVE_TIMEOUT).await {
                Ok(result) if result.failed => return Err(result.text),
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            if tries == SAVE_TRIES {
                return Err(error.to_string());
            }
            tracing::warn!(%error, tries, "a turn could not be saved and is tried again");
            sleep(pause).await;
            pause *= 2;
            tries += 1;
        }
    }

    fn lines(&self) -> Vec<Value> {
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
                "status": status, "reason": reason, "rounds": self.rounds, "cached_tokens": self.usage.cached,
            });
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

/// The conversation as the workspace keeps it, newest messages last.
pub(crate) async fn read(
    workspace: &UserWorkspace,
    conversation: &str,
    last: usize,
) -> Result<(Vec<Value>, u64), ChatError> {
    let what = "read the conversation";
    let arguments = json!({"conversation": conversation, "last": last});
    let mut result = workspace
        .call("read_conversation", &arguments, READ_TIMEOUT)
        .await
        .map_err(|error| ChatError::workspace(what, error))?;
    if result.failed {
        return Err(ChatError::Workspace { what, error: result.text });
    }
    let mut whole = result.structured.take();
    if whole.is_null() {
        whole = serde_json::from_str(&result.text).unwrap_or_default();
    }
    let total = whole["total"].as_u64().unwrap_or_default();
    match whole["messages"].take() {
        Value::Array(messages) => Ok((messages, total)),
        _ => Err(ChatError::Workspace { what, error: "it gave no messages".to_owned() }),
    }
}

/// What the prompt gets of the earlier turns.
#[derive(Debug, Default)]
pub(crate) struct Earlier {
    pub(crate) messages: Vec<Message>,
    /// How many turns are not shown.
    pub(crate) dropped: usize,
    /// What of them no summary covers, if it is worth a new one.
    pub(crate) forgotten: Option<Forgotten>,
}

/// The earlier turns of a conversation, as many of the newest as the budget holds.
pub(crate) async fn earlier(
    workspace: &UserWorkspace,
    conversation: &str,
    budget: usize,
) -> Result<Earlier, ChatError> {
    let (lines, total) = read(workspace, conversation, LAST).await?;
    Ok(fitted(&lines, total.saturating_sub(lines.len() as u64), budget))
}

/// `first`: the number of the first line in the conversation.
fn fitted(lines: &[Value], first: u64, budget: usize) -> Earlier {
    // A turn is what was written under one key.
    let turns: Vec<&[Value]> = lines.chunk_by(|a, b| !a["key"].is_null() && a["key"] == b["key"]).collect();
    let (mut left, mut kept) = (budget, Vec::new());
    for turn in turns.iter().rev() {
        let messages = messages(turn);
        let size: usize = messages.iter().map(size).sum();
        if size > left {
            break;
        }
        left -= size;
        kept.push(messages);
    }
    let dropped = turns.len() - kept.len();
    let known = lines.iter().filter_map(|line| line["data"][SUMMARISED].as_u64()).max().unwrap_or_default();
    let mut forgotten = Forgotten { messages: Vec::new(), covers: first };
    for turn in &turns[..dropped] {
        forgotten.covers += turn.len() as u64;
        if forgotten.covers > known {
            forgotten.messages.extend(messages(turn));
        }
    }
    // A summary for each turn that leaves the prompt would cost more than it tells.
    let worth = forgotten.messages.iter().map(size).sum::<usize>() > budget / 4;
    Earlier {
        messages: kept.into_iter().rev().flatten().collect(),
        dropped,
        forgotten: worth.then_some(forgotten),
    }
}

fn size(message: &Message) -> usize {
    match message {
        Message::User(text) => text.len(),
        Message::Assistant { text, calls } => {
            text.len() + calls.iter().map(|call| call.name.len() + call.arguments.len() + 40).sum::<usize>()
        }
        Message::Result { content, .. } => content.len() + 40,
    }
}

/// The messages of one turn. The file is the user's own and may have been edited: each call gets one result.
fn messages(turn: &[Value]) -> Vec<Message> {
    let mut messages = Vec::new();
    for line in turn {
        let content = line["content"].as_str().unwrap_or_default().to_owned();
        match line["role"].as_str() {
            Some("user") => messages.push(Message::User(content)),
            Some("assistant") => {
                let kept = line["tool_calls"].as_array().map(Vec::as_slice).unwrap_or_default();
                let calls: Vec<Call> = kept.iter().enumerate().map(known_call).collect();
                let content = match line["data"]["status"].as_str() {
                    Some(status @ ("interrupted" | "failed")) => {
                        format!("{content}\n[{status}]").trim_start().to_owned()
                    }
                    _ => content,
                };
                if content.is_empty() && calls.is_empty() {
                    continue;
                }
                let results: Vec<Message> =
                    calls.iter().zip(kept).map(|(call, kept)| known_result(call, kept)).collect();
                messages.push(Message::Assistant { text: content, calls });
                messages.extend(results);
            }
            _ => {}
        }
    }
    messages
}

fn known_call((place, kept): (usize, &Value)) -> Call {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let arguments = match kept["arguments"][UNREADABLE].as_str() {
        Some(text) => text.to_owned(),
        None if kept["arguments"].is_object() => kept["arguments"].to_string(),
        None => "{}".to_owned(),
    };
    let id = kept["id"].as_str().map_or_else(|| format!("call_{place}"), str::to_owned);
    Call { id, name: text(&kept["name"]), arguments }
}

fn known_result(call: &Call, kept: &Value) -> Message {
    let (content, failed) = match &kept["result"] {
        Value::Null => ("no result was kept".to_owned(), true),
        Value::String(text) => (text.clone(), kept["is_error"] == true),
        other => (other.to_string(), kept["is_error"] == true),
    };
    Message::Result { call: call.id.clone(), content, failed }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(ending: &Ending, messages: &[Message]) -> Vec<Value> {
        let record = Record {
            conversation: "c",
            turn: "t",
            messages,
            ending,
            model: "m",
            usage: Usage { input: 5, output: 6, cached: 1 },
            rounds: 2,
            summary: None,
        };
        record.lines()
    }

    fn called() -> Vec<Message> {
        let call = |id: &str| Call { id: id.into(), name: "run".into(), arguments: "{}".into() };
        let result =
            |id: &str| Message::Result { call: id.into(), content: format!("of {id}"), failed: false };
        vec![
            Message::User("hello".into()),
            Message::Assistant { text: String::new(), calls: vec![call("a"), call("b")] },
            result("a"),
            result("b"),
            Message::Assistant { text: "done".into(), calls: vec![] },
        ]
    }

    #[test]
    fn a_turn_is_read_back_as_it_was() {
        let lines = turn(&Ending::Complete, &called());
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[2]["data"]["status"], "complete");
        assert_eq!(lines[1]["tool_calls"][1]["result"], "of b");
        assert_eq!(messages(&lines), called());
    }

    #[test]
    fn an_interrupted_turn_says_so_and_a_call_without_result_gets_one() {
        let lines = turn(&Ending::Interrupted, &called()[..3]);
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[2]["data"]["status"], "interrupted");
        let read = messages(&lines);
        assert_eq!(read.len(), 5);
        assert!(matches!(&read[3], Message::Result { failed: true, .. }));
        assert_eq!(read[4], Message::Assistant { text: "[interrupted]".into(), calls: vec![] });
    }

    #[test]
    fn arguments_that_were_no_json_are_kept_as_they_were() {
        let call = Call { id: "a".into(), name: "run".into(), arguments: "{\"x".into() };
        let asked = [
            Message::User("go".into()),
            Message::Assistant { text: String::new(), calls: vec![call.clone()] },
        ];
        let lines = turn(&Ending::Complete, &asked);
        assert!(lines[1]["tool_calls"][0]["arguments"].is_object());
        assert!(matches!(&messages(&lines)[1], Message::Assistant { calls, .. } if calls[0] == call));
    }

    #[test]
    fn the_newest_turns_that_fit_are_kept_whole() {
        let line = |key: &str, role: &str, size: usize| json!({"key": key, "role": role, "content": "x".repeat(size)});
        let lines = [
            line("1", "user", 10),
            line("1", "assistant", 10),
            line("2", "user", 10),
            line("2", "assistant", 10),
            line("3", "user", 10),
            line("3", "assistant", 10),
        ];
        let count = |budget| {
            let earlier = fitted(&lines, 0, budget);
            (earlier.messages.len(), earlier.dropped)
        };
        assert_eq!(count(60), (6, 0));
        assert_eq!(count(59), (4, 1));
        assert_eq!(count(39), (2, 2));
        assert_eq!(count(5), (0, 3));
    }

    #[test]
    fn what_is_not_shown_any_more_is_summarised_once() {
        let line = |key: &str| json!({"key": key, "role": "user", "content": "x".repeat(10)});
        let mut lines = vec![line("1"), line("2"), line("3"), line("4")];
        let forgotten = |lines: &[Value], first| fitted(lines, first, 20).forgotten;
        let first = forgotten(&lines, 100).unwrap();
        assert_eq!((first.messages.len(), first.covers), (2, 102));
        lines[3]["data"] = json!({SUMMARISED: 102});
        assert_eq!(forgotten(&lines, 100), None, "the summary has them");
        lines.push(line("5"));
        let next = forgotten(&lines, 100).unwrap();
        assert_eq!((next.messages.len(), next.covers), (1, 103));
    }
}
