//! The loop of model and tools: parallel calls, errors, limits.

use serde_json::json;

use crate::provider::{BOTH, Dialect, Say};
use crate::world::{ask, chat, chat_with};

#[tokio::test]
async fn streams_are_read_wherever_they_are_cut() {
    for dialect in BOTH {
        for piece in [1, 2, 3, 7, 64] {
            let chat = chat_with(dialect, "", "", piece).await;
            chat.provider.script([
                Say::Calls("Ä€", vec![("echo", r#"{"text": "ü1"}"#), ("echo", r#"{"text": "ü2"}"#)]),
                Say::Text("grün ✓"),
            ]);
            assert_eq!(chat.world.say("c1", "Go").await, "Ä€\n\ngrün ✓", "{dialect:?} {piece}");
            let mut calls = chat.workspace.calls("echo");
            calls.sort_by_key(ToString::to_string);
            assert_eq!(calls, [json!({"text": "ü1"}), json!({"text": "ü2"})]);
        }
    }
}

#[tokio::test]
async fn a_server_that_can_not_stream_calls_is_asked_for_whole_answers() {
    let chat = chat(Dialect::OpenAi, "answers: whole").await;
    chat.provider.script([
        Say::Calls("Let me see.", vec![("echo", r#"{"text": "a"}"#), ("echo", r#"{"text": "b"}"#)]),
        Say::Text("It was a €."),
    ]);
    assert_eq!(chat.world.say("c1", "Go").await, "Let me see.\n\nIt was a €.");
    let asked = chat.provider.asked();
    assert_eq!((&asked[0]["stream"], asked[0].get("stream_options")), (&json!(false), None));
    let results = chat.provider.results(&asked[1]);
    assert_eq!(results, [("echo of a".to_owned(), false), ("echo of b".to_owned(), false)]);
    let lines = chat.workspace.conversation("c1");
    assert_eq!(lines.last().unwrap()["turn"]["usage"]["input_tokens"], 200);
}

#[tokio::test]
async fn tokens_that_nobody_tells_are_estimated_and_said_to_be() {
    for dialect in BOTH {
        let chat = chat(dialect, "").await;
        chat.provider.script([Say::Untold("Twelve bytes"), Say::Text("Told")]);
        let answer = chat.world.complete(&ask("c1", "Go")).await.json();
        assert_eq!(
            (&answer["usage"]["completion_tokens"], answer["dexorder"]["usage_estimated"].as_bool()),
            (&json!(3), Some(true))
        );
        let asked = answer["usage"]["prompt_tokens"].as_u64().unwrap();
        let size = chat.provider.asked()[0].to_string().len() as u64;
        assert!((size / 8..size / 3).contains(&asked), "{asked} tokens of {size} bytes");
        let last = chat.workspace.conversation("c1").last().unwrap().clone();
        assert_eq!(
            (&last["turn"]["usage"]["input_tokens"], &last["data"]["tokens_estimated"]),
            (&json!(asked), &json!(true))
        );
        let answer = chat.world.complete(&ask("c1", "Go")).await.json();
        assert_eq!(
            (&answer["usage"]["prompt_tokens"], answer["dexorder"]["usage_estimated"].as_bool()),
            (&json!(100), Some(false))
        );
    }
}

#[tokio::test]
async fn calls_of_one_answer_run_at_once_and_their_results_keep_the_order() {
    for dialect in BOTH {
        let chat = chat(dialect, "").await;
        let calls =
            vec![("wait", "{}"), ("echo", r#"{"text": "b"}"#), ("streamed", "{}"), ("platform_time", "{}")];
        chat.provider.script([Say::Calls("", calls), Say::Text("done")]);
        let say = chat.world.say("c1", "Go");
        let free = async {
            // The first call ends only after the second has begun.
            crate::support::until("echo runs", async || !chat.workspace.calls("echo").is_empty()).await;
            chat.workspace.state.go.notify_one();
        };
        assert_eq!(tokio::join!(say, free).0, "done");
        let results = chat.provider.results(&chat.provider.asked()[1]);
        let texts: Vec<&str> = results.iter().map(|(text, _)| text.as_str()).collect();
        assert_eq!(texts[..3], ["waited", "echo of b", "echo of nothing"]);
        assert!(texts[3].starts_with("{\"utc\":\"20"), "the platform's tool has its name: {texts:?}");
    }
}

#[tokio::test]
async fn a_name_that_clashes_is_changed_and_said() {
    let chat = chat(Dialect::OpenAi, "").await;
    chat.provider.script([Say::Calls("", vec![("workspace_platform_time", "{}")]), Say::Text("done")]);
    chat.world.say("c1", "Go").await;
    let asked = chat.provider.asked();
    assert!(chat.provider.system(&asked[0]).contains("is called workspace_platform_time here"));
    assert_eq!(chat.provider.results(&asked[1]), [("the workspace's own time".to_owned(), false)]);
}

#[tokio::test]
async fn a_tools_error_goes_back_as_such_and_a_long_result_is_cut() {
    for dialect in BOTH {
        let chat = chat(dialect, "resultSize: 1KiB").await;
        chat.provider.script([Say::Calls("", vec![("fail", "{}"), ("big", "{}")]), Say::Text("done")]);
        chat.world.say("c1", "Go").await;
        let results = chat.provider.results(&chat.provider.asked()[1]);
        assert_eq!(results[0], ("it is broken".to_owned(), true));
        assert!(results[1].0.len() < 1100 && results[1].0.ends_with("[cut: 1024 of 300000 bytes are shown]"));
        let lines = chat.workspace.conversation("c1");
        let calls = &lines[1]["tool_calls"];
        assert_eq!((&calls[0]["is_error"], &calls[0]["name"]), (&json!(true), &json!("fail")));
        assert!(calls[1]["result"].as_str().unwrap().len() < 1100);
    }
}

#[tokio::test]
async fn a_malformed_call_gets_one_repair_then_no_more_tools() {
    for dialect in BOTH {
        let chat = chat(dialect, "").await;
        chat.provider.script([
            Say::Calls("", vec![("echo", r#"{"text": "#)]),
            Say::Calls("", vec![("echo", r#"{"text": "right"}"#)]),
            Say::Text("done"),
        ]);
        assert_eq!(chat.world.say("c1", "Go").await, "done");
        let results = chat.provider.results(&chat.provider.asked()[1]);
        assert!(results[0].1 && results[0].0.contains("no JSON"), "{results:?}");
        assert_eq!(chat.workspace.calls("echo"), [json!({"text": "right"})]);

        chat.provider.script([
            Say::Calls("", vec![("nothing", "{}")]),
            Say::Calls("", vec![("nothing", "{}")]),
            Say::Text("I give up."),
        ]);
        let answer = chat.world.complete(&ask("c2", "Go")).await.json();
        assert_eq!(answer["choices"][0]["message"]["content"], "I give up.");
        assert_eq!(answer["dexorder"]["limit"], "malformed calls");
        let last = chat.provider.asked().last().unwrap()["tool_choice"].clone();
        assert!(last == "none" || last["type"] == "none", "{last}");
    }
}

#[tokio::test]
async fn rounds_calls_and_tokens_have_limits_and_the_model_then_answers() {
    let once_more = || Say::Calls("", vec![("echo", "{}"), ("echo", "{}")]);
    for (settings, limit, rounds) in [
        ("maxRounds: 3", "rounds", 3),
        ("maxToolCalls: 3", "tool calls", 3),
        ("turnTokens: 200", "tokens", 3),
    ] {
        let chat = chat(Dialect::Anthropic, settings).await;
        chat.provider.script([once_more(), once_more(), Say::Text("enough")]);
        let answer = chat.world.complete(&ask("c1", "Go")).await.json();
        assert_eq!(answer["choices"][0]["message"]["content"], "enough", "{answer}");
        assert_eq!(answer["dexorder"]["limit"], limit);
        assert_eq!(chat.provider.asked().len(), rounds);
        assert_eq!(chat.workspace.calls("echo").len(), if limit == "tool calls" { 3 } else { 4 });
    }
}

#[tokio::test]
async fn a_user_whose_day_of_tokens_is_used_up_comes_back_later_and_others_go_on() {
    let chat = chat(Dialect::OpenAi, "dayTokens: 1000000, tiers: {standard: {dayTokens: 200}}").await;
    let _other = crate::world::start_workspace(&chat.world, "other").await;
    chat.provider.script(std::iter::repeat_n(Say::Text("Yes"), 3));
    for _ in 0..2 {
        chat.world.say("c1", "Go").await;
    }
    let answer = chat.world.complete(&ask("c1", "Go")).await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (429, &json!("TooManyRequests")));
    assert!(answer.text().contains("tokens of the model"), "{}", answer.text());
    // 20 of 200 were too many, and one more is needed: a little more than a tenth of a day.
    let after: u32 = answer.header("retry-after").parse().unwrap();
    assert!((9000..=9072).contains(&after), "{after}");
    assert_eq!(chat.world.complete_as("other", &ask("c1", "Go")).await.status, 200);
    assert_eq!(chat.world.metric("dexorder_gateway_limited_total{limit=\"tokens\"}").await, "1");
}

#[tokio::test]
async fn a_tool_that_takes_too_long_is_cancelled_and_said_so() {
    let chat = chat(Dialect::OpenAi, "toolTimeout: 1s").await;
    chat.provider.script([Say::Calls("", vec![("wait", "{}")]), Say::Text("done")]);
    chat.world.say("c1", "Go").await;
    let results = chat.provider.results(&chat.provider.asked()[1]);
    assert_eq!(results, [("no answer within 1 s".to_owned(), true)]);
    crate::support::until("the call is cancelled", async || chat.workspace.cancelled() == 1).await;
}

#[tokio::test]
async fn no_argument_makes_a_platform_tool_act_for_another_user() {
    let chat = chat(Dialect::OpenAi, "").await;
    let _other = crate::world::start_workspace(&chat.world, "victim").await;
    chat.provider.script([
        Say::Calls(
            "",
            vec![
                ("platform_workspace_status", r#"{"user": "victim"}"#),
                ("platform_workspace_status", r#"{"workspace": "of-victim"}"#),
                ("platform_workspace_status", "{}"),
            ],
        ),
        Say::Text("done"),
    ]);
    chat.world.say("c1", "Go").await;
    let results = chat.provider.results(&chat.provider.asked()[1]);
    assert!(results[0].1 && results[1].1, "{results:?}");
    assert!(results[2].0.contains("of-trader1"));
    assert!(!results.iter().any(|(text, _)| text.contains("of-victim")));
}
