//! The gateway with a workspace and a provider around it.

use std::sync::Arc;

use http::Method;
use http::Response;
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::provider::{Dialect, Provider};
use crate::support::{self, Answer, World, endpoint, name_of, running};
use crate::workspace::Workspace;

pub(crate) const USER: &str = "trader1";
pub(crate) const KEY: &str = "sk-very-secret";

/// Everything.
pub(crate) struct Chat {
    pub(crate) world: World,
    pub(crate) workspace: Workspace,
    pub(crate) provider: Provider,
    _key: tempfile::NamedTempFile,
}

/// A gateway whose model is the scripted provider. `settings` stand in `chat`.
pub(crate) async fn chat(dialect: Dialect, settings: &str) -> Chat {
    chat_with(dialect, settings, "", 4096).await
}

/// The same with other settings beside those of `chat`, and a provider whose streams are cut into pieces.
pub(crate) async fn chat_with(dialect: Dialect, settings: &str, others: &str, piece: usize) -> Chat {
    let provider = Provider::start(dialect, piece).await;
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), format!("{KEY}\n")).unwrap();
    let world = support::world(&format!(
        "chat: {{provider: {}, baseUrl: 'http://{}/v1', model: test-model, apiKeyFile: '{}'{}{settings}}}\n{others}",
        dialect.as_str(),
        provider.address,
        key.path().display(),
        if settings.is_empty() { "" } else { ", " },
    ))
    .await;
    let workspace = start_workspace(&world, USER).await;
    Chat { world, workspace, provider, _key: key }
}

/// A gateway without a model.
pub(crate) async fn offline() -> (World, Workspace) {
    let world = support::world("").await;
    let workspace = start_workspace(&world, USER).await;
    (world, workspace)
}

/// A user's workspace, running.
pub(crate) async fn start_workspace(world: &World, user: &str) -> Workspace {
    let uid = world.cluster.apply(&name_of(user), user);
    let workspace = Workspace::start(&uid, Arc::clone(&world.trusted)).await;
    world.cluster.set_status(&name_of(user), running("pod-1", &endpoint(workspace.address), "Ready"));
    world.until_seen().await;
    workspace
}

/// Says something, and has the workspace keep it only once the model was asked.
pub(crate) async fn say_slowly(chat: &Chat, conversation: &str, text: &str) -> String {
    let asked = chat.provider.asked().len();
    chat.workspace.state.hold_appends.send_replace(true);
    let keep = async {
        support::until("the model is asked", async || chat.provider.asked().len() > asked).await;
        chat.workspace.state.hold_appends.send_replace(false);
    };
    tokio::join!(chat.world.say(conversation, text), keep).0
}

/// A request of OpenAI's API in a conversation that the workspace keeps.
pub(crate) fn ask(conversation: &str, text: &str) -> Value {
    json!({
        "model": "default",
        "messages": [{"role": "user", "content": text}],
        "metadata": {"conversation_id": conversation},
    })
}

impl World {
    pub(crate) async fn request(&self, method: Method, path: &str, body: &Value) -> Answer {
        self.request_as(USER, method, path, body, None).await
    }

    /// A request of any user, with an idempotency key or without.
    pub(crate) async fn request_as(
        &self,
        user: &str,
        method: Method,
        path: &str,
        body: &Value,
        key: Option<&str>,
    ) -> Answer {
        let token = format!("Bearer {}", self.token(user));
        let mut headers = vec![("authorization", token.as_str()), ("content-type", "application/json")];
        headers.extend(key.map(|key| ("idempotency-key", key)));
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.client.send(method, path, &headers, body).await
    }

    pub(crate) async fn complete_as(&self, user: &str, body: &Value) -> Answer {
        self.request_as(user, Method::POST, "/v1/chat/completions", body, None).await
    }

    /// A request with an idempotency key.
    pub(crate) async fn complete_once(&self, key: &str, body: &Value) -> Answer {
        self.request_as(USER, Method::POST, "/v1/chat/completions", body, Some(key)).await
    }

    /// Posts and returns with the response's head.
    pub(crate) async fn open(&self, path: &str, body: &Value) -> Response<Incoming> {
        let token = format!("Bearer {}", self.token(USER));
        let headers = [("authorization", token.as_str()), ("content-type", "application/json")];
        self.client.begin(Method::POST, path, &headers, body.to_string()).await
    }

    pub(crate) async fn complete(&self, body: &Value) -> Answer {
        self.request(Method::POST, "/v1/chat/completions", body).await
    }

    /// The text of the answer in a conversation.
    pub(crate) async fn say(&self, conversation: &str, text: &str) -> String {
        let answer = self.complete(&ask(conversation, text)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let body = answer.json();
        assert_eq!(body["dexorder"]["saved"], true, "{body}");
        body["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
    }

    /// The events of a run of AG-UI.
    pub(crate) async fn run(&self, thread: &str, text: &str) -> Vec<Value> {
        let answer = self.request(Method::POST, "/v1/chat/events", &run(thread, text)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        events(&answer.text())
    }
}

/// A request of AG-UI.
pub(crate) fn run(thread: &str, text: &str) -> Value {
    json!({
        "threadId": thread, "runId": "run-1", "state": {}, "tools": [], "context": [], "forwardedProps": {},
        "messages": [{"id": "m1", "role": "user", "content": text}],
    })
}

/// The JSON of the events of a stream.
pub(crate) fn events(text: &str) -> Vec<Value> {
    text.lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .filter(|data| *data != "[DONE]")
        .map(|data| serde_json::from_str(data).unwrap())
        .collect()
}
