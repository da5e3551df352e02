//! The user's conversations: listed, read and deleted through the workspace's own tools.

use std::time::Duration;

use serde_json::{Value, json};

use super::error::ChatError;
use super::history;
use super::workspace::{ToolResult, UserWorkspace};

const FOLDER: &str = "conversations";
const SUFFIX: &str = ".jsonl";
const WITHIN: Duration = Duration::from_mins(1);

/// All conversations that hold something.
pub(crate) async fn list(workspace: &UserWorkspace) -> Result<Value, ChatError> {
    let what = "list the conversations";
    let listed = workspace
        .call("list_files", &json!({"folder": FOLDER}), WITHIN)
        .await
        .map_err(|error| ChatError::workspace(what, error))?;
    // The folder is there from the start; who deletes it has no conversations.
    let result = if listed.failed && listed.text.contains("doesn't exist") {
        json!({"files": []})
    } else {
        structured(what, listed)?
    };
    let files = result["files"].as_array().map(Vec::as_slice).unwrap_or_default();
    let conversations: Vec<Value> = files
        .iter()
        .filter(|file| file["bytes"].as_u64().unwrap_or_default() > 0)
        .filter_map(|file| {
            let name = file["path"].as_str()?.strip_prefix(FOLDER)?.strip_prefix('/')?;
            let id = name.strip_suffix(SUFFIX).filter(|id| !id.contains('/'))?;
            Some(json!({"id": id, "object": "conversation", "bytes": file["bytes"]}))
        })
        .collect();
    Ok(json!({"object": "list", "data": conversations}))
}

/// The newest messages of a conversation.
pub(crate) async fn read(workspace: &UserWorkspace, id: &str, last: usize) -> Result<Value, ChatError> {
    let (messages, total) = history::read(workspace, id, last).await?;
    if total == 0 {
        return Err(ChatError::Conversation(id.to_owned()));
    }
    Ok(json!({"id": id, "object": "conversation", "total": total, "messages": messages}))
}

/// Empties a conversation's file. The repository's history still has what it held.
pub(crate) async fn delete(workspace: &UserWorkspace, id: &str) -> Result<Value, ChatError> {
    read(workspace, id, 1).await?;
    let what = "delete the conversation";
    let arguments = json!({"path": format!("{FOLDER}/{id}{SUFFIX}"), "content": ""});
    let written = workspace
        .call("write_file", &arguments, WITHIN)
        .await
        .map_err(|error| ChatError::workspace(what, error))?;
    structured(what, written)?;
    Ok(json!({"id": id, "object": "conversation.deleted", "deleted": true}))
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
