//! What comes from the agent, as the older revisions have it: results and notifications without what is the newest's alone,
//! errors with the codes of then.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::codes::{
    HEADER_MISMATCH, INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, MISSING_CAPABILITY, RESOURCE_NOT_FOUND,
    UNSUPPORTED_VERSION,
};
use super::members::{Members, raw};
use super::parameters;
use super::tools::Tools;

pub(super) const INPUT_REQUIRED: &str = "input_required";
pub(super) const SERVER_INFO_KEY: &str = "io.modelcontextprotocol/serverInfo";
pub(super) const META: &str = "_meta";
const SUBSCRIPTION_KEY: &str = "io.modelcontextprotocol/subscriptionId";
const RESULT_TYPE: &str = "resultType";
/// How long and by whom a result may be kept (2026-07-28, server/utilities/caching).
const CACHE_HINTS: [&str; 2] = ["ttlMs", "cacheScope"];
/// What has such hints.
const CACHEABLE: [&str; 6] = [
    "server/discover",
    "tools/list",
    "prompts/list",
    "resources/list",
    "resources/templates/list",
    "resources/read",
];
/// Notifications that are about a subscription itself.
const OF_SUBSCRIPTION: [&str; 2] = ["notifications/subscriptions/acknowledged", "notifications/cancelled"];

/// A JSON-RPC error.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Error {
    pub(super) code: i64,
    pub(super) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) data: Option<Box<RawValue>>,
}

/// What a result is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Complete,
    InputRequired,
    /// Something that an extension brings and the older revisions have no word for.
    Other(String),
}

/// The kind of a result. One that names none is complete.
pub(super) fn kind(result: &Members<'_>) -> Kind {
    match result.text(RESULT_TYPE).as_deref() {
        None | Some("complete") => Kind::Complete,
        Some(INPUT_REQUIRED) => Kind::InputRequired,
        Some(other) => Kind::Other(other.chars().take(40).collect()),
    }
}

/// Makes a complete result one of the older revisions.
pub(super) fn result(method: &str, mut result: Members<'_>, tools: &Tools) -> Box<RawValue> {
    result.remove(&[RESULT_TYPE]);
    if CACHEABLE.contains(&method) {
        result.remove(&CACHE_HINTS);
    }
    drop_meta(&mut result, SERVER_INFO_KEY);
    match method {
        "tools/list" => {
            if let Some(listed) = result.get("tools").and_then(|listed| list_tools(listed, tools)) {
                result.set("tools", listed);
            }
        }
        "tools/call" => wrap_structured(&mut result),
        _ => {}
    }
    raw(&result)
}

/// Takes a member out of `_meta`, and `_meta` if nothing else is in it.
fn drop_meta(object: &mut Members<'_>, key: &str) {
    let Some(mut meta) = object.get(META).and_then(|meta| Members::parse(meta).ok()) else { return };
    meta.remove(&[key]);
    let left = (!meta.is_empty()).then(|| raw(&meta));
    match left {
        Some(left) => object.set(META, left),
        None => object.remove(&[META]),
    }
}

/// The list of tools without those whose mirrored arguments can't be understood (2026-07-28, basic/transports/streamable-http,
/// Schema Extension), and without output schemas that the older revisions don't have: theirs are objects.
fn list_tools(listed: &RawValue, known: &Tools) -> Option<Box<RawValue>> {
    let listed: Vec<Members<'_>> = serde_json::from_str(listed.get()).ok()?;
    let mut kept = Vec::new();
    for mut tool in listed {
        let schema: Value = tool
            .get("inputSchema")
            .and_then(|schema| serde_json::from_str(schema.get()).ok())
            .unwrap_or_default();
        let name = tool.text("name").unwrap_or_default();
        match parameters::of_schema(&schema) {
            Ok(parameters) => known.learn(&name, parameters),
            Err(error) => {
                tracing::warn!(tool = %name, %error, "left a tool out of the list");
                continue;
            }
        }
        drop(name);
        if tool.get("outputSchema").is_some_and(|schema| !is_object_schema(schema)) {
            tool.remove(&["outputSchema"]);
        }
        kept.push(tool);
    }
    Some(raw(&kept))
}

