//! Turns as they are kept in the workspace: written once by an idempotency key, and read back into the prompt.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::error::ChatError;
use super::llm::{Call, Message, Usage};
use super::workspace::UserWorkspace;

/// How many of the newest messages are read back.
const LAST: usize = 1000;
const READ_TIMEOUT: Duration = Duration::from_secs(30);
const SAVE_TIMEOUT: Duration = Duration::from_secs(30);
const SAVE_TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The agent's bound of a message, with room for the rest of it.
const MOST_CONTENT: usize = 450_000;

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
}

impl Record<'_> {
    /// Writes the turn. Tried again as often as the workspace does not answer: the key makes it stand there once.
    pub(crate) async fn save(&self, workspace: &UserWorkspace) -> Result<(), String> {
        let arguments = json!({
            "conversation": self.conversation,
            "idempotency_key": self.turn,
            "messages": self.lines(),
        });
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
        let names: HashMap<&str, &str> =
            calls(self.messages).map(|call| (call.id.as_str(), call.name.as_str())).collect();
        let mut lines: Vec<Value> = self.messages.iter().map(|message| line(message, &names)).collect();
        // The turn's own data stands on the last line, which is the assistant's.
        if !matches!(self.messages.last(), Some(Message::Assistant { calls, .. }) if calls.is_empty()) {
            lines.push(json!({"role": "assistant", "content": "", "data": {}}));
        }
        let (status, reason) = match self.ending {
            Ending::Complete => ("complete", None),
            Ending::Interrupted => ("interrupted", None),
            Ending::Failed(why) => ("failed", Some(why)),
        };
        if let Some(last) = lines.last_mut() {
            last["data"]["turn"] = json!({
                "id": self.turn,
                "status": status,
                "reason": reason,
                "model": self.model,
                "rounds": self.rounds,
                "usage": {
                    "input": self.usage.input, "output": self.usage.output, "cached": self.usage.cached,
                },
            });
        }
        lines
    }
}

fn calls(messages: &[Message]) -> impl Iterator<Item = &Call> {
    let lists = messages.iter().filter_map(|message| match message {
        Message::Assistant { calls, .. } => Some(calls),
        _ => None,
    });
    lists.flatten()
}

fn line(message: &Message, names: &HashMap<&str, &str>) -> Value {
    match message {
        Message::User(text) => json!({"role": "user", "content": bounded(text), "data": {}}),
        Message::Assistant { text, calls } => {
            let mut line = json!({"role": "assistant", "content": bounded(text), "data": {}});
            if !calls.is_empty() {
                line["data"]["toolCalls"] = calls
                    .iter()
                    .map(|call| json!({"id": call.id, "name": call.name, "arguments": call.arguments}))
                    .collect();
            }
            line
        }
        Message::Result { call, content, failed } => json!({
            "role": "tool", "content": bounded(content),
            "data": {"toolCallId": call, "name": names.get(call.as_str()), "failed": failed},
        }),
    }
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

/// The earlier turns of a conversation, as many of the newest as the budget holds. Also how many were left out.
pub(crate) async fn earlier(
    workspace: &UserWorkspace,
    conversation: &str,
    budget: usize,
) -> Result<(Vec<Message>, usize), ChatError> {
    let (lines, _) = read(workspace, conversation, LAST).await?;
    Ok(fitted(&lines, budget))
}

fn fitted(lines: &[Value], budget: usize) -> (Vec<Message>, usize) {
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
    (kept.into_iter().rev().flatten().collect(), dropped)
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

/// The messages of one turn. The file is the user's own and may have been edited: each call gets one result, and what
/// belongs to nothing is passed over.
fn messages(turn: &[Value]) -> Vec<Message> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut results: HashMap<String, (String, bool)> = turn
        .iter()
        .filter(|line| line["role"] == "tool")
        .filter_map(|line| {
            let id = line["data"]["toolCallId"].as_str()?.to_owned();
            Some((id, (text(&line["content"]), line["data"]["failed"] == true)))
        })
        .collect();
    let mut messages = Vec::new();
    for line in turn {
        let content = text(&line["content"]);
        match line["role"].as_str() {
            Some("user") => messages.push(Message::User(content)),
            Some("assistant") => {
                let calls: Vec<Call> = line["data"]["toolCalls"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|call| Call {
                        id: text(&call["id"]),
                        name: text(&call["name"]),
                        arguments: text(&call["arguments"]),
                    })
                    .collect();
                let content = match line["data"]["turn"]["status"].as_str() {
                    Some("interrupted") => format!("{content}\n[interrupted]").trim_start().to_owned(),
                    Some("failed") => format!("{content}\n[failed]").trim_start().to_owned(),
                    _ => content,
                };
                if content.is_empty() && calls.is_empty() {
                    continue;
                }
                let ids: Vec<String> = calls.iter().map(|call| call.id.clone()).collect();
                messages.push(Message::Assistant { text: content, calls });
                messages.extend(ids.into_iter().map(|call| {
                    let missing = || ("no result was kept".to_owned(), true);
                    let (content, failed) = results.remove(&call).unwrap_or_else(missing);
                    Message::Result { call, content, failed }
                }));
            }
            _ => {}
        }
    }
    messages
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
        assert_eq!(lines[4]["data"]["turn"]["status"], "complete");
        assert_eq!(lines[4]["data"]["turn"]["usage"]["output"], 6);
        assert_eq!(lines[2]["data"]["name"], "run");
        assert_eq!(messages(&lines), called());
    }

    #[test]
    fn an_interrupted_turn_says_so_and_a_call_without_result_gets_one() {
        let mut lines = turn(&Ending::Interrupted, &called()[..3]);
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[3]["data"]["turn"]["status"], "interrupted");
        lines.remove(2);
        let read = messages(&lines);
        assert_eq!(read.len(), 5);
        assert!(matches!(&read[2], Message::Result { failed: true, .. }));
        assert_eq!(read[4], Message::Assistant { text: "[interrupted]".into(), calls: vec![] });
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
            let (messages, dropped) = fitted(&lines, budget);
            (messages.len(), dropped)
        };
        assert_eq!(count(60), (6, 0));
        assert_eq!(count(59), (4, 1));
        assert_eq!(count(39), (2, 2));
        assert_eq!(count(5), (0, 3));
    }
}
