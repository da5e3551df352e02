//! What a turn needs before the model can be asked, found out at once: while the workspace wakes, the platform's servers
//! are asked for their tools, and all that stands in the workspace is read as soon as it answers.

use std::sync::Arc;

use serde_json::Value;
use tokio::time::Instant;

use super::cache::Memory;
use super::context::Context;
use super::error::ChatError;
use super::history;
use super::listen;
use super::progress::Progress;
use super::servers::Offer;
use super::wire::McpError;
use super::workspace::UserWorkspace;

/// All of it.
pub(super) struct Found {
    pub(super) read: Read,
    pub(super) offers: Vec<Offer>,
}

/// What stands in the workspace.
pub(super) struct Read {
    pub(super) memory: Arc<Memory>,
    pub(super) context: Context,
    pub(super) tools: Result<Vec<Value>, McpError>,
    /// The newest lines of the conversation, and how many there are in all.
    pub(super) lines: Vec<Value>,
    pub(super) total: u64,
}

/// Finds it out. `conversation`: the one to read, if any. `awake` gets the moment from which the workspace takes
/// connections, whatever comes of the rest.
pub(super) async fn find(
    workspace: &UserWorkspace,
    progress: &Progress,
    conversation: Option<&str>,
    awake: &mut Option<Instant>,
) -> Result<Found, ChatError> {
    let app = &workspace.app;
    let offers = app.chat.servers.offers(&app.signer, &workspace.user, app.config.chat.context_timeout);
    let (read, offers) =
        tokio::try_join!(read(workspace, progress, conversation, awake), async { Ok(offers.await) })?;
    Ok(Found { read, offers })
}

async fn read(
    workspace: &UserWorkspace,
    progress: &Progress,
    conversation: Option<&str>,
    awake: &mut Option<Instant>,
) -> Result<Read, ChatError> {
    let within = workspace.connect(progress).await?;
    *awake = Some(Instant::now());
    let memory = listen::memory(workspace);
    let lines = async {
        match conversation {
            Some(conversation) => history::read(workspace, conversation, history::LAST, within).await,
            None => Ok((Vec::new(), 0)),
        }
    };
    let (context, tools, lines) = tokio::join!(
        Context::read(workspace, &memory, within, workspace.app.config.chat.context_bytes),
        workspace.tools(&memory, within),
        lines,
    );
    let (lines, total) = lines?;
    Ok(Read { memory, context, tools, lines, total })
}
