//! Anonymous visitors: each has a workspace of the own, comes back to it, and to nobody else's.

use http::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Sidecar, World, call, running, world};

const PATH: &str = "/public/mcp";
const ENABLED: &str = "visitors: {enabled: true, tier: free, most: 2}\nwake: {timeout: 1s}";

async fn send(world: &World, method: Method, extra: &[(&str, &str)], body: &Value) -> Answer {
    let mut headers =
        vec![("content-type", "application/json"), ("accept", "application/json, text/event-stream")];
    headers.extend(extra);
    let body = if method == Method::POST { body.to_string() } else { String::new() };
    world.client.send(method, PATH, &headers, body).await
}

async fn post(world: &World, extra: &[(&str, &str)]) -> Answer {
    send(world, Method::POST, extra, &call(5)).await
}

/// A new visitor's credential, by the endpoint for it.
async fn new(world: &World) -> String {
    let answer = world.client.send(Method::POST, "/public/visitors", &[], "").await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()["visitor"].as_str().unwrap().to_owned()
}

/// Starts the workspace of a visitor whose first request has made it.
async fn start(world: &World, workspace: &Value) -> Sidecar {
    let name = workspace["metadata"]["name"].as_str().unwrap();
    let sidecar = world.sidecar(workspace["metadata"]["uid"].as_str().unwrap()).await;
    world.cluster.set_status(name, running("pod-1", &sidecar.endpoint(), "Ready"));
    world.until_seen().await;
    sidecar
}

/// A visitor whose workspace runs.
async fn settled(world: &World) -> (String, Sidecar) {
    let credential = new(world).await;
    let known = world.cluster.of_visitors();
    assert_eq!(post(world, &[("dexorder-visitor", &credential)]).await.reason(), "WorkspaceStarting");
    let made = world.cluster.of_visitors().into_iter().find(|workspace| !known.contains(workspace)).unwrap();
    let sidecar = start(world, &made).await;
    (credential, sidecar)
}

#[tokio::test]
async fn where_there_are_no_visitors_the_paths_do_not_exist() {
    let world = world("").await;
    assert_eq!(post(&world, &[]).await.status, 404);
    assert_eq!(world.client.send(Method::POST, "/public/visitors", &[], "").await.status, 404);
}

#[tokio::test]
async fn the_first_request_makes_a_visitor_with_a_workspace_that_ends() {
    let world = world(ENABLED).await;
    let first = post(&world, &[]).await;
    assert_eq!((first.status, first.reason().as_str()), (503, "WorkspaceStarting"));
    let credential = first.header("dexorder-visitor").to_owned();
    let cookie = first.header("set-cookie");
    assert!(cookie.starts_with(&format!("__Host-dexorder-visitor={credential}; Path=/;")), "{cookie}");
    let workspaces = world.cluster.of_visitors();
    let workspace = &workspaces[0];
    assert_eq!(workspace["spec"]["tier"], "free");
    assert_eq!(workspace["spec"]["auth"], json!({"mode": "Public"}));
    assert_eq!(workspace["metadata"]["labels"]["dexorder.io/anonymous"], "true");
    let sidecar = start(&world, workspace).await;
    let user = workspace["spec"]["userId"].as_str().unwrap();
    for extra in [
        ("dexorder-visitor", credential.clone()),
        ("cookie", format!("a=b; __Host-dexorder-visitor={credential}")),
        ("authorization", format!("Bearer {credential}")),
    ] {
        let answer = post(&world, &[(extra.0, &extra.1), ("dexorder-session", "s")]).await;
        assert_eq!((answer.status, answer.json()["result"]["user"].as_str()), (200, Some(user)), "{extra:?}");
        assert_eq!((answer.header("dexorder-visitor"), answer.header("set-cookie")), ("", ""));
        assert_eq!(answer.header("dexorder-session"), "session-of-the-workspace");
    }
    for seen in sidecar.seen() {
        assert_eq!(seen.headers["dexorder-session"], "s");
        for name in ["dexorder-visitor", "cookie", "authorization"] {
            assert!(!seen.headers.contains_key(name), "{name} went on");
        }
    }
    assert_eq!(world.cluster.of_visitors().len(), 1);
    assert_eq!(world.metric("dexorder_gateway_visitors_total").await, "1");
    assert_eq!(world.metric("dexorder_gateway_anonymous_workspaces").await, "1");
}

#[tokio::test]
async fn a_visitor_reaches_nobody_elses_workspace() {
    let world = world(ENABLED).await;
    let ((first, of_first), (second, of_second)) = (settled(&world).await, settled(&world).await);
    assert_eq!(post(&world, &[("dexorder-visitor", &first)]).await.status, 200);
    assert_eq!(post(&world, &[("dexorder-visitor", &second)]).await.status, 200);
    assert_eq!((of_first.seen().len(), of_second.seen().len()), (1, 1));
    // Not by its name either, and not as a user.
    let name = world.cluster.of_visitors()[0]["metadata"]["name"].as_str().unwrap().to_owned();
    let by_name = format!("/workspaces/{name}/mcp");
    let bearer = format!("Bearer {first}");
    for (path, status) in [(by_name.as_str(), 404), ("/mcp", 401)] {
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
            ("accept", "application/json, text/event-stream"),
        ];
        let answer = world.client.send(Method::POST, path, &headers, call(1).to_string()).await;
        assert_eq!(answer.status, status, "{path}");
    }
    for forged in ["", "nonsense", &first[1..], &format!("{}{}", &first[..40], &second[40..])] {
        let answer = post(&world, &[("dexorder-visitor", forged)]).await;
        assert_eq!((answer.status, answer.reason().as_str()), (401, "Unauthenticated"), "{forged}");
        assert_eq!(answer.header("www-authenticate"), "Visitor");
    }
    // A user's token is no visitor.
    let token = format!("Bearer {}", world.token("trader1"));
    assert_eq!(post(&world, &[("authorization", &token)]).await.status, 401);
    assert_eq!((of_first.seen().len(), of_second.seen().len()), (1, 1));
    assert_eq!(world.cluster.of_visitors().len(), 2);
}

