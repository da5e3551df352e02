//! What the agent asks of a client before it goes on (2026-07-28, basic/patterns/mrtr), as the requests of a server that it
//! is in the older revisions.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::members::{Members, raw};
use super::revision::Revision;

/// So much may be asked at once.
const MOST_QUESTIONS: usize = 16;

/// An interim result.
#[derive(Debug)]
pub(super) struct InputRequired {
    pub(super) questions: Vec<(String, Question)>,
    /// To be sent back as it is.
    pub(super) state: Option<Box<RawValue>>,
}

/// What a client is asked.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) kind: Kind,
    params: Option<Box<RawValue>>,
}

/// What a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Elicitation { url: bool },
    Sampling { tools: bool },
    Roots,
}

/// Why an interim result can't be passed on.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InputError {
    #[error("the agent asks for something and does not say what")]
    Nothing,
    #[error("the agent asks for more than {MOST_QUESTIONS} things at once")]
    TooMuch,
    #[error("the agent asks for {0:?} in a way that can't be read")]
    Unreadable(String),
    #[error("the agent asks for {0:?}, which this client did not say it can answer: {1}")]
    NotOffered(String, &'static str),
}

#[derive(Deserialize)]
struct Asked<'a> {
    #[serde(borrow)]
    method: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

impl InputRequired {
    pub(super) fn read(result: &Members<'_>) -> Result<Self, InputError> {
        let state = result.text("requestState").map(|state| raw(&state));
        let asked = match result.get("inputRequests") {
            Some(asked) => {
                Members::parse(asked).map_err(|_| InputError::Unreadable("inputRequests".to_owned()))?
            }
            None => Members::default(),
        };
        let questions = asked
            .iter()
            .map(|(key, asked)| {
                let question = Question::read(asked).ok_or_else(|| InputError::Unreadable(short(key)))?;
                Ok((key.to_owned(), question))
            })
            .collect::<Result<Vec<_>, _>>()?;
        if questions.len() > MOST_QUESTIONS {
            return Err(InputError::TooMuch);
        }
        if questions.is_empty() && state.is_none() {
            return Err(InputError::Nothing);
        }
        Ok(Self { questions, state })
    }

    /// Checks that the client can answer all of it: nothing is asked of it otherwise.
    pub(super) fn check(&self, capabilities: &Value) -> Result<(), InputError> {
        for (key, question) in &self.questions {
            if !question.kind.is_offered(capabilities) {
                return Err(InputError::NotOffered(short(key), question.kind.method()));
            }
        }
        Ok(())
    }
}

fn short(key: &str) -> String {
    key.chars().take(80).collect()
}

impl Question {
    fn read(asked: &RawValue) -> Option<Self> {
        let Asked { method, params } = serde_json::from_str(asked.get()).ok()?;
        let members = params.map(Members::parse).transpose().ok()?;
        let kind = match method.as_ref() {
            "elicitation/create" => {
                Kind::Elicitation { url: members?.text("mode").as_deref() == Some("url") }
            }
            "sampling/createMessage" => {
                let members = members?;
                Kind::Sampling { tools: members.get("tools").or(members.get("toolChoice")).is_some() }
            }
            "roots/list" => Kind::Roots,
            _ => return None,
        };
        Some(Self { kind, params: params.map(ToOwned::to_owned) })
    }

    /// The request to the client under an id.
    pub(super) fn request(&self, id: &str, revision: Revision) -> String {
        #[derive(Serialize)]
        struct Request<'a> {
            jsonrpc: &'static str,
            id: &'a str,
            method: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            params: Option<Box<RawValue>>,
        }
        let params = self.params.as_deref().and_then(|params| {
            let mut members = Members::parse(params).ok()?;
            match self.kind {
                // 2025-11-25 knows a visit to a page by an identifier, for a notification that no agent sends now.
                Kind::Elicitation { url: true } => members.set("elicitationId", raw(&id)),
                Kind::Elicitation { url: false } if revision < Revision::V2025_11_25 => {
                    members.remove(&["mode"]);
                }
                Kind::Sampling { .. } if revision < Revision::V2025_11_25 => single_blocks(&mut members),
                Kind::Elicitation { .. } | Kind::Sampling { .. } | Kind::Roots => {}
            }
            Some(raw(&members))
        });
        let request = Request { jsonrpc: "2.0", id, method: self.kind.method(), params };
        Box::<str>::from(raw(&request)).into_string()
    }
}

impl Kind {
    pub(super) const fn method(self) -> &'static str {
        match self {
            Self::Elicitation { .. } => "elicitation/create",
            Self::Sampling { .. } => "sampling/createMessage",
            Self::Roots => "roots/list",
        }
    }

    /// Whether a client declared that it answers this. An empty `elicitation` means forms (client/elicitation, Capabilities).
    fn is_offered(self, capabilities: &Value) -> bool {
        let has = |name: &str| capabilities.get(name).is_some_and(Value::is_object);
        let part = |name: &str, part: &str| capabilities[name].get(part).is_some();
        match self {
            Self::Elicitation { url: true } => part("elicitation", "url"),
            Self::Elicitation { url: false } => {
                has("elicitation") && (part("elicitation", "form") || !part("elicitation", "url"))
            }
            Self::Sampling { tools: true } => part("sampling", "tools"),
            Self::Sampling { tools: false } => has("sampling"),
            Self::Roots => has("roots"),
        }
    }
}

