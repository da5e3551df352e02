//! Reads the head of a JSON-RPC message: enough to refuse what is none, and to answer with its id. What the message
//! asks for is the agent's affair, and its bytes go on as they came.

use std::borrow::Cow;

use dexorder_protocol::jsonrpc;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::refusal::Refusal;

const LISTEN_METHOD: &str = "subscriptions/listen";
const INITIALIZE_METHOD: &str = "initialize";

/// What the gateway knows of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) id: Option<Value>,
    /// It opens a stream of events and has nothing done.
    pub(super) listens: bool,
    /// It asks for a session.
    pub(super) initializes: bool,
    /// It is a request, no notification and no answer.
    pub(super) asks: bool,
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    jsonrpc: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "jsonrpc::present")]
    id: Option<Value>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    result: Option<IgnoredAny>,
    error: Option<IgnoredAny>,
}

/// Checks that the body is one JSON-RPC message.
pub(super) fn read(body: &[u8]) -> Result<Message, Refusal> {
    let text = std::str::from_utf8(body).map_err(|_| Refusal::NoJson("it is no UTF-8".to_owned()))?;
    match text.trim_start_matches([' ', '\t', '\r', '\n']).as_bytes().first() {
        Some(b'[') => {
            return Err(Refusal::NoMessage("batches are not part of MCP: send one message a request"));
        }
        Some(b'{') => {}
        _ => return Err(no_object(text)),
    }
    let head: Head<'_> = serde_json::from_str(text).map_err(|error| {
        if error.is_data() {
            Refusal::NoMessage("a member has the wrong type or stands twice")
        } else {
            Refusal::NoJson(error.to_string())
        }
    })?;
    if head.jsonrpc.as_deref() != Some("2.0") {
        return Err(Refusal::NoMessage("\"jsonrpc\" must be \"2.0\""));
    }
    let usable = head.id.as_ref().is_none_or(|id| id.is_string() || id.is_number());
    if !usable {
        return Err(Refusal::NoMessage("\"id\" must be a string or a number"));
    }
    let answers = head.result.is_some() || head.error.is_some();
    match (&head.method, answers, &head.id) {
        (Some(_), false, _) | (None, true, Some(_)) => {}
        _ => return Err(Refusal::NoMessage("it must be a request, a notification or a response")),
    }
    let is = |method| head.method.as_deref() == Some(method);
    let (listens, initializes) = (is(LISTEN_METHOD), is(INITIALIZE_METHOD) && head.id.is_some());
    let asks = head.method.is_some() && head.id.is_some();
    Ok(Message { id: head.id, listens, initializes, asks })
}

