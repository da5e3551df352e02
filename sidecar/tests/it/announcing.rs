//! Notifications of the operator's, and the streams that take none. Those that do are in `legacy/streams.rs`.

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