/// Before 2025-11-25 a message has one block of content: one with more becomes as many messages.
fn single_blocks(params: &mut Members<'_>) {
    let split = params.get("messages").and_then(|messages| {
        let messages: Vec<Members<'_>> = serde_json::from_str(messages.get()).ok()?;
        let mut single = Vec::new();
        for mut message in messages {
            let blocks: Option<Vec<Box<RawValue>>> =
                message.get("content").and_then(|content| serde_json::from_str(content.get()).ok());
            match blocks {
                None => single.push(raw(&message)),
                Some(blocks) => {
                    for block in blocks {
                        message.set("content", block);
                        single.push(raw(&message));
                    }
                }
            }
        }
        Some(raw(&single))
    });
    if let Some(split) = split {
        params.set("messages", split);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Result<InputRequired, InputError> {
        InputRequired::read(&serde_json::from_str(text).unwrap())
    }

    fn one(asked: &Value) -> InputRequired {
        read(&json!({"inputRequests": {"key": asked}}).to_string()).unwrap()
    }

    fn sent(asked: &Value, revision: Revision) -> Value {
        let required = one(asked);
        serde_json::from_str(&required.questions[0].1.request("id-1", revision)).unwrap()
    }

    #[test]
    fn an_interim_result_asks_or_has_a_state() {
        assert_eq!(read("{}").unwrap_err(), InputError::Nothing);
        assert_eq!(read(r#"{"inputRequests":{}}"#).unwrap_err(), InputError::Nothing);
        let state = read(r#"{"requestState":"s \u0041"}"#).unwrap();
        assert_eq!((state.questions.len(), state.state.unwrap().get()), (0, r#""s A""#));
        for asked in ["1", "{}", r#"{"method":"tools/call"}"#, r#"{"method":"elicitation/create"}"#] {
            let text = format!(r#"{{"inputRequests":{{"k":{asked}}}}}"#);
            assert_eq!(read(&text).unwrap_err(), InputError::Unreadable("k".to_owned()), "{asked}");
        }
        let many: Value =
            (0..17).map(|number| (number.to_string(), json!({"method": "roots/list"}))).collect();
        assert_eq!(read(&json!({"inputRequests": many}).to_string()).unwrap_err(), InputError::TooMuch);
    }

    #[test]
    fn nothing_is_asked_of_a_client_that_did_not_offer_it() {
        let form = json!({"method": "elicitation/create", "params": {"message": "m"}});
        let url = json!({"method": "elicitation/create", "params": {"mode": "url", "url": "https://x"}});
        let sampling = json!({"method": "sampling/createMessage", "params": {"messages": []}});
        let tools = json!({"method": "sampling/createMessage", "params": {"messages": [], "tools": []}});
        let roots = json!({"method": "roots/list"});
        for (asked, capabilities, offered) in [
            (&form, json!({"elicitation": {}}), true),
            (&form, json!({"elicitation": {"form": {}}}), true),
            (&form, json!({"elicitation": {"url": {}}}), false),
            (&form, json!({}), false),
            (&url, json!({"elicitation": {}}), false),
            (&url, json!({"elicitation": {"url": {}}}), true),
            (&sampling, json!({"sampling": {}}), true),
            (&sampling, json!({"roots": {}}), false),
            (&tools, json!({"sampling": {}}), false),
            (&tools, json!({"sampling": {"tools": {}}}), true),
            (&roots, json!({"roots": {}}), true),
            (&roots, json!({"sampling": {}}), false),
        ] {
            assert_eq!(one(asked).check(&capabilities).is_ok(), offered, "{asked} {capabilities}");
        }
    }

    #[test]
    fn a_question_is_a_request_of_the_clients_revision() {
        let (old, new) = (Revision::V2025_06_18, Revision::V2025_11_25);
        let form = json!({"method": "elicitation/create", "params": {"mode": "form", "message": "m"}});
        assert_eq!(
            sent(&form, new),
            json!({"jsonrpc": "2.0", "id": "id-1", "method": "elicitation/create", "params": {"mode": "form", "message": "m"}})
        );
        assert_eq!(sent(&form, old)["params"], json!({"message": "m"}));
        let url = json!({"method": "elicitation/create", "params": {"mode": "url", "url": "https://x"}});
        assert_eq!(
            sent(&url, new)["params"],
            json!({"mode": "url", "url": "https://x", "elicitationId": "id-1"})
        );
        assert_eq!(
            sent(&json!({"method": "roots/list"}), old),
            json!({"jsonrpc": "2.0", "id": "id-1", "method": "roots/list"})
        );
    }

    #[test]
    fn a_message_with_several_blocks_is_several_messages_in_revisions_that_have_one() {
        let asked = json!({"method": "sampling/createMessage", "params": {"maxTokens": 7, "messages": [
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": {"type": "text", "text": "c"}},
        ]}});
        assert_eq!(sent(&asked, Revision::V2025_11_25)["params"], asked["params"]);
        assert_eq!(
            sent(&asked, Revision::V2025_03_26)["params"],
            json!({"maxTokens": 7, "messages": [
                {"role": "user", "content": {"type": "text", "text": "a"}},
                {"role": "user", "content": {"type": "text", "text": "b"}},
                {"role": "assistant", "content": {"type": "text", "text": "c"}},
            ]})
        );
    }
}
