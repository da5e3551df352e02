//! The chat: a conversation in which a language model uses the tools of the user's own workspace. The workspace gives
//! the context and keeps the history; the gateway keeps nothing.

mod ag_ui;
mod budget;
mod cache;
mod completions;
mod context;
mod conversations;
mod error;
mod event;
mod guests;
mod history;
mod listen;
mod llm;
mod metrics;
mod platform;
mod prepare;
mod progress;
mod record;
mod request;
mod routes;
mod servers;
mod stream;
mod summary;
mod tools;
mod turn;
mod web;
mod wire;
mod workspace;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::App;
use crate::clock;
use crate::config::{ChatConfig, ModelConfig};
use budget::Budgets;
use cache::Cache;
use error::ChatError;
use event::Events;
use guests::Guests;
use llm::Llm;
pub(crate) use metrics::ChatMetrics;
pub(crate) use routes::routes;
use servers::Servers;
use turn::Question;
pub use web::WebError;

/// The name of a model that always stands for the one that the user's tier has.
const DEFAULT_MODEL: &str = "default";

/// The turns that run, by user.
type Running = Arc<Mutex<HashMap<String, Vec<String>>>>;

/// What turns need besides the workspaces.
pub(crate) struct Chat {
    llm: Llm,
    metrics: ChatMetrics,
    cache: Cache,
    servers: Servers,
    guests: Guests,
    budgets: Budgets,
    /// Interrupts all turns.
    abort: CancellationToken,
    tasks: TaskTracker,
    turns: Running,
}

impl Chat {
    /// `visit`: how long a visitor may come back.
    pub(crate) fn new(config: &ChatConfig, visit: Duration, metrics: ChatMetrics) -> Result<Self, WebError> {
        Ok(Self {
            llm: Llm::new(config)?,
            metrics,
            cache: Cache::default(),
            servers: Servers::new(&config.servers)?,
            guests: Guests::new(i64::try_from(visit.as_secs()).unwrap_or(i64::MAX)),
            budgets: Budgets::new(config),
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
    fn take(&self, question: &Question, most: usize) -> Result<Turning, ChatError> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let running = turns.entry(question.user.clone()).or_default();
        if running.contains(&question.turn) {
            return Err(ChatError::TurnRunning);
        }
        if running.len() >= most {
            return Err(ChatError::TooManyTurns);
        }
        running.push(question.turn.clone());
        self.metrics.running.inc();
        let (user, turn) = (question.user.clone(), question.turn.clone());
        Ok(Turning { user, turn, turns: Arc::clone(&self.turns), running: self.metrics.running.clone() })
    }

    /// Whether a turn of a user runs here.
    fn runs(&self, user: &str, turn: &str) -> bool {
        let turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.get(user).is_some_and(|turns| turns.iter().any(|running| running == turn))
    }
}

/// A turn that runs.
pub(crate) struct Turning {
    user: String,
    turn: String,
    turns: Running,
    running: Gauge,
}

impl Drop for Turning {
    fn drop(&mut self) {
        self.running.dec();
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = turns.get_mut(&self.user) {
            running.retain(|turn| *turn != self.turn);
            if running.is_empty() {
                turns.remove(&self.user);
            }
        }
    }
}

/// Begins a turn. It goes on by itself until its end is saved; dropping the events interrupts it.
fn begin(app: &Arc<App>, question: Question, from: IpAddr) -> Result<Events, ChatError> {
    if let Some(asked) = &question.model
        && *asked != DEFAULT_MODEL
        && *asked != model_of(app, &question.user).name
    {
        return Err(ChatError::Model(asked.clone()));
    }
    app.chat.budgets.check(&tier_of(app, &question.user), &question.user, &app.metrics)?;
    let turning = app.chat.take(&question, app.config.chat.max_turns)?;
    let (sender, events) = event::channel();
    app.chat.tasks.spawn(turn::run(Arc::clone(app), question, from, sender, turning));
    Ok(events)
}

/// The model of a user's tier.
fn model_of<'a>(app: &'a App, user: &str) -> &'a ModelConfig {
    let config = &app.config.chat;
    config.tiers.get(&tier_of(app, user)).unwrap_or(&config.model)
}

/// A user's tier. A user without workspace will get one of the default tier.
fn tier_of(app: &App, user: &str) -> String {
    let workspace = app.workspaces.of_user(user);
    workspace.as_ref().map_or(&app.config.defaults.tier, |workspace| &workspace.tier).clone()
}

/// A name that nothing else has: 128 bits from the system's random source.
fn unique() -> String {
    let half = || RandomState::new().hash_one(clock::rfc3339());
    format!("{:016x}{:016x}", half(), half())
}
