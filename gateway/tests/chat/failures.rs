//! Providers that fail, clients that leave, gateways that stop.

use std::time::Instant;

use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::provider::{BOTH, Dialect, Say};
use crate::support::{running, status, until};
use crate::world::{KEY, ask, chat, chat_with, events, run};

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    for dialect in BOTH {
        let chat = chat(dialect, "").await;
        chat.provider.script([
            Say::Status(429, &[("retry-after", "0")]),
            Say::Status(500, &[("retry-after", "0")]),
            Say::Status(529, &[("retry-after", "0")]),
            Say::Text("at last"),
        ]);
        assert_eq!(chat.world.say("c1", "Go").await, "at last");
        assert_eq!(chat.provider.asked().len(), 4);
    }
}

#[tokio::test]
async fn it_is_waited_for_as_long_as_the_provider_wants_and_without_a_word_from_it_too() {
    for (headers, least) in [(&[("retry-after", "1")][..], 1000), (&[], 500)] {
        let chat = chat(Dialect::OpenAi, "").await;
        chat.provider.script([Say::Status(429, headers), Say::Text("at last")]);
        let begun = Instant::now();
        assert_eq!(chat.world.say("c1", "Go").await, "at last");
        let took = begun.elapsed();
        assert!((least..least + 5000).contains(&took.as_millis()), "{headers:?}: {took:?}");
    }
}

#[tokio::test]
async fn a_turn_that_takes_too_long_ends_with_an_error_and_is_kept_as_far_as_it_came() {
    let chat = chat(Dialect::OpenAi, "timeout: 1s").await;
    chat.provider.script([Say::Hangs("Half")]);
    let events = chat.world.run("c1", "Go").await;
    let last = events.last().unwrap();
    assert_eq!((&last["type"], &last["code"]), (&json!("RUN_ERROR"), &json!("turn_timeout")));
    until("the model is left", async || chat.provider.left() == 1).await;
    let lines = chat.workspace.conversation("c1");
    assert_eq!((&lines[1]["content"], &lines[1]["data"]["status"]), (&json!("Half"), &json!("failed")));
    assert_eq!(lines[1]["data"]["reason"], "the turn took longer than 1 s");
}

#[tokio::test]
async fn a_provider_that_keeps_failing_ends_the_turn_and_the_message_is_kept() {
    let chat = chat(Dialect::OpenAi, "").await;
    chat.provider.script([Say::Status(429, &[("retry-after", "3600")])]);
    let answer = chat.world.complete(&ask("c1", "Go")).await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (503, &json!("model_busy")));
    assert_eq!(chat.provider.asked().len(), 1, "nobody waits an hour");
    let lines = chat.workspace.conversation("c1");
    assert_eq!((&lines[0]["content"], &lines[1]["data"]["status"]), (&json!("Go"), &json!("failed")));
}

#[tokio::test]
async fn a_refused_key_is_no_affair_of_the_user_and_is_never_shown() {
    for dialect in BOTH {
        let chat = chat(dialect, "").await;
        chat.provider.script([Say::Status(401, &[])]);
        let answer = chat.world.complete(&ask("c1", "Go")).await;
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (502, &json!("model_unavailable")));
        assert!(!answer.text().contains(KEY) && !answer.text().contains("the provider says no"));
        chat.provider.script([Say::Status(400, &[])]);
        let answer = chat.world.complete(&ask("c1", "Go")).await;
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (502, &json!("model_refused")));
        assert!(answer.text().contains("the provider says no"));
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_ends_the_stream_with_an_error_and_is_kept_as_far_as_it_came() {
    for dialect in BOTH {
        let chat = chat(dialect, "").await;
        chat.provider.script([Say::Breaks("Half an answer")]);
        let events = chat.world.run("c1", "Go").await;
        let last = events.last().unwrap();
        assert_eq!((&last["type"], &last["code"]), (&json!("RUN_ERROR"), &json!("model_unavailable")));
        assert_eq!(chat.provider.asked().len(), 1, "what the client has seen is not asked again");
        let lines = chat.workspace.conversation("c1");
        assert_eq!(lines[1]["content"], "Half an answer");
        assert_eq!(lines[1]["data"]["status"], "failed");
        // The conversation goes on.
        chat.provider.script([Say::Text("Whole")]);
        assert_eq!(chat.world.say("c1", "Again").await, "Whole");
    }
}

