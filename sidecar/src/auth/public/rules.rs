//! What a visitor's request asks for, read so strictly that the agent can't read it otherwise.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::refusal::Refusal;

/// Methods that read, and those that keep a connection going.
const ALLOWED: [&str; 13] = [
    "initialize",
    "ping",
    "logging/setLevel",
    "server/discover",
    "subscriptions/listen",
    "resources/list",
    "resources/read",
    "resources/templates/list",
    "resources/subscribe",
    "resources/unsubscribe",
    "prompts/list",
    "prompts/get",
    "tools/list",
];
const NOTIFICATIONS: &str = "notifications/";
const CALL: &str = "tools/call";

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Something that visitors may do.
    Allowed,
    /// The tool of that name.
    Tool(String),
    /// Anything else.
    Other,
}

/// A name that stands there twice is an error: two readers could each take another.
#[derive(Deserialize)]
struct Head {
    id: Option<Value>,
    method: Option<String>,
    params: Option<Params>,
    result: Option<IgnoredAny>,
    error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Params {
    name: Option<Value>,
}

/// Reads a body that holds one JSON-RPC message.
pub(super) fn read(body: &[u8]) -> Result<Asked, Refusal> {
    let message: Value = serde_json::from_slice(body).map_err(|_| Refusal::Malformed("it is no JSON"))?;
    let is_object = message.is_object() && message.get("params").is_none_or(Value::is_object);
    if !is_object {
        return Err(Refusal::Malformed("expected one JSON-RPC message with params by name"));
    }
    let head: Head = serde_json::from_slice(body)
        .map_err(|_| Refusal::Malformed("method is no text, or a member stands there twice"))?;
    let Some(method) = head.method else {
        // An answer to what a tool asked in the middle of a call: it was allowed to run.
        let answers = head.id.is_some() && (head.result.is_some() || head.error.is_some());
        return Ok(if answers { Asked::Allowed } else { Asked::Other });
    };
    if method == CALL {
        return match head.params.and_then(|params| params.name) {
            Some(Value::String(name)) => Ok(Asked::Tool(name)),
            _ => Err(Refusal::Malformed("tools/call names no tool")),
        };
    }
    let allowed = ALLOWED.contains(&method.as_str()) || method.starts_with(NOTIFICATIONS);
    Ok(if allowed { Asked::Allowed } else { Asked::Other })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_reads_is_allowed() {
        for method in ALLOWED.iter().chain(&["notifications/initialized", "notifications/cancelled"]) {
            let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{"name":1}}}}"#);
            assert_eq!(read(body.as_bytes()), Ok(Asked::Allowed), "{method}");
        }
        let call =
            br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"show","arguments":{}}}"#;
        assert_eq!(read(call), Ok(Asked::Tool("show".to_owned())));
        for answer in [&br#"{"jsonrpc":"2.0","id":"a","result":{}}"#[..], br#"{"id":1,"error":{}}"#] {
            assert_eq!(read(answer), Ok(Asked::Allowed));
        }
    }

    #[test]
    fn all_else_is_not() {
        for method in ["completion/complete", "tasks/list", "Tools/Call", "tools/call ", "x", ""] {
            let body = serde_json::json!({"jsonrpc": "2.0", "id": 1, "method": method}).to_string();
            assert_eq!(read(body.as_bytes()), Ok(Asked::Other), "{method}");
        }
        assert_eq!(read(br#"{"jsonrpc":"2.0","id":1}"#), Ok(Asked::Other));
        assert_eq!(read(br#"{"jsonrpc":"2.0","result":{}}"#), Ok(Asked::Other));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for body in [
            &br#"{"method":"tools/list","method":"tools/call","params":{"name":"delete"}}"#[..],
            br#"{"method":"tools/call","params":{"name":"show","name":"delete"}}"#,
            br#"{"id":1,"result":{},"result":{}}"#,
            br#"{"method":"tools/call","params":{"name":"show"},"params":{"name":"delete"}}"#,
            br#"{"method":"tools/list","m\u0065thod":"tools/call"}"#,
            br#"[{"method":"tools/list"}]"#,
            br#"["tools/list",{"name":"x"}]"#,
            br#"{"method":"tools/call","params":["show"]}"#,
            br#"{"method":"tools/call","params":{"name":7}}"#,
            br#"{"method":"tools/call"}"#,
            br#"{"method":["tools/list"]}"#,
            br#"{"method":"tools/list"} {"method":"tools/call"}"#,
            b"\xef\xbb\xbf{\"method\":\"tools/list\"}",
            b"{\"method\":\"tools/list\",\"x\":NaN}",
            b"",
        ] {
            assert!(matches!(read(body), Err(Refusal::Malformed(_))), "{}", String::from_utf8_lossy(body));
        }
    }

    proptest! {
        #[test]
        fn nothing_but_what_is_listed_passes(method in "\\PC{0,30}", name in "\\PC{0,20}") {
            let body = serde_json::json!({"method": method, "params": {"name": name}}).to_string();
            let expected = if method == CALL {
                Asked::Tool(name)
            } else if ALLOWED.contains(&method.as_str()) || method.starts_with(NOTIFICATIONS) {
                Asked::Allowed
            } else {
                Asked::Other
            };
            prop_assert_eq!(read(body.as_bytes()), Ok(expected));
        }

        #[test]
        fn whatever_comes_is_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&body);
        }
    }
}
