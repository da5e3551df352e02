//! What is kept of the user's context from turn to turn, and for whom.

use serde_json::json;

use crate::provider::{Dialect, Say};
use crate::support::until;
use crate::world::{Chat, ask, chat, start_workspace};

const PROFILE: &str = "context://user-profile";

/// Says something and returns the system prompt.
async fn prompt(chat: &Chat) -> String {
    chat.provider.script([Say::Text("Yes")]);
    chat.world.say("c1", "Go").await;
    chat.provider.system(chat.provider.asked().last().unwrap())
}

/// Two turns: the first makes the gateway listen, the second reads what is kept from then on.
async fn settled() -> Chat {
    let chat = chat(Dialect::OpenAi, "").await;
    prompt(&chat).await;
    until("the gateway listens", async || chat.workspace.listeners() == 1).await;
    // The acknowledgement is on its way: until it has come nothing is kept.
    until("the context is kept", async || {
        let before = chat.workspace.reads(PROFILE);
        prompt(&chat).await;
        chat.workspace.reads(PROFILE) == before
    })
    .await;
    chat
}

#[tokio::test]
async fn the_context_is_read_once_until_the_workspace_tells_of_a_change() {
    let chat = settled().await;
    let (profile, list) = (chat.workspace.reads(PROFILE), chat.workspace.reads("indicators://list"));
    assert!(prompt(&chat).await.contains("Trades BTC."));
    assert_eq!(chat.workspace.reads(PROFILE), profile);
    chat.workspace.change(PROFILE, "Trades copper.");
    until("the next turn knows", async || prompt(&chat).await.contains("Trades copper.")).await;
    assert_eq!(chat.workspace.reads("indicators://list"), list, "the rest is as it was");
    assert_eq!(chat.workspace.listeners(), 1, "one stream for all turns");
}

#[tokio::test]
async fn what_a_turn_changes_itself_the_next_one_knows() {
    let chat = settled().await;
    chat.provider.script([Say::Calls("", vec![("set_profile", "{}")]), Say::Text("Done")]);
    chat.world.say("c1", "Tin from now on").await;
    // Nobody told of it: the mock keeps silent about this tool.
    assert!(prompt(&chat).await.contains("Trades tin."));
}

#[tokio::test]
async fn a_stream_that_ends_leaves_nothing_that_could_be_out_of_date() {
    let chat = settled().await;
    chat.workspace.state.resources.lock().unwrap().insert(PROFILE, "Trades zinc.");
    assert!(prompt(&chat).await.contains("Trades BTC."), "nobody told of it");
    chat.workspace.end_listeners();
    until("the next turn reads anew", async || prompt(&chat).await.contains("Trades zinc.")).await;
}

#[tokio::test]
async fn two_users_never_share_what_was_read() {
    let chat = settled().await;
    let other = start_workspace(&chat.world, "other").await;
    other.state.resources.lock().unwrap().insert(PROFILE, "Trades nothing.");
    for _ in 0..3 {
        chat.provider.script([Say::Text("Yes"), Say::Text("Yes")]);
        let body = ask("c1", "Go");
        let own = chat.world.complete(&body);
        let others = chat.world.complete_as("other", &body);
        let (own, others) = tokio::join!(own, others);
        assert_eq!((own.status, others.status), (200, 200));
    }
    let prompts: Vec<String> =
        chat.provider.asked().iter().rev().take(6).map(|asked| chat.provider.system(asked)).collect();
    let having = |text: &str| prompts.iter().filter(|prompt| prompt.contains(text)).count();
    assert_eq!((having("Trades BTC."), having("Trades nothing.")), (3, 3));
    assert_eq!(other.conversation("c1").len(), 6);
    assert!(!json!(other.conversation("c1")).to_string().contains("BTC"));
}
