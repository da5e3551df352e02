//! Readiness, a broken watch, and the end.

use std::time::Duration;

use bytes::Bytes;
use futures::channel::mpsc;
use http::Method;
use http_body_util::BodyExt;

use crate::support::{Behaviour, call, unlisted_world, until, world};

#[tokio::test]
async fn it_is_alive_at_once_and_ready_when_the_workspaces_are_listed() {
    let world = unlisted_world("").await;
    assert_eq!(world.management.get("/livez").await.status, 200);
    world.until_ready().await;
    assert_eq!(world.metric("dexorder_gateway_watch_healthy").await, "1");
    assert_eq!(world.client.get("/metrics").await.status, 404, "metrics are not for clients");
}

#[tokio::test]
async fn a_watch_that_breaks_is_begun_anew_and_nothing_is_missed() {
    let world = world("").await;
    let sidecar = world.running("trader1").await;
    world.cluster.break_watches(true);
    assert_eq!(world.call("trader1").await.status, 200, "what is known stays in use");
    assert_eq!(
        world.metric("dexorder_gateway_watch_healthy").await,
        "1",
        "a short break is no reason to be unready"
    );
    // While the watch is broken two workspaces come and another goes.
    world.cluster.apply("of-user2", "user2");
    world.cluster.apply("of-user3", "user3");
    world.cluster.delete("of-trader1");
    drop(sidecar);
    world.cluster.break_watches(false);
    let count = world.cluster.count().to_string();
    until("the gateway has caught up", async || world.metric("dexorder_gateway_workspaces").await == count)
        .await;
    world.until_ready().await;
}

#[tokio::test]
async fn a_workspace_that_can_not_be_read_does_not_hide_the_others() {
    let world = world("").await;
    world.cluster.apply("odd", "odd");
    let sidecar = world.running("trader1").await;
    world.cluster.change("odd", |object| object["spec"]["operatingMode"] = "FromTheFuture".into());
    // A new list, without the one that can't be read.
    world.cluster.break_watches(false);
    let readable = (world.cluster.count() - 1).to_string();
    until("the others are listed", async || world.metric("dexorder_gateway_workspaces").await == readable)
        .await;
    assert_eq!(world.call("trader1").await.status, 200);
    assert_eq!(sidecar.seen().len(), 1);
}

#[tokio::test]
async fn a_shutdown_ends_what_listens_and_lets_what_runs_end() {
    let world = world("").await;
    let sidecar = world.running("trader1").await;
    let (events, received) = mpsc::unbounded();
    sidecar.behave(Behaviour::Stream(received));
    let token = format!("Bearer {}", world.token("trader1"));
    let headers = [("authorization", token.as_str()), ("accept", "text/event-stream")];
    let listening = world.client.begin(Method::GET, "/mcp", &headers, "").await;
    let (answers, received) = mpsc::unbounded();
    sidecar.behave(Behaviour::Stream(received));
    let working = world.client.open(&world.token("trader1"), &call(1)).await;

    let stopping = tokio::spawn(world.gateway.stop());
    assert!(listening.into_body().collect().await.unwrap().to_bytes().is_empty());
    drop(events);
    assert!(!stopping.is_finished());
    answers.unbounded_send(Ok(Bytes::from_static(b"data: done\n\n"))).unwrap();
    drop(answers);
    assert_eq!(working.into_body().collect().await.unwrap().to_bytes(), "data: done\n\n");
    tokio::time::timeout(Duration::from_secs(5), stopping).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_ever() {
    let world = world("shutdown: {timeout: 1s}").await;
    let sidecar = world.running("trader1").await;
    sidecar.behave(Behaviour::Silent);
    let (client, token) = (world.client.clone(), world.token("trader1"));
    let request = tokio::spawn(async move { client.post(&token, &call(1)).await });
    until("the request has arrived", async || sidecar.seen().len() == 1).await;
    tokio::time::timeout(Duration::from_secs(5), world.gateway.stop()).await.unwrap();
    request.abort();
}
