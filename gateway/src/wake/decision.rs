//! What to do for a user who connects, decided from what is known alone: no client, no clock.

use dexorder_crds::OperatingMode;
use dexorder_crds::condition::{accepted, ready, storage};

use crate::workspaces::{Endpoint, State, Workspace};

/// A running pod of a workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) workspace: String,
    pub(crate) workspace_uid: String,
    pub(crate) uid: String,
    pub(crate) endpoint: Endpoint,
}

/// What a request found out about a pod that the status does not say yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Trouble {
    /// Its sidecar refuses work for good: only another pod will do.
    Draining(String),
    /// Its address does not take connections: it, or another pod, may do later.
    Unreachable(String),
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The user has no workspace: make one.
    Create,
    /// It is stopped, or stopping: ask for a start.
    Touch(String),
    /// Something is on its way: look again when the workspace changes.
    Wait,
    /// It runs.
    Use(Pod),
    /// Its pod has an address and may answer at any moment.
    Dial(Pod),
    /// It can't run until someone changes something.
    Fail(Obstacle),
}

/// Why a workspace can't run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// `spec.operatingMode` is `Suspended`.
    KeptStopped,
    /// Something about it must be changed first: reason and message of the condition that says so.
    Refused { reason: String, message: String, forbidden: bool },
}

/// Decides. `touched`: a touch was made on account of the trouble already.
pub(crate) fn decide(workspace: Option<&Workspace>, trouble: Option<&Trouble>, touched: bool) -> Decision {
    let Some(workspace) = workspace else {
        return Decision::Create;
    };
    if workspace.deleting {
        return Decision::Wait;
    }
    if workspace.mode == OperatingMode::Suspended {
        return Decision::Fail(Obstacle::KeptStopped);
    }
    if let Some(obstacle) = obstacle(workspace) {
        return Decision::Fail(obstacle);
    }
    let state = workspace.ready.as_ref().map_or(ready::PENDING, |state| &state.reason);
    if is_stopped(state) {
        return if touch_is_pending(workspace) { Decision::Wait } else { touch(workspace) };
    }
    let Some(pod) = pod(workspace) else {
        return Decision::Wait;
    };
    match trouble {
        Some(Trouble::Draining(uid)) if *uid == pod.uid => {
            if touched {
                Decision::Wait
            } else {
                touch(workspace)
            }
        }
        Some(Trouble::Unreachable(uid)) if *uid == pod.uid && state == ready::READY && !touched => {
            touch(workspace)
        }
        Some(Trouble::Unreachable(uid)) if *uid == pod.uid => Decision::Dial(pod),
        _ if state == ready::READY => Decision::Use(pod),
        _ => Decision::Dial(pod),
    }
}

/// Whether a workspace with that reason of `Ready` starts only when it is touched.
pub(super) fn is_stopped(reason: &str) -> bool {
    matches!(reason, ready::SUSPENDED | ready::DRAINING | ready::TERMINATING)
}

fn touch(workspace: &Workspace) -> Decision {
    Decision::Touch(workspace.name.clone())
}

/// A touch that the operator has not acted on yet. Compared as text: clocks differ.
pub(super) fn touch_is_pending(workspace: &Workspace) -> bool {
    workspace.touched.is_some() && workspace.touched != workspace.observed_touch
}

fn pod(workspace: &Workspace) -> Option<Pod> {
    Some(Pod {
        workspace: workspace.name.clone(),
        workspace_uid: workspace.uid.clone(),
        uid: workspace.pod_uid.clone()?,
        endpoint: workspace.endpoint.clone()?,
    })
}

