//! The stream that a client opens with GET.

use std::sync::atomic::Ordering;

use http::StatusCode;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::newest::Newest;
use super::{Client, SOON, started};
use crate::sidecar::Sidecar;

fn changed(uri: &str) -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": uri}})
}

fn update(agent: &Newest, uri: &str) {
    agent.publish("notifications/resources/updated", &json!({"uri": uri}));
}

async fn notify(sidecar: &Sidecar, level: &str) -> Value {
    let notice = json!({"level": level, "message": "the workspace stops soon"});
    sidecar.control("/v1/notify", &notice).await.1["streams"].clone()
}

#[tokio::test]
async fn changes_at_the_agent_are_told_as_the_old_revisions_tell_them() {
    let (sidecar, agent) = started().await;
    let client = Client::connect(&sidecar, &json!({})).await;
    assert_eq!(client.result("resources/subscribe", json!({"uri": "a://before"})).await, json!({}));
    let mut events = client.listen().await;
    agent.running(1).await;
    agent.publish("notifications/tools/list_changed", &json!({}));
    let told = events.message().await;
    assert_eq!(told, json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}));
    // What is subscribed to while the stream is open is carried as soon as the subscription is answered.
    for (uri, other) in [("a://1", "a://other"), ("a://2", "a://1x")] {
        assert_eq!(client.result("resources/subscribe", json!({"uri": uri})).await, json!({}));
        update(&agent, other);
        update(&agent, uri);
        assert_eq!(events.message().await, changed(uri));
    }
    update(&agent, "a://before");
    assert_eq!(events.message().await, changed("a://before"));
    client.result("resources/unsubscribe", json!({"uri": "a://1"})).await;
    timeout(SOON, async {
        while agent.last()["params"]["notifications"]["resourceSubscriptions"]
            != json!(["a://2", "a://before"])
        {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the agent was never told");
    agent.running(1).await;
    update(&agent, "a://1");
    update(&agent, "a://2");
    assert_eq!(events.message().await, changed("a://2"));
    drop(events);
    agent.running(0).await;
    assert_eq!(sidecar.report().await["openStreams"], 0);
    agent.check();
}

#[tokio::test]
async fn a_stream_that_listens_is_no_activity() {
    let (sidecar, agent) = started().await;
    let client = Client::connect(&sidecar, &json!({})).await;
    let before = sidecar.report().await["lastActivityTime"].clone();
    let mut events = client.listen().await;
    agent.running(1).await;
    agent.publish("notifications/tools/list_changed", &json!({}));
    events.message().await;
    let report = sidecar.report().await;
    assert_eq!((&report["lastActivityTime"], &report["openStreams"]), (&before, &json!(1)));
    let idle = json!({"mode": "IfIdle", "idleSinceTime": before});
    assert_eq!(sidecar.drain(idle).await.0, StatusCode::OK);
    agent.check();
}

#[tokio::test]
async fn the_news_of_the_sidecar_come_between_and_by_the_clients_level() {
    let (sidecar, agent) = started().await;
    let client = Client::connect(&sidecar, &json!({})).await;
    let mut events = client.listen().await;
    agent.running(1).await;
    assert_eq!(notify(&sidecar, "notice").await, 1);
    let told = events.message().await;
    assert_eq!((&told["method"], &told["id"]), (&json!("notifications/message"), &Value::Null));
    assert_eq!(
        told["params"],
        json!({"level": "notice", "logger": "dexorder", "data": "the workspace stops soon"})
    );
    assert_eq!(sidecar.metric("dexorder_sidecar_notifications_total ").await, Some(1.0));
    client.result("logging/setLevel", json!({"level": "warning"})).await;
    notify(&sidecar, "notice").await;
    notify(&sidecar, "warning").await;
    assert_eq!(events.message().await["params"]["level"], "warning");
    drop(events);
    agent.running(0).await;
    assert_eq!(notify(&sidecar, "warning").await, 0);
    agent.check();
}

#[tokio::test]
async fn a_second_stream_of_a_session_takes_the_place_of_the_first() {
    let (sidecar, agent) = started().await;
    let client = Client::connect(&sidecar, &json!({})).await;
    let mut first = client.listen().await;
    let mut second = client.listen().await;
    assert_eq!(first.next().await, None);
    agent.running(1).await;
    agent.publish("notifications/tools/list_changed", &json!({}));
    assert_eq!(second.message().await["method"], "notifications/tools/list_changed");
    let mut without = Client { session: None, ..client.clone() }.listen().await;
    agent.running(2).await;
    agent.publish("notifications/tools/list_changed", &json!({}));
    second.message().await;
    without.message().await;
    agent.check();
}

#[tokio::test]
async fn an_agent_that_comes_back_is_listened_to_again() {
    let (sidecar, agent) = started().await;
    let client = Client::connect(&sidecar, &json!({})).await;
    let mut events = client.listen().await;
    client.result("resources/subscribe", json!({"uri": "a://1"})).await;
    agent.running(1).await;
    agent.kill();
    let agent = Newest::start(&sidecar.place.socket());
    agent.running(1).await;
    assert_eq!(agent.state.listened.load(Ordering::SeqCst), 1);
    update(&agent, "a://1");
    assert_eq!(events.message().await, changed("a://1"));
    agent.check();
}
