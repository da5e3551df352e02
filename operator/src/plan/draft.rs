//! The status in the making: starts as a copy of the present one, and keeps times that did not change. [no client]

use dexorder_crds::{
    UserWorkspace, UserWorkspaceStatus,
    condition::{ConditionType, ready, saved, suspended},
};
use dexorder_protocol::control::{DrainOutcome, RemoteState};
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::{Timestamp, Unit},
};

use super::memory::Drain;

/// A status in the making.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) status: UserWorkspaceStatus,
    generation: Option<i64>,
    now: Timestamp,
}

/// A moment as a status has it: whole seconds.
pub(super) fn seconds(moment: Timestamp) -> Time {
    Time(
        moment
            .round(Unit::Second)
            .ok()
            .filter(|rounded| *rounded <= moment)
            .unwrap_or_else(|| Timestamp::from_second(moment.as_second()).unwrap_or(moment)),
    )
}

impl Draft {
    pub(super) fn of(workspace: &UserWorkspace, now: Timestamp) -> Self {
        let mut status = workspace.status.clone().unwrap_or_default();
        status.observed_generation = workspace.metadata.generation;
        Self { status, generation: workspace.metadata.generation, now }
    }

    /// Sets a condition. Its transition time changes only with its status.
    pub(super) fn set(&mut self, type_: ConditionType, status: &str, reason: &str, message: String) {
        let conditions = &mut self.status.conditions;
        let before = conditions.iter().position(|condition| condition.type_ == type_.as_str());
        let since = before
            .map(|index| &conditions[index])
            .filter(|condition| condition.status == status)
            .map_or_else(|| seconds(self.now), |condition| condition.last_transition_time.clone());
        let condition = Condition {
            type_: type_.as_str().to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message,
            last_transition_time: since,
            observed_generation: self.generation,
        };
        match before {
            Some(index) => conditions[index] = condition,
            None => conditions.push(condition),
        }
    }

    pub(super) fn not_ready(&mut self, reason: &str, message: String) {
        self.set(ConditionType::Ready, "False", reason, message);
    }

    pub(super) fn running(&mut self) {
        self.set(
            ConditionType::Suspended,
            "False",
            suspended::RUNNING,
            "the workspace runs or starts".to_owned(),
        );
    }

    /// The workspace is on its way to a stop. What was touched until now is thereby acted on.
    pub(super) fn stopping(&mut self, why: &str, touch: Option<String>, message: String) {
        self.status.endpoint = None;
        self.status.idle_deadline_time = None;
        self.status.observed_touch = touch;
        self.status.suspend_reason = Some(why.to_owned());
        self.not_ready(ready::DRAINING, message.clone());
        self.set(ConditionType::Suspended, "False", suspended::STOPPING, message);
    }

    /// The workspace is stopped.
    pub(super) fn suspended(&mut self, why: &str, message: String) {
        self.status.endpoint = None;
        self.status.pod_name = None;
        self.status.pod_uid = None;
        self.status.idle_deadline_time = None;
        self.status.ready_time = None;
        self.status.restarts = None;
        self.status.queue_position = None;
        if !is(&self.status, ConditionType::Suspended, "True") {
            self.status.suspend_time = Some(seconds(self.now));
        }
        self.status.suspend_reason = Some(why.to_owned());
        self.not_ready(ready::SUSPENDED, message.clone());
        self.set(ConditionType::Suspended, "True", why, message);
    }

    /// The outcome of the save at the stop that has just ended.
    pub(super) fn saved(&mut self, drain: Option<&Drain>) {
        match drain {
            Some(Drain::Done(outcome)) => self.drained(outcome),
            Some(Drain::Refused) => self.not_drained("the workspace was in use"),
            Some(Drain::Unanswered(why)) => self.not_drained(why),
            None => self.set(
                ConditionType::Saved,
                "Unknown",
                saved::OUTCOME_UNKNOWN,
                "the operator was started anew during the stop, or the pod ended by itself: whether it has saved is not known; what was acknowledged is on the volume"
                    .to_owned(),
            ),
        }
    }

    fn drained(&mut self, outcome: &DrainOutcome) {
        if outcome.saved_commit.is_some() {
            self.status.saved_commit.clone_from(&outcome.saved_commit);
        }
        let commit = outcome.saved_commit.as_deref().unwrap_or("unknown");
        let RemoteState { pushed, problem } = outcome.remote.clone().unwrap_or_default();
        let (status, reason, message) = match (&outcome.error, problem) {
            (Some(error), _) => (
                "False",
                saved::SAVE_FAILED,
                format!(
                    "the save at the stop failed: {error}; what was acknowledged before is on the volume"
                ),
            ),
            (None, Some(problem)) => (
                "True",
                saved::NOT_PUSHED,
                format!("everything is committed on the volume, up to {commit}; the git remote: {problem}"),
            ),
            (None, None) => {
                let pushed = if pushed.is_some() { " and pushed" } else { "" };
                ("True", saved::SAVED, format!("everything is committed{pushed}, up to {commit}"))
            }
        };
        self.set(ConditionType::Saved, status, reason, message);
    }

    fn not_drained(&mut self, why: &str) {
        let message =
            format!("the pod was ended without a drain: {why}; what was acknowledged is on the volume");
        self.set(ConditionType::Saved, "Unknown", saved::NOT_DRAINED, message);
    }
}

/// The condition of that type.
pub(super) fn condition(status: &UserWorkspaceStatus, type_: ConditionType) -> Option<&Condition> {
    status.conditions.iter().find(|condition| condition.type_ == type_.as_str())
}

/// Whether the condition of that type has that status.
pub(super) fn is(status: &UserWorkspaceStatus, type_: ConditionType, value: &str) -> bool {
    condition(status, type_).is_some_and(|condition| condition.status == value)
}

/// Whether the workspace is on its way to a stop.
pub(super) fn is_stopping(status: &UserWorkspaceStatus) -> bool {
    condition(status, ConditionType::Suspended)
        .is_some_and(|condition| condition.reason == suspended::STOPPING)
}
