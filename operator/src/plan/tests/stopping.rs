//! How a workspace stops, and how a touch brings it back.

use dexorder_crds::OperatingMode;
use dexorder_protocol::control::{DrainOutcome, RemoteState};

use super::fixtures::{IDLE_SECONDS, START, Scene, drained, names};
use crate::plan::{Action, Drain, Seen, StartKind};

#[test]
fn a_stop_is_a_drain_then_a_deletion_then_the_suspended_state_with_what_was_saved() {
    let mut scene = Scene::running();
    scene.wait(IDLE_SECONDS).report(0, START).step();
    scene.memory.drain = Some(Seen { at: scene.now, what: Drain::Done(drained()) });
    assert_eq!(names(&scene.step()), ["DeletePod"]);
    assert!(names(&scene.pod_terminates().step()).is_empty());
    assert_eq!(scene.condition("Ready"), "False/Draining");
    scene.pod = None;
    let plan = scene.step();
    assert_eq!(scene.condition("Ready"), "False/Suspended");
    assert_eq!(scene.condition("Suspended"), "True/Idle");
    assert_eq!(scene.condition("Saved"), "True/Saved");
    assert_eq!(scene.status().saved_commit.as_deref(), Some("c0ffee"));
    assert_eq!(scene.status().endpoint, None);
    assert_eq!(plan.notes[0].reason, "Suspended");
    assert!(scene.step().status.is_none(), "and that is all");
}

#[test]
fn a_touch_wakes_a_suspended_workspace_without_a_new_claim() {
    let mut scene = Scene::suspended();
    assert!(names(&scene.step()).is_empty());
    let plan = scene.touch("t1").step();
    assert_eq!(names(&plan), ["CreatePod"]);
    assert!(matches!(plan.first[0], Action::CreatePod { kind: StartKind::Resume, .. }));
    assert!(plan.status.is_none(), "the address follows in a moment");
    scene.pod("p2", Some("10.0.0.2"), false).step();
    assert_eq!(scene.condition("Suspended"), "False/Running");
    assert_eq!(scene.status().pod_uid.as_deref(), Some("p2"));
}

#[test]
fn a_touch_that_was_acted_on_wakes_once() {
    let mut scene = Scene::running();
    scene.touch("t1").wait(IDLE_SECONDS).report(0, START).step();
    assert_eq!(scene.status().observed_touch.as_deref(), Some("t1"));
    assert_eq!(scene.condition("Ready"), "True/Ready", "a touch counts as activity");
    scene.wait(IDLE_SECONDS).report(0, START).step();
    assert_eq!(scene.condition("Ready"), "False/Draining");
    scene.memory.drain = Some(Seen { at: scene.now, what: Drain::Done(drained()) });
    scene.step();
    scene.pod = None;
    assert!(names(&scene.step()).is_empty());
    assert_eq!(scene.condition("Suspended"), "True/Idle");
}

#[test]
fn a_touch_during_the_drain_brings_the_workspace_back_after_it() {
    let mut scene = Scene::running();
    scene.wait(IDLE_SECONDS).report(0, START).step();
    scene.touch("t1");
    scene.memory.drain = Some(Seen { at: scene.now, what: Drain::Done(drained()) });
    assert_eq!(names(&scene.step()), ["DeletePod"]);
    scene.pod_terminates().step();
    scene.pod = None;
    assert_eq!(names(&scene.step()), ["CreatePod"]);
}

#[test]
fn a_drain_that_was_refused_leaves_the_workspace_up() {
    let mut scene = Scene::running();
    scene.wait(IDLE_SECONDS).report(0, START).step();
    scene.memory.drain = Some(Seen { at: scene.now, what: Drain::Refused });
    let plan = scene.step();
    assert!(names(&plan).is_empty());
    assert_eq!(scene.condition("Ready"), "True/Ready");
    assert_eq!(scene.condition("Suspended"), "False/Running");
    assert_eq!(scene.status().endpoint.as_deref(), Some("http://10.0.0.1:8080/mcp"));
}

#[test]
fn a_silent_sidecar_is_not_stopped_for_idleness() {
    let mut scene = Scene::running();
    scene.wait(IDLE_SECONDS).report(0, START).step();
    scene.memory.drain = Some(Seen { at: scene.now, what: Drain::Unanswered("refused".to_owned()) });
    let plan = scene.step();
    assert!(names(&plan).is_empty());
    assert_eq!(scene.condition("Ready"), "True/Ready");
    assert!(plan.notes.iter().any(|note| note.warning));
}

#[test]
fn an_operator_that_forgot_everything_goes_on_with_the_stop() {
    let mut scene = Scene::running();
    scene.wait(IDLE_SECONDS).report(0, START).step();
    scene.memory = crate::plan::Memory::default();
    assert_eq!(names(&scene.step()), ["Drain"]);
    scene.pod = None;
    scene.step();
    assert_eq!(scene.condition("Suspended"), "True/Idle");
    assert_eq!(scene.condition("Saved"), "Unknown/OutcomeUnknown");
}

