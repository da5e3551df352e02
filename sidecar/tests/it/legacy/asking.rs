//! What the agent asks of a client in the middle of a request.

use http::StatusCode;
use serde_json::{Value, json};

use super::{Client, Events, all_capabilities, started, started_with, text};

fn accepted(field: &str, value: &str) -> Value {
    json!({"action": "accept", "content": {field: value}, "_meta": {"own": 1}})
}

#[tokio::test]
async fn a_question_goes_out_on_the_calls_stream_and_its_answer_comes_as_a_request_of_its_own() {
    let (sidecar, agent) = started().await;
    let client = Client::connect(&sidecar, &all_capabilities()).await;
    let mut events = client.stream(5, "greet").await;
    let question = events.message().await;
    assert_eq!(question["method"], "elicitation/create");
    assert_eq!(question["params"]["message"], "what name?");
    assert_eq!(question["params"]["mode"], "form");
    assert_eq!(sidecar.report().await["inFlight"], 1);
    assert_eq!(client.answer(&question, accepted("name", "Ada")).await, StatusCode::ACCEPTED);
    let answer = events.message().await;
    assert_eq!((&answer["id"], text(&answer)), (&json!(5), "Hello, Ada"));
    assert_eq!(events.next().await, None);
    let sent = agent.last()["params"]["inputResponses"].clone();
    assert_eq!(sent, json!({"name": {"action": "accept", "content": {"name": "Ada"}}}));
    assert!(agent.last()["params"]["requestState"].is_null());
    agent.check();
}

#[tokio::test]
async fn several_things_are_asked_at_once_and_in_several_rounds() {
    let (sidecar, agent) = started().await;
    let client = Client::connect(&sidecar, &all_capabilities()).await;
    let mut events = client.stream(5, "many").await;
    let questions = [events.message().await, events.message().await, events.message().await];
    let of = |method: &str| questions.iter().find(|question| question["method"] == method).unwrap();
    let said = json!({"role": "assistant", "content": {"type": "text", "text": "hello"}, "model": "m"});
    assert_eq!(of("sampling/createMessage")["params"]["maxTokens"], 7);
    for (method, result) in [
        ("roots/list", json!({"roots": [{"uri": "file:///a"}]})),
        ("elicitation/create", accepted("name", "Ada")),
        ("sampling/createMessage", said),
    ] {
        assert_eq!(client.answer(of(method), result).await, StatusCode::ACCEPTED);
    }
    let question = events.message().await;
    client.answer(&question, accepted("color", "blue")).await;
    assert_eq!(text(&events.message().await), "Ada hello 1 blue");
    agent.check();
}

#[tokio::test]
async fn a_request_that_only_has_to_come_again_does() {
    let (sidecar, agent) = started().await;
    let client = Client::connect(&sidecar, &json!({})).await;
    let called = client.result("tools/call", json!({"name": "patience"})).await;
    assert_eq!(called["content"][0]["text"], "done");
    assert_eq!(agent.methods().iter().filter(|method| *method == "tools/call").count(), 3);
    agent.check();
}

#[tokio::test]
async fn a_visit_to_a_page_has_an_identifier_as_the_revision_says() {
    let (sidecar, agent) = started().await;
    let client = Client::connect(&sidecar, &all_capabilities()).await;
    let mut events = client.stream(5, "visit").await;
    let question = events.message().await;
    assert_eq!(question["params"]["url"], "https://example.com/login");
    assert!(question["params"]["elicitationId"].is_string());
    client.answer(&question, json!({"action": "accept"})).await;
    assert_eq!(text(&events.message().await), "accept");
    agent.check();
}

#[tokio::test]
async fn a_client_may_decline_and_may_fail() {
    let (sidecar, agent) = started().await;
    let client = Client::connect(&sidecar, &all_capabilities()).await;
    for action in ["decline", "cancel"] {
        let mut events = client.stream(5, "greet").await;
        let question = events.message().await;
        client.answer(&question, json!({"action": action})).await;
        assert_eq!(text(&events.message().await), format!("no name: {action}"));
    }
    let mut events = client.stream(5, "many").await;
    let questions = [events.message().await, events.message().await, events.message().await];
    let error = json!({"code": -1, "message": "the user said no"});
    client.post(&json!({"jsonrpc": "2.0", "id": questions[0]["id"], "error": error})).await;
    // The other questions are void, and the call has failed.
    let mut void = Vec::new();
    loop {
        let message = events.message().await;
        if message["method"] == "notifications/cancelled" {
            void.push(message["params"]["requestId"].clone());
            continue;
        }
        assert_eq!(message["result"]["isError"], true);
        assert!(text(&message).contains("the user said no (-1)"), "{message}");
        break;
    }
    assert_eq!(void.len(), 2);
    assert!(void.contains(&questions[1]["id"]) && void.contains(&questions[2]["id"]));
    assert_eq!(events.next().await, None);
    agent.check();
}

