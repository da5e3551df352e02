//! MCP requests of the gateway's own to a user's workspace: the newest revision, one POST for each, no session.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use dexorder_crds::condition::ready;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::cache::{Hinted, Memory};
use super::error::ChatError;
use super::event::Event;
use super::listen;
use super::progress::Progress;
use super::wire::{McpError, ToolResult, answer, message, streams, tool_result, ttl};
use crate::app::App;
use crate::mcp;
use crate::mcp::way::Way;
use crate::wake::{self, Purpose, Tries};

/// A workspace that answers within this time is not worth the news that it is waking.
const AWAKE: Duration = Duration::from_millis(100);

/// One user's workspace.
#[derive(Clone)]
pub(crate) struct UserWorkspace {
    pub(crate) app: Arc<App>,
    pub(crate) user: String,
    /// Where the request that it is about comes from.
    pub(crate) from: IpAddr,
}

impl UserWorkspace {
    fn way(&self) -> Way {
        Way::of_user(&self.user, self.from)
    }

    /// Wakes the workspace if it must be. If so, the client is told what the workspace is doing, and again whenever that
    /// changes. Returns how long its first answers may take: a workspace that is starting takes connections before its
    /// agent answers.
    pub(crate) async fn connect(&self, progress: &Progress) -> Result<Duration, ChatError> {
        let config = &self.app.config;
        let begun = Instant::now();
        let tries = Tries::default();
        let deadline = begun + config.wake_timeout;
        let caller = self.way().caller;
        let connect = self.app.connector.connect(&caller, &tries, Purpose::Work, deadline);
        tokio::pin!(connect);
        if self.is_ready()
            && let Ok(found) = tokio::time::timeout(AWAKE, &mut connect).await
        {
            return Ok(found.map(|_| config.chat.context_timeout)?);
        }
        let mut changes = self.app.workspaces.subscribe(&caller.target);
        let mut told = None;
        loop {
            let state = wake::doing(changes.borrow_and_update().as_deref());
            // That it is ready is shown by what it answers.
            let news = told.as_ref().is_none_or(|told| *told != state && state.0 != ready::READY);
            if news {
                let (word, sentence) = state.clone();
                progress.tell(Event::Waking { state: word, message: sentence }).await;
                told = Some(state);
            }
            tokio::select! {
                found = &mut connect => {
                    found?;
                    break;
                }
                Ok(()) = changes.changed() => {}
            }
        }
        Ok(config.wake_timeout.saturating_sub(begun.elapsed()).max(config.chat.context_timeout))
    }

    fn is_ready(&self) -> bool {
        let workspace = self.app.workspaces.of_user(&self.user);
        let known = workspace.as_ref().and_then(|workspace| workspace.ready.as_ref());
        known.is_some_and(|state| state.reason == ready::READY)
    }

    /// The text of a resource.
    pub(crate) async fn read(&self, uri: &str, within: Duration) -> Result<Hinted, McpError> {
        let result = self.request("resources/read", Some(uri), json!({"uri": uri}), within).await?;
        let contents =
            result["contents"].as_array().ok_or(McpError::Malformed("a resource without contents"))?;
        let text: String = contents.iter().filter_map(|content| content["text"].as_str()).collect();
        Ok(Hinted { bytes: text.len(), value: Value::from(text), ttl: ttl(&result) })
    }

    /// All tools, as the workspace describes them.
    pub(crate) async fn tools(&self, memory: &Memory, within: Duration) -> Result<Vec<Value>, McpError> {
        if let Some(kept) = memory.get(listen::TOOLS) {
            return Ok(kept.as_array().cloned().unwrap_or_default());
        }
        let moment = memory.moment();
        let (mut tools, mut hint) = (Vec::new(), Duration::MAX);
        let mut cursor = Value::Null;
        for _ in 0..20 {
            let params = if cursor.is_null() { json!({}) } else { json!({"cursor": cursor}) };
            let mut result = self.request(listen::TOOLS, None, params, within).await?;
            hint = hint.min(ttl(&result));
            match result["tools"].take() {
                Value::Array(page) => tools.extend(page),
                _ => return Err(McpError::Malformed("a list of tools without tools")),
            }
            cursor = result["nextCursor"].take();
            if cursor.is_null() {
                let value = Value::from(tools.clone());
                let answer = Hinted { bytes: value.to_string().len(), value, ttl: hint };
                memory.put(listen::TOOLS, &answer, moment);
                return Ok(tools);
            }
        }
        Err(McpError::Malformed("a list of tools that does not end"))
    }

    /// Opens a stream of what changes. A stopped workspace stays stopped.
    pub(crate) async fn listen(&self, params: Value) -> Result<http::Response<Incoming>, McpError> {
        let (_, headers, body) = message("subscriptions/listen", None, params)?;
        let deadline = Instant::now() + self.app.config.wake_timeout;
        let response = mcp::send(&self.app, self.way(), Purpose::Listen, headers, body, deadline).await?;
        if streams(&response) { Ok(response) } else { Err(McpError::Malformed("no stream of changes")) }
    }

    /// Runs a tool.
    pub(crate) async fn call(
        &self,
        name: &str,
        arguments: &Value,
        within: Duration,
    ) -> Result<ToolResult, McpError> {
        if let Some(kept) = self.app.chat.guests.call(&self.user, name, arguments) {
            return Ok(kept);
        }
        let params = json!({"name": name, "arguments": arguments});
        tool_result(self.request("tools/call", Some(name), params, within).await?)
    }

    async fn request(
        &self,
        method: &str,
        name: Option<&str>,
        params: Value,
        within: Duration,
    ) -> Result<Value, McpError> {
        let (id, headers, body) = message(method, name, params)?;
        let deadline = Instant::now() + within;
        let answer = timeout_at(deadline, async {
            let response = mcp::send(&self.app, self.way(), Purpose::Work, headers, body, deadline).await?;
            answer(response, id).await
        });
        answer.await.unwrap_or(Err(McpError::Late))
    }
}
