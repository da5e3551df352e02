//! What a client of an old revision asks for, and what the agent and the client see of it.

use std::sync::atomic::Ordering;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Client, Events, all_capabilities, started, text};
use crate::client::full;
use crate::sidecar::USER;

#[tokio::test]
async fn a_client_begins_as_its_revision_says_and_the_agent_is_only_asked_what_it_is() {
    let (sidecar, agent) = started().await;
    for (revision, given) in [
        ("2025-11-25", "2025-11-25"),
        ("2025-06-18", "2025-06-18"),
        ("2025-03-26", "2025-03-26"),
        ("1999-01-01", "2025-11-25"),
    ] {
        let client = Client { sidecar: &sidecar, revision, session: None };
        let answer = client.initialize(&all_capabilities()).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(answer.header("mcp-session-id").is_some());
        let result = answer.json().await["result"].take();
        assert_eq!(
            result,
            json!({
                "protocolVersion": given,
                "capabilities": {
                    "tools": {"listChanged": true}, "prompts": {"listChanged": true},
                    "resources": {"subscribe": true, "listChanged": true}, "completions": {}, "logging": {},
                },
                "serverInfo": {"name": "newest", "version": "7"},
                "instructions": "be brief",
            })
        );
        let meta = agent.last()["params"]["_meta"].clone();
        assert_eq!(
            meta["io.modelcontextprotocol/clientCapabilities"],
            json!({"roots": {}, "sampling": {}, "elicitation": {"form": {}, "url": {}}})
        );
        assert_eq!(meta["io.modelcontextprotocol/clientInfo"], json!({"name": "test", "version": "1"}));
    }
    assert_eq!(agent.methods(), ["server/discover"; 4]);
    for params in [json!({}), json!({"protocolVersion": "2025-11-25", "capabilities": [], "clientInfo": {}})]
    {
        let client = Client { sidecar: &sidecar, revision: "2025-11-25", session: None };
        let answer = client.send(1, "initialize", params).await;
        assert_eq!((answer.status, answer.header("mcp-session-id")), (StatusCode::OK, None));
        assert_eq!(answer.json().await["error"]["code"], -32602);
    }
    agent.check();
}

#[tokio::test]
async fn what_the_session_keeps_is_answered_without_the_agent() {
    let (sidecar, agent) = started().await;
    let client = Client::connect(&sidecar, &json!({})).await;
    for (method, params) in [
        ("ping", json!({})),
        ("logging/setLevel", json!({"level": "error"})),
        ("resources/subscribe", json!({"uri": "a://b"})),
        ("resources/unsubscribe", json!({"uri": "a://b"})),
    ] {
        assert_eq!(client.result(method, params).await, json!({}), "{method}");
    }
    for (method, params, code) in [
        ("logging/setLevel", json!({"level": "loud"}), -32602),
        ("resources/subscribe", json!({"uri": 7}), -32602),
        ("server/discover", json!({}), -32601),
        ("subscriptions/listen", json!({}), -32601),
        ("tasks/list", json!({}), -32601),
    ] {
        assert_eq!(client.error(method, params).await["code"], code, "{method}");
    }
    assert_eq!(agent.methods(), ["server/discover"]);
    agent.check();
}