#[test]
fn a_stop_that_was_asked_for_drains_and_holds_against_touches() {
    let mut scene = Scene::running();
    scene.workspace.spec.operating_mode = OperatingMode::Suspended;
    assert_eq!(names(&scene.step()), ["Drain"]);
    scene.memory.pod_uid = Some("p1".to_owned());
    scene.memory.drain = Some(Seen { at: scene.now, what: Drain::Done(drained()) });
    assert_eq!(names(&scene.step()), ["DeletePod"]);
    scene.pod = None;
    scene.step();
    assert_eq!(scene.condition("Suspended"), "True/Requested");
    assert!(names(&scene.touch("t1").step()).is_empty());
}

#[test]
fn a_stop_that_was_asked_for_gives_up_on_a_silent_sidecar_after_a_minute() {
    let mut scene = Scene::running();
    scene.workspace.spec.operating_mode = OperatingMode::Suspended;
    scene.step();
    scene.memory.pod_uid = Some("p1".to_owned());
    scene.memory.drain_asked = Some(scene.now);
    for _ in 0..20 {
        scene.memory.drain = Some(Seen { at: scene.now, what: Drain::Unanswered("refused".to_owned()) });
        assert!(names(&scene.step()).is_empty());
        assert_eq!(names(&scene.wait(2).step()), ["Drain"]);
    }
    scene.wait(30);
    scene.memory.drain = Some(Seen { at: scene.now, what: Drain::Unanswered("refused".to_owned()) });
    assert_eq!(names(&scene.step()), ["DeletePod"]);
    scene.pod = None;
    scene.step();
    assert_eq!(scene.condition("Saved"), "Unknown/NotDrained");
    assert!(scene.message("Saved").contains("refused"), "{}", scene.message("Saved"));
}

#[test]
fn the_outcome_of_the_save_tells_what_became_of_the_push() {
    let remote = |pushed: Option<&str>, problem: Option<&str>| RemoteState {
        pushed: pushed.map(str::to_owned),
        problem: problem.map(str::to_owned),
    };
    for (remote, error, expected, told) in [
        (None, None, "True/Saved", "everything is committed, up to c0ffee"),
        (Some(remote(None, None)), None, "True/Saved", "everything is committed, up to c0ffee"),
        (Some(remote(Some("c0ffee"), None)), None, "True/Saved", "committed and pushed, up to c0ffee"),
        (
            Some(remote(None, Some("no route"))),
            None,
            "True/NotPushed",
            "up to c0ffee; the git remote: no route",
        ),
        (Some(remote(None, Some("no route"))), Some("disk full"), "False/SaveFailed", "disk full"),
    ] {
        let mut scene = Scene::running();
        scene.workspace.spec.operating_mode = OperatingMode::Suspended;
        scene.step();
        scene.memory.pod_uid = Some("p1".to_owned());
        let outcome = DrainOutcome { remote, error: error.map(str::to_owned), ..drained() };
        scene.memory.drain = Some(Seen { at: scene.now, what: Drain::Done(outcome) });
        scene.step();
        scene.pod = None;
        scene.step();
        assert_eq!(scene.condition("Saved"), expected);
        assert!(scene.message("Saved").contains(told), "{}", scene.message("Saved"));
    }
}

#[test]
fn an_answer_to_a_drain_is_acted_on_at_once_or_asked_for_again() {
    let modes = [OperatingMode::Auto, OperatingMode::Suspended];
    for (mode, touched) in modes.into_iter().flat_map(|mode| [(mode, false), (mode, true)]) {
        let mut scene = Scene::running();
        scene.workspace.spec.operating_mode = mode;
        scene.wait(IDLE_SECONDS).report(0, START).step();
        scene.memory.drain = Some(Seen { at: scene.now, what: Drain::Done(drained()) });
        if touched {
            scene.touch("t1");
        }
        // The API server was away: meanwhile the sidecar may have been started anew.
        assert_eq!(names(&scene.wait(6).step()), ["Drain"], "{mode:?} {touched}");
        scene.memory.drain = Some(Seen { at: scene.now, what: Drain::Done(drained()) });
        assert_eq!(names(&scene.step()), ["DeletePod"], "{mode:?} {touched}");
    }
}

#[test]
fn a_workspace_made_stopped_has_no_pod_and_no_claim() {
    let mut scene = super::fixtures::scene();
    scene.workspace.spec.operating_mode = OperatingMode::Suspended;
    assert!(names(&scene.step()).is_empty());
    assert_eq!(scene.condition("Ready"), "False/Suspended");
    assert!(scene.step().status.is_none());
    scene.workspace.spec.operating_mode = OperatingMode::Running;
    assert_eq!(names(&scene.step()), ["CreateClaim", "CreatePod"]);
}
