//! How a translated request ends before its answer: cancelled, left, cut off, or with the agent.

use http::StatusCode;
use serde_json::{Value, json};

use super::newest::Newest;
use super::{Client, Events, all_capabilities, started, started_with, text};

fn accepted(name: &str) -> Value {
    json!({"action": "accept", "content": {"name": name}})
}

#[tokio::test]
async fn a_cancelled_call_ends_at_the_agent_and_has_no_answer() {
    let (sidecar, agent) = started().await;
    let client = Client::connect(&sidecar, &json!({})).await;
    let other = Client::connect(&sidecar, &json!({})).await;
    let waiting = client.send("w", "tools/call", json!({"name": "wait"}));
    let cancelling = async {
        agent.running(1).await;
        // Neither another session nor another id cancels it.
        other.cancel("w").await;
        client.cancel("v").await;
        let report = sidecar.report().await;
        assert_eq!(report["inFlight"], 1);
        client.cancel("w").await;
    };
    let (answer, ()) = tokio::join!(waiting, cancelling);
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.text().await, "");
    agent.running(0).await;
    let mut events = client.stream("s", "stream").await;
    events.message().await;
    agent.running(1).await;
    client.cancel("s").await;
    assert_eq!(events.next().await, None);
    agent.running(0).await;
    assert_eq!(sidecar.report().await["inFlight"], 0);
    agent.check();
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_call_wherever_it_stands() {
    let (sidecar, agent) = started().await;
    let client = Client::connect(&sidecar, &all_capabilities()).await;
    tokio::select! {
        _ = client.send(1, "tools/call", json!({"name": "wait"})) => panic!("the call was answered"),
        () = agent.running(1) => {}
    }
    agent.running(0).await;
    let mut events = client.stream(2, "stream").await;
    events.message().await;
    drop(events);
    agent.running(0).await;
    let mut events = client.stream(3, "greet").await;
    let question = events.message().await;
    drop(events);
    crate::legacy::until_idle(&sidecar).await;
    let calls = agent.methods().len();
    assert_eq!(client.answer(&question, accepted("Ada")).await, StatusCode::ACCEPTED);
    assert_eq!(agent.methods().len(), calls, "the call went on");
    agent.check();
}

#[tokio::test]
async fn a_call_that_waits_for_its_client_gets_its_answer_while_the_workspace_drains() {
    let (sidecar, agent) = started().await;
    let client = Client::connect(&sidecar, &all_capabilities()).await;
    let mut events = client.stream(1, "greet").await;
    let question = events.message().await;
    let draining = sidecar.drain(json!({"mode": "Force", "deadlineSeconds": 10}));
    let answering = async {
        while sidecar.report().await["draining"] != true {
            tokio::task::yield_now().await;
        }
        let refused = client.send(2, "ping", json!({})).await;
        assert_eq!(refused.header("dexorder-reason"), Some("Draining"));
        assert_eq!(client.answer(&question, accepted("Ada")).await, StatusCode::ACCEPTED);
        assert_eq!(text(&events.message().await), "Hello, Ada");
        assert_eq!(events.next().await, None);
    };
    let ((status, outcome), ()) = tokio::join!(draining, answering);
    assert_eq!((status, &outcome["cancelled"]), (StatusCode::OK, &json!(0)));
    agent.check();
}

#[tokio::test]
async fn what_still_runs_at_the_deadline_is_cut_off_and_says_so() {
    let (sidecar, agent) = started().await;
    let client = Client::connect(&sidecar, &all_capabilities()).await;
    let mut asking = client.stream("a", "greet").await;
    asking.message().await;
    let mut running = client.stream("r", "stream").await;
    running.message().await;
    let mut listening = client.listen().await;
    let waiting = client.send("w", "tools/call", json!({"name": "wait"}));
    let draining = async {
        agent.running(3).await;
        sidecar.drain(json!({"mode": "Force", "deadlineSeconds": 0})).await
    };
    let (waiting, (status, outcome)) = tokio::join!(waiting, draining);
    assert_eq!((status, &outcome["cancelled"]), (StatusCode::OK, &json!(3)));
    assert_eq!(waiting.status, StatusCode::BAD_GATEWAY);
    assert_eq!(waiting.header("dexorder-reason"), Some("AgentUnavailable"));
    for (events, id) in [(&mut asking, "a"), (&mut running, "r")] {
        let last = events.message().await;
        assert_eq!((&last["id"], &last["error"]["data"]["reason"]), (&json!(id), &json!("AgentUnavailable")));
        assert_eq!(events.next().await, None);
    }
    sidecar.server.stop().await;
    assert_eq!(listening.next().await, None);
    agent.check();
}

#[tokio::test]
async fn an_agent_that_dies_takes_its_calls_with_it() {
    let (sidecar, agent) = started().await;
    let client = Client::connect(&sidecar, &all_capabilities()).await;
    let mut running = client.stream("r", "stream").await;
    running.message().await;
    let mut asking = client.stream("a", "greet").await;
    let question = asking.message().await;
    let waiting = client.send("w", "tools/call", json!({"name": "wait"}));
    let dying = async {
        agent.running(2).await;
        agent.kill();
    };
    let (waiting, ()) = tokio::join!(waiting, dying);
    assert_eq!(waiting.status, StatusCode::BAD_GATEWAY);
    assert_eq!(waiting.json().await["error"]["data"]["reason"], "AgentUnavailable");
    assert_eq!(running.message().await["error"]["data"]["reason"], "AgentUnavailable");
    // A call that the agent had nothing of goes on with its successor.
    let successor = Newest::start(&sidecar.place.socket());
    client.answer(&question, accepted("Ada")).await;
    assert_eq!(text(&asking.message().await), "Hello, Ada");
    successor.check();
}

#[tokio::test]
async fn a_call_that_goes_on_without_an_agent_does_not_say_that_it_was_not_begun() {
    let (sidecar, agent) = started_with(&[("DEXORDER_HOLD_TIMEOUT", "300ms")]).await;
    let client = Client::connect(&sidecar, &all_capabilities()).await;
    let mut events = client.stream("a", "greet").await;
    let question = events.message().await;
    agent.kill();
    client.answer(&question, accepted("Ada")).await;
    let last = events.message().await;
    assert_eq!((&last["id"], &last["error"]["data"]["reason"]), (&json!("a"), &json!("AgentUnavailable")));
    let other = client.send("b", "tools/call", json!({"name": "plain"})).await;
    assert_eq!(other.header("dexorder-reason"), Some("AgentStarting"), "nothing of that one was done");
}

#[tokio::test]
async fn a_client_that_does_not_read_is_waited_for() {
    let (sidecar, agent) = started().await;
    let client = Client::connect(&sidecar, &json!({})).await;
    let call = json!({"name": "progress", "arguments": {}, "_meta": {"progressToken": 1}});
    let mut events = Events::of(client.send(1, "tools/call", call).await);
    while events.next().await.is_some() {}
    crate::legacy::until_idle(&sidecar).await;
    agent.check();
}
