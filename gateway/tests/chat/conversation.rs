//! What a conversation keeps: context in the prompt, turns in the workspace.

use http::Method;
use serde_json::{Value, json};

use crate::provider::{BOTH, Dialect, Say};
use crate::world::{KEY, ask, chat, offline, say_slowly};

#[tokio::test]
async fn a_turn_has_the_users_context_and_is_saved_once() {
    for dialect in BOTH {
        let chat = chat(dialect, "").await;
        chat.provider.script([Say::Text("Hello, trader €!")]);
        assert_eq!(chat.world.say("c1", "Hi").await, "Hello, trader €!");
        let asked = chat.provider.asked();
        let system = chat.provider.system(&asked[0]);
        let places: Vec<usize> = ["Answer briefly.", "Trades BTC.", "\"rsi\"", "\"strategies\"", "BTC/USD"]
            .iter()
            .map(|text| system.find(text).unwrap_or_else(|| panic!("{text} is missing in {system}")))
            .collect();
        assert!(places.is_sorted(), "the order is fixed: {places:?}");
        assert_eq!(asked[0]["model"], "test-model");
        assert!(!chat.provider.tools(&asked[0]).contains(&"append_conversation".to_owned()));
        let lines = chat.workspace.conversation("c1");
        let roles: Vec<&str> = lines.iter().map(|line| line["role"].as_str().unwrap()).collect();
        assert_eq!(roles, ["user", "assistant"]);
        assert_eq!(lines[1]["turn"]["state"], "complete");
        let usage = json!({"model": "test-model", "input_tokens": 100, "output_tokens": 10});
        assert_eq!(lines[1]["turn"]["usage"], usage, "{dialect:?}");
        assert_eq!(lines[1]["data"]["cached_tokens"], 40);
        let headers = chat.provider.headers();
        let sent = headers.get("authorization").or_else(|| headers.get("x-api-key")).unwrap();
        assert!(sent.to_str().unwrap().ends_with(KEY));
    }
}

