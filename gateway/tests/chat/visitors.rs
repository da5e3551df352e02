//! The chat of anonymous visitors: in their own read-only workspace, kept by the gateway for as long as they may come back.

use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};

use crate::provider::{Dialect, Say};
use crate::support::{Answer, World, endpoint, running, until};
use crate::workspace::Workspace;
use crate::world::{ask, chat_with, offline};

const ENABLED: &str =
    "visitors: {enabled: true, chat: {enabled: true, turnsPerMinute: {perVisitor: 3, inAll: 4}}}";

async fn new(world: &World) -> String {
    let made = world.client.send(Method::POST, "/public/visitors", &[], "").await;
    made.json()["visitor"].as_str().unwrap().to_owned()
}

async fn send(world: &World, visitor: &str, method: Method, path: &str, body: &Value) -> Answer {
    // As OpenAI's clients send their key.
    let bearer = format!("Bearer {visitor}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let body = if body.is_null() { String::new() } else { body.to_string() };
    world.client.send(method, &format!("/public/v1{path}"), &headers, body).await
}

async fn say(world: &World, visitor: &str, text: &str) -> Answer {
    send(world, visitor, Method::POST, "/chat/completions", &ask("c1", text)).await
}

/// Plays the operator for the one visitor who comes.
async fn start(world: &World) -> Workspace {
    until("a visitor's workspace is made", async || !world.cluster.of_visitors().is_empty()).await;
    let made = world.cluster.of_visitors().remove(0);
    let name = made["metadata"]["name"].as_str().unwrap();
    let workspace =
        Workspace::start(made["metadata"]["uid"].as_str().unwrap(), Arc::clone(&world.trusted)).await;
    world.cluster.set_status(name, running("pod-1", &endpoint(workspace.address), "Ready"));
    workspace
}

#[tokio::test]
async fn a_visitor_talks_and_comes_back_and_nothing_is_written_to_the_workspace() {
    let chat = chat_with(Dialect::OpenAi, "", ENABLED, 4096).await;
    let world = &chat.world;
    chat.provider.script([
        Say::Calls("Let me see.", vec![("echo", r#"{"text": "a"}"#)]),
        Say::Text("It was a."),
        Say::Text("As I said."),
    ]);
    let visitor = new(world).await;
    let (first, workspace) = tokio::join!(say(world, &visitor, "What is it?"), start(world));
    assert_eq!(first.status, 200, "{}", first.text());
    assert_eq!(first.json()["choices"][0]["message"]["content"], "Let me see.\n\nIt was a.");
    assert_eq!(first.json()["dexorder"]["saved"], true);
    assert_eq!(say(world, &visitor, "Again?").await.status, 200);
    let asked = chat.provider.asked();
    assert!(asked[2].to_string().contains("What is it?"));
    let kept = send(world, &visitor, Method::GET, "/conversations/c1", &Value::Null).await;
    assert_eq!(kept.json()["total"], 5);
    let listed = send(world, &visitor, Method::GET, "/conversations", &Value::Null).await;
    assert_eq!(listed.json()["data"][0]["id"], "c1");
    let called: Vec<String> =
        workspace.state.calls.lock().unwrap().iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(called, ["echo"]);
    // Another visitor has none of it, and a user's conversations are not reached this way.
    let other = new(world).await;
    let foreign = send(world, &other, Method::GET, "/conversations/c1", &Value::Null).await;
    assert_eq!(foreign.status, 404);
    assert!(chat.workspace.state.calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_visitors_turns_are_limited_and_who_is_none_has_none() {
    let chat = chat_with(Dialect::OpenAi, "", ENABLED, 4096).await;
    let world = &chat.world;
    chat.provider.script((0..3).map(|_| Say::Text("Yes.")));
    let visitor = new(world).await;
    let (first, _workspace) = tokio::join!(say(world, &visitor, "One"), start(world));
    assert_eq!(first.status, 200);
    for text in ["Two", "Three"] {
        assert_eq!(say(world, &visitor, text).await.status, 200);
    }
    let limited = say(world, &visitor, "Four").await;
    assert_eq!((limited.status, limited.json()["error"]["code"].clone()), (429, json!("TooManyRequests")));
    assert!(!limited.header("retry-after").is_empty());
    for (credential, status) in [("nonsense".to_owned(), 401), (world.token("trader1"), 401)] {
        assert_eq!(say(world, &credential, "Hi").await.status, status);
    }
    let nobody = world.client.send(Method::POST, "/public/v1/chat/completions", &[], "{}").await;
    assert_eq!(nobody.status, 400);
    // A visitor is no user.
    let bearer = format!("Bearer {visitor}");
    let models = world.client.send(Method::GET, "/v1/models", &[("authorization", &bearer)], "").await;
    assert_eq!(models.status, 401);
}

#[tokio::test]
async fn without_the_setting_there_is_no_chat_for_visitors() {
    let (world, _workspace) = offline().await;
    assert_eq!(say(&world, "x", "Hi").await.status, 404);
}