#[tokio::test]
async fn prompts_ask_too_and_fail_with_an_error() {
    let (sidecar, agent) = started().await;
    let client = Client::connect(&sidecar, &all_capabilities()).await;
    let get = json!({"name": "p"});
    let mut events = Events::of(client.send(5, "prompts/get", get.clone()).await);
    let question = events.message().await;
    client.answer(&question, accepted("topic", "rates")).await;
    assert_eq!(events.message().await["result"]["messages"][0]["content"]["text"], "rates");
    let mut events = Events::of(client.send(6, "prompts/get", get.clone()).await);
    let question = events.message().await;
    client
        .post(&json!({"jsonrpc": "2.0", "id": question["id"], "error": {"code": -1, "message": "no"}}))
        .await;
    assert_eq!(events.message().await["error"]["code"], -32603);
    let other = Client::connect(&sidecar, &json!({"sampling": {}})).await;
    assert_eq!(other.error("prompts/get", get).await["code"], -32603);
    agent.check();
}

#[tokio::test]
async fn nothing_is_asked_of_a_client_that_can_not_answer() {
    let (sidecar, agent) = started().await;
    for capabilities in [json!({}), json!({"elicitation": {"url": {}}}), json!({"sampling": {}})] {
        let client = Client::connect(&sidecar, &capabilities).await;
        let called = client.result("tools/call", json!({"name": "greet"})).await;
        assert_eq!(called["isError"], true);
        assert!(called["content"][0]["text"].as_str().unwrap().contains("elicitation/create"));
    }
    agent.check();
}

#[tokio::test]
async fn an_answer_of_another_session_or_to_something_else_is_dropped() {
    let (sidecar, agent) = started().await;
    let asked = Client::connect(&sidecar, &all_capabilities()).await;
    let other = Client::connect(&sidecar, &all_capabilities()).await;
    let mut events = asked.stream(5, "greet").await;
    let question = events.message().await;
    assert_eq!(other.answer(&question, accepted("name", "Eve")).await, StatusCode::ACCEPTED);
    for id in [json!(5), json!("made up"), json!(1)] {
        let made_up = json!({"id": id});
        assert_eq!(asked.answer(&made_up, accepted("name", "Eve")).await, StatusCode::ACCEPTED);
    }
    asked.answer(&question, accepted("name", "Ada")).await;
    assert_eq!(text(&events.message().await), "Hello, Ada");
    // Again, and too late.
    assert_eq!(asked.answer(&question, accepted("name", "Eve")).await, StatusCode::ACCEPTED);
    agent.check();
}

#[tokio::test]
async fn a_client_that_does_not_answer_in_time_fails_its_call() {
    let (sidecar, agent) = started_with(&[("DEXORDER_INPUT_TIMEOUT", "50ms")]).await;
    let client = Client::connect(&sidecar, &all_capabilities()).await;
    let mut events = client.stream(5, "greet").await;
    let question = events.message().await;
    let void = events.message().await;
    assert_eq!(void["method"], "notifications/cancelled");
    assert_eq!(void["params"]["requestId"], question["id"]);
    let failed = events.message().await;
    assert_eq!((&failed["id"], &failed["result"]["isError"]), (&json!(5), &json!(true)));
    assert_eq!(events.next().await, None);
    assert_eq!(sidecar.report().await["inFlight"], 0);
    agent.check();
}

#[tokio::test]
async fn an_agent_that_never_stops_asking_is_stopped() {
    let (sidecar, agent) = started().await;
    let client = Client::connect(&sidecar, &all_capabilities()).await;
    let mut events = client.stream(5, "endless").await;
    let mut rounds = 0;
    let failed = loop {
        let message = events.message().await;
        if message["method"].is_null() {
            break message;
        }
        rounds += 1;
        client.answer(&message, accepted("name", "Ada")).await;
    };
    assert_eq!((rounds, &failed["result"]["isError"]), (10, &json!(true)));
    agent.check();
}