#[tokio::test]
async fn the_next_turn_knows_the_earlier_ones_with_their_tools() {
    for dialect in BOTH {
        let chat = chat(dialect, "").await;
        chat.provider.script([
            Say::Calls("Let me see.", vec![("echo", r#"{"text": "a"}"#)]),
            Say::Text("It was a."),
            Say::Text("As I said."),
        ]);
        assert_eq!(chat.world.say("c1", "What is it?").await, "Let me see.\n\nIt was a.");
        chat.world.say("c1", "Again?").await;
        let asked = chat.provider.asked();
        assert_eq!(chat.provider.results(&asked[2]), [("echo of a".to_owned(), false)]);
        let text = asked[2].to_string();
        for known in ["What is it?", "Let me see.", "It was a.", "Again?"] {
            assert!(text.contains(known), "{known} is missing");
        }
        assert_eq!(chat.workspace.conversation("c1").len(), 5);
    }
}

#[tokio::test]
async fn a_conversation_is_read_once_and_what_another_replica_adds_is_never_missed() {
    for dialect in BOTH {
        let chat = chat(dialect, "").await;
        let said = |number: usize| chat.provider.asked()[number]["messages"].to_string();
        chat.provider.script([
            Say::Calls("Look.", vec![("echo", r#"{"text": "a"}"#), ("fail", "{}")]),
            Say::Text("One."),
            Say::Text("Two."),
            Say::Text("Three."),
        ]);
        chat.world.say("c1", "First").await;
        chat.world.say("c1", "Second").await;
        assert_eq!(chat.workspace.calls("read_conversation").len(), 1, "the second turn remembers it");
        let remembered = said(2);
        // Another conversation takes its place: this one is read again, and is the same.
        chat.provider.script([Say::Text("Four.")]);
        chat.world.say("c2", "Elsewhere").await;
        chat.world.say("c1", "Third").await;
        assert_eq!(chat.workspace.calls("read_conversation").len(), 3);
        assert!(
            said(4).starts_with(remembered.trim_end_matches(']')),
            "{} is no part of {}",
            remembered,
            said(4)
        );
        // Another replica keeps a turn here meanwhile.
        let line = |role: &str, text: &str| json!({"key": "other", "role": role, "content": text});
        let foreign = [line("user", "From another replica"), line("assistant", "Heard.")];
        chat.workspace.state.conversations.lock().unwrap().get_mut("c1").unwrap().extend(foreign);
        chat.provider.script([Say::Text("Without it."), Say::Text("With it.")]);
        assert_eq!(say_slowly(&chat, "c1", "Fourth").await, "With it.");
        assert!(!said(5).contains("From another replica") && said(6).contains("From another replica"));
        let lines = chat.workspace.conversation("c1");
        let texts: Vec<&str> =
            lines.iter().rev().take(2).map(|line| line["content"].as_str().unwrap()).collect();
        assert_eq!(texts, ["With it.", "Fourth"]);
        assert_eq!(lines.iter().filter(|line| line["content"] == "Fourth").count(), 1);
        // From then on it is read each time: to ask a model in vain costs more.
        let reads = chat.workspace.calls("read_conversation").len();
        chat.provider.script([Say::Text("Five.")]);
        chat.world.say("c1", "Fifth").await;
        assert_eq!(chat.workspace.calls("read_conversation").len(), reads + 1);
        assert!(said(7).contains("From another replica") && said(7).contains("With it."));
    }
}

#[tokio::test]
async fn a_save_whose_answer_is_lost_is_tried_again_and_stands_once() {
    let chat = chat(Dialect::OpenAi, "").await;
    *chat.workspace.state.lost_answers.lock().unwrap() = 2;
    chat.provider.script([Say::Text("Hello")]);
    chat.world.say("c1", "Hi").await;
    assert_eq!(chat.workspace.calls("append_conversation").len(), 4);
    assert_eq!(chat.workspace.conversation("c1").len(), 2);
}

#[tokio::test]
async fn context_that_fails_or_is_slow_is_left_out_and_said_so() {
    let chat = chat(Dialect::Anthropic, "contextTimeout: 1s").await;
    {
        let mut resources = chat.workspace.state.resources.lock().unwrap();
        resources.insert("context://user-profile", "slow");
        resources.remove("strategies://list");
    }
    chat.provider.script([Say::Text("Hello")]);
    let answer = chat.world.complete(&ask("c1", "Hi")).await.json();
    let left_out = answer["dexorder"]["context"]["leftOut"].as_array().unwrap();
    let uris: Vec<&Value> = left_out.iter().map(|part| &part["uri"]).collect();
    assert_eq!(uris, ["context://user-profile", "strategies://list"]);
    let system = chat.provider.system(&chat.provider.asked()[0]);
    assert!(system.contains("in time: context://user-profile, strategies://list."), "{system}");
    assert!(system.contains("Answer briefly."));
}

#[tokio::test]
async fn conversations_are_listed_read_and_deleted() {
    let (world, workspace) = offline().await;
    for id in ["c1", "c2"] {
        world.say(id, "/echo text=hello").await;
    }
    let listed = world.request(Method::GET, "/v1/conversations", &Value::Null).await.json();
    let mut ids: Vec<&str> =
        listed["data"].as_array().unwrap().iter().map(|entry| entry["id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["c1", "c2"]);
    let read = world.request(Method::GET, "/v1/conversations/c1?last=2", &Value::Null).await.json();
    assert_eq!((&read["total"], read["messages"].as_array().unwrap().len()), (&json!(3), 2));
    let deleted = world.request(Method::DELETE, "/v1/conversations/c1", &Value::Null).await;
    assert_eq!((deleted.status, &deleted.json()["deleted"]), (200, &json!(true)));
    for method in [Method::GET, Method::DELETE] {
        let gone = world.request(method, "/v1/conversations/c1", &Value::Null).await;
        assert_eq!((gone.status, &gone.json()["error"]["code"]), (404, &json!("conversation_not_found")));
    }
    assert!(workspace.conversation("c1").is_empty());
    let listed = world.request(Method::GET, "/v1/conversations", &Value::Null).await.json();
    assert_eq!(listed["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn without_a_model_commands_run_real_tools() {
    let (world, workspace) = offline().await;
    assert!(world.say("c1", "What can you do?").await.contains("offline mode"));
    let list = world.say("c1", "/tools").await;
    assert!(list.contains("`/echo` (text): About echo."), "{list}");
    let answer = world.say("c1", "/echo text=\"two words\"\n/fail").await;
    assert!(answer.contains("`echo`:\n\n```\necho of two words\n```"), "{answer}");
    assert!(answer.contains("`fail` failed:\n\n```\nit is broken"), "{answer}");
    assert_eq!(workspace.calls("echo"), [json!({"text": "two words"})]);
    assert_eq!(workspace.conversation("c1").len(), 2 + 2 + 3);
}

#[tokio::test]
async fn turns_that_leave_the_prompt_go_into_the_summary() {
    let chat = chat(Dialect::OpenAi, "historySize: 1KiB").await;
    chat.workspace
        .state
        .resources
        .lock()
        .unwrap()
        .insert("context://conversation-summary", "The old summary.");
    let long = format!("Remember 42. {}", "x".repeat(900));
    chat.provider.script([
        Say::Text("I will."),
        Say::Text("Yes."),
        Say::Text("Sure."),
        Say::Text("They like 42."),
    ]);
    chat.world.say("c1", &long).await;
    chat.world.say("c1", &"y".repeat(800)).await;
    assert_eq!(chat.provider.asked().len(), 2, "nothing has left yet");
    assert_eq!(chat.world.say("c1", "Well?").await, "Sure.");
    let asked = chat.provider.asked();
    assert!(!asked[2].to_string().contains("Remember 42."), "it does not fit any more");
    assert!(chat.provider.system(&asked[2]).contains("The 1 oldest turns"));
    let question = asked[3]["messages"][1]["content"].as_str().unwrap();
    assert!(question.contains("The old summary.") && question.contains("User: Remember 42."));
    assert!(asked[3].get("tools").is_none());
    let appended = chat.workspace.calls("append_conversation");
    assert_eq!(appended[5]["summary"], "They like 42.");
    assert!(appended[..5].iter().all(|append| append.get("summary").is_none()));
    assert_eq!(chat.workspace.conversation("c1").last().unwrap()["data"]["summarised"], 2);
}