#[tokio::test]
async fn an_old_style_session_brings_its_visitor_back() {
    let world = world(ENABLED).await;
    let (credential, sidecar) = settled(&world).await;
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}});
    let own = ("dexorder-visitor", credential.as_str());
    let session = send(&world, Method::POST, &[own], &message).await.header("mcp-session-id").to_owned();
    assert!(!session.is_empty());
    let old = ("mcp-protocol-version", "2025-11-25");
    let id = ("mcp-session-id", session.as_str());
    for extra in [&[old, id][..], &[old, id, own]] {
        assert_eq!(post(&world, extra).await.status, 200, "{extra:?}");
    }
    let seen = sidecar.seen();
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|seen| !seen.headers.contains_key("mcp-session-id")));
    // With another visitor, at another path, or in parts it is nobody's.
    let other = new(&world).await;
    let part = session.split_once('.').unwrap().1;
    for extra in [
        &[old, id, ("dexorder-visitor", other.as_str())][..],
        &[old, ("mcp-session-id", part)],
        &[old, ("mcp-session-id", part), own],
    ] {
        let answer = post(&world, extra).await;
        assert_eq!((answer.status, answer.reason().as_str()), (404, "NotFound"), "{extra:?}");
    }
    assert_eq!(send(&world, Method::DELETE, &[old, id], &json!({})).await.status, 405);
    assert_eq!(sidecar.seen().len(), 3);
}

#[tokio::test]
async fn only_a_request_makes_a_visitor() {
    let world = world(ENABLED).await;
    for method in [Method::GET, Method::DELETE] {
        let answer = send(&world, method, &[], &json!({})).await;
        assert_eq!((answer.status, answer.reason().as_str()), (400, "InvalidRequest"));
    }
    for body in [json!({"jsonrpc": "2.0", "method": "notifications/initialized"}), json!([]), json!({})] {
        let answer = send(&world, Method::POST, &[], &body).await;
        assert_eq!((answer.status, answer.header("set-cookie")), (400, ""));
    }
    assert_eq!(world.metric("dexorder_gateway_visitors_total").await, "0");
    assert_eq!(world.cluster.count(), 0);
}

#[tokio::test]
async fn a_flood_of_visitors_costs_a_bounded_number_of_workspaces() {
    let limits = "visitors: {enabled: true, tier: free, most: 2, newPerMinute: {perAddress: 4, inAll: 5}}\n\
                  limits: {trustedProxies: ['127.0.0.0/8']}\nwake: {timeout: 1s}";
    let world = world(limits).await;
    let from = async |address: &str| post(&world, &[("x-forwarded-for", address)]).await;
    let statuses: Vec<_> = futures::future::join_all((0..6).map(|_| from("192.0.2.1"))).await;
    let count = |reason: &str| statuses.iter().filter(|answer| answer.reason() == reason).count();
    assert_eq!((count("WorkspaceStarting"), count("TooManyRequests")), (2, 4));
    assert!(statuses.iter().all(|answer| !answer.header("retry-after").is_empty()));
    let mut full: Vec<_> = statuses.iter().map(|answer| answer.status).collect();
    full.sort_unstable();
    assert_eq!(full, [429, 429, 503, 503, 503, 503]);
    assert_eq!(from("192.0.2.2").await.status, 503, "there is no room");
    assert_eq!(from("192.0.2.3").await.status, 429, "as many have come as may");
    assert_eq!(world.cluster.of_visitors().len(), 2);
}

#[tokio::test]
async fn a_visitors_requests_are_limited() {
    let world = world("visitors: {enabled: true, requestsPerMinute: 2}\nwake: {timeout: 1s}").await;
    let credential = new(&world).await;
    let own = [("dexorder-visitor", credential.as_str())];
    let statuses = [post(&world, &own).await, post(&world, &own).await, post(&world, &own).await];
    assert_eq!(statuses.map(|answer| answer.status), [503, 503, 429]);
}

#[tokio::test]
async fn a_cookie_that_does_not_hold_is_taken_back() {
    let world = world(ENABLED).await;
    let answer = post(&world, &[("cookie", "__Host-dexorder-visitor=old")]).await;
    assert_eq!(answer.status, 401);
    assert!(answer.header("set-cookie").contains("Max-Age=0"));
}

#[tokio::test]
async fn another_site_of_the_domain_makes_nobody_its_visitor() {
    let world = world(ENABLED).await;
    let (own, own_sidecar) = settled(&world).await;
    let (planted, sidecar) = settled(&world).await;
    // A cookie for the whole domain can't have the name, and beside the browser's own it is told.
    let answer = post(&world, &[("cookie", &format!("dexorder-visitor={planted}"))]).await;
    assert_eq!((answer.status, answer.reason().as_str()), (503, "TooManyRequests"), "a new visitor");
    let both = format!("__Host-dexorder-visitor={planted}; __Host-dexorder-visitor={own}");
    assert_eq!(post(&world, &[("cookie", &both)]).await.status, 401);
    assert_eq!((sidecar.seen().len(), own_sidecar.seen().len()), (0, 0));
}