fn is_object_schema(schema: &RawValue) -> bool {
    Members::parse(schema).is_ok_and(|schema| schema.text("type").as_deref() == Some("object"))
}

/// Structured content is an object in the older revisions: any other value becomes a member of one.
fn wrap_structured(result: &mut Members<'_>) {
    let wrapped = match result.get("structuredContent") {
        Some(content) if !content.get().starts_with('{') => raw(&Wrapped { result: content }),
        _ => return,
    };
    result.set("structuredContent", wrapped);
}

#[derive(Serialize)]
struct Wrapped<'a> {
    result: &'a RawValue,
}

/// Makes an error one of the older revisions. `uri` is the resource that was asked for.
pub(super) fn error(mut error: Error, uri: Option<&str>) -> Error {
    error.code = match error.code {
        INVALID_PARAMS if uri.is_some_and(|uri| names(&error, uri)) => RESOURCE_NOT_FOUND,
        MISSING_CAPABILITY => INVALID_REQUEST,
        HEADER_MISMATCH | UNSUPPORTED_VERSION => INTERNAL_ERROR,
        code => code,
    };
    error
}

/// Whether an error names a resource: the newest revision tells so of one that is not there (server/resources, Error
/// Handling).
fn names(error: &Error, uri: &str) -> bool {
    #[derive(Deserialize)]
    struct Data {
        uri: String,
    }
    let data = error.data.as_ref().and_then(|data| serde_json::from_str::<Data>(data.get()).ok());
    data.is_some_and(|data| data.uri == uri)
}

/// A notification as the older revisions have it, nothing for one that they don't have.
pub(super) fn notification(text: &[u8]) -> Option<String> {
    let mut message: Members<'_> = serde_json::from_slice(text).ok()?;
    let method = message.text("method")?;
    if OF_SUBSCRIPTION.contains(&method.as_ref()) {
        return None;
    }
    drop(method);
    if let Some(mut params) = message.get("params").and_then(|params| Members::parse(params).ok()) {
        drop_meta(&mut params, SUBSCRIPTION_KEY);
        let left = (!params.is_empty()).then(|| raw(&params));
        match left {
            Some(left) => message.set("params", left),
            None => message.remove(&["params"]),
        }
    }
    serde_json::to_string(&message).ok()
}

/// A response to a client's request.
pub(super) fn response(id: &Value, outcome: Result<&RawValue, &Error>) -> String {
    #[derive(Serialize)]
    struct Response<'a> {
        jsonrpc: &'static str,
        id: &'a Value,
        #[serde(skip_serializing_if = "Option::is_none")]
        result: Option<&'a RawValue>,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<&'a Error>,
    }
    let response = Response { jsonrpc: "2.0", id, result: outcome.ok(), error: outcome.err() };
    Box::<str>::from(raw(&response)).into_string()
}

