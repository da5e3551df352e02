//! One look at one workspace: observe, plan, apply, report. [client]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use dexorder_crds::{UserWorkspace, UserWorkspaceStatus, condition::suspended};
use k8s_openapi::jiff::Timestamp;
use kube::{
    ResourceExt,
    runtime::{controller::Action as Requeue, reflector::ObjectRef},
};

use crate::{
    context::Context,
    execute::{ExecuteError, Learnt},
    plan::{self, Action, Next, Observed, Plan},
};

/// How long one look may take: a drain and a little more.
const LOOK_TIMEOUT: Duration = Duration::from_secs(90);
/// How often a look may plan anew because a sidecar answered.
const MOST_PASSES: usize = 6;
/// A copy that is known to be out of date is replaced by the watch within this time.
const STALE: Duration = Duration::from_millis(20);
/// After a conflict the newer copy arrives within this time.
const CONFLICT: Duration = Duration::from_millis(50);
/// A timer that is far away is set again on the way.
const LONGEST: Duration = Duration::from_hours(24);
/// A precise moment of a deadline is missed by less than this.
const SHORTEST: Duration = Duration::from_millis(10);

/// Why a look failed.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// An action failed.
    #[error(transparent)]
    Execute(#[from] ExecuteError),
    /// The look took too long.
    #[error("the look at the workspace took longer than {LOOK_TIMEOUT:?}")]
    Timeout,
}

/// Looks at a workspace and does what is to be done.
pub async fn reconcile(
    workspace: Arc<UserWorkspace>,
    context: Arc<Context>,
) -> Result<Requeue, ReconcileError> {
    let began = Instant::now();
    let result = tokio::time::timeout(LOOK_TIMEOUT, Box::pin(look(&workspace, &context)))
        .await
        .unwrap_or(Err(ReconcileError::Timeout));
    let uid = workspace.uid().unwrap_or_default();
    let outcome = match &result {
        Ok(_) => {
            context.notebook.update(&uid, |page| page.failures = 0);
            "ok"
        }
        Err(ReconcileError::Execute(error)) if error.is_conflict() => {
            context.metrics.reconciled("conflict", began.elapsed());
            return Ok(Requeue::requeue(CONFLICT));
        }
        Err(error) => {
            // Others need not wait for what failed: it gets into the line again.
            context.settle_line(&workspace, plan::Line::Free);
            match error {
                ReconcileError::Execute(_) => "failed",
                ReconcileError::Timeout => "timeout",
            }
        }
    };
    context.metrics.reconciled(outcome, began.elapsed());
    result
}

/// When to look again after a failure: sooner at first, at most once in two minutes.
#[allow(clippy::needless_pass_by_value, reason = "the controller's signature")]
pub fn after_error(workspace: Arc<UserWorkspace>, error: &ReconcileError, context: Arc<Context>) -> Requeue {
    let failures = context.notebook.update(&workspace.uid().unwrap_or_default(), |page| {
        page.failures = page.failures.saturating_add(1);
        page.failures
    });
    tracing::warn!(
        workspace = %workspace.name_any(),
        namespace = workspace.namespace().as_deref().unwrap_or_default(),
        failures,
        error = %error,
        "the look at the workspace failed"
    );
    Requeue::requeue(Duration::from_secs(1 << failures.min(7)).min(Duration::from_mins(2)))
}

