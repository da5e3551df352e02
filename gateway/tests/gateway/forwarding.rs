//! What passes between client and sidecar when the workspace runs.

use bytes::Bytes;
use futures::channel::mpsc;
use http::Method;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::support::{Behaviour, call, until, world};

type Events = mpsc::UnboundedSender<Result<Bytes, std::io::Error>>;

fn stream() -> (Events, Behaviour) {
    let (sender, receiver) = mpsc::unbounded();
    (sender, Behaviour::Stream(receiver))
}

fn send(events: &Events, text: &'static str) {
    events.unbounded_send(Ok(Bytes::from_static(text.as_bytes()))).unwrap();
}

async fn next(body: &mut Incoming) -> Bytes {
    body.frame().await.unwrap().unwrap().into_data().unwrap()
}

#[tokio::test]
async fn the_sidecar_gets_the_signed_user_and_none_of_the_clients_credentials() {
    let world = world("").await;
    let sidecar = world.running("trader1").await;
    let token = format!("Bearer {}", world.token("trader1"));
    let message = call(3).to_string();
    let headers = [
        ("authorization", token.as_str()),
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
        ("cookie", "session=secret"),
        ("x-api-key", "secret"),
        ("dexorder-identity", "forged"),
        ("dexorder-user", "someone-else"),
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-param-symbol", "BTC"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ];
    let answer = world.client.send(Method::POST, "/mcp", &headers, message.clone()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["result"]["user"], "trader1");
    assert_eq!(answer.json()["id"], 3);
    assert!(!answer.header("x-request-id").is_empty());
    let seen = &sidecar.seen()[0];
    assert_eq!((&seen.method, seen.body.as_ref()), (&Method::POST, message.as_bytes()));
    assert_eq!(seen.headers["mcp-protocol-version"], "2026-07-28");
    assert_eq!(seen.headers["mcp-param-symbol"], "BTC");
    assert!(seen.headers.contains_key("traceparent"));
    for name in ["authorization", "cookie", "x-api-key", "dexorder-user"] {
        assert!(!seen.headers.contains_key(name), "{name} went on");
    }
    assert_eq!(world.cluster.touches("of-trader1"), 0);
}

#[tokio::test]
async fn users_reach_their_own_workspaces() {
    let world = world("").await;
    let (first, second) = (world.running("user1").await, world.running("user2").await);
    assert_eq!(world.call("user1").await.json()["result"]["user"], "user1");
    assert_eq!(world.call("user2").await.json()["result"]["user"], "user2");
    assert_eq!((first.seen().len(), second.seen().len()), (1, 1));
}

#[tokio::test]
async fn events_pass_one_by_one_as_they_come() {
    let world = world("").await;
    let sidecar = world.running("trader1").await;
    let (events, behaviour) = stream();
    sidecar.behave(behaviour);
    let response = world.client.open(&world.token("trader1"), &call(1)).await;
    assert_eq!(response.headers()["x-accel-buffering"], "no");
    assert_eq!(response.headers()["cache-control"], "no-store");
    assert_eq!(world.metric("dexorder_gateway_open_streams").await, "1");
    let mut body = response.into_body();
    for event in ["event: message\ndata: 1\n\n", "data: 2\n\n"] {
        send(&events, event);
        assert_eq!(next(&mut body).await, event);
    }
    drop(events);
    assert!(body.frame().await.is_none());
    until("the stream is counted as closed", async || {
        world.metric("dexorder_gateway_open_streams").await == "0"
    })
    .await;
}

#[tokio::test]
async fn a_client_that_leaves_cancels_the_request() {
    let world = world("").await;
    let sidecar = world.running("trader1").await;
    sidecar.behave(Behaviour::Silent);
    let (client, token) = (world.client.clone(), world.token("trader1"));
    let request = tokio::spawn(async move { client.post(&token, &call(1)).await });
    until("the request has arrived", async || sidecar.seen().len() == 1).await;
    request.abort();
    until("the sidecar's work is cancelled", async || sidecar.abandoned() == 1).await;

    let (events, behaviour) = stream();
    sidecar.behave(behaviour);
    let response = world.client.open(&world.token("trader1"), &call(1)).await;
    drop(response);
    until("the stream is cancelled", async || {
        // An event makes the sidecar notice.
        events.unbounded_send(Ok(Bytes::from_static(b"data: x\n\n"))).is_err()
    })
    .await;
}

#[tokio::test]
async fn a_large_message_arrives_whole() {
    let world = world("").await;
    let sidecar = world.running("trader1").await;
    let mut message = call(1);
    message["params"]["code"] = "x".repeat(3 * 1024 * 1024).into();
    assert_eq!(world.client.post(&world.token("trader1"), &message).await.status, 200);
    assert_eq!(sidecar.seen()[0].body, message.to_string());
}

#[tokio::test]
async fn what_a_sidecar_may_have_begun_is_not_sent_again() {
    let world = world("").await;
    let sidecar = world.running("trader1").await;
    sidecar.behave(Behaviour::BreakOff);
    let answer = world.call("trader1").await;
    assert_eq!((answer.status, answer.reason().as_str()), (502, "AgentUnavailable"));
    assert_eq!(answer.json()["id"], 1);
    assert_eq!(sidecar.seen().len(), 1);
}

#[tokio::test]
async fn what_the_agent_was_not_up_for_is_sent_again() {
    let world = world("").await;
    let sidecar = world.running("trader1").await;
    sidecar.behave(Behaviour::AgentStarting);
    assert_eq!(world.call("trader1").await.status, 200);
    assert_eq!(sidecar.seen().len(), 2);
}

#[tokio::test]
async fn a_sidecar_that_does_not_trust_the_gateway_is_no_fault_of_the_client() {
    let world = world("").await;
    let _sidecar = world.running("trader1").await;
    // The address went to another workspace's pod.
    let other = world.sidecar("another-workspace").await;
    world.cluster.change("of-trader1", |object| object["status"]["endpoint"] = other.endpoint().into());
    world.until_seen().await;
    let answer = world.call("trader1").await;
    assert_eq!((answer.status, answer.reason().as_str()), (503, "Unavailable"));
    assert_eq!(answer.header("www-authenticate"), "");
    assert!(other.seen().is_empty());
}