/// A status that is older than the manifest says nothing about the manifest.
fn obstacle(workspace: &Workspace) -> Option<Obstacle> {
    if workspace.observed_generation < workspace.generation {
        return None;
    }
    let refused = |state: &State, forbidden| Obstacle::Refused {
        reason: state.reason.clone(),
        message: state.message.clone(),
        forbidden,
    };
    // What runs goes on: a tier that is deleted stops nothing.
    let serves = workspace.ready.as_ref().is_some_and(|state| state.holds);
    if let Some(state) = workspace.accepted.as_ref().filter(|state| !state.holds) {
        let forbidden = matches!(state.reason.as_str(), accepted::AUTH_MODE_NOT_ALLOWED);
        if forbidden || !serves {
            return Some(refused(state, forbidden));
        }
    }
    // These last until somebody changes something: waiting for them would only hide the cause.
    let stuck = |state: &&State| {
        !state.holds
            && matches!(
                state.reason.as_str(),
                ready::IMAGE_PULL_FAILED | ready::REFUSED_BY_API | ready::POD_NAME_TAKEN
            )
    };
    if let Some(state) = workspace.ready.as_ref().filter(stuck) {
        return Some(refused(state, false));
    }
    let lost =
        |state: &&State| !state.holds && matches!(state.reason.as_str(), storage::FOREIGN | storage::LOST);
    workspace.storage.as_ref().filter(|_| !serves).filter(lost).map(|state| refused(state, false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspaces::testing::{endpoint, state, workspace};

    fn in_state(reason: &str) -> Workspace {
        Workspace { ready: Some(state(reason == ready::READY, reason)), ..workspace("w", "u") }
    }

    fn running(reason: &str) -> Workspace {
        Workspace { pod_uid: Some("pod-1".to_owned()), endpoint: Some(endpoint()), ..in_state(reason) }
    }

    fn touched(workspace: Workspace, touched: Option<&str>, observed: Option<&str>) -> Workspace {
        Workspace {
            touched: touched.map(str::to_owned),
            observed_touch: observed.map(str::to_owned),
            ..workspace
        }
    }

    fn pod() -> Pod {
        Pod {
            workspace: "w".to_owned(),
            workspace_uid: "uid-of-w".to_owned(),
            uid: "pod-1".to_owned(),
            endpoint: endpoint(),
        }
    }

    fn plain(workspace: &Workspace) -> Decision {
        decide(Some(workspace), None, false)
    }

    #[test]
    fn a_user_without_workspace_gets_one() {
        assert_eq!(decide(None, None, false), Decision::Create);
    }

    #[test]
    fn a_running_workspace_is_used_and_a_starting_one_dialled() {
        assert_eq!(plain(&running(ready::READY)), Decision::Use(pod()));
        for reason in [ready::STARTING, ready::PENDING, ready::CRASH_LOOP, ready::OUT_OF_MEMORY] {
            assert_eq!(plain(&running(reason)), Decision::Dial(pod()), "{reason}");
        }
    }

    #[test]
    fn what_is_on_its_way_is_waited_for() {
        for reason in [ready::PENDING, ready::STARTING, ready::UNSCHEDULABLE] {
            assert_eq!(plain(&in_state(reason)), Decision::Wait, "{reason}");
        }
        assert_eq!(plain(&workspace("w", "u")), Decision::Wait);
        assert_eq!(plain(&Workspace { deleting: true, ..running(ready::READY) }), Decision::Wait);
        assert_eq!(plain(&Workspace { pod_uid: None, ..running(ready::READY) }), Decision::Wait);
    }

    #[test]
    fn what_stays_wrong_until_somebody_changes_it_is_told_at_once() {
        for reason in [ready::IMAGE_PULL_FAILED, ready::REFUSED_BY_API, ready::POD_NAME_TAKEN] {
            let Decision::Fail(Obstacle::Refused { reason: told, forbidden, .. }) = plain(&running(reason))
            else {
                panic!("{reason} is waited for");
            };
            assert_eq!((told.as_str(), forbidden), (reason, false));
        }
    }

    #[test]
    fn what_is_stopped_or_stopping_is_touched_unless_a_touch_is_pending() {
        let touch = || Decision::Touch("w".to_owned());
        for reason in [ready::SUSPENDED, ready::DRAINING, ready::TERMINATING] {
            for (touched_at, observed, expected) in [
                (None, None, touch()),
                (Some("t1"), Some("t1"), touch()),
                (Some("t1"), None, Decision::Wait),
                (Some("t2"), Some("t1"), Decision::Wait),
            ] {
                let workspace = touched(running(reason), touched_at, observed);
                assert_eq!(plain(&workspace), expected, "{reason} {touched_at:?} {observed:?}");
            }
        }
    }

    #[test]
    fn a_pod_that_drains_is_never_used_again_whatever_the_status_says() {
        let draining = Trouble::Draining("pod-1".to_owned());
        for reason in [ready::READY, ready::STARTING] {
            let old = running(reason);
            assert_eq!(decide(Some(&old), Some(&draining), false), Decision::Touch("w".to_owned()));
            assert_eq!(decide(Some(&old), Some(&draining), true), Decision::Wait);
            let new = Workspace { pod_uid: Some("pod-2".to_owned()), ..running(reason) };
            assert!(matches!(
                decide(Some(&new), Some(&draining), true),
                Decision::Use(_) | Decision::Dial(_)
            ));
        }
    }

    #[test]
    fn a_pod_that_can_not_be_reached_is_dialled_on_after_one_touch() {
        let unreachable = Trouble::Unreachable("pod-1".to_owned());
        let ready = running(ready::READY);
        assert_eq!(decide(Some(&ready), Some(&unreachable), false), Decision::Touch("w".to_owned()));
        assert_eq!(decide(Some(&ready), Some(&unreachable), true), Decision::Dial(pod()));
        let starting = running(ready::STARTING);
        assert_eq!(decide(Some(&starting), Some(&unreachable), false), Decision::Dial(pod()));
        let new = Workspace { pod_uid: Some("pod-2".to_owned()), ..running(ready::READY) };
        assert!(matches!(decide(Some(&new), Some(&unreachable), true), Decision::Use(_)));
    }

    #[test]
    fn what_runs_is_used_though_its_tier_is_gone_or_its_claim_is_lost() {
        let without_tier =
            Workspace { accepted: Some(state(false, accepted::TIER_NOT_FOUND)), ..running(ready::READY) };
        assert_eq!(plain(&without_tier), Decision::Use(pod()));
        let without_claim = Workspace { storage: Some(state(false, storage::LOST)), ..running(ready::READY) };
        assert_eq!(plain(&without_claim), Decision::Use(pod()));
        let forbidden = Workspace {
            accepted: Some(state(false, accepted::AUTH_MODE_NOT_ALLOWED)),
            ..running(ready::READY)
        };
        assert!(matches!(plain(&forbidden), Decision::Fail(Obstacle::Refused { forbidden: true, .. })));
    }

    #[test]
    fn what_can_not_run_fails_at_once_with_its_reason() {
        let kept = Workspace { mode: OperatingMode::Suspended, ..running(ready::READY) };
        assert_eq!(plain(&kept), Decision::Fail(Obstacle::KeptStopped));
        for (reason, expected) in [
            (accepted::TIER_NOT_FOUND, false),
            (accepted::IDLE_TIMEOUT_TOO_LONG, false),
            (accepted::AUTH_MODE_NOT_ALLOWED, true),
        ] {
            let workspace =
                Workspace { accepted: Some(state(false, reason)), ..in_state(ready::NOT_ACCEPTED) };
            let Decision::Fail(Obstacle::Refused { reason: told, message, forbidden }) = plain(&workspace)
            else {
                panic!("{reason} is not refused");
            };
            assert_eq!((told.as_str(), forbidden), (reason, expected));
            assert_eq!(message, format!("about {reason}"));
        }
        let foreign =
            Workspace { storage: Some(state(false, storage::FOREIGN)), ..in_state(ready::STORAGE_NOT_READY) };
        assert!(matches!(plain(&foreign), Decision::Fail(Obstacle::Refused { .. })));
        let pending =
            Workspace { storage: Some(state(false, storage::PENDING)), ..in_state(ready::STORAGE_NOT_READY) };
        assert_eq!(plain(&pending), Decision::Wait);
    }

    #[test]
    fn a_verdict_on_an_earlier_manifest_does_not_count() {
        let edited = Workspace {
            generation: 2,
            accepted: Some(state(false, accepted::TIER_NOT_FOUND)),
            ..in_state(ready::NOT_ACCEPTED)
        };
        assert_eq!(plain(&edited), Decision::Wait);
    }
}
