//! The plan: what to do about a workspace, decided from what was observed and the time alone. [no client]

mod accept;
mod answer;
mod ask;
mod claim_owner;
mod claim_state;
mod direct;
mod draft;
mod expiry;
mod idle;
mod late;
mod memory;
mod phases;
mod pod_state;
mod restart;
mod run;
mod schedule;
mod stop;
mod taken_back;
#[cfg(test)]
pub(crate) mod tests;
mod turn;
mod types;
mod unschedulable;
mod up_to_date;
mod warm;

use dexorder_crds::{
    OperatingMode, UserWorkspace, UserWorkspaceStatus,
    condition::{ConditionType, ready, suspended},
    keys,
};
use k8s_openapi::jiff::Timestamp;

pub use accept::{Terms, Verdict};
pub use claim_state::ClaimState;
pub use late::trouble;
pub use memory::{Drain, Memory, Seen, Start, StartKind};
pub use phases::Progress;
pub use pod_state::{AlivePod, PodState, Problem};
pub use turn::Turn;
pub(crate) use warm::bears;

pub use types::{Action, Answered, Line, Next, Note, Observed, Plan, Started};

use draft::Draft;

/// Decides what to do.
pub fn plan(observed: &Observed<'_>, now: Timestamp) -> Plan {
    let mut planner = Planner::new(observed, now);
    if observed.workspace.metadata.deletion_timestamp.is_none() {
        planner.draft_expiry();
        planner.settle_claim();
        match planner.want() {
            Want::Run => planner.run(),
            Want::Stop(why) => planner.stop(why),
        }
    }
    planner.finish()
}

/// The status of a workspace of which the API server refused a part: a quota, a missing permission, an invalid object,
/// a name that is taken.
pub fn refused(
    workspace: &UserWorkspace,
    reason: &'static str,
    message: &str,
    now: Timestamp,
) -> UserWorkspaceStatus {
    let mut draft = Draft::of(workspace, now);
    draft.status.endpoint = None;
    draft.running();
    draft.not_ready(reason, format!("{message}; it is tried again"));
    draft.status
}

/// What the manifest, its touches and what was decided before ask for.
enum Want {
    Run,
    Stop(&'static str),
}

/// The plan in the making.
struct Planner<'a> {
    observed: &'a Observed<'a>,
    now: Timestamp,
    before: UserWorkspaceStatus,
    verdict: Verdict,
    claim: ClaimState,
    pod: PodState,
    draft: Draft,
    first: Vec<Action>,
    then: Vec<Action>,
    notes: Vec<Note>,
    started: Option<Started>,
    line: Line,
    next: Next,
    /// Nothing is written though something changed: a better moment comes soon.
    hold_status: bool,
}

impl<'a> Planner<'a> {
    fn new(observed: &'a Observed<'a>, now: Timestamp) -> Self {
        let workspace = observed.workspace;
        let mut planner = Self {
            observed,
            now,
            before: workspace.status.clone().unwrap_or_default(),
            verdict: accept::judge(workspace, observed.tier, now),
            claim: ClaimState::of(observed.claim, &workspace.spec),
            pod: PodState::of(observed.pod, workspace),
            draft: Draft::of(workspace, now),
            first: Vec::new(),
            then: Vec::new(),
            notes: Vec::new(),
            started: None,
            line: Line::Free,
            next: Next::OnChange,
            hold_status: false,
        };
        planner.draft_facts();
        planner
    }

    /// The conditions that only tell what is there.
    fn draft_facts(&mut self) {
        let accepted = if self.verdict.accepted { "True" } else { "False" };
        self.draft.set(ConditionType::Accepted, accepted, self.verdict.reason, self.verdict.message.clone());
        let name = self.claim_name();
        let (status, reason, message) = self.claim.condition(&name);
        self.draft.set(ConditionType::StorageReady, status, reason, message);
        self.draft.status.claim_name = self.observed.claim.map(|_| name);
    }