#[tokio::test]
async fn requests_get_what_the_newest_revision_demands_and_results_lose_what_is_its_own() {
    let (sidecar, agent) = started().await;
    let client = Client::connect(&sidecar, &all_capabilities()).await;
    let listed = client.result("tools/list", json!({})).await;
    assert_eq!(listed["nextCursor"], "2");
    assert_eq!(listed.as_object().unwrap().len(), 2, "{listed}");
    assert_eq!(listed["tools"][0], json!({"name": "plain", "inputSchema": {"type": "object"}}));
    assert_eq!(client.result("tools/list", json!({"cursor": "2"})).await, json!({"tools": []}));
    let big = json!({"name": "plain", "arguments": {"z": 1, "a": {"y": 2.50}}, "task": {"ttl": 1}, "_meta": {"own": 1}});
    let called = client.result("tools/call", big).await;
    assert_eq!(
        called,
        json!({"content": [], "structuredContent": {"result": [1, 2]}, "z": {"z": 1, "a": {"y": 2.50}}})
    );
    assert_eq!(agent.last()["params"]["_meta"]["own"], 1);
    assert_eq!(
        client.result("resources/list", json!({"cursor": "c"})).await,
        json!({"resources": [{"uri": "a://b", "name": "b"}], "nextCursor": "c"})
    );
    assert_eq!(client.result("resources/templates/list", json!({})).await, json!({"resourceTemplates": []}));
    assert_eq!(
        client.result("resources/read", json!({"uri": "a://b"})).await,
        json!({"contents": [{"uri": "a://b", "text": "text"}]})
    );
    let missing = client.error("resources/read", json!({"uri": "a://ü"})).await;
    assert_eq!((&missing["code"], &missing["data"]["uri"]), (&json!(-32002), &json!("a://ü")));
    assert_eq!(client.result("prompts/list", json!({})).await, json!({"prompts": []}));
    let argument =
        json!({"ref": {"type": "ref/prompt", "name": "p"}, "argument": {"name": "a", "value": "pa"}});
    assert_eq!(
        client.result("completion/complete", argument).await,
        json!({"completion": {"values": ["pa"]}})
    );
    assert_eq!(client.error("own/method", json!({})).await["code"], -32601);
    assert_eq!(client.error("tools/call", json!({"name": "needs"})).await["code"], -32600);
    let failed = client.result("tools/call", json!({"name": "extension"})).await;
    assert_eq!(failed["isError"], true);
    agent.check();
}

#[tokio::test]
async fn arguments_that_a_tool_wants_in_headers_stand_there() {
    let (sidecar, agent) = started().await;
    let client = Client::connect(&sidecar, &json!({})).await;
    let route = |region: &str| json!({"name": "route", "arguments": {"region": region}});
    // Nothing was listed yet, so the list is fetched first, and once.
    for region in ["eu", "über-see", " padded "] {
        assert_eq!(client.result("tools/call", route(region)).await["content"][0]["text"], region);
    }
    let without = client.result("tools/call", json!({"name": "route"})).await;
    assert_eq!(without["content"][0]["text"], "none");
    let lists = || agent.methods().iter().filter(|method| *method == "tools/list").count();
    assert_eq!(lists(), 2, "one list of two pages");
    agent.state.renamed.store(true, Ordering::SeqCst);
    // The agent refuses the header of before; the client sees none of it.
    assert_eq!(client.result("tools/call", route("us")).await["content"][0]["text"], "us");
    assert_eq!(client.result("tools/call", route("us")).await["content"][0]["text"], "us");
    assert_eq!(lists(), 4);
    agent.check();
}

#[tokio::test]
async fn progress_and_log_messages_come_on_the_calls_own_stream() {
    let (sidecar, agent) = started().await;
    let client = Client::connect(&sidecar, &json!({})).await;
    let call = json!({"name": "progress", "arguments": {}, "_meta": {"progressToken": "p"}});
    let mut events = Events::of(client.send("a", "tools/call", call.clone()).await);
    let mut methods = Vec::new();
    while let Some(message) = events.next().await {
        match message["method"].as_str() {
            Some(method) => methods.push(method.to_owned()),
            None => assert_eq!((&message["id"], text(&message)), (&json!("a"), "done")),
        }
        assert!(message["result"]["resultType"].is_null() && message["result"]["_meta"].is_null());
    }
    assert_eq!(methods, ["notifications/message", "notifications/progress"]);
    assert_eq!(client.result("logging/setLevel", json!({"level": "error"})).await, json!({}));
    let mut events = Events::of(client.send("b", "tools/call", call).await);
    assert_eq!(events.message().await["method"], "notifications/progress");
    assert_eq!(agent.last()["params"]["_meta"]["io.modelcontextprotocol/logLevel"], "error");
    agent.check();
}

