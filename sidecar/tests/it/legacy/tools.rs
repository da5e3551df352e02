//! The tools of the agent that speaks the newest revision alone.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::newest::{Running, Seen, complete, events, failed, message};

/// Two pages; the tool `broken` must not be shown to anybody.
pub(super) fn list(params: &Value, renamed: bool) -> Value {
    let header = if renamed { "Zone" } else { "Region" };
    if params["cursor"] == "2" {
        let schema = json!({"type": "object", "x-mcp-header": "Broken"});
        return json!({"tools": [{"name": "broken", "inputSchema": schema}]});
    }
    let route =
        json!({"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": header}}});
    json!({"nextCursor": "2", "tools": [
        {"name": "plain", "inputSchema": {"type": "object"}, "outputSchema": {"type": "array"}},
        {"name": "route", "inputSchema": route},
        {"name": "greet", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": true}},
    ]})
}

pub(super) fn form(field: &str) -> Value {
    let schema = json!({"type": "object", "properties": {field: {"type": "string"}}, "required": [field]});
    let params = json!({"mode": "form", "message": format!("what {field}?"), "requestedSchema": schema});
    json!({"method": "elicitation/create", "params": params})
}

pub(super) fn ask(requests: &Value, state: Option<&str>) -> Value {
    let mut result = json!({"resultType": "input_required"});
    if !requests.is_null() {
        result["inputRequests"] = requests.clone();
    }
    if let Some(state) = state {
        result["requestState"] = json!(state);
    }
    result
}

fn text(text: &str) -> Value {
    json!({"content": [{"type": "text", "text": text}]})
}

pub(super) async fn call(state: &Arc<Seen>, headers: &HeaderMap, request: Value) -> Response {
    let params = &request["params"];
    let (responses, before) = (&params["inputResponses"], params["requestState"].as_str());
    let result = match params["name"].as_str().unwrap_or_default() {
        "plain" => json!({"content": [], "structuredContent": [1, 2], "z": params["arguments"]}),
        "route" => {
            if state.renamed.load(Ordering::SeqCst) && !headers.contains_key("mcp-param-zone") {
                let error = json!({"code": -32020, "message": "Mcp-Param-Zone is missing"});
                return failed(&request, StatusCode::BAD_REQUEST, &error);
            }
            text(params["arguments"]["region"].as_str().unwrap_or("none"))
        }
        "progress" => return progress(state, &request),
        "greet" => match (&responses["name"]["action"], &responses["name"]["content"]["name"]) {
            (Value::String(action), Value::String(name)) if action == "accept" => {
                text(&format!("Hello, {name}"))
            }
            (Value::String(action), _) => text(&format!("no name: {action}")),
            _ => ask(&json!({"name": form("name")}), None),
        },
        "many" => many(responses, before),
        "visit" if responses["page"]["action"].is_string() => {
            text(responses["page"]["action"].as_str().unwrap())
        }
        "visit" => {
            let page = json!({"mode": "url", "message": "log in", "url": "https://example.com/login"});
            ask(&json!({"page": {"method": "elicitation/create", "params": page}}), None)
        }
        "patience" => match before {
            None => ask(&Value::Null, Some("1")),
            Some("1") => ask(&Value::Null, Some("2")),
            Some(_) => text("done"),
        },
        "endless" => ask(&json!({"name": form("name")}), Some("again")),
        "large" => {
            let size = params["arguments"]["size"].as_u64().unwrap();
            text(&"x".repeat(usize::try_from(size).unwrap()))
        }
        "extension" => json!({"resultType": "task", "taskId": "1"}),
        "needs" => {
            let data = json!({"requiredCapabilities": {"sampling": {}}});
            let error = json!({"code": -32021, "message": "sampling is needed", "data": data});
            return failed(&request, StatusCode::BAD_REQUEST, &error);
        }
        "wait" => {
            let _running = Running::new(state);
            state.release.acquire().await.unwrap().forget();
            text("waited")
        }
        "stream" => {
            let (sender, receiver) = mpsc::unbounded_channel();
            sender.send(json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1, "progress": 1}})).unwrap();
            // The sender stays with the listeners: the stream has no end.
            state.listeners.lock().unwrap().push((request, sender));
            return events(receiver, Running::new(state));
        }
        _ => json!({"content": [{"type": "text", "text": "no such tool"}], "isError": true}),
    };
    complete(&request, result)
}

/// Three questions at once, then another.
fn many(responses: &Value, before: Option<&str>) -> Value {
    match before {
        None => {
            let sampling = json!({"maxTokens": 7, "messages": [{"role": "user", "content": {"type": "text", "text": "hi"}}]});
            let requests = json!({
                "name": form("name"),
                "model": {"method": "sampling/createMessage", "params": sampling},
                "roots": {"method": "roots/list"},
            });
            ask(&requests, Some("first \u{e4}\n"))
        }
        Some("first \u{e4}\n") => {
            let name = responses["name"]["content"]["name"].as_str().unwrap();
            let said = responses["model"]["content"]["text"].as_str().unwrap();
            let roots = responses["roots"]["roots"].as_array().unwrap().len();
            assert_eq!(responses.as_object().unwrap().len(), 3);
            assert!(responses["model"]["_meta"].is_null());
            ask(&json!({"color": form("color")}), Some(&format!("{name} {said} {roots}")))
        }
        Some(state) => {
            let color = responses["color"]["content"]["color"].as_str().unwrap();
            assert_eq!(responses.as_object().unwrap().len(), 1, "only this round's answers");
            text(&format!("{state} {color}"))
        }
    }
}

fn progress(state: &Arc<Seen>, request: &Value) -> Response {
    let meta = &request["params"]["_meta"];
    let (sender, receiver) = mpsc::unbounded_channel();
    let send = |method: &str, params: Value| {
        sender.send(json!({"jsonrpc": "2.0", "method": method, "params": params})).unwrap();
    };
    if meta["io.modelcontextprotocol/logLevel"] == "info"
        || meta["io.modelcontextprotocol/logLevel"] == "debug"
    {
        send("notifications/message", json!({"level": "info", "data": "begun"}));
    }
    if !meta["progressToken"].is_null() {
        send("notifications/progress", json!({"progressToken": meta["progressToken"], "progress": 50}));
    }
    sender.send(message(request, text("done"))).unwrap();
    events(receiver, Running::new(state))
}
