//! What is refused before any workspace is touched, and how the client is told.

use http::Method;
use serde_json::{Value, json};

use crate::support::{Answer, World, call, world};

const MCP: &[(&str, &str)] =
    &[("content-type", "application/json"), ("accept", "application/json, text/event-stream")];

async fn post(world: &World, extra: &[(&str, &str)], body: impl Into<bytes::Bytes>) -> Answer {
    let authorization = format!("Bearer {}", world.token("trader1"));
    let mut headers = MCP.to_vec();
    headers.push(("authorization", &authorization));
    for (name, value) in extra {
        headers.retain(|(known, _)| known != name);
        headers.push((name, value));
    }
    world.client.send(Method::POST, "/mcp", &headers, body).await
}

#[tokio::test]
async fn without_a_token_nothing_is_made_and_the_client_learns_where_to_get_one() {
    let world = world("").await;
    let answer = world.client.send(Method::POST, "/mcp", MCP, call(7).to_string()).await;
    assert_eq!(answer.status, 401);
    assert_eq!(
        answer.header("www-authenticate"),
        "Bearer resource_metadata=\"https://gw.example/.well-known/oauth-protected-resource/mcp\""
    );
    assert_eq!(answer.json()["id"], 7);
    assert_eq!(answer.reason(), "Unauthenticated");
    assert_eq!(world.cluster.count(), 0);
    assert_eq!(world.metric("dexorder_gateway_auth_failures_total{reason=\"missing\"}").await, "1");
}

#[tokio::test]
async fn a_token_that_does_not_hold_is_refused_with_the_reason_and_not_shown() {
    let world = world("").await;
    for (change, expected) in [
        (json!({"exp": 1}), "the token has expired"),
        (json!({"aud": "https://other.example"}), "the token is meant for another audience"),
        (json!({"iss": "https://evil.example"}), "the token comes from an issuer that is not trusted here"),
    ] {
        let token = world.token_with(&change);
        let answer = world.client.post(&token, &call(1)).await;
        assert_eq!(answer.status, 401);
        let challenge = answer.header("www-authenticate");
        assert!(challenge.starts_with("Bearer error=\"invalid_token\""), "{challenge}");
        assert!(challenge.contains(&format!("error_description=\"{expected}\"")), "{challenge}");
        assert!(challenge.contains("resource_metadata="), "{challenge}");
        assert_eq!(answer.message(), expected);
        assert!(!answer.text().contains(&token) && !challenge.contains(&token));
    }
    let in_query = format!("/mcp?access_token={}", world.token("trader1"));
    assert_eq!(world.client.send(Method::POST, &in_query, MCP, call(1).to_string()).await.status, 401);
    assert_eq!(world.cluster.count(), 0);
}

