//! The conversations of anonymous visitors: their workspaces are read-only, so the gateway keeps what they say, in memory and
//! bounded, for as long as the visitor may come back. Another replica, or the next process, does not know them.
//!
//! It answers as the tools of a workspace do that keep conversations.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use dexorder_oidc::Expiring;
use dexorder_protocol::identity::VISITOR_PREFIX;
use serde_json::{Value, json};

use super::wire::ToolResult;
use crate::clock;

/// Visitors whose conversations are kept.
const MOST_VISITORS: usize = 256;
/// What is kept of one visitor, in bytes.
const MOST_BYTES: usize = 256 * 1024;

/// All conversations of visitors.
pub(crate) struct Guests {
    seconds: i64,
    kept: Expiring<String, Arc<Mutex<Kept>>>,
}

/// Those of one visitor.
#[derive(Default)]
struct Kept {
    bytes: usize,
    conversations: BTreeMap<String, Vec<Value>>,
}

impl Guests {
    /// `seconds`: how long they are kept after the last word.
    pub(crate) fn new(seconds: i64) -> Self {
        Self { seconds, kept: Expiring::new(MOST_VISITORS) }
    }

    /// The answer of a tool that keeps conversations, if the user is a visitor and the tool is one.
    pub(crate) fn call(&self, user: &str, tool: &str, arguments: &Value) -> Option<ToolResult> {
        if !user.starts_with(VISITOR_PREFIX) {
            return None;
        }
        let conversation = arguments["conversation"].as_str().unwrap_or_default();
        let done = match tool {
            "append_conversation" => self.of(user, |kept| kept.append(conversation, arguments)),
            "read_conversation" => self.of(user, |kept| Ok(kept.read(conversation, &arguments["last"]))),
            "list_conversations" => self.of(user, |kept| Ok(kept.list())),
            "delete_conversation" => self.of(user, |kept| Ok(kept.delete(conversation))),
            _ => return None,
        };
        let failed = done.is_err();
        let (text, structured) = match done {
            Ok(value) => (value.to_string(), value),
            Err(why) => (why.to_owned(), Value::Null),
        };
        Some(ToolResult { text, structured, failed })
    }

    fn of<T>(&self, user: &str, act: impl FnOnce(&mut Kept) -> T) -> T {
        let (now, user) = (clock::seconds(), user.to_owned());
        let kept = self.kept.get(&user, now).unwrap_or_default();
        self.kept.put(user, Arc::clone(&kept), now.saturating_add(self.seconds), now);
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        act(&mut kept)
    }
}

impl Kept {
    /// Keeps the lines of a key once.
    fn append(&mut self, conversation: &str, arguments: &Value) -> Result<Value, &'static str> {
        let key = &arguments["idempotency_key"];
        let known = self.conversations.get(conversation).map(Vec::as_slice).unwrap_or_default();
        if known.iter().any(|line| line["key"] == *key) {
            return Ok(json!({"appended": false}));
        }
        let mut new = arguments["messages"].as_array().cloned().unwrap_or_default();
        for line in &mut new {
            line["key"] = key.clone();
            line["time"] = Value::from(clock::rfc3339());
        }
        if let Some(last) = new.last_mut() {
            last["turn"] = json!({"state": arguments["state"], "usage": arguments["usage"]});
        }
        let bytes = size(&new);
        if self.bytes + bytes > MOST_BYTES {
            return Err("a visitor's conversations are kept up to 256 KiB, and they are full");
        }
        self.bytes += bytes;
        self.conversations.entry(conversation.to_owned()).or_default().extend(new);
        Ok(json!({"appended": true}))
    }

    fn read(&self, conversation: &str, last: &Value) -> Value {
        let lines = self.conversations.get(conversation).map(Vec::as_slice).unwrap_or_default();
        let most = last.as_u64().and_then(|last| usize::try_from(last).ok()).unwrap_or(usize::MAX);
        let shown = &lines[lines.len().saturating_sub(most)..];
        json!({"conversation": conversation, "total": lines.len(), "messages": shown})
    }

    fn list(&self) -> Value {
        let entry = |(id, lines): (&String, &Vec<Value>)| {
            let bytes = size(lines);
            let changed = lines.last().map(|line| line["time"].clone());
            json!({"conversation": id, "bytes": bytes, "changed": changed})
        };
        let mut all: Vec<Value> = self.conversations.iter().map(entry).collect();
        all.sort_by(|one, other| other["changed"].as_str().cmp(&one["changed"].as_str()));
        json!({"conversations": all})
    }

    fn delete(&mut self, conversation: &str) -> Value {
        let gone = self.conversations.remove(conversation).unwrap_or_default();
        self.bytes -= size(&gone);
        json!({"path": conversation, "changed": !gone.is_empty()})
    }
}

fn size(lines: &[Value]) -> usize {
    lines.iter().map(|line| line.to_string().len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const VISITOR: &str = "anonymous:1";

    fn append(guests: &Guests, user: &str, conversation: &str, key: &str, text: &str) -> ToolResult {
        let line = json!({"role": "user", "content": text});
        let arguments = json!({
            "conversation": conversation, "idempotency_key": key, "messages": [line], "state": "complete",
        });
        guests.call(user, "append_conversation", &arguments).unwrap()
    }

    fn total(guests: &Guests, user: &str, conversation: &str) -> u64 {
        let arguments = json!({"conversation": conversation, "last": 1});
        let read = guests.call(user, "read_conversation", &arguments).unwrap().structured;
        assert!(read["messages"].as_array().unwrap().len() <= 1);
        read["total"].as_u64().unwrap()
    }

    #[test]
    fn what_a_visitor_says_is_kept_once_and_for_that_visitor() {
        let guests = Guests::new(60);
        assert_eq!(append(&guests, VISITOR, "c", "k", "a").structured["appended"], true);
        assert_eq!(append(&guests, VISITOR, "c", "k", "a").structured["appended"], false);
        append(&guests, VISITOR, "c", "l", "b");
        assert_eq!((total(&guests, VISITOR, "c"), total(&guests, "anonymous:2", "c")), (2, 0));
        let listed = guests.call(VISITOR, "list_conversations", &json!({})).unwrap().structured;
        assert_eq!(listed["conversations"][0]["conversation"], "c");
        guests.call(VISITOR, "delete_conversation", &json!({"conversation": "c"})).unwrap();
        assert_eq!(total(&guests, VISITOR, "c"), 0);
    }

    #[test]
    fn users_and_other_tools_are_the_workspaces_affair() {
        let guests = Guests::new(60);
        assert!(guests.call("trader1", "read_conversation", &json!({})).is_none());
        assert!(guests.call(VISITOR, "run_indicator", &json!({})).is_none());
    }

    #[test]
    fn nobody_fills_the_memory() {
        let guests = Guests::new(60);
        let text = "x".repeat(100_000);
        let failed: Vec<bool> =
            (0..4).map(|key| append(&guests, VISITOR, "c", &key.to_string(), &text).failed).collect();
        assert_eq!(failed, [false, false, true, true]);
        guests.call(VISITOR, "delete_conversation", &json!({"conversation": "c"})).unwrap();
        assert!(!append(&guests, VISITOR, "c", "new", &text).failed);
    }
}
