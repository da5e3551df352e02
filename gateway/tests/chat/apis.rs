//! The two APIs: what clients of each see of a turn.

use http::Method;
use serde_json::{Value, json};

use crate::provider::{Dialect, Say};
use crate::world::{ask, chat, events, offline};

#[tokio::test]
async fn the_stream_is_that_of_openai() {
    let chat = chat(Dialect::Anthropic, "").await;
    chat.provider.script([Say::Calls("One.", vec![("echo", "{}")]), Say::Text("Two.")]);
    let mut body = ask("c1", "Go");
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    let answer = chat.world.complete(&body).await;
    assert_eq!(answer.header("content-type"), "text/event-stream");
    assert_eq!(answer.header("dexorder-conversation-id"), "c1");
    let text = answer.text();
    assert!(text.ends_with("data: [DONE]\n\n"));
    let chunks = events(&text);
    let said: String =
        chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(said, "One.\n\nTwo.");
    assert!(chunks.iter().all(|chunk| chunk["object"] == "chat.completion.chunk"));
    let ends: Vec<&Value> = chunks
        .iter()
        .map(|chunk| &chunk["choices"][0]["finish_reason"])
        .filter(|end| !end.is_null())
        .collect();
    assert_eq!(ends, ["stop"]);
    assert_eq!(chunks.last().unwrap()["usage"]["total_tokens"], 220);
}

#[tokio::test]
async fn a_conversation_without_a_name_gets_one() {
    let chat = chat(Dialect::OpenAi, "").await;
    chat.provider.script([Say::Text("Hello")]);
    let messages = json!([
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "One"}, {"role": "assistant", "content": "Two"},
        {"role": "user", "content": [{"type": "text", "text": "Three"}]},
    ]);
    let answer =
        chat.world.complete(&json!({"messages": messages, "temperature": 0.5, "max_tokens": 7})).await;
    let body = answer.json();
    let id = body["dexorder"]["conversation_id"].as_str().unwrap();
    assert_eq!(answer.header("dexorder-conversation-id"), id);
    let lines = chat.workspace.conversation(id);
    assert_eq!((lines.len(), &lines[0]["content"]), (2, &json!("Three")));
    let asked = &chat.provider.asked()[0];
    assert_eq!((&asked["temperature"], &asked["max_tokens"]), (&json!(0.5), &json!(7)));
    assert_eq!(asked["messages"].as_array().unwrap().len(), 4);
    assert!(chat.provider.system(asked).contains("Be kind."));
    assert_eq!(
        body["usage"],
        json!({
            "prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110,
            "prompt_tokens_details": {"cached_tokens": 40},
        })
    );
}

#[tokio::test]
async fn the_events_of_a_run_tell_the_whole_turn_in_order() {
    let chat = chat(Dialect::OpenAi, "").await;
    chat.provider.script([
        Say::Calls("Look.", vec![("echo", r#"{"text": "a"}"#), ("fail", "{}")]),
        Say::Text("Done."),
    ]);
    let events = chat.world.run("c1", "Go").await;
    let mut kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    kinds.dedup();
    assert_eq!(
        kinds,
        [
            "RUN_STARTED",
            "CUSTOM",
            "TEXT_MESSAGE_START",
            "TEXT_MESSAGE_CONTENT",
            "TEXT_MESSAGE_END",
            "TOOL_CALL_START",
            "TOOL_CALL_ARGS",
            "TOOL_CALL_START",
            "TOOL_CALL_ARGS",
            "TOOL_CALL_END",
            "TOOL_CALL_RESULT",
            "TEXT_MESSAGE_START",
            "TEXT_MESSAGE_CONTENT",
            "TEXT_MESSAGE_END",
            "CUSTOM",
            "RUN_FINISHED",
        ]
    );
    let named = |name: &str| events.iter().find(|event| event["name"] == name).unwrap();
    assert_eq!(named("dexorder.context")["value"]["used"].as_array().unwrap().len(), 6);
    assert_eq!(named("dexorder.saved")["value"]["saved"], true);
    let results: Vec<&Value> = events.iter().filter(|event| event["type"] == "TOOL_CALL_RESULT").collect();
    assert!(results.iter().any(|event| event["content"] == "echo of a"));
    assert!(results.iter().any(|event| event["metadata"]["failed"] == true));
    let last = events.last().unwrap();
    assert_eq!((&last["threadId"], &last["runId"]), (&json!("c1"), &json!("run-1")));
    assert_eq!(last["result"]["usage"]["output"], 20);
}

#[tokio::test]
async fn usage_is_counted_by_model() {
    let settings = "tiers: {standard: {model: fine-model}}, tokensParameter: max_completion_tokens";
    let chat = chat(Dialect::OpenAi, settings).await;
    chat.provider.script([Say::Text("Hello")]);
    chat.world.say("c1", "Go").await;
    assert_eq!(chat.provider.asked()[0]["model"], "fine-model", "the tier's own model");
    let asked = &chat.provider.asked()[0];
    assert_eq!((&asked["max_completion_tokens"], asked.get("max_tokens")), (&json!(4096), None));
    let metric = async |kind: &str| {
        let name = format!("dexorder_gateway_chat_tokens_total{{model=\"fine-model\",kind=\"{kind}\"}}");
        chat.world.metric(&name).await
    };
    assert_eq!((metric("input").await, metric("output").await), ("100".to_owned(), "10".to_owned()));
    let models = chat.world.request(Method::GET, "/v1/models", &Value::Null).await.json();
    assert_eq!(
        (&models["data"][0]["id"], &models["data"][1]["id"]),
        (&json!("fine-model"), &json!("default"))
    );
}

#[tokio::test]
async fn refusals_have_openais_form_and_wake_nothing() {
    let (world, workspace) = offline().await;
    let code = |body: &Value| body["error"]["code"].as_str().unwrap().to_owned();
    let answer = world.client.send(Method::POST, "/v1/chat/completions", &[], "{}").await;
    assert_eq!((answer.status, code(&answer.json()).as_str()), (401, "Unauthenticated"));
    assert!(answer.header("www-authenticate").contains("resource_metadata="));
    assert_eq!(answer.json()["error"]["type"], "authentication_error");
    for (body, status, expected) in [
        (json!({}), 400, "invalid_request"),
        (json!({"messages": []}), 400, "invalid_request"),
        (json!({"messages": [{"role": "user", "content": "a"}], "tools": [{}]}), 400, "invalid_request"),
    ] {
        let answer = world.complete(&body).await;
        assert_eq!((answer.status, code(&answer.json()).as_str()), (status, expected), "{body}");
    }
    let mut other = ask("c1", "Go");
    other["model"] = json!("gpt-9");
    let answer = world.complete(&other).await;
    assert_eq!((answer.status, code(&answer.json()).as_str()), (404, "model_not_found"));
    assert!(workspace.state.requests.lock().unwrap().is_empty());
    let answer = world.request(Method::GET, "/v1/nothing", &Value::Null).await;
    assert_eq!((answer.status, code(&answer.json()).as_str()), (404, "NotFound"));
    let answer = world.request(Method::GET, "/v1/chat/completions", &Value::Null).await;
    assert_eq!(answer.status, 405);
    let origin = [("origin", "https://evil.example")];
    assert_eq!(world.client.send(Method::POST, "/v1/chat/events", &origin, "{}").await.status, 403);
}