#[tokio::test]
async fn bodies_that_are_no_single_message_are_refused() {
    let world = world("limits: {requestBody: 2KiB}").await;
    for (body, status, code) in [
        (&b"{"[..], 400, -32_700),
        (b"", 400, -32_700),
        (b"\xff\xfe", 400, -32_700),
        (br#"[{"jsonrpc":"2.0","id":1,"method":"x"}]"#, 400, -32_600),
        (br#"{"id":5,"method":"x"}"#, 400, -32_600),
        (&[b' '; 3000], 413, -32_600),
    ] {
        let answer = post(&world, &[], body.to_vec()).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        assert_eq!(answer.json()["error"]["code"], code);
        assert_eq!(answer.json()["jsonrpc"], "2.0");
    }
    let large = post(&world, &[], vec![b' '; 8 * 1024 * 1024]).await;
    assert_eq!(
        (large.status, large.reason().as_str()),
        (413, "RequestTooLarge"),
        "a client that still sends is told"
    );
    let named = post(&world, &[], r#"{"id":5,"method":"x"}"#).await;
    assert_eq!(named.json()["id"], 5);
    assert_eq!(world.cluster.count(), 0);
}

#[tokio::test]
async fn wrong_paths_methods_and_media_types_are_refused_in_the_same_form() {
    let world = world("").await;
    let body = || call(1).to_string();
    let token = format!("Bearer {}", world.token("trader1"));
    for (answer, status) in [
        (world.client.get("/elsewhere").await, 404),
        (world.client.send(Method::PUT, "/mcp", MCP, body()).await, 405),
        (post(&world, &[("content-type", "text/plain")], body()).await, 415),
        (post(&world, &[("accept", "application/json")], body()).await, 406),
        (
            world
                .client
                .send(Method::GET, "/mcp", &[("authorization", &token), ("accept", "text/html")], "")
                .await,
            406,
        ),
    ] {
        assert_eq!(answer.status, status, "{}", answer.text());
        assert_eq!(answer.json()["jsonrpc"], "2.0");
        assert_eq!(answer.header("dexorder-reason"), answer.reason());
    }
    assert_eq!(world.cluster.count(), 0);
}

#[tokio::test]
async fn a_name_that_is_no_text_is_refused_in_the_same_form() {
    let world = world("visitors: {enabled: true, tier: free, chat: {enabled: true}}").await;
    let token = format!("Bearer {}", world.token("trader1"));
    let headers = [MCP, &[("authorization", token.as_str())]].concat();
    for (method, path, status) in [
        (Method::POST, "/workspaces/%FF/mcp", 404),
        (Method::GET, "/workspaces/%C3%28/direct/key", 404),
        (Method::POST, "/workspaces/%FF/direct/session", 404),
        (Method::POST, "/workspaces/..%2F..%2Fmcp/mcp", 404),
        (Method::POST, "/workspaces/of-trader1%00/mcp", 404),
        (Method::GET, "/v1/conversations/%FF", 400),
        (Method::DELETE, "/v1/conversations/%FF", 400),
        (Method::GET, "/v1/conversations/x?last=all", 400),
    ] {
        let answer = world.client.send(method, path, &headers, call(1).to_string()).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert!(answer.json()["error"]["message"].is_string(), "{path}: {}", answer.text());
        let foreign = [headers.as_slice(), &[("origin", "https://evil.example")]].concat();
        let answer = world.client.send(Method::POST, path, &foreign, call(1).to_string()).await;
        assert_eq!(answer.status, 403, "{path} from another page: {}", answer.text());
    }
    assert_eq!(world.cluster.count(), 0);
}

#[tokio::test]
async fn what_is_no_authorization_is_a_bad_request_and_no_login_helps() {
    let world = world("").await;
    let token = world.token("trader1");
    let good = format!("Bearer {token}");
    for (values, status, challenge) in [
        (&["Bearer"][..], 400, "Bearer error=\"invalid_request\""),
        (&["Bearer "], 400, "Bearer error=\"invalid_request\""),
        (&[good.as_str(), good.as_str()], 400, "Bearer error=\"invalid_request\""),
        (&["Basic dHJhZGVyMTp4"], 401, "Bearer resource_metadata="),
        (&["Bearer x"], 401, "Bearer error=\"invalid_token\""),
    ] {
        let mut headers = MCP.to_vec();
        headers.extend(values.iter().map(|value| ("authorization", *value)));
        let answer = world.client.send(Method::POST, "/mcp", &headers, call(9).to_string()).await;
        assert_eq!((answer.status, answer.json()["id"].clone()), (status, json!(9)), "{values:?}");
        assert!(
            answer.header("www-authenticate").starts_with(challenge),
            "{}",
            answer.header("www-authenticate")
        );
        let reason = if status == 400 { "InvalidRequest" } else { "Unauthenticated" };
        assert_eq!(answer.reason(), reason, "{values:?}");
    }
    assert_eq!(world.cluster.count(), 0);
}

#[tokio::test]
async fn only_listed_web_pages_may_call() {
    let world = world("allowedOrigins: ['https://chat.example.com']").await;
    let _sidecar = world.running("trader1").await;
    let foreign = post(&world, &[("origin", "https://evil.example")], call(1).to_string()).await;
    assert_eq!((foreign.status, foreign.reason().as_str()), (403, "ForbiddenOrigin"));
    let listed = post(&world, &[("origin", "https://chat.example.com")], call(1).to_string()).await;
    assert_eq!(listed.status, 200);
    assert_eq!(listed.header("access-control-allow-origin"), "https://chat.example.com");
    let asked = [("origin", "https://chat.example.com"), ("access-control-request-headers", "authorization")];
    let preflight = world.client.send(Method::OPTIONS, "/mcp", &asked, "").await;
    assert_eq!((preflight.status, preflight.header("access-control-allow-headers")), (204, "authorization"));
    let foreign = world.client.send(Method::OPTIONS, "/mcp", &[("origin", "https://evil.example")], "").await;
    assert_eq!((foreign.status, foreign.header("access-control-allow-origin")), (403, ""));
}

#[tokio::test]
async fn the_metadata_is_public_at_both_places() {
    let world = world("").await;
    for path in ["/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp"] {
        let answer = world.client.get(path).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("access-control-allow-origin"), "*");
        let document: Value = answer.json();
        assert_eq!(document["resource"], "https://gw.example/mcp");
        assert_eq!(document["authorization_servers"], json!(["https://issuer.example"]));
        assert_eq!(document["bearer_methods_supported"], json!(["header"]));
    }
    assert_eq!(world.client.get("/healthz").await.status, 200);
}
