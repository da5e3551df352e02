//! Looks after the agent: every few milliseconds until it is up, so that held requests go on at once, then rarely.

use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use super::{Agent, AgentError};

/// Pause between looks while the agent starts.
const STARTING_PAUSE: Duration = Duration::from_millis(10);
/// How long it is looked for that often.
const STARTING_TIME: Duration = Duration::from_mins(1);
/// Pause between looks at an agent that is still not up.
const ABSENT_PAUSE: Duration = Duration::from_millis(100);
/// Pause between looks at an agent that is up. A request that can't reach it has it looked at sooner.
const READY_PAUSE: Duration = Duration::from_secs(5);
/// How long an answer may take.
const ANSWER_TIME: Duration = Duration::from_secs(2);
/// How many slow answers in a row make an agent that can be connected to count as not ready.
const SLOW_ANSWERS: u32 = 3;

impl Agent {
    /// Watches the agent for ever.
    pub(crate) async fn watch(&self) {
        let mut absent_since = Instant::now();
        let mut slow = 0;
        loop {
            match self.status(ANSWER_TIME).await {
                Ok(_) => slow = 0,
                Err(AgentError::Connect(error)) => self.lost(&error),
                Err(error) if slow >= SLOW_ANSWERS => self.lost(&error),
                Err(error) => {
                    slow += 1;
                    tracing::debug!(%error, slow, "the agent is slow");
                }
            }
            let pause = if self.is_ready() {
                absent_since = Instant::now();
                READY_PAUSE
            } else if absent_since.elapsed() < STARTING_TIME {
                STARTING_PAUSE
            } else {
                ABSENT_PAUSE
            };
            if self.is_ready() {
                // A request that finds the agent gone ends the pause.
                let _ = timeout(pause, self.look_again.notified()).await;
            } else {
                sleep(pause).await;
            }
        }
    }
}