    fn want(&self) -> Want {
        if self.is_expired() {
            return Want::Stop(suspended::EXPIRED);
        }
        match self.observed.workspace.spec.operating_mode {
            OperatingMode::Suspended => Want::Stop(suspended::REQUESTED),
            OperatingMode::Auto if self.stop_was_decided() && !self.is_woken() => {
                let requested = self.before.suspend_reason.as_deref() == Some(suspended::REQUESTED);
                Want::Stop(if requested { suspended::REQUESTED } else { suspended::IDLE })
            }
            OperatingMode::Running | OperatingMode::Auto => Want::Run,
        }
    }

    /// Somebody has touched the workspace since it was stopped, or a schedule wakes it.
    fn is_woken(&self) -> bool {
        let scheduled = self.before.next_wake_time.as_ref().is_some_and(|time| time.0 <= self.now);
        scheduled || self.touch() != self.before.observed_touch
    }

    fn stop_was_decided(&self) -> bool {
        draft::is_stopping(&self.before) || draft::is(&self.before, ConditionType::Suspended, "True")
    }

    fn touch(&self) -> Option<String> {
        self.observed.workspace.metadata.annotations.as_ref()?.get(keys::TOUCHED_AT).cloned()
    }

    /// Looks again at this moment, or sooner.
    fn look_by(&mut self, moment: Timestamp) {
        self.next = match self.next {
            Next::At(sooner) if sooner <= moment => self.next,
            _ => Next::At(moment),
        };
    }

    /// Name of the claim that is there, or will be.
    fn claim_name(&self) -> String {
        self.observed.claim.and_then(|claim| claim.metadata.name.clone()).unwrap_or_else(|| self.child_name())
    }

    /// Name of the pod that is there, or will be.
    fn pod_name(&self) -> String {
        self.observed.pod.and_then(|pod| pod.metadata.name.clone()).unwrap_or_else(|| self.child_name())
    }

    fn child_name(&self) -> String {
        keys::child_name(self.observed.workspace.metadata.name.as_deref().unwrap_or_default())
    }

    fn finish(mut self) -> Plan {
        let deleted = self.observed.workspace.metadata.deletion_timestamp.is_some();
        let answered = self.answered();
        let changed = !self.hold_status && !deleted && self.draft.status != self.before;
        if changed {
            self.draft.status.start = self.phases();
            self.note_transition();
        }
        let line = self.line();
        Plan {
            first: self.first,
            status: changed.then_some(self.draft.status),
            then: self.then,
            notes: self.notes,
            started: self.started,
            answered,
            line,
            next: self.next,
        }
    }

    /// An event for each change of state that somebody may want to know of.
    fn note_transition(&mut self) {
        let reason = |status: &UserWorkspaceStatus| {
            draft::condition(status, ConditionType::Ready).map(|condition| condition.reason.clone())
        };
        let (old, new) = (reason(&self.before), draft::condition(&self.draft.status, ConditionType::Ready));
        let Some(new) = new.filter(|new| old.as_deref() != Some(new.reason.as_str())) else {
            return;
        };
        let (warning, reason) = match new.reason.as_str() {
            ready::READY => (false, "Started"),
            // An idle stop was announced: one event tells of both.
            ready::SUSPENDED if self.was_announced() => return,
            ready::SUSPENDED => (false, "Suspended"),
            ready::NOT_ACCEPTED => (true, self.verdict.reason),
            ready::STORAGE_NOT_READY => (true, ready::STORAGE_NOT_READY),
            other => match PROBLEMS.iter().find(|problem| **problem == other) {
                Some(problem) => (true, *problem),
                None => return,
            },
        };
        self.notes.push(Note { warning, reason, message: new.message.clone() });
    }
}

/// Reasons of `Ready` that say that something is wrong.
const PROBLEMS: [&str; 13] = [
    ready::REFUSED_BY_API,
    ready::IMAGE_PULL_FAILED,
    ready::UNSCHEDULABLE,
    ready::VOLUME_NOT_MOUNTED,
    ready::SECRET_NOT_FOUND,
    ready::OUT_OF_MEMORY,
    ready::CRASH_LOOP,
    ready::EVICTED,
    ready::POD_FAILED,
    ready::SIDECAR_SILENT,
    ready::NODE_LOST,
    ready::POD_NAME_TAKEN,
    ready::TERMINATING,
];
