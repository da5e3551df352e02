//! What a turn needs before the model can be asked, found out at once: while the workspace wakes, the platform's servers
//! are asked for their tools, and all that stands in the workspace is read as soon as it answers.

use std::sync::Arc;

use serde_json::Value;
use tokio::time::Instant;

use super::cache::Memory;
use super::context::Context;
use super::error::ChatError;
use super::history::{self, Talk};
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
    /// The conversation so far.
    pub(super) talk: Talk,
    /// It was not read, but remembered.
    pub(super) remembered: bool,
}

/// Which conversation a turn needs.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) conversation: &'a str,
    pub(super) turn: &'a str,
    /// What is remembered of it may do.
    pub(super) remembered: bool,
}

/// Finds it out. `awake` gets the moment from which the workspace takes connections, whatever comes of the rest.
pub(super) async fn find(
    workspace: &UserWorkspace,
    progress: &Progress,
    wanted: Option<Wanted<'_>>,
    awake: &mut Option<Instant>,
) -> Result<Found, ChatError> {
    let app = &workspace.app;
    let offers = app.chat.servers.offers(&app.signer, &workspace.user, app.config.chat.context_timeout);
    let (read, offers) =
        tokio::try_join!(read(workspace, progress, wanted, awake), async { Ok(offers.await) })?;
    Ok(Found { read, offers })
}

async fn read(
    workspace: &UserWorkspace,
    progress: &Progress,
    wanted: Option<Wanted<'_>>,
    awake: &mut Option<Instant>,
) -> Result<Read, ChatError> {
    let within = workspace.connect(progress).await?;
    awake.get_or_insert_with(Instant::now);
    let memory = listen::memory(workspace);
    let talk = async {
        let Some(Wanted { conversation, turn, remembered }) = wanted else {
            return Ok((Talk::default(), false));
        };
        // A turn that ran before is told again, or run again, as it stands in the workspace.
        let known = memory.talk(conversation).filter(|talk| remembered && !history::has(&talk.lines, turn));
        match known {
            Some(talk) => Ok((talk, true)),
            None => {
                history::read(workspace, conversation, history::LAST, within).await.map(|talk| (talk, false))
            }
        }
    };
    let (context, tools, talk) = tokio::join!(
        Context::read(workspace, &memory, within, workspace.app.config.chat.context_bytes),
        workspace.tools(&memory, within),
        talk,
    );
    let (talk, remembered) = talk?;
    Ok(Read { memory, context, tools, talk, remembered })
}
