//! Workspaces by their names: who reaches which, and what their sidecars are told.

use dexorder_protocol::jsonrpc::Reason;
use http::{Method, StatusCode};
use serde_json::json;

use crate::support::{Answer, Behaviour, World, call, name_of, world};

const MCP: &[(&str, &str)] =
    &[("content-type", "application/json"), ("accept", "application/json, text/event-stream")];

async fn post(world: &World, user: &str, extra: &[(&str, &str)]) -> Answer {
    let headers = [MCP, extra].concat();
    let path = format!("/workspaces/{}/mcp", name_of(user));
    world.client.send(Method::POST, &path, &headers, call(5).to_string()).await
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[tokio::test]
async fn a_workspace_of_mode_gateway_is_its_users_alone() {
    let world = world("").await;
    let sidecar = world.running("trader1").await;
    let (own, other) = (bearer(&world.token("trader1")), bearer(&world.token("trader2")));
    let answer = post(&world, "trader1", &[("authorization", &own)]).await;
    assert_eq!((answer.status, answer.json()["result"]["user"].as_str()), (200, Some("trader1")));
    assert!(!sidecar.seen()[0].headers.contains_key("authorization"));
    let foreign = post(&world, "trader1", &[("authorization", &other)]).await;
    assert_eq!((foreign.status, foreign.reason().as_str()), (403, "WrongUser"));
    let nobody = post(&world, "trader1", &[]).await;
    assert_eq!((nobody.status, nobody.json()["id"].clone()), (401, json!(5)));
    assert!(nobody.header("www-authenticate").starts_with("Bearer resource_metadata="));
    assert_eq!(sidecar.seen().len(), 1);
    let unknown = post(&world, "nobody", &[("authorization", &own)]).await;
    assert_eq!((unknown.status, unknown.reason().as_str()), (404, "NotFound"));
}

#[tokio::test]
async fn the_second_workspace_of_a_user_is_reached_by_its_name() {
    let world = world("").await;
    let _first = world.running("trader1").await;
    let uid = world.cluster.apply("second", "trader1");
    let second = world.sidecar(&uid).await;
    world.cluster.set_status("second", crate::support::running("pod-2", &second.endpoint(), "Ready"));
    world.until_seen().await;
    let token = bearer(&world.token("trader1"));
    let headers = [MCP, &[("authorization", token.as_str())]].concat();
    let answer =
        world.client.send(Method::POST, "/workspaces/second/mcp", &headers, call(1).to_string()).await;
    assert_eq!(answer.status, 200);
    assert_eq!(second.seen().len(), 1);
}

#[tokio::test]
async fn a_public_workspace_is_everybodys_and_sees_no_credential() {
    let world = world("").await;
    let sidecar = world.running_in_mode("shared", "Public").await;
    let token = bearer(&world.token("trader1"));
    let sent = [
        ("authorization", token.as_str()),
        ("dexorder-session", "session"),
        ("dexorder-proof", "proof"),
        ("dexorder-visitor", "visitor"),
        ("dexorder-identity", "forged"),
    ];
    let answer = post(&world, "shared", &sent).await;
    assert_eq!((answer.status, answer.json()["result"]["user"].as_str()), (200, Some("anonymous")));
    assert_eq!(answer.header("dexorder-session"), "session-of-the-workspace");
    let seen = &sidecar.seen()[0].headers;
    assert_eq!(seen["dexorder-session"], "session");
    for name in ["authorization", "dexorder-proof", "dexorder-visitor"] {
        assert!(!seen.contains_key(name), "{name} went on");
    }
    // What the sidecar says of a session is for the client; what it says of this gateway is not.
    let session = [("dexorder-session", "old")];
    sidecar.behave(Behaviour::Refuse(StatusCode::UNAUTHORIZED, Reason::CredentialRefused));
    assert_eq!(post(&world, "shared", &session).await.status, 401);
    sidecar.behave(Behaviour::Refuse(StatusCode::UNAUTHORIZED, Reason::Unauthenticated));
    assert_eq!(post(&world, "shared", &session).await.status, 503);
    sidecar.behave(Behaviour::Refuse(StatusCode::TOO_MANY_REQUESTS, Reason::TooManyRequests));
    assert_eq!(post(&world, "shared", &[]).await.status, 429);
}

#[tokio::test]
async fn to_a_workspace_of_mode_direct_the_gateway_vouches_for_nothing_but_itself() {
    let world = world("").await;
    let sidecar = world.running_in_mode("fund", "Direct").await;
    let token = bearer(&world.token("fund"));
    let sent = [("authorization", "Bearer of-the-workspace"), ("dexorder-proof", "proof"), ("cookie", "a=b")];
    let answer = post(&world, "fund", &sent).await;
    assert_eq!((answer.status, answer.json()["result"]["user"].as_str()), (200, Some("gateway")));
    let seen = &sidecar.seen()[0];
    for (name, value) in &sent[..2] {
        assert_eq!(seen.headers[*name], *value);
    }
    assert_eq!(seen.body, call(5).to_string());
    assert!(!seen.headers.contains_key("cookie"));
    // Its refusals are the client's.
    sidecar.behave(Behaviour::Refuse(StatusCode::UNAUTHORIZED, Reason::CredentialRefused));
    assert_eq!(post(&world, "fund", &sent).await.status, 401);
    // A proof is good once: it is not sent a second time.
    sidecar.behave(Behaviour::AgentStarting);
    assert_eq!(post(&world, "fund", &sent).await.status, 503);
    assert_eq!(sidecar.seen().len(), 3);
    // The user's own login does not reach it as this user, by whatever path.
    for (path, expected) in [("/mcp", 403), ("/v1/conversations", 403)] {
        let method = if path == "/mcp" { Method::POST } else { Method::GET };
        let headers = [MCP, &[("authorization", token.as_str())]].concat();
        let answer = world.client.send(method, path, &headers, call(1).to_string()).await;
        assert_eq!(answer.status, expected, "{path}: {}", answer.text());
    }
    assert_eq!(sidecar.seen().len(), 3);
}

#[tokio::test]
async fn key_and_sealed_credentials_pass_as_they_are() {
    let world = world("").await;
    let sidecar = world.running_in_mode("fund", "Direct").await;
    let path = |what: &str| format!("/workspaces/{}/direct/{what}", name_of("fund"));
    assert_eq!(world.client.get(&path("key")).await.status, 200);
    let envelope = "{\"sealed\":  \"as it is\"}";
    let json = [("content-type", "application/json")];
    assert_eq!(world.client.send(Method::POST, &path("session"), &json, envelope).await.status, 200);
    let seen = sidecar.seen();
    assert_eq!(seen[0].path, dexorder_protocol::DIRECT_KEY_PATH);
    assert_eq!(
        (seen[1].path.as_str(), seen[1].body.as_ref()),
        (dexorder_protocol::DIRECT_SESSION_PATH, envelope.as_bytes())
    );
    for (method, what) in [(Method::POST, "key"), (Method::GET, "session"), (Method::DELETE, "session")] {
        assert_eq!(world.client.send(method, &path(what), &json, envelope).await.status, 405);
    }
    let large = world.client.send(Method::POST, &path("session"), &json, vec![b' '; 70_000]).await;
    assert_eq!(large.status, 413);
    assert_eq!(sidecar.seen().len(), 2);
}

#[tokio::test]
async fn other_workspaces_have_no_key() {
    let world = world("").await;
    let (public, gateway) = (world.running_in_mode("shared", "Public").await, world.running("trader1").await);
    for user in ["shared", "trader1"] {
        for (method, what) in [(Method::GET, "key"), (Method::POST, "session")] {
            let path = format!("/workspaces/{}/direct/{what}", name_of(user));
            let answer = world.client.send(method, &path, &[], "").await;
            assert_eq!((answer.status, answer.reason().as_str()), (403, "AuthModeNotOffered"), "{path}");
        }
    }
    assert_eq!(world.client.get("/workspaces/unknown/direct/key").await.status, 404);
    assert!(public.seen().is_empty() && gateway.seen().is_empty());
}

#[tokio::test]
async fn a_client_that_logs_in_by_itself_learns_how_at_each_workspace() {
    let world = world("").await;
    let sidecar = world.running("trader1").await;
    let _other = world.running("trader2").await;
    let nobody = post(&world, "trader1", &[]).await;
    let url = "https://gw.example/.well-known/oauth-protected-resource/workspaces/of-trader1/mcp";
    assert_eq!(nobody.header("www-authenticate"), format!("Bearer resource_metadata=\"{url}\""));
    let metadata = world.client.get(url.strip_prefix("https://gw.example").unwrap()).await;
    let resource = "https://gw.example/workspaces/of-trader1/mcp";
    assert_eq!(metadata.json()["resource"], resource);
    assert_eq!(metadata.json()["authorization_servers"], json!(["https://issuer.example"]));
    // It asks for a token for this resource (RFC 8707), which is good here alone and for its user alone.
    for (user, workspace, status) in
        [("trader1", "trader1", 200), ("trader2", "trader1", 403), ("trader2", "trader2", 401)]
    {
        let token = bearer(&world.token_with(&json!({"sub": user, "aud": resource})));
        let answer = post(&world, workspace, &[("authorization", &token)]).await;
        assert_eq!(answer.status, status, "{user} at {workspace}");
    }
    let token = world.token_with(&json!({"aud": resource}));
    assert_eq!(world.client.post(&token, &call(1)).await.status, 401);
    assert_eq!(sidecar.seen().len(), 1);
    for name in ["%FF", "of%20trader1", "of%22trader1", "A"] {
        let path = format!("/.well-known/oauth-protected-resource/workspaces/{name}/mcp");
        let answer = world.client.get(&path).await;
        assert_eq!((answer.status, answer.reason().as_str()), (404, "NotFound"), "{name}");
    }
}
