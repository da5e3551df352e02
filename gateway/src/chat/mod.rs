//! The chat: a conversation in which a language model uses the tools of the user's own workspace. The workspace gives
//! the context and keeps the history; the gateway keeps nothing.

mod ag_ui;
mod completions;
mod context;
mod conversations;
mod error;
mod event;
mod history;
mod llm;
mod metrics;
mod progress;
mod request;
mod routes;
mod stream;
mod summary;
mod tools;
mod turn;
mod workspace;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::App;
use crate::clock;
use crate::config::{ChatConfig, ModelConfig};
use error::ChatError;
use event::Events;
use llm::Llm;
pub use llm::LlmStartError;
pub(crate) use metrics::ChatMetrics;
pub(crate) use routes::routes;
use turn::Question;

/// The name of a model that always stands for the one that the user's tier has.
const DEFAULT_MODEL: &str = "default";

/// What turns need besides the workspaces.
pub(crate) struct Chat {
    llm: Llm,
    metrics: ChatMetrics,
    /// Interrupts all turns.
    abort: CancellationToken,
    tasks: TaskTracker,
    turns: Arc<Mutex<HashMap<String, usize>>>,
}

impl Chat {
    pub(crate) fn new(config: &ChatConfig, metrics: ChatMetrics) -> Result<Self, LlmStartError> {
        Ok(Self {
            llm: Llm::new(config)?,
            metrics,
            abort: CancellationToken::new(),
            tasks: TaskTracker::new(),
            turns: Arc::default(),
        })
    }

    /// Interrupts the turns that still run after `grace` and returns when all are saved, or soon after.
    pub(crate) async fn stop(&self, grace: Duration) {
        self.tasks.close();
        let patience = grace.saturating_sub(turn::SAVING);
        if tokio::time::timeout(patience, self.tasks.wait()).await.is_err() {
            tracing::warn!(turns = self.tasks.len(), "turns are interrupted at the end of the shutdown");
            self.abort.cancel();
            let _ = tokio::time::timeout(turn::SAVING, self.tasks.wait()).await;
        }
    }

    /// Counts a turn of a user for as long as the result lives.
    fn take(&self, user: &str, most: usize) -> Result<Turning, ChatError> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let count = turns.entry(user.to_owned()).or_default();
        if *count >= most {
            return Err(ChatError::TooManyTurns);
        }
        *count += 1;
        self.metrics.running.inc();
        let running = self.metrics.running.clone();
        Ok(Turning { user: user.to_owned(), turns: Arc::clone(&self.turns), running })
    }
}

/// A turn that runs.
pub(crate) struct Turning {
    user: String,
    turns: Arc<Mutex<HashMap<String, usize>>>,
    running: Gauge,
}

impl Drop for Turning {
    fn drop(&mut self) {
        self.running.dec();
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = turns.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                turns.remove(&self.user);
            }
        }
    }
}

/// Begins a turn. It goes on by itself until its end is saved; dropping the events interrupts it.
fn begin(app: &Arc<App>, question: Question) -> Result<Events, ChatError> {
    if let Some(asked) = &question.model
        && *asked != DEFAULT_MODEL
        && *asked != model_of(app, &question.user).name
    {
        return Err(ChatError::Model(asked.clone()));
    }
    let turning = app.chat.take(&question.user, app.config.chat.max_turns)?;
    let (sender, events) = event::channel();
    app.chat.tasks.spawn(turn::run(Arc::clone(app), question, sender, turning));
    Ok(events)
}

/// The model of a user's tier. A user without workspace will get one of the default tier.
fn model_of<'a>(app: &'a App, user: &str) -> &'a ModelConfig {
    let config = &app.config.chat;
    let workspace = app.workspaces.current(user);
    let tier = workspace.as_ref().map_or(&app.config.defaults.tier, |workspace| &workspace.tier);
    config.tiers.get(tier).unwrap_or(&config.model)
}

/// A name that nothing else has: 128 bits from the system's random source.
fn unique() -> String {
    let half = || RandomState::new().hash_one(clock::rfc3339());
    format!("{:016x}{:016x}", half(), half())
}
