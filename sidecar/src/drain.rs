//! The end of the workspace's run: refuse new work, let running work end, save.

use std::sync::Arc;
use std::time::Duration;

use dexorder_protocol::control::{DrainMode, DrainOutcome, DrainRequest, NotIdle, Report};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::agent::{Agent, AgentError};
use crate::gate::Gate;
use crate::mark::Mark;
use crate::metrics::{DrainResult, Metrics};

/// How long the agent's answer about its own work may take.
pub(crate) const STATUS_TIME: Duration = Duration::from_secs(1);
/// How long a save may take at least, when the calls have used up the deadline. The operator allows 5 s.
const LEAST_SAVE_TIME: Duration = Duration::from_secs(4);
/// How long calls that were cut off may take to be gone.
const CUT_TIME: Duration = Duration::from_millis(500);
/// Pause between looks at the agent's own work.
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// Why a drain was not begun.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DrainError {
    /// The workspace is not idle.
    #[error("the workspace is not idle ({0:?})")]
    NotIdle(NotIdle),
    /// Idle since when?
    #[error("idleSinceTime is required with mode IfIdle")]
    NoTime,
    /// Nothing is stopped on missing information.
    #[error("whether the agent is busy is not known")]
    Unknown(#[source] AgentError),
    /// The agent is starting.
    #[error("the agent is not ready yet")]
    NotReady,
    /// The drain ended without a result.
    #[error("the drain broke off")]
    Broken(#[from] tokio::task::JoinError),
}

/// Drains once, however often it is asked to.
pub(crate) struct Drain {
    gate: Arc<Gate>,
    agent: Arc<Agent>,
    metrics: Arc<Metrics>,
    limit: Duration,
    mark: Mark,
    outcome: Mutex<Option<DrainOutcome>>,
}

impl Drain {
    /// Of a pod that was drained before, the gate is closed from the start.
    pub(crate) fn new(
        gate: Arc<Gate>,
        agent: Arc<Agent>,
        metrics: Arc<Metrics>,
        limit: Duration,
        mark: Mark,
    ) -> Self {
        if mark.is_set() {
            tracing::warn!("the pod was drained before this sidecar started: nothing is served");
            gate.close();
        }
        Self { gate, agent, metrics, limit, mark, outcome: Mutex::default() }
    }

    /// Does what the operator asks for. The drain goes on if the operator stops waiting.
    pub(crate) async fn run(self: &Arc<Self>, request: DrainRequest) -> Result<DrainOutcome, DrainError> {
        let DrainRequest { mode, idle_since_time, deadline_seconds } = request;
        match mode {
            DrainMode::Force => self.gate.close(),
            DrainMode::IfIdle => {
                self.close_if_idle(idle_since_time.ok_or(DrainError::NoTime)?).await.inspect_err(
                    |error| {
                        if let DrainError::NotIdle(reason) = error {
                            self.metrics.drain_ended((*reason).into());
                        }
                    },
                )?;
            }
        }
        self.mark.set();
        let limit = deadline_seconds.map_or(self.limit, |seconds| Duration::from_secs(seconds.into()));
        let drain = Arc::clone(self);
        Ok(tokio::spawn(async move { drain.finish(limit).await }).await?)
    }

    /// Drains because this process ends. The pod may go on with another one: no mark is set.
    pub(crate) async fn end(&self) {
        self.gate.close();
        self.finish(self.limit).await;
    }

    /// Asks the agent for its own work first: no request can start any between its answer and the closing, for a
    /// request would be seen there.
    async fn close_if_idle(&self, since: jiff::Timestamp) -> Result<(), DrainError> {
        if self.gate.snapshot().closed {
            return Ok(());
        }
        self.gate.check_idle(since).map_err(DrainError::NotIdle)?;
        let status = self.agent.status(STATUS_TIME).await.map_err(DrainError::Unknown)?;
        if !status.ready {
            return Err(DrainError::NotReady);
        }
        if !status.busy.is_empty() {
            return Err(DrainError::NotIdle(NotIdle::Busy));
        }
        self.gate.close_if_idle(since).map_err(DrainError::NotIdle)
    }

    /// Lets running work end and saves. Whoever comes second waits for the first and gets its outcome; only a save
    /// that failed is tried again.
    async fn finish(&self, limit: Duration) -> DrainOutcome {
        let mut slot = self.outcome.lock().await;
        if let Some(outcome) = slot.as_ref().filter(|outcome| outcome.error.is_none()) {
            return outcome.clone();
        }
        let until = Instant::now() + limit;
        let cut_before = slot.as_ref().map_or(0, |outcome| outcome.cancelled);
        let cancelled = cut_before + self.let_calls_end(until).await;
        self.let_agent_finish(until).await;
        let save_time = until.saturating_duration_since(Instant::now()).max(LEAST_SAVE_TIME);
        let mut outcome = DrainOutcome {
            drained: true,
            reason: None,
            report: None,
            saved_commit: None,
            clean: false,
            remote: None,
            cancelled,
            error: None,
        };
        match self.agent.save(save_time).await {
            Ok(saved) => {
                tracing::info!(commit = saved.commit, clean = saved.clean, cancelled, "drained and saved");
                outcome.saved_commit = Some(saved.commit);
                outcome.clean = saved.clean;
                outcome.remote = saved.remote;
                self.metrics.drain_ended(DrainResult::Saved);
            }
            Err(error) => {
                tracing::warn!(%error, cancelled, "drained, but the save failed");
                outcome.error = Some(error.to_string());
                self.metrics.drain_ended(DrainResult::SaveFailed);
            }
        }
        *slot = Some(outcome.clone());
        outcome
    }

    /// Waits for the calls that run, cuts off what is left at the deadline, and says how many that were.
    async fn let_calls_end(&self, until: Instant) -> u32 {
        if timeout_at(until, self.gate.quiet()).await.is_ok() {
            return 0;
        }
        let cut = self.gate.cut_calls();
        if timeout(CUT_TIME, self.gate.quiet()).await.is_err() {
            tracing::warn!("calls that were cut off are still not gone");
        }
        cut
    }

    /// Waits for what the agent does without a request. An agent that does not answer has nothing to wait for.
    async fn let_agent_finish(&self, until: Instant) {
        while Instant::now() < until {
            match self.agent.status(STATUS_TIME).await {
                Ok(status) if !status.busy.is_empty() => sleep(BUSY_PAUSE).await,
                Ok(_) | Err(_) => return,
            }
        }
    }
}

/// The answer to a drain that was refused because the workspace is not idle.
pub(crate) fn refused(reason: NotIdle, report: Report) -> DrainOutcome {
    DrainOutcome {
        drained: false,
        reason: Some(reason),
        report: Some(Box::new(report)),
        saved_commit: None,
        clean: false,
        remote: None,
        cancelled: 0,
        error: None,
    }
}
