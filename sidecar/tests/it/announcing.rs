//! Notifications of the operator's on the streams of clients that listen.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::agent::{Agent, DO};
use crate::client::full;
use crate::sidecar::{Sidecar, USER};

const SOON: Duration = Duration::from_secs(10);

fn notice() -> Value {
    json!({"level": "notice", "message": "the workspace stops in two minutes"})
}

#[tokio::test]
async fn a_client_that_listens_is_told_between_two_events_and_stays_as_idle_as_it_was() {
    let sidecar = Sidecar::start().await;
    let agent = Agent::start(&sidecar.place.socket());
    sidecar.ready().await;
    let (status, outcome) = sidecar.control("/v1/notify", &notice()).await;
    assert_eq!((status, outcome), (StatusCode::OK, json!({"streams": 0})));

    let chunks = agent.stream();
    let mut headers = sidecar.place.user_headers(USER);
    headers.insert(DO, "stream".parse().unwrap());
    let mut stream = sidecar.request(Method::GET, headers, full("")).await;
    let before = sidecar.report().await["lastActivityTime"].clone();
    let half = Bytes::from_static(b"event: message\ndata: {\"a\"");
    let rest = Bytes::from_static(b":1}\n\n");
    chunks.send(half.clone()).await.unwrap();
    assert_eq!(timeout(SOON, stream.chunk()).await.unwrap().unwrap(), Some(half));
    let (status, outcome) = sidecar.control("/v1/notify", &notice()).await;
    assert_eq!((status, outcome), (StatusCode::OK, json!({"streams": 1})));
    // The agent's event comes whole first.
    chunks.send(rest.clone()).await.unwrap();
    assert_eq!(timeout(SOON, stream.chunk()).await.unwrap().unwrap(), Some(rest));
    let told = timeout(SOON, stream.chunk()).await.unwrap().unwrap().unwrap();
    let told = std::str::from_utf8(&told).unwrap();
    let data =
        told.strip_prefix("event: message\ndata: ").and_then(|told| told.strip_suffix("\n\n")).unwrap();
    let message: Value = serde_json::from_str(data).unwrap();
    assert_eq!(message["method"], "notifications/message");
    assert_eq!(
        message["params"],
        json!({"level": "notice", "logger": "dexorder", "data": "the workspace stops in two minutes"})
    );
    assert_eq!(message.get("id"), None);

    let report = sidecar.report().await;
    assert_eq!((&report["lastActivityTime"], &report["openStreams"]), (&before, &json!(1)));
    assert_eq!(sidecar.metric("dexorder_sidecar_notifications_total ").await, Some(1.0));
    drop(stream);
    agent.running(0).await;
    assert_eq!(sidecar.control("/v1/notify", &notice()).await.1, json!({"streams": 0}));
}

#[tokio::test]
async fn a_subscription_and_a_call_carry_only_what_was_asked_for() {
    let sidecar = Sidecar::start().await;
    let agent = Agent::start(&sidecar.place.socket());
    sidecar.ready().await;
    for method in ["subscriptions/listen", "tools/call"] {
        let chunks = agent.stream();
        let mut headers = sidecar.place.user_headers(USER);
        for (name, value) in [(DO, "stream"), ("mcp-protocol-version", "2026-07-28"), ("mcp-method", method)]
        {
            headers.insert(name, value.parse().unwrap());
        }
        let mut stream = sidecar.request(Method::POST, headers, full("{}")).await;
        assert_eq!(sidecar.control("/v1/notify", &notice()).await.1, json!({"streams": 0}), "{method}");
        let event = Bytes::from_static(b"data: 1\n\n");
        chunks.send(event.clone()).await.unwrap();
        assert_eq!(timeout(SOON, stream.chunk()).await.unwrap().unwrap(), Some(event));
        drop(chunks);
        assert_eq!(stream.chunk().await.unwrap(), None);
    }
}

#[tokio::test]
async fn what_is_no_notification_is_refused() {
    let sidecar = Sidecar::start().await;
    for request in [json!({}), json!({"level": "loud", "message": "x"}), json!([])] {
        let (status, problem) = sidecar.control("/v1/notify", &request).await;
        assert_eq!((status, &problem["reason"]), (StatusCode::BAD_REQUEST, &json!("InvalidRequest")));
    }
}
