//! Old clients of workspaces whose users the gateway doesn't know.

use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};

use super::newest::Newest;
use super::{Events, all_capabilities, text};
use crate::client::{Answer, full};
use crate::direct::{self, PASSWORD};
use crate::sidecar::{Place, Sidecar};

fn message(id: impl Into<Value>, method: &str, params: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": id.into(), "method": method, "params": params}).to_string()
}

fn introduction() -> String {
    let info = json!({"name": "test", "version": "1"});
    let params =
        json!({"protocolVersion": "2025-11-25", "capabilities": all_capabilities(), "clientInfo": info});
    message(1, "initialize", &params)
}

fn of_session(mut headers: HeaderMap, session: &str) -> HeaderMap {
    headers.insert("mcp-protocol-version", "2025-11-25".parse().unwrap());
    headers.insert("mcp-session-id", session.parse().unwrap());
    headers
}

fn session_of(answer: &Answer) -> String {
    assert_eq!(answer.status, StatusCode::OK);
    answer.header("mcp-session-id").unwrap().to_owned()
}

fn accepted(question: &Value) -> String {
    let result = json!({"action": "accept", "content": {"name": "Ada"}});
    json!({"jsonrpc": "2.0", "id": question["id"], "result": result}).to_string()
}

#[tokio::test]
async fn a_visitor_may_answer_what_a_read_only_tool_asks_and_end_the_session() {
    let public = [("DEXORDER_AUTH_MODE", "Public"), ("DEXORDER_ACCESS", "ReadOnly")];
    let sidecar = Sidecar::start_with(Place::new(), &public).await;
    let agent = Newest::start(&sidecar.place.socket());
    sidecar.ready().await;
    let by = |session: &str| of_session(sidecar.place.bare_headers("anonymous"), session);
    let headers = sidecar.place.bare_headers("anonymous");
    let begun = sidecar.request(Method::POST, headers, full(introduction())).await;
    assert!(begun.header("dexorder-session").is_some(), "the visitor's own session");
    let session = session_of(&begun);
    let call = message(5, "tools/call", &json!({"name": "greet", "arguments": {}}));
    let answer = sidecar.request(Method::POST, by(&session), full(call)).await;
    assert!(answer.header("dexorder-session").is_some());
    let mut events = Events::of(answer);
    let question = events.message().await;
    let told = sidecar.request(Method::POST, by(&session), full(accepted(&question))).await;
    assert_eq!(told.status, StatusCode::ACCEPTED);
    assert_eq!(text(&events.message().await), "Hello, Ada");
    let other = message(6, "tools/call", &json!({"name": "plain"}));
    let refused = sidecar.request(Method::POST, by(&session), full(other)).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let level = message(7, "logging/setLevel", &json!({"level": "info"}));
    assert_eq!(sidecar.request(Method::POST, by(&session), full(level)).await.status, StatusCode::OK);
    let ended = sidecar.request(Method::DELETE, by(&session), full("")).await;
    assert_eq!(ended.status, StatusCode::NO_CONTENT);
    agent.check();
}

#[tokio::test]
async fn each_request_of_a_session_needs_a_proof_of_its_own_and_it_covers_the_clients_own_body() {
    let (sidecar, agent) = direct::with_passwords(&[]).await;
    agent.kill();
    let agent = Newest::start(&sidecar.place.socket());
    sidecar.ready().await;
    let client = direct::log_in(&sidecar, direct::password(PASSWORD)).await;
    let headers = |method: &Method, body: &str, session: &str| {
        let mut headers = client.headers(&sidecar, method, body);
        headers.remove("mcp-protocol-version");
        if session.is_empty() { headers } else { of_session(headers, session) }
    };
    let post = async |body: &str, session: &str| {
        let headers = headers(&Method::POST, body, session);
        sidecar.request(Method::POST, headers, full(body.to_owned())).await
    };
    let session = session_of(&post(&introduction(), "").await);
    let call = message(5, "tools/call", &json!({"name": "greet", "arguments": {}}));
    let mut events = Events::of(post(&call, &session).await);
    let question = events.message().await;
    // An answer that the gateway made up, or one that it sends twice, has no proof that holds.
    let forged = accepted(&question).replace("Ada", "Eve");
    let stolen = headers(&Method::POST, &accepted(&question), &session);
    let answer = sidecar.request(Method::POST, stolen.clone(), full(forged)).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    let answer = sidecar.request(Method::POST, stolen.clone(), full(accepted(&question))).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    assert_eq!(text(&events.message().await), "Hello, Ada");
    let again = sidecar.request(Method::POST, stolen, full(accepted(&question))).await;
    assert_eq!(again.status, StatusCode::UNAUTHORIZED);
    // A proof is given back if the request was not begun.
    agent.check();
    sidecar.drain(json!({"mode": "Force"})).await;
    let ping = message(6, "ping", &json!({}));
    let headers = headers(&Method::POST, &ping, &session);
    for _ in 0..2 {
        let refused = sidecar.request(Method::POST, headers.clone(), full(ping.clone())).await;
        assert_eq!(refused.header("dexorder-reason"), Some("Draining"));
        assert!(refused.json().await["error"]["data"]["run"].is_string());
    }
}