fn no_object(text: &str) -> Refusal {
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => Refusal::NoMessage("it must be an object"),
        Err(error) => Refusal::NoJson(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::strategy::Strategy;
    use serde_json::json;

    use super::*;
    use crate::mutation::{CASES, change};

    fn id(body: &str) -> Option<Value> {
        read(body.as_bytes()).unwrap().id
    }

    #[test]
    fn messages_of_all_kinds_are_taken() {
        assert_eq!(id(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#), Some(json!(1)));
        assert_eq!(
            id(" \n{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"method\":\"x\",\"params\":{\"id\":[]}}"),
            Some(json!("a"))
        );
        assert_eq!(id(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#), None);
        assert_eq!(id(r#"{"jsonrpc":"2.0","id":2,"result":{}}"#), Some(json!(2)));
        assert_eq!(id(r#"{"jsonrpc":"2.0","id":2,"error":{"code":1,"message":"m"}}"#), Some(json!(2)));
        assert_eq!(id(r#"{"jsonrpc":"2.0","id":1,"method":"tools\/list"}"#), Some(json!(1)));
    }

    #[test]
    fn listening_is_told_by_the_method_however_it_is_written() {
        let listens = |body: &str| read(body.as_bytes()).unwrap().listens;
        assert!(listens(r#"{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen"}"#));
        assert!(listens(r#"{"jsonrpc":"2.0","id":1,"method":"subscriptions\/listen"}"#));
        assert!(!listens(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#));
    }

    #[test]
    fn a_session_is_asked_for_by_a_request() {
        let initializes = |body: &str| read(body.as_bytes()).unwrap().initializes;
        assert!(initializes(r#"{"jsonrpc":"2.0","id":1,"method":"initialize"}"#));
        assert!(!initializes(r#"{"jsonrpc":"2.0","method":"initialize"}"#));
        assert!(!initializes(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#));
    }

    #[test]
    fn what_is_no_json_is_a_parse_error() {
        for body in
            [&b""[..], b"{", b"{]", b"nonsense", b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\"} trailing"]
        {
            assert!(matches!(read(body), Err(Refusal::NoJson(_))), "{:?}", String::from_utf8_lossy(body));
        }
        let invalid = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\",\"params\":{\"a\":\"\xff\"}}";
        assert!(matches!(read(invalid), Err(Refusal::NoJson(_))));
    }

    #[test]
    fn json_that_is_no_message_is_an_invalid_request() {
        for body in [
            "[]",
            r#"[{"jsonrpc":"2.0","id":1,"method":"x"}]"#,
            "7",
            "null",
            "{}",
            r#"{"jsonrpc":"1.0","id":1,"method":"x"}"#,
            r#"{"jsonrpc":"2.0","id":null,"method":"x"}"#,
            r#"{"jsonrpc":"2.0","id":{},"method":"x"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":7}"#,
            r#"{"jsonrpc":"2.0","id":1}"#,
            r#"{"jsonrpc":"2.0","result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"x","result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"x"}"#,
        ] {
            assert!(matches!(read(body.as_bytes()), Err(Refusal::NoMessage(_))), "{body}");
        }
    }

    const GOOD: [&str; 5] = [
        r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}"#,
        r#"{"jsonrpc":"2.0","id":"a","method":"subscriptions/listen","params":{"id":[],"method":"x"}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#,
        r#"{"jsonrpc":"2.0","id":2,"result":{"method":"initialize"}}"#,
        r#"{"jsonrpc":"2.0","id":-1.5e3,"error":{"code":1,"message":"\u00e9"}}"#,
    ];

    /// A member of a message, good or bad.
    fn member() -> impl proptest::strategy::Strategy<Value = String> {
        let names = vec!["jsonrpc", "id", "method", "params", "result", "error", "x"];
        let values = vec![r#""2.0""#, "1", "null", "[]", "{}", r#""initialize""#, "true", r#"""#];
        (proptest::sample::select(names), proptest::sample::select(values))
            .prop_map(|(name, value)| format!("\"{name}\":{value}"))
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(CASES))]

        /// A message that was changed is refused, or it is read as any reader of JSON would.
        #[test]
        fn a_changed_message_is_refused_or_read_as_it_stands_there(which in 0_usize..GOOD.len(), change in change()) {
            let body = change.of(GOOD[which].as_bytes());
            if let Ok(message) = read(&body) {
                let value: Value = serde_json::from_slice(&body).unwrap();
                let method = value["method"].as_str();
                proptest::prop_assert_eq!(&value["jsonrpc"], "2.0");
                proptest::prop_assert_eq!(message.id.as_ref(), value.get("id"));
                proptest::prop_assert_eq!(message.asks, method.is_some() && message.id.is_some());
                proptest::prop_assert_eq!(message.initializes, message.asks && method == Some(INITIALIZE_METHOD));
                proptest::prop_assert_eq!(message.listens, method == Some(LISTEN_METHOD));
            }
        }

        /// Whatever comes, it is read or refused, and what is read says what it is.
        #[test]
        fn any_body_is_read_or_refused(
            bytes: Vec<u8>,
            members in proptest::collection::vec(member(), 0..6),
        ) {
            let _ = read(&bytes);
            if let Ok(message) = read(format!("{{{}}}", members.join(",")).as_bytes()) {
                proptest::prop_assert!(message.asks || !message.initializes);
                proptest::prop_assert!(message.id.is_none_or(|id| id.is_string() || id.is_number()));
            }
        }
    }
}
