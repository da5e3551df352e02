//! Requests that come again, and turns that nobody brought to an end.

use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::provider::{BOTH, Dialect, Say};
use crate::support::until;
use crate::world::{Chat, ask, chat, events, run, say_slowly};

fn states(lines: &[Value]) -> Vec<&str> {
    lines.iter().filter_map(|line| line["turn"]["state"].as_str()).collect()
}

async fn shown(chat: &Chat) -> Vec<Value> {
    let read = chat.world.request(Method::GET, "/v1/conversations/c1", &Value::Null).await.json();
    read["messages"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_request_that_comes_again_gets_the_answer_that_is_kept() {
    for dialect in BOTH {
        let chat = chat(dialect, "").await;
        chat.provider.script([Say::Calls("Look.", vec![("echo", r#"{"text": "a"}"#)]), Say::Text("Done.")]);
        let first = chat.world.complete_once("k1", &ask("c1", "Go")).await.json();
        let again = chat.world.complete_once("k1", &ask("c1", "Go")).await.json();
        assert_eq!(chat.provider.asked().len(), 2, "the model is not asked again");
        assert_eq!(chat.workspace.calls("echo").len(), 1, "no tool runs again");
        for member in ["id", "model", "choices", "usage"] {
            assert_eq!(again[member], first[member], "{member}");
        }
        assert_eq!(again["dexorder"]["saved"], true);
        assert_eq!(chat.workspace.conversation("c1").len(), 3);
        let other = chat.world.complete_once("k1", &ask("c1", "Stop")).await;
        assert_eq!((other.status, &other.json()["error"]["code"]), (422, &json!("idempotency_key_reused")));
        // The same key in another conversation, or of another user, is another turn.
        chat.provider.script([Say::Text("New.")]);
        let other = chat.world.complete_once("k1", &ask("c2", "Go")).await.json();
        assert_eq!(other["choices"][0]["message"]["content"], "New.");
    }
}

#[tokio::test]
async fn a_run_that_comes_again_tells_the_same_events() {
    let chat = chat(Dialect::OpenAi, "").await;
    chat.provider.script([Say::Calls("Look.", vec![("echo", "{}"), ("fail", "{}")]), Say::Text("Done.")]);
    let told = |events: Vec<Value>| {
        let mut told: Vec<Value> = events.into_iter().filter(|event| event["type"] != "CUSTOM").collect();
        // Pieces of texts may be cut elsewhere, and results come in any order.
        told.retain(|event| {
            !["TEXT_MESSAGE_CONTENT", "TOOL_CALL_ARGS", "TOOL_CALL_RESULT"]
                .contains(&event["type"].as_str().unwrap())
        });
        told
    };
    let first = told(chat.world.run("c1", "Go").await);
    let again = told(chat.world.run("c1", "Go").await);
    assert_eq!(first, again);
    assert_eq!(chat.provider.asked().len(), 2);
}

#[tokio::test]
async fn what_the_user_said_is_kept_before_a_word_of_the_answer_is_told() {
    let chat = chat(Dialect::OpenAi, "").await;
    chat.workspace.state.hold_appends.send_replace(true);
    chat.provider.script([Say::Text("Hello")]);
    let mut body = chat.world.open("/v1/chat/events", &run("c1", "Go")).await.into_body();
    until("the model was asked meanwhile", async || chat.provider.asked().len() == 1).await;
    let mut text = String::new();
    while !text.contains("dexorder.context") {
        text += std::str::from_utf8(&body.frame().await.unwrap().unwrap().into_data().unwrap()).unwrap();
    }
    assert!(!text.contains("TEXT_MESSAGE"), "{text}");
    chat.workspace.state.hold_appends.send_replace(false);
    text += std::str::from_utf8(&body.collect().await.unwrap().to_bytes()).unwrap();
    assert!(text.contains("TEXT_MESSAGE_CONTENT"));
    let lines = chat.workspace.conversation("c1");
    assert_eq!(states(&lines), ["interrupted", "complete"]);
}

#[tokio::test]
async fn a_turn_that_was_left_half_way_is_shown_as_interrupted_and_run_again_on_demand() {
    let chat = chat(Dialect::Anthropic, "").await;
    // What a gateway leaves that is killed in the middle: the user's message, and nothing else.
    chat.provider.script([Say::Text("First")]);
    chat.world.complete_once("k1", &ask("c1", "Go")).await;
    chat.workspace.state.conversations.lock().unwrap().get_mut("c1").unwrap().truncate(1);
    let seen = shown(&chat).await;
    assert_eq!(states(&seen), ["interrupted"]);
    assert_eq!((seen.len(), &seen[0]["content"]), (2, &json!("Go")));
    // The next turn knows of it.
    // This gateway did not see it end: what it remembers does not hold, and the first of these answers is not heard.
    chat.provider.script([Say::Text("Unheard"), Say::Text("Second")]);
    say_slowly(&chat, "c1", "Still there?").await;
    assert!(chat.provider.asked().last().unwrap().to_string().contains("[interrupted]"));
    // The client asks again: now it gets its answer, and the turn stands there once, in its place.
    chat.provider.script([Say::Text("Third")]);
    let again = chat.world.complete_once("k1", &ask("c1", "Go")).await.json();
    assert_eq!(again["choices"][0]["message"]["content"], "Third");
    assert!(!chat.provider.asked().last().unwrap().to_string().contains("[interrupted]"));
    let seen = shown(&chat).await;
    let texts: Vec<&str> = seen.iter().map(|line| line["content"].as_str().unwrap()).collect();
    assert_eq!(texts, ["Go", "Third", "Still there?", "Second"]);
    assert_eq!(states(&seen), ["complete", "complete"]);
}

#[tokio::test]
async fn a_turn_that_runs_is_not_begun_twice() {
    let chat = chat(Dialect::OpenAi, "").await;
    chat.provider.script([Say::Hangs("Half")]);
    let first = chat.world.open("/v1/chat/events", &run("c1", "Go")).await;
    until("the model speaks", async || chat.provider.asked().len() == 1).await;
    until("it is begun", async || chat.workspace.conversation("c1").len() == 1).await;
    assert_eq!(shown(&chat).await.len(), 1, "it runs: it is not interrupted");
    let second = chat.world.request(Method::POST, "/v1/chat/events", &run("c1", "Go")).await;
    assert_eq!((second.status, &second.json()["error"]["code"]), (409, &json!("turn_running")));
    assert_eq!(second.header("retry-after"), "2");
    drop(first);
    until("the turn has ended", async || chat.workspace.conversation("c1").len() == 2).await;
    until("it is free", async || chat.world.metric("dexorder_gateway_chat_running_turns").await == "0").await;
    chat.provider.script([Say::Text("Whole")]);
    let events = chat.world.run("c1", "Go").await;
    assert_eq!(events.last().unwrap()["type"], "RUN_FINISHED");
    assert_eq!(shown(&chat).await.len(), 2, "the half answer has made room for the whole one");
}

#[tokio::test]
async fn of_two_gateways_with_the_same_turn_one_keeps_it() {
    let chat = chat(Dialect::OpenAi, "").await;
    chat.workspace.state.hold_appends.send_replace(true);
    chat.provider.script([Say::Text("Mine")]);
    let asked = tokio::spawn({
        let (client, token) = (chat.world.client.clone(), format!("Bearer {}", chat.world.token("trader1")));
        async move {
            let headers = [
                ("authorization", token.as_str()),
                ("content-type", "application/json"),
                ("idempotency-key", "k1"),
            ];
            let body = ask("c1", "Go").to_string();
            client.send(Method::POST, "/v1/chat/completions", &headers, body).await
        }
    });
    until("it is about to be kept", async || !chat.workspace.calls("append_conversation").is_empty()).await;
    // Another gateway was faster by a moment.
    let key = chat.workspace.calls("append_conversation")[0]["idempotency_key"].clone();
    let line = json!({"key": key, "role": "user", "content": "Go", "data": {"status": "open"}});
    chat.workspace.state.conversations.lock().unwrap().insert("c1".to_owned(), vec![line]);
    chat.workspace.state.hold_appends.send_replace(false);
    let answer = asked.await.unwrap();
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (409, &json!("turn_running")));
    assert_eq!(chat.workspace.conversation("c1").len(), 1);
}

#[tokio::test]
async fn a_request_without_a_conversation_can_come_again_too() {
    let chat = chat(Dialect::OpenAi, "").await;
    chat.provider.script([Say::Text("Once")]);
    let body = json!({"messages": [{"role": "user", "content": "Go"}], "stream": true});
    let first = chat.world.complete_once("k1", &body).await.text();
    let again = chat.world.complete_once("k1", &body).await.text();
    let said = |text: &str| -> String {
        events(text).iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect()
    };
    assert_eq!((said(&first), said(&again)), ("Once".to_owned(), "Once".to_owned()));
    assert_eq!(chat.workspace.state.conversations.lock().unwrap().len(), 1);
}
