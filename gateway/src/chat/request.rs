//! What clients may send: requests of OpenAI's chat completions and of AG-UI, turned into one question.

use std::fmt::Write;

use http::HeaderMap;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::error::ChatError;
use super::llm::Message;
use super::turn::Question;
use super::unique;

/// Names the conversation, in requests and responses.
pub(crate) const CONVERSATION: &str = "dexorder-conversation-id";
/// Names the request: one that comes again with the same value is answered with what came of the first.
const KEY: &str = "idempotency-key";
const MOST_KEY: usize = 255;
/// Most bytes of what a user says at once: the workspace keeps it as one message.
const MOST_TEXT: usize = 400_000;

/// A request of OpenAI's API. Members that change nothing here are passed over.
#[derive(Deserialize)]
pub(crate) struct Completion {
    model: Option<String>,
    messages: Vec<Said>,
    pub(crate) stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    metadata: Option<Metadata>,
    max_tokens: Option<u32>,
    max_completion_tokens: Option<u32>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    n: Option<u32>,
    tools: Option<Vec<Value>>,
    functions: Option<Vec<Value>>,
}

#[derive(Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

#[derive(Deserialize)]
struct Metadata {
    conversation_id: Option<String>,
}

/// A message of either API.
#[derive(Deserialize)]
struct Said {
    id: Option<String>,
    role: String,
    content: Option<Value>,
}

/// A request of AG-UI.
#[derive(Deserialize)]
pub(crate) struct Run {
    #[serde(rename = "threadId")]
    thread: String,
    #[serde(rename = "runId")]
    pub(crate) id: String,
    messages: Vec<Said>,
    #[serde(default)]
    tools: Vec<Value>,
    #[serde(default)]
    context: Vec<RunContext>,
}

#[derive(Deserialize)]
struct RunContext {
    description: String,
    value: String,
}

impl Completion {
    pub(crate) fn wants_usage(&self) -> bool {
        self.stream_options.as_ref().is_some_and(|options| options.include_usage == Some(true))
    }

    pub(crate) fn question(self, user: String, headers: &HeaderMap) -> Result<Question, ChatError> {
        if self.n.is_some_and(|n| n != 1) {
            return Err(ChatError::request("n", "n must be 1: a turn has one answer"));
        }
        if self.tools.is_some_and(|tools| !tools.is_empty())
            || self.functions.is_some_and(|functions| !functions.is_empty())
        {
            return Err(ChatError::request(
                "tools",
                "tools of the client can't be used: the model has the tools of the user's workspace",
            ));
        }
        let given = match headers.get(CONVERSATION) {
            Some(value) => Some(value.to_str().unwrap_or_default().to_owned()),
            None => self.metadata.and_then(|metadata| metadata.conversation_id),
        };
        let kept = given.is_some();
        let key = key(headers)?;
        // Without a name of its own the conversation gets one that is the same when the request comes again.
        let again = key.as_ref().filter(|_| !kept).map(|key| format!("chat-{}", digest(&[key])));
        let conversation = conversation(given.or(again), "metadata.conversation_id")?;
        let Sorted { text, earlier, instructions } = sort(self.messages)?;
        Ok(Question {
            user,
            turn: turn(&conversation, key.as_deref()),
            keyed: key.is_some(),
            conversation,
            text,
            // A conversation with an id is kept in the workspace: what the client sent of it before is known there.
            earlier: (!kept).then_some(earlier),
            instructions,
            model: self.model,
            max_tokens: self.max_completion_tokens.or(self.max_tokens).filter(|most| *most > 0),
            temperature: self.temperature,
            top_p: self.top_p,
        })
    }
}

impl Run {
    pub(crate) fn question(&self, user: String, headers: &HeaderMap) -> Result<Question, ChatError> {
        if !self.tools.is_empty() {
            return Err(ChatError::request(
                "tools",
                "tools of the client can't be used: the model has the tools of the user's workspace",
            ));
        }
        let conversation = conversation(Some(self.thread.clone()), "threadId")?;
        let said = self.messages.iter().map(|said| Said {
            id: None,
            role: said.role.clone(),
            content: said.content.clone(),
        });
        let known = |said: &Said| matches!(said.role.as_str(), "user" | "assistant" | "system" | "developer");
        let Sorted { text, mut instructions, .. } = sort(said.filter(known).collect())?;
        instructions.extend(self.context.iter().map(|part| format!("{}: {}", part.description, part.value)));
        // The protocol gives each run a name of its own. A client that doesn't still has other messages in it.
        let last = self.messages.last().and_then(|said| said.id.as_deref()).unwrap_or_default();
        let key = key(headers)?.unwrap_or_else(|| digest(&[&self.id, last, &text]));
        Ok(Question {
            user,
            turn: turn(&conversation, Some(&key)),
            keyed: true,
            conversation,
            text,
            earlier: None,
            instructions,
            model: None,
            max_tokens: None,
            temperature: None,
            top_p: None,
        })
    }
}

