//! What happens in a turn, as those who stream it to a client hear of it.

use serde_json::Value;
use tokio::sync::mpsc;

use super::error::ChatError;
use super::llm::{Stop, Usage};

/// How many events may wait for a slow client before the turn waits too.
const WAITING: usize = 256;

/// One event.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// The workspace is stopped or starting: what it is doing, in a word and a sentence.
    Waking {
        state: String,
        message: String,
    },
    /// The user's context is in the prompt.
    Context(Value),
    /// A message of the model begins.
    TextStart {
        message: String,
    },
    Text {
        message: String,
        text: String,
    },
    TextEnd {
        message: String,
    },
    CallStart {
        id: String,
        name: String,
        message: String,
    },
    CallArguments {
        id: String,
        text: String,
    },
    CallEnd {
        id: String,
    },
    CallResult {
        id: String,
        message: String,
        content: String,
        failed: bool,
    },
    /// The turn was saved in the workspace, or why not.
    Saved(Result<(), String>),
    /// The last event of a turn that went well.
    Finished {
        stop: Stop,
        usage: Usage,
        limit: Option<&'static str>,
    },
    /// The last event of one that did not.
    Failed(ChatError),
}

pub(crate) type Events = mpsc::Receiver<Event>;

pub(crate) fn channel() -> (mpsc::Sender<Event>, Events) {
    mpsc::channel(WAITING)
}