/// How a request fails of which the server can't get what it needs: a tool's call says so in its result, for the model to
/// read, as servers of the older revisions did; anything else is an error.
pub(super) fn failure(method: &str, id: &Value, text: &str) -> String {
    if method == "tools/call" {
        let result = raw(&json!({"content": [{"type": "text", "text": text}], "isError": true}));
        return response(id, Ok(&result));
    }
    response(id, Err(&Error { code: INTERNAL_ERROR, message: text.to_owned(), data: None }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn down(method: &str, text: &str) -> String {
        result(method, serde_json::from_str(text).unwrap(), &Tools::default()).get().to_owned()
    }

    #[test]
    fn a_result_loses_what_is_the_newest_revisions_and_nothing_else() {
        let text = r#"{"z":1,"resultType":"complete","ttlMs":0,"cacheScope":"private","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s"}},"resources":[{"uri":"a://b","_meta":{"x":1}}]}"#;
        assert_eq!(down("resources/list", text), r#"{"z":1,"resources":[{"uri":"a://b","_meta":{"x":1}}]}"#);
        let own = r#"{"resultType":"complete","ttlMs":7,"_meta":{"io.modelcontextprotocol/serverInfo":{},"own":1}}"#;
        assert_eq!(down("own/method", own), r#"{"ttlMs":7,"_meta":{"own":1}}"#);
    }

    #[test]
    fn structured_content_is_an_object() {
        for (content, expected) in
            [("[1,2]", r#"{"result":[1,2]}"#), ("null", r#"{"result":null}"#), (r#"{"a":1}"#, r#"{"a":1}"#)]
        {
            let text = format!(r#"{{"content":[],"structuredContent":{content}}}"#);
            let expected = format!(r#"{{"content":[],"structuredContent":{expected}}}"#);
            assert_eq!(down("tools/call", &text), expected);
        }
    }

    #[test]
    fn a_list_of_tools_has_those_that_can_be_called_with_schemas_of_objects() {
        let text = r#"{"tools":[
            {"name":"a","inputSchema":{"z":1,"a":2},"outputSchema":{"type":"object","properties":{}}},
            {"name":"b","inputSchema":{"x-mcp-header":"B"}},
            {"name":"c","inputSchema":{},"outputSchema":{"type":"array"},"annotations":{"readOnlyHint":true}}
        ]}"#;
        let expected = r#"{"tools":[{"name":"a","inputSchema":{"z":1,"a":2},"outputSchema":{"type":"object","properties":{}}},{"name":"c","inputSchema":{},"annotations":{"readOnlyHint":true}}]}"#;
        assert_eq!(down("tools/list", text), expected);
    }

    #[test]
    fn errors_have_the_codes_of_then() {
        let of = |code: i64, data: Option<&str>, uri: Option<&str>| {
            let data = data.map(|data| RawValue::from_string(data.to_owned()).unwrap());
            error(Error { code, message: "m".to_owned(), data }, uri).code
        };
        let data = Some(r#"{"uri":"a://b"}"#);
        assert_eq!(of(-32602, data, Some("a://b")), -32002);
        assert_eq!(of(-32602, data, Some("a://c")), -32602);
        assert_eq!(of(-32602, data, None), -32602);
        assert_eq!(of(-32602, None, Some("a://b")), -32602);
        assert_eq!((of(-32021, None, None), of(-32020, None, None)), (-32600, -32603));
        assert_eq!((of(-32022, None, None), of(-32601, None, None), of(7, None, None)), (-32603, -32601, 7));
    }

    #[test]
    fn a_notification_does_not_tell_of_its_subscription() {
        let told = |text: &str| notification(text.as_bytes());
        let changed = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":1}}}"#;
        let plain = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;
        assert_eq!(told(changed).as_deref(), Some(plain));
        let updated = r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":1},"uri":"a://b"}}"#;
        let plain =
            r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"a://b"}}"#;
        assert_eq!(told(updated).as_deref(), Some(plain));
        let progress = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":0.50}}"#;
        assert_eq!(told(progress).as_deref(), Some(progress));
        assert_eq!(
            told(r#"{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{}}"#),
            None
        );
        assert_eq!(told("no JSON"), None);
    }

    #[test]
    fn kinds_of_results_are_told_apart() {
        let of = |text: &str| kind(&serde_json::from_str(text).unwrap());
        assert_eq!(of("{}"), Kind::Complete);
        assert_eq!(of(r#"{"resultType":"complete"}"#), Kind::Complete);
        assert_eq!(of(r#"{"resultType":"input_required"}"#), Kind::InputRequired);
        assert_eq!(of(r#"{"resultType":"task"}"#), Kind::Other("task".to_owned()));
    }
}