/// The key of a request, if its client gave it one.
fn key(headers: &HeaderMap) -> Result<Option<String>, ChatError> {
    let Some(value) = headers.get(KEY) else { return Ok(None) };
    match value.to_str() {
        Ok(key) if (1..=MOST_KEY).contains(&key.len()) => Ok(Some(key.to_owned())),
        _ => Err(ChatError::request(
            "Idempotency-Key",
            format!("the header Idempotency-Key must have 1 to {MOST_KEY} visible ASCII characters"),
        )),
    }
}

/// The name of a turn: the same for the same key.
fn turn(conversation: &str, key: Option<&str>) -> String {
    format!("turn-{}", key.map_or_else(unique, |key| digest(&[conversation, key])))
}

/// 128 bits that stand for these texts.
fn digest(texts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update(text.len().to_le_bytes());
        hash.update(text);
    }
    hash.finalize()[..16].iter().fold(String::new(), |mut digits, byte| {
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

/// The id of a conversation: the given one if the workspace can keep it, else a new one.
pub(crate) fn conversation(given: Option<String>, place: &'static str) -> Result<String, ChatError> {
    let Some(id) = given else {
        return Ok(format!("chat-{}", unique()));
    };
    let first = id.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    let rest = id.chars().all(|c| c.is_ascii_alphanumeric() || "._:-".contains(c));
    if first && rest && id.len() <= 128 {
        Ok(id)
    } else {
        let told = "the id of a conversation has 1 to 128 characters: letters, digits and . _ : - after the first, \
                    which is a letter or digit";
        Err(ChatError::request(place, told))
    }
}

struct Sorted {
    /// What the user says now: all after the last answer.
    text: String,
    earlier: Vec<Message>,
    instructions: Vec<String>,
}

fn sort(said: Vec<Said>) -> Result<Sorted, ChatError> {
    let (mut earlier, mut instructions) = (Vec::new(), Vec::new());
    for Said { id: _, role, content } in said {
        let text = plain(content)?;
        match role.as_str() {
            "system" | "developer" => instructions.push(text),
            "user" => earlier.push(Message::User(text)),
            "assistant" => earlier.push(Message::Assistant { text, calls: Vec::new() }),
            _ => {
                return Err(ChatError::request(
                    "messages",
                    format!("a message of the role {role:?} can't be used: tools run in the gateway"),
                ));
            }
        }
    }
    let answered = earlier.iter().rposition(|message| matches!(message, Message::Assistant { .. }));
    let now = earlier.split_off(answered.map_or(0, |place| place + 1));
    // Without any answer the last message alone is new: the others may be what was said before it.
    let (before, now) = if answered.is_none() && now.len() > 1 {
        let (before, now) = now.split_at(now.len() - 1);
        (before.to_vec(), now.to_vec())
    } else {
        (Vec::new(), now)
    };
    earlier.extend(before);
    let texts: Vec<String> = now
        .into_iter()
        .filter_map(|message| match message {
            Message::User(text) => Some(text),
            _ => None,
        })
        .collect();
    let text = texts.join("\n\n");
    if text.trim().is_empty() {
        return Err(ChatError::request("messages", "the last message must be the user's, and not empty"));
    }
    if text.len() > MOST_TEXT {
        return Err(ChatError::request(
            "messages",
            format!("the user's message is over the limit of {MOST_TEXT} bytes"),
        ));
    }
    Ok(Sorted { text, earlier, instructions })
}

/// The text of a message, which may come in parts.
fn plain(content: Option<Value>) -> Result<String, ChatError> {
    match content {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text),
        Some(Value::Array(parts)) => parts
            .iter()
            .map(|part| match (part["type"].as_str(), part["text"].as_str()) {
                (Some("text"), Some(text)) => Ok(text),
                _ => Err(ChatError::request("messages", "a message may hold text only")),
            })
            .collect(),
        Some(_) => Err(ChatError::request("messages", "the content of a message must be text")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn question(body: Value) -> Result<Question, ChatError> {
        let completion: Completion = serde_json::from_value(body).unwrap();
        completion.question("u".to_owned(), &HeaderMap::new())
    }

    fn said(role: &str, content: &str) -> Value {
        json!({"role": role, "content": content})
    }

    #[test]
    fn without_an_id_the_clients_own_history_is_used() {
        let messages =
            [said("system", "be brief"), said("user", "a"), said("assistant", "b"), said("user", "c")];
        let asked = question(json!({"messages": messages})).unwrap();
        assert_eq!(asked.text, "c");
        assert_eq!(asked.instructions, ["be brief"]);
        assert_eq!(asked.earlier.unwrap().len(), 2);
        assert!(asked.conversation.starts_with("chat-"));
    }

    #[test]
    fn with_an_id_the_history_is_the_workspaces() {
        let messages = [said("user", "a"), said("assistant", "b"), said("user", "c"), said("user", "d")];
        let body = json!({"messages": messages, "metadata": {"conversation_id": "x-1"}});
        let asked = question(body).unwrap();
        assert_eq!((asked.text.as_str(), asked.conversation.as_str()), ("c\n\nd", "x-1"));
        assert!(asked.earlier.is_none());
    }

    #[test]
    fn the_same_key_names_the_same_turn_in_one_conversation() {
        let asked = |key: &'static str, id: Option<&str>| {
            let mut body = json!({"messages": [said("user", "a")]});
            if let Some(id) = id {
                body["metadata"] = json!({"conversation_id": id});
            }
            let completion: Completion = serde_json::from_value(body).unwrap();
            let headers = HeaderMap::from_iter([(KEY.parse().unwrap(), key.parse().unwrap())]);
            completion.question("u".to_owned(), &headers).map(|asked| (asked.conversation, asked.turn))
        };
        assert_eq!(asked("k", Some("c")).unwrap(), asked("k", Some("c")).unwrap());
        assert_eq!(asked("k", None).unwrap(), asked("k", None).unwrap());
        let turns = [asked("k", Some("c")), asked("l", Some("c")), asked("k", Some("d")), asked("k", None)];
        let turns: std::collections::HashSet<String> = turns.map(|asked| asked.unwrap().1).into();
        assert_eq!(turns.len(), 4);
        assert!(asked("", None).unwrap_err().to_string().contains("Idempotency-Key"));
    }

    #[test]
    fn a_run_names_its_turn() {
        let turn = |run: &str, message: &str, text: &str| {
            let body = json!({
                "threadId": "t", "runId": run,
                "messages": [{"id": message, "role": "user", "content": text}],
            });
            let run: Run = serde_json::from_value(body).unwrap();
            run.question("u".to_owned(), &HeaderMap::new()).unwrap().turn
        };
        assert_eq!(turn("r", "m", "a"), turn("r", "m", "a"));
        let turns = [turn("r", "m", "a"), turn("s", "m", "a"), turn("r", "n", "a"), turn("r", "m", "b")];
        assert_eq!(std::collections::HashSet::from(turns).len(), 4);
    }

    #[test]
    fn what_can_not_be_done_is_refused_by_name() {
        let with = |extra: Value| {
            let mut body = json!({"messages": [said("user", "a")]});
            body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            question(body).map(|_| ()).unwrap_err().to_string()
        };
        assert!(with(json!({"n": 2})).contains("n must be 1"));
        assert!(with(json!({"tools": [{}]})).contains("tools of the client"));
        assert!(with(json!({"metadata": {"conversation_id": "../x"}})).contains("the id of a conversation"));
        assert!(with(json!({"messages": []})).contains("the last message"));
        assert!(
            with(json!({"messages": [said("user", "a"), said("assistant", "b")]}))
                .contains("the last message")
        );
        assert!(with(json!({"messages": [said("tool", "a")]})).contains("\"tool\""));
        let image = json!([{"role": "user", "content": [{"type": "image_url"}]}]);
        assert!(with(json!({"messages": image})).contains("text only"));
    }
}
