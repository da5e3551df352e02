//! Hears of changes in a user's workspace while it is awake, so that what was read of it can be kept meanwhile. The
//! stream only listens: it wakes nothing and keeps nothing awake.

use std::collections::HashSet;
use std::sync::Arc;

use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::cache::Memory;
use super::context::URIS;
use super::llm::SseEvents;
use super::wire::McpError;
use super::workspace::UserWorkspace;

/// The key of the list of tools.
pub(crate) const TOOLS: &str = "tools/list";

/// The memory of the workspace as it runs now. The first turn at a pod begins to listen.
pub(crate) fn memory(workspace: &UserWorkspace) -> Arc<Memory> {
    let current = workspace.app.workspaces.of_user(&workspace.user);
    let pod = current.and_then(|workspace| workspace.pod_uid.clone()).unwrap_or_default();
    let (memory, new) = workspace.app.chat.cache.memory(&workspace.user, &pod);
    if new {
        let (workspace, memory) = (workspace.clone(), Arc::clone(&memory));
        tokio::spawn(async move {
            let app = Arc::clone(&workspace.app);
            let ended = tokio::select! {
                ended = follow(&workspace, &memory) => ended,
                () = memory.gone.cancelled() => Ok(()),
                () = app.shutdown.cancelled() => Ok(()),
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "changes of a workspace are not heard of");
            }
            app.chat.cache.drop_memory(&workspace.user, &memory);
        });
    }
    memory
}

/// Listens until the stream ends.
async fn follow(workspace: &UserWorkspace, memory: &Memory) -> Result<(), McpError> {
    let wanted = json!({"notifications": {"toolsListChanged": true, "resourceSubscriptions": URIS}});
    let mut body = workspace.listen(wanted).await?.into_body();
    let mut events = SseEvents::default();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| McpError::BrokeOff)?.into_data() else { continue };
        for event in events.push(&data).map_err(|_| McpError::TooLarge)? {
            let message: Value =
                serde_json::from_str(&event).map_err(|_| McpError::Malformed("an event that is no JSON"))?;
            note(memory, &message);
        }
    }
    Ok(())
}

fn note(memory: &Memory, message: &Value) {
    let params = &message["params"];
    match message["method"].as_str().unwrap_or_default() {
        "notifications/subscriptions/acknowledged" => memory.cover(promised(&params["notifications"])),
        "notifications/resources/updated" => memory.changed(params["uri"].as_str().unwrap_or_default()),
        "notifications/tools/list_changed" => memory.changed(TOOLS),
        _ => {}
    }
}

/// What the workspace promises to tell.
fn promised(notifications: &Value) -> HashSet<String> {
    let uris = notifications["resourceSubscriptions"].as_array().into_iter().flatten();
    let mut keys: HashSet<String> = uris.filter_map(Value::as_str).map(str::to_owned).collect();
    if notifications["toolsListChanged"] == true {
        keys.insert(TOOLS.to_owned());
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_promised_is_covered() {
        let promised = promised(&json!({"resourceSubscriptions": ["context://user-profile"]}));
        assert_eq!(promised, ["context://user-profile".to_owned()].into());
        assert!(super::promised(&json!({"toolsListChanged": true})).contains(TOOLS));
        assert!(super::promised(&json!({})).is_empty());
    }
}