#[tokio::test]
async fn a_client_that_leaves_cancels_the_model_and_the_turn_is_kept_as_interrupted() {
    for (path, body) in [
        ("/v1/chat/events", run("c1", "Go")),
        ("/v1/chat/completions", {
            let mut body = ask("c1", "Go");
            body["stream"] = json!(true);
            body
        }),
    ] {
        let chat = chat(Dialect::OpenAi, "").await;
        chat.provider.script([Say::Hangs("Half")]);
        let mut body = chat.world.open(path, &body).await.into_body();
        let mut text = String::new();
        while !text.contains("\"lf\"") {
            let frame = body.frame().await.unwrap().unwrap();
            text += std::str::from_utf8(&frame.into_data().unwrap()).unwrap();
        }
        drop(body);
        until("the turn is kept", async || chat.workspace.conversation("c1").len() == 2).await;
        until("the model is left", async || chat.provider.left() == 1).await;
        let lines = chat.workspace.conversation("c1");
        assert_eq!((lines.len(), &lines[1]["content"]), (2, &json!("Half")));
        // Who leaves before the end has used tokens all the same.
        assert!(lines[1]["turn"]["usage"]["output_tokens"].as_u64().unwrap() > 0);
        assert_eq!(lines[1]["data"]["status"], "interrupted");
        assert_eq!(chat.workspace.calls("append_conversation").len(), 2);
    }
}