async fn look(workspace: &UserWorkspace, context: &Context) -> Result<Requeue, ReconcileError> {
    let mut written: Option<UserWorkspace> = None;
    let mut last = Next::OnChange;
    for _ in 0..MOST_PASSES {
        let Some(current) = current(workspace, written.take(), context) else {
            return Ok(Requeue::requeue(STALE));
        };
        context.settle_doubt(&current).await?;
        let (Plan { first, status, then, notes, started, answered, line, next }, now) =
            make_plan(&current, context);
        let mut learnt = Learnt::Nothing;
        for action in first {
            learnt = perform(&current, context, action).await?.max(learnt);
        }
        if let Some(status) = &status {
            let answer = context.write_status(&current, status).await?;
            forget_refusal(&answer, status, context);
            written = Some(answer);
        }
        for action in then {
            let current = written.as_ref().unwrap_or(&current);
            learnt = perform(current, context, action).await?.max(learnt);
        }
        for note in notes {
            context.publish(&current, note).await;
        }
        if let Some(started) = started.filter(|_| status.is_some()) {
            context.metrics.started(&current.spec.tier, &started);
            tracing::info!(workspace = %current.name_any(), kind = started.kind.as_str(), took = ?started.took, "ready");
        }
        if let Some(answered) = answered {
            context.count_answer(&current, answered);
        }
        last = next;
        if learnt == Learnt::Nothing {
            context.settle_line(&current, line);
            return Ok(requeue(next, now));
        }
    }
    Ok(requeue(last, context.clock.now()))
}

/// The newest copy that is known: from the store, or the answer to the last write. None if all are out of date.
fn current(
    workspace: &UserWorkspace,
    written: Option<UserWorkspace>,
    context: &Context,
) -> Option<UserWorkspace> {
    let stored = context.stores.workspaces.get(&ObjectRef::from_obj(workspace));
    let stored = stored.map_or_else(|| workspace.clone(), |stored| stored.as_ref().clone());
    let newest = match written {
        Some(written) if version(&written) > version(&stored) => written,
        _ => stored,
    };
    let known = context.notebook.read(&newest.uid().unwrap_or_default()).written;
    match (known, version(&newest)) {
        (Some(known), Some(version)) if version < known => None,
        _ => Some(newest),
    }
}

/// Resource versions of one kind of object can be compared as numbers (KEP-5504).
fn version(workspace: &UserWorkspace) -> Option<u64> {
    workspace.metadata.resource_version.as_ref()?.parse().ok()
}

fn make_plan(workspace: &UserWorkspace, context: &Context) -> (Plan, Timestamp) {
    let tier = context.stores.tiers.get(&ObjectRef::new(&workspace.spec.tier));
    let claim = context.claim_of(workspace);
    let pod = context.pod_of(workspace, claim.as_deref());
    let member = if claim.is_none() && pod.is_none() { context.member_for(workspace) } else { None };
    let uid = workspace.uid().unwrap_or_default();
    let now = context.clock.now();
    let memory = context.notebook.update(&uid, |page| {
        page.memory.watch(pod.as_deref(), now);
        page.memory.clone()
    });
    let settings = context.settings.get();
    let observed = Observed {
        workspace,
        tier: tier.as_deref(),
        pod: pod.as_deref(),
        claim: claim.as_deref(),
        memory: &memory,
        member: member.as_ref(),
        turn: context.line.turn(&uid),
        settings: &settings,
    };
    (plan::plan(&observed, now), now)
}

async fn perform(
    workspace: &UserWorkspace,
    context: &Context,
    action: Action,
) -> Result<Learnt, ReconcileError> {
    match context.perform(workspace, action).await {
        Ok(learnt) => Ok(learnt),
        Err(error) => {
            if let Some(reason) = error.refusal() {
                let status = plan::refused(workspace, reason, &error.to_string(), context.clock.now());
                if workspace.status.as_ref() != Some(&status) {
                    context.write_status(workspace, &status).await?;
                }
            }
            Err(error.into())
        }
    }
}

/// A stop that was taken back is over: the refusal that ended it must not end the next one.
fn forget_refusal(workspace: &UserWorkspace, status: &UserWorkspaceStatus, context: &Context) {
    let running = status.conditions.iter().any(|condition| condition.reason == suspended::RUNNING);
    if running {
        context.notebook.update(&workspace.uid().unwrap_or_default(), |page| page.memory.forget_stop());
    }
}

fn requeue(next: Next, now: Timestamp) -> Requeue {
    match next {
        Next::OnChange => Requeue::await_change(),
        Next::At(moment) => {
            let wait = Duration::try_from(moment.duration_since(now)).unwrap_or_default();
            Requeue::requeue(wait.clamp(SHORTEST, LONGEST))
        }
    }
}
