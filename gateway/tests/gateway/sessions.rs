//! Sessions of clients of older revisions: the gateway seals their identifiers and takes no others.

use http::Method;
use serde_json::json;

use crate::support::{Answer, Behaviour, OF_AGENT, World, call, name_of, world};

async fn initialize(world: &World, user: &str) -> Answer {
    let message = json!({
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}},
    });
    world.client.post(&world.token(user), &message).await
}

async fn session(world: &World, user: &str) -> String {
    let answer = initialize(world, user).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.header("mcp-session-id").to_owned()
}

async fn send(world: &World, method: Method, user: &str, id: &str, revision: &str) -> Answer {
    let authorization = format!("Bearer {}", world.token(user));
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
        ("mcp-protocol-version", revision),
        ("mcp-session-id", id),
    ];
    let body = if method == Method::POST { call(2).to_string() } else { String::new() };
    world.client.send(method, "/mcp", &headers, body).await
}

async fn post(world: &World, user: &str, id: &str) -> Answer {
    send(world, Method::POST, user, id, "2025-11-25").await
}

#[tokio::test]
async fn a_workspace_without_sessions_sees_none_and_its_clients_have_one() {
    let world = world("").await;
    let sidecar = world.running("trader1").await;
    let id = session(&world, "trader1").await;
    assert!(!id.is_empty());
    let answer = post(&world, "trader1", &id).await;
    assert_eq!((answer.status, answer.header("mcp-session-id")), (200, ""));
    assert!(sidecar.seen().iter().all(|seen| !seen.headers.contains_key("mcp-session-id")));
    let answer = send(&world, Method::DELETE, "trader1", &id, "2025-11-25").await;
    assert_eq!((answer.status, answer.header("allow")), (405, "POST, GET"));
    assert_eq!(post(&world, "trader1", &id).await.status, 200);
}

#[tokio::test]
async fn a_workspaces_own_identifier_stays_inside() {
    let world = world("").await;
    let sidecar = world.running("trader1").await;
    sidecar.behave(Behaviour::AnswerInSession);
    let id = session(&world, "trader1").await;
    assert!(!id.contains(OF_AGENT));
    let answer = post(&world, "trader1", &id).await;
    assert_eq!((answer.status, answer.header("mcp-session-id")), (200, id.as_str()));
    assert_eq!(send(&world, Method::DELETE, "trader1", &id, "2025-11-25").await.status, 200);
    let seen = sidecar.seen();
    assert!(seen[1..].iter().all(|seen| seen.headers["mcp-session-id"] == OF_AGENT));
    assert_eq!(seen[2].method, Method::DELETE);
}

#[tokio::test]
async fn a_stolen_or_made_up_identifier_is_unknown_and_wakes_nothing() {
    let world = world("").await;
    let (first, second) = (world.running("user1").await, world.running("user2").await);
    let id = session(&world, "user1").await;
    for (user, id) in [("user2", id.as_str()), ("user1", OF_AGENT), ("user1", ""), ("user3", id.as_str())] {
        for method in [Method::POST, Method::GET, Method::DELETE] {
            let answer = send(&world, method.clone(), user, id, "2025-11-25").await;
            assert_eq!((answer.status, answer.reason().as_str()), (404, "NotFound"), "{method} {user} {id}");
            let expected = if method == Method::POST { json!(2) } else { json!(null) };
            assert_eq!(answer.json()["id"], expected);
        }
    }
    assert_eq!((first.seen().len(), second.seen().len()), (1, 0));
    assert_eq!(world.cluster.touches(&name_of("user2")), 0);
    assert_eq!(world.cluster.creates(), 0);
}

#[tokio::test]
async fn a_session_ends_with_its_workspace_and_not_with_its_pod() {
    let world = world("").await;
    let _sidecar = world.running("trader1").await;
    let id = session(&world, "trader1").await;
    // Another pod of the same workspace.
    let workspace = world.cluster.get(&name_of("trader1")).unwrap();
    let uid = workspace["metadata"]["uid"].as_str().unwrap().to_owned();
    let next = world.sidecar(&uid).await;
    world
        .cluster
        .set_status(&name_of("trader1"), crate::support::running("pod-2", &next.endpoint(), "Ready"));
    world.until_seen().await;
    assert_eq!(post(&world, "trader1", &id).await.status, 200);
    assert_eq!(next.seen().len(), 1);
    // A stopped workspace keeps nothing of a session.
    next.behave(Behaviour::AnswerInSession);
    let kept = session(&world, "trader1").await;
    world.cluster.set_status(&name_of("trader1"), crate::support::status("Suspended"));
    world.until_seen().await;
    assert_eq!(send(&world, Method::DELETE, "trader1", &kept, "2025-11-25").await.status, 404);
    // Another workspace of the same name.
    world.cluster.delete(&name_of("trader1"));
    let _other = world.running("trader1").await;
    let answer = post(&world, "trader1", &id).await;
    assert_eq!((answer.status, answer.reason().as_str()), (404, "NotFound"));
}

#[tokio::test]
async fn the_revision_without_sessions_ignores_an_identifier() {
    let world = world("").await;
    let sidecar = world.running("trader1").await;
    sidecar.behave(Behaviour::AnswerInSession);
    let answer = send(&world, Method::POST, "trader1", "anything", "2026-07-28").await;
    assert_eq!((answer.status, answer.header("mcp-session-id")), (200, ""));
    assert!(!sidecar.seen()[0].headers.contains_key("mcp-session-id"));
}

#[tokio::test]
async fn a_page_of_the_gateways_own_host_may_call() {
    let world = world("").await;
    let _sidecar = world.running("trader1").await;
    let authorization = format!("Bearer {}", world.token("trader1"));
    for (origin, status) in [("https://gw.example", 200), ("https://evil.example", 403)] {
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-type", "application/json"),
            ("accept", "application/json, text/event-stream"),
            ("origin", origin),
        ];
        let answer = world.client.send(Method::POST, "/mcp", &headers, call(1).to_string()).await;
        assert_eq!(answer.status, status, "{origin}");
    }
}