#[tokio::test]
async fn a_client_that_leaves_cancels_the_tools_and_results_that_came_are_kept() {
    let chat = chat(Dialect::Anthropic, "").await;
    chat.provider.script([Say::Calls("", vec![("wait", "{}"), ("echo", r#"{"text": "b"}"#)])]);
    let (client, token) = (chat.world.client.clone(), format!("Bearer {}", chat.world.token("trader1")));
    let body = ask("c1", "Go").to_string();
    let request = tokio::spawn(async move {
        let headers = [("authorization", token.as_str()), ("content-type", "application/json")];
        client.send(http::Method::POST, "/v1/chat/completions", &headers, body).await
    });
    until("a result has come", async || {
        let metric = chat.world.metric("dexorder_gateway_chat_tool_calls_total{outcome=\"done\"}").await;
        metric == "1"
    })
    .await;
    request.abort();
    until("the tool is cancelled", async || chat.workspace.cancelled() == 1).await;
    until("the turn is kept", async || chat.workspace.conversation("c1").len() == 3).await;
    let lines = chat.workspace.conversation("c1");
    let calls = &lines[1]["tool_calls"];
    assert_eq!((&calls[1]["result"], &calls[1]["is_error"]), (&json!("echo of b"), &json!(false)));
    assert_eq!((&calls[0]["name"], &calls[0]["is_error"]), (&json!("wait"), &json!(true)));
    assert_eq!(lines.last().unwrap()["turn"]["state"], "interrupted");
    assert_eq!(lines.last().unwrap()["data"]["status"], "interrupted");
    // What is kept can be gone on with.
    chat.provider.script([Say::Text("On we go")]);
    assert_eq!(chat.world.say("c1", "Again").await, "On we go");
}

#[tokio::test]
async fn a_gateway_that_stops_saves_the_turns_that_it_interrupts() {
    let chat = chat_with(Dialect::OpenAi, "", "shutdown: {timeout: 6s}", 4096).await;
    chat.provider.script([Say::Hangs("Half")]);
    let mut body = chat.world.open("/v1/chat/events", &run("c1", "Go")).await.into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(String::from_utf8_lossy(&first).contains("RUN_STARTED"));
    until("the model speaks", async || chat.provider.asked().len() == 1).await;
    let reading = tokio::spawn(async move { body.collect().await.unwrap().to_bytes() });
    chat.world.gateway.stop().await;
    let lines = chat.workspace.conversation("c1");
    assert_eq!(lines.last().unwrap()["data"]["status"], "interrupted");
    let text = String::from_utf8(reading.await.unwrap().to_vec()).unwrap();
    assert_eq!(events(&text).last().unwrap()["code"], "shutting_down", "{text}");
}

#[tokio::test]
async fn a_message_wakes_the_workspace_and_the_client_hears_of_it() {
    let chat = chat(Dialect::OpenAi, "").await;
    chat.world.cluster.set_status("of-trader1", status("Suspended"));
    chat.world.until_seen().await;
    chat.provider.script([Say::Text("Good morning")]);
    let mut body = chat.world.open("/v1/chat/events", &run("c1", "Go")).await.into_body();
    let mut text = String::new();
    let mut told = async |state: &str| {
        while !text.contains(&format!("\"state\":\"{state}\"")) {
            text += std::str::from_utf8(&body.frame().await.unwrap().unwrap().into_data().unwrap()).unwrap();
        }
    };
    told("Suspended").await;
    until("it is touched", async || chat.world.cluster.touches("of-trader1") == 1).await;
    // As soon as the start was asked for, whatever the operator says.
    told("Starting").await;
    chat.world.cluster.set_status("of-trader1", status("Pending"));
    told("Pending").await;
    let endpoint = crate::support::endpoint(chat.workspace.address);
    chat.world.cluster.set_status("of-trader1", running("pod-2", &endpoint, "Ready"));
    text += std::str::from_utf8(&body.collect().await.unwrap().to_bytes()).unwrap();
    let events = events(&text);
    let waking: Vec<&Value> = events.iter().filter(|event| event["name"] == "dexorder.waking").collect();
    let states: Vec<&str> = waking.iter().map(|event| event["value"]["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["Suspended", "Starting", "Pending"]);
    assert!(waking.iter().all(|event| !event["value"]["message"].as_str().unwrap().is_empty()), "{text}");
    assert_eq!(events.last().unwrap()["type"], "RUN_FINISHED", "{text}");
}

#[tokio::test]
async fn a_workspace_that_starts_has_the_time_of_the_wake_for_its_first_answers() {
    let chat = chat(Dialect::OpenAi, "contextTimeout: 1s").await;
    chat.world.cluster.set_status("of-trader1", status("Suspended"));
    chat.world.until_seen().await;
    chat.workspace.state.hold_reads.send_replace(true);
    chat.provider.script([Say::Text("Good morning")]);
    let body = ask("c1", "Go");
    let start = async {
        until("it is touched", async || chat.world.cluster.touches("of-trader1") == 1).await;
        // Its sidecar takes connections, and its agent is not there yet.
        let endpoint = crate::support::endpoint(chat.workspace.address);
        chat.world.cluster.set_status("of-trader1", running("pod-2", &endpoint, "Starting"));
        until("the context is asked for", async || chat.workspace.reads("context://user-profile") == 1).await;
        let asked = Instant::now();
        until("longer than a workspace that runs may take", async || asked.elapsed().as_millis() > 1300)
            .await;
        chat.workspace.state.hold_reads.send_replace(false);
    };
    let (answer, ()) = tokio::join!(chat.world.complete(&body), start);
    assert_eq!(answer.json()["dexorder"]["context"]["leftOut"], json!([]), "{}", answer.text());
}

#[tokio::test]
async fn a_user_has_only_so_many_turns_at_once() {
    let chat = chat(Dialect::OpenAi, "maxTurns: 1").await;
    chat.provider.script([Say::Hangs("Half"), Say::Text("free again")]);
    let first = chat.world.open("/v1/chat/events", &run("c1", "Go")).await;
    let second = chat.world.complete(&ask("c2", "Go")).await;
    assert_eq!((second.status, &second.json()["error"]["code"]), (429, &json!("too_many_turns")));
    assert_eq!(second.header("retry-after"), "2");
    until("the model speaks", async || chat.provider.asked().len() == 1).await;
    drop(first);
    until("the turn has ended", async || {
        chat.world.metric("dexorder_gateway_chat_running_turns").await == "0"
    })
    .await;
    assert_eq!(chat.world.say("c2", "Go").await, "free again");
}