#[tokio::test]
async fn a_request_without_a_session_stands_alone() {
    let (sidecar, agent) = started().await;
    for revision in ["2025-11-25", "2025-03-26"] {
        let client = Client { sidecar: &sidecar, revision, session: None };
        assert_eq!(client.result("tools/call", json!({"name": "plain"})).await["content"], json!([]));
        let asked = client.result("tools/call", json!({"name": "greet"})).await;
        assert_eq!(asked["isError"], true);
        assert_eq!(client.error("logging/setLevel", json!({"level": "info"})).await["code"], -32600);
        let answer = json!({"jsonrpc": "2.0", "id": "x", "result": {}});
        assert_eq!(client.post(&answer).await.status, StatusCode::BAD_REQUEST);
        let ended = sidecar.request(Method::DELETE, client.headers(), full("")).await;
        assert_eq!(
            (ended.status, ended.header("allow")),
            (StatusCode::METHOD_NOT_ALLOWED, Some("POST, GET"))
        );
    }
    // Not even a revision is named.
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "prompts/list"});
    let answer =
        sidecar.request(Method::POST, sidecar.place.bare_headers(USER), full(list.to_string())).await;
    assert_eq!(answer.json().await["result"], json!({"prompts": []}));
    agent.check();
}

#[tokio::test]
async fn a_body_of_the_newest_revision_needs_its_header() {
    let (sidecar, agent) = started().await;
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {},
    });
    let list =
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}}).to_string();
    let bare = sidecar.place.bare_headers(USER);
    let answer = sidecar.request(Method::POST, bare, full(list.clone())).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    let body: Value = answer.json().await;
    assert_eq!((&body["id"], &body["error"]["code"]), (&json!(1), &json!(-32020)));
    assert_eq!(agent.methods(), Vec::<String>::new());
    // To a client of an older revision those members mean nothing.
    let old = Client { sidecar: &sidecar, revision: "2025-11-25", session: None };
    let answer = sidecar.request(Method::POST, old.headers(), full(list.clone())).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(answer.json().await["result"]["resultType"].is_null());
    let mut headers = sidecar.place.bare_headers(USER);
    for version in ["2025-11-25", "2026-07-28"] {
        headers.append("mcp-protocol-version", version.parse().unwrap());
    }
    assert_eq!(sidecar.request(Method::POST, headers, full(list)).await.status, StatusCode::BAD_REQUEST);
    agent.check();
}

#[tokio::test]
async fn what_is_no_message_is_refused() {
    let (sidecar, agent) = started().await;
    let client = Client { sidecar: &sidecar, revision: "2025-11-25", session: None };
    for body in [
        r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#,
        "{}",
        "",
        r#"{"jsonrpc":"2.0","id":{},"method":"x"}"#,
    ] {
        let answer = sidecar.request(Method::POST, client.headers(), full(body)).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
        assert_eq!(answer.json().await["error"]["data"]["reason"], "InvalidRequest");
    }
    let large = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{}"}}"#, "x".repeat(9 * 1024 * 1024));
    let answer = sidecar.request(Method::POST, client.headers(), full(large)).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(agent.methods(), Vec::<String>::new());
}

#[tokio::test]
async fn large_messages_pass_one_after_the_other_and_too_large_ones_do_not() {
    const MIB: usize = 1024 * 1024;
    let (sidecar, agent) = started().await;
    let client = Client::connect(&sidecar, &json!({})).await;
    let call = async |own: usize, size: usize| {
        let call = json!({"name": "large", "arguments": {"size": size, "own": "y".repeat(own)}});
        client.send(1, "tools/call", call).await
    };
    let calls = futures::future::join_all((0..4).map(|_| async {
        let answer = call(2 * MIB, 3 * MIB).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(text(&answer.json().await).len(), 3 * MIB);
    }));
    tokio::time::timeout(super::SOON * 3, calls).await.expect("they waited for one another for ever");
    let refused = call(4 * MIB, 1).await;
    assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE, "the agent's limit is told as such");
    assert_eq!(refused.json().await["error"]["data"]["reason"], "RequestTooLarge");
    assert_eq!(call(1, 9 * MIB).await.status, StatusCode::BAD_GATEWAY);
    agent.check();
}
