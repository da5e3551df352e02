//! The user's conversations: listed, read and deleted through the workspace's own tools.

use std::time::Duration;

use serde_json::{Value, json};

use super::error::ChatError;
use super::history::{self, Talk};
use super::wire::ToolResult;
use super::workspace::UserWorkspace;

/// How long the workspace may take once it is awake.
const WITHIN: Duration = Duration::from_mins(1);

/// All conversations, the one that changed last first.
pub(crate) async fn list(workspace: &UserWorkspace) -> Result<Value, ChatError> {
    let what = "list the conversations";
    let listed = workspace
        .call("list_conversations", &json!({}), within(workspace))
        .await
        .map_err(|error| ChatError::workspace(what, error))?;
    let result = structured(what, listed)?;
    let kept = result["conversations"].as_array().map(Vec::as_slice).unwrap_or_default();
    let conversations: Vec<Value> = kept
        .iter()
        .map(|kept| {
            json!({
                "id": kept["conversation"], "object": "conversation", "bytes": kept["bytes"],
                "changed": kept["changed"],
            })
        })
        .collect();
    Ok(json!({"object": "list", "data": conversations}))
}

/// The newest messages of a conversation. A turn that nothing came of and that does not run here is shown as interrupted.
pub(crate) async fn read(workspace: &UserWorkspace, id: &str, last: usize) -> Result<Value, ChatError> {
    let Talk { lines, total, .. } = history::read(workspace, id, last, within(workspace)).await?;
    if total == 0 {
        return Err(ChatError::Conversation(id.to_owned()));
    }
    let chat = &workspace.app.chat;
    let messages = history::shown(&lines, |turn| chat.runs(&workspace.user, turn));
    Ok(json!({"id": id, "object": "conversation", "total": total, "messages": messages}))
}

/// Deletes a conversation. The repository's history still has it.
pub(crate) async fn delete(workspace: &UserWorkspace, id: &str) -> Result<Value, ChatError> {
    read(workspace, id, 1).await?;
    let what = "delete the conversation";
    let deleted = workspace
        .call("delete_conversation", &json!({"conversation": id}), within(workspace))
        .await
        .map_err(|error| ChatError::workspace(what, error))?;
    structured(what, deleted)?;
    Ok(json!({"id": id, "object": "conversation.deleted", "deleted": true}))
}

/// How long an answer may take, with the start of a workspace that is stopped.
fn within(workspace: &UserWorkspace) -> Duration {
    WITHIN + workspace.app.config.wake_timeout
}

fn structured(what: &'static str, result: ToolResult) -> Result<Value, ChatError> {
    if result.failed {
        return Err(ChatError::Workspace { what, error: result.text });
    }
    if result.structured.is_null() {
        return Ok(serde_json::from_str(&result.text).unwrap_or_default());
    }
    Ok(result.structured)
}
