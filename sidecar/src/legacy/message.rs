//! A message of an old client, read so that the agent can't read it otherwise.

use std::borrow::Cow;

use dexorder_protocol::jsonrpc;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::members::Members;
use crate::refusal::Refusal;

/// A message.
#[derive(Debug)]
pub(super) enum Message<'a> {
    Request {
        id: Value,
        method: Cow<'a, str>,
        params: Members<'a>,
    },
    Notification {
        method: Cow<'a, str>,
        params: Members<'a>,
    },
    /// What the client says to a request of the server's: a result, or an error.
    Answer {
        id: Value,
        outcome: Result<&'a RawValue, &'a RawValue>,
    },
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    jsonrpc: Cow<'a, str>,
    #[serde(default, deserialize_with = "jsonrpc::present")]
    id: Option<Value>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// Reads a body.
pub(super) fn read(body: &[u8]) -> Result<Message<'_>, Refusal> {
    let head: Head<'_> = serde_json::from_slice(body)
        .map_err(|_| Refusal::Malformed("expected one JSON-RPC message in which no member stands twice"))?;
    if head.jsonrpc != "2.0" {
        return Err(Refusal::Malformed("\"jsonrpc\" must be \"2.0\""));
    }
    if head.id.as_ref().is_some_and(|id| !id.is_string() && !id.is_number()) {
        return Err(Refusal::Malformed("\"id\" must be a string or a number"));
    }
    let params = || match head.params {
        None => Ok(Members::default()),
        Some(params) => Members::parse(params)
            .map_err(|_| Refusal::Malformed("\"params\" must be an object in which no member stands twice")),
    };
    match (head.id, head.method, head.result, head.error) {
        (Some(id), Some(method), None, None) => Ok(Message::Request { id, method, params: params()? }),
        (None, Some(method), None, None) => Ok(Message::Notification { method, params: params()? }),
        (Some(id), None, Some(result), None) => Ok(Message::Answer { id, outcome: Ok(result) }),
        (Some(id), None, None, Some(error)) => Ok(Message::Answer { id, outcome: Err(error) }),
        _ => Err(Refusal::Malformed("it must be a request, a notification or a response")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_three_kinds_are_told_apart() {
        let call = br#"{"jsonrpc":"2.0","id":1,"method":"tools\/call","params":{"name":"x"}}"#;
        let Ok(Message::Request { id, method, params }) = read(call) else { panic!("no request") };
        assert_eq!(
            (id, method.as_ref(), params.text("name").as_deref()),
            (json!(1), "tools/call", Some("x"))
        );
        let told = br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        assert!(matches!(read(told), Ok(Message::Notification { .. })));
        let answer = br#"{"jsonrpc":"2.0","id":"a","result":{"b":1}}"#;
        let Ok(Message::Answer { outcome: Ok(result), .. }) = read(answer) else { panic!("no answer") };
        assert_eq!(result.get(), r#"{"b":1}"#);
        let error = br#"{"jsonrpc":"2.0","id":"a","error":{"code":-1,"message":"no"}}"#;
        assert!(matches!(read(error), Ok(Message::Answer { outcome: Err(_), .. })));
    }

    #[test]
    fn what_is_none_of_them_is_refused() {
        for body in [
            r#"[{"jsonrpc":"2.0","id":1,"method":"x"}]"#,
            r#"{"jsonrpc":"1.0","id":1,"method":"x"}"#,
            r#"{"id":1,"method":"x"}"#,
            r#"{"jsonrpc":"2.0","id":null,"method":"x"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"x","result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"x","params":[]}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":1,"a":2}}"#,
            r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"x"}"#,
            r#"{"jsonrpc":"2.0","result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1}"#,
            "{}",
            "",
        ] {
            assert!(matches!(read(body.as_bytes()), Err(Refusal::Malformed(_))), "{body}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&body);
        }
    }
}
