//! What a tier and a manifest ask for besides starting and stopping: turns, expiry, schedules, restarts that wait.

use dexorder_crds::{
    Auth, AuthMode, DirectAuth, LocalSecretRef, OperatingMode, RetentionPolicy, WakeSchedule, keys,
};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::SignedDuration};

use super::fixtures::{IDLE_SECONDS, START, Scene, drained, names, scene};
use crate::plan::{Action, Drain, Line, Next, Problem, Seen, StartKind, Turn};

#[test]
fn a_start_gets_into_the_line_and_goes_on_when_its_turn_has_come() {
    let mut scene = scene();
    scene.turn = Turn::Unasked;
    let plan = scene.step();
    assert_eq!(names(&plan), ["Line"]);
    assert!(plan.status.is_none(), "most starts go on at once");
    scene.turn = Turn::Go;
    let plan = scene.step();
    assert_eq!((names(&plan), plan.line), (vec!["CreateClaim", "CreatePod"], Line::Starting));
}

#[test]
fn who_waits_is_told_its_place_and_the_place_is_written_again_when_it_has_halved() {
    let mut scene = scene();
    scene.turn = Turn::Wait(100);
    let plan = scene.step();
    assert_eq!((names(&plan), plan.line), (vec![], Line::Waiting));
    assert_eq!(scene.condition("Ready"), "False/Queued");
    assert_eq!(scene.status().queue_position, Some(100));
    let mut writes = 0;
    for place in (1..100).rev() {
        scene.turn = Turn::Wait(place);
        writes += usize::from(scene.wait(1).step().status.is_some());
        let shown = u32::try_from(scene.status().queue_position.unwrap()).unwrap();
        assert!(place <= shown && shown < 2 * place + 1, "{place} is shown as {shown}");
    }
    assert!(writes <= 7, "{writes} writes");
    scene.turn = Turn::Go;
    scene.step();
    assert_eq!((scene.condition("Ready").as_str(), scene.status().queue_position), ("False/Starting", None));
}

#[test]
fn a_start_that_waited_keeps_its_kind_and_the_time_of_its_request_through_a_restart_of_the_operator() {
    let mut scene = Scene::suspended();
    scene.touch("t1").turn = Turn::Wait(3);
    scene.step();
    assert_eq!(scene.condition("Ready"), "False/Queued");
    let asked = scene.now;
    scene.wait(30).turn = Turn::Unasked;
    let plan = scene.step();
    assert_eq!(plan.first, [Action::Line { asked }]);
    scene.turn = Turn::Go;
    let plan = scene.step();
    assert!(
        matches!(plan.first[..], [Action::CreatePod { kind: StartKind::Resume, asked: told, .. }] if told == asked)
    );
}

#[test]
fn a_start_that_hangs_gives_its_place_in_the_line_back() {
    let mut scene = scene();
    scene.bound_claim().step();
    scene.pod("p1", None, false);
    assert_eq!(scene.step().line, Line::Starting);
    assert_eq!(scene.wait(61).step().line, Line::Free);
}

#[test]
fn a_late_start_is_explained_by_the_events_of_its_pod() {
    let mut scene = scene();
    scene.bound_claim().step();
    scene.pod("p1", None, false);
    assert!(names(&scene.wait(14).step()).is_empty());
    assert_eq!(names(&scene.wait(1).step()), ["ReadEvents"]);
    let problem = Problem { reason: "SecretNotFound", message: "Secret git is missing".to_owned() };
    scene.memory.pod_uid = Some("p1".to_owned());
    scene.memory.trouble = Some(Seen { at: scene.now, what: Some(problem) });
    let plan = scene.step();
    assert_eq!(scene.condition("Ready"), "False/SecretNotFound");
    assert!(plan.notes[0].warning && plan.line == Line::Free);
    assert_eq!(plan.next, Next::At(scene.now + SignedDuration::from_secs(15)));
    assert_eq!(names(&scene.wait(15).step()), ["ReadEvents"]);
    scene.memory.trouble = Some(Seen { at: scene.now, what: None });
    scene.step();
    assert_eq!(scene.condition("Ready"), "False/Starting");
}

#[test]
fn a_claim_that_gets_no_volume_is_named() {
    let mut scene = scene();
    scene.bound_claim().step();
    scene.claim.as_mut().unwrap().status.as_mut().unwrap().phase = Some("Pending".to_owned());
    scene.pod("p1", None, false).wait(15);
    scene.step();
    assert_eq!(scene.condition("Ready"), "False/StorageNotReady");
    assert_eq!(scene.condition("StorageReady"), "False/ClaimPending");
}

/// The workspace of an anonymous visitor of a tier with a lifetime of an hour.
fn visitors(mut scene: Scene) -> Scene {
    let metadata = &mut scene.workspace.metadata;
    metadata.labels = Some([(keys::ANONYMOUS_LABEL.to_owned(), "true".to_owned())].into());
    metadata.creation_timestamp = Some(Time(scene.now));
    scene.workspace.spec.user_id = "anonymous:1".to_owned();
    scene.tier.as_mut().unwrap().spec.max_lifetime = Some("1h".parse().unwrap());
    scene
}

#[test]
fn the_workspace_of_a_visitor_is_drained_and_removed_at_its_end() {
    let mut scene = visitors(scene());
    let plan = scene.step();
    let Some(Action::CreateClaim(claim)) = plan.first.first() else { panic!("{:?}", plan.first) };
    assert!(claim.metadata.owner_references.is_some(), "the volume goes with it");
    scene.claim = Some(claim.as_ref().clone());
    scene.workspace.spec.operating_mode = OperatingMode::Running;
    let plan = scene.pod("p1", Some("10.0.0.1"), true).report(0, START).step();
    assert_eq!(scene.status().expire_time.unwrap().0.as_second(), START + 3600);
    assert_eq!(plan.next, Next::At(scene.now + SignedDuration::from_secs(3600)));
    assert_eq!(names(&scene.wait(3600).step()), ["Drain"]);
    scene.memory.drain = Some(Seen { at: scene.now, what: Drain::Done(drained()) });
    assert_eq!(names(&scene.step()), ["DeletePod"]);
    scene.pod = None;
    let plan = scene.step();
    assert_eq!(plan.then, [Action::DeleteWorkspace]);
    assert_eq!(scene.condition("Suspended"), "True/Expired");
}

#[test]
fn nobody_elses_workspace_expires_and_none_without_its_tier() {
    let mut labelled = visitors(scene());
    labelled.workspace.spec.user_id = "trader1".to_owned();
    assert!(!names(&labelled.wait(10_000).step()).contains(&"DeleteWorkspace"));
    let mut named = visitors(scene());
    named.workspace.metadata.labels = None;
    assert!(!names(&named.wait(10_000).step()).contains(&"DeleteWorkspace"));
    let mut without_tier = visitors(scene());
    without_tier.tier = None;
    assert!(names(&without_tier.wait(10_000).step()).is_empty());
}

fn every_morning(scene: &mut Scene) {
    // Nine in Berlin is the moment at which every scene begins.
    let schedule = WakeSchedule { schedule: "0 9 * * *".to_owned(), time_zone: "Europe/Berlin".to_owned() };
    scene.workspace.spec.wake_schedules = vec![schedule];
    scene.workspace.metadata.generation = Some(2);
}

#[test]
fn a_schedule_starts_a_stopped_workspace() {
    let mut scene = Scene::suspended();
    every_morning(&mut scene);
    let plan = scene.step();
    let next = scene.status().next_wake_time.unwrap();
    assert_eq!(next.0.as_second(), START + 86_400);
    assert_eq!(plan.next, Next::At(next.0));
    scene.now = next.0 + SignedDuration::from_secs(300);
    let plan = scene.step();
    assert_eq!(names(&plan), ["CreatePod"], "also when the operator was away at that moment");
    scene.pod("p2", Some("10.0.0.2"), false).step();
    assert_eq!(scene.status().next_wake_time, None);
}

#[test]
fn a_schedule_does_not_start_what_is_kept_stopped_and_nothing_is_made_up_for() {
    let mut scene = Scene::suspended();
    every_morning(&mut scene);
    scene.workspace.spec.operating_mode = OperatingMode::Suspended;
    scene.step();
    assert_eq!(scene.status().next_wake_time, None);
    assert!(names(&scene.wait(90_000).step()).is_empty());
    scene.workspace.spec.operating_mode = OperatingMode::Auto;
    scene.workspace.metadata.generation = Some(3);
    assert!(names(&scene.step()).is_empty());
    assert_eq!(scene.status().next_wake_time.unwrap().0.as_second(), START + 2 * 86_400);
}

#[test]
fn a_moment_that_passes_while_the_workspace_stops_is_not_lost() {
    let mut scene = Scene::running();
    every_morning(&mut scene);
    scene.now += SignedDuration::from_secs(86_400 - 5);
    scene.report(0, START + IDLE_SECONDS).step();
    scene.memory.drain = Some(Seen { at: scene.now, what: Drain::Done(drained()) });
    scene.step();
    scene.wait(10).pod = None;
    scene.step();
    assert_eq!(scene.condition("Suspended"), "True/Idle");
    assert_eq!(names(&scene.step()), ["CreatePod"]);
}

#[test]
fn a_schedule_that_can_not_be_read_is_refused_with_what_to_write() {
    let mut scene = scene();
    every_morning(&mut scene);
    scene.workspace.spec.wake_schedules[0].time_zone = "Europe/Atlantis".to_owned();
    assert!(names(&scene.step()).is_empty());
    assert_eq!(scene.condition("Accepted"), "False/InvalidSchedule");
    assert!(scene.message("Accepted").contains("Europe/Berlin"), "{}", scene.message("Accepted"));
}

/// A workspace whose pod is the one that was planned.
fn planned() -> Scene {
    let mut scene = scene();
    scene.bound_claim();
    let plan = scene.step();
    let Some(Action::CreatePod { pod, .. }) = plan.first.into_iter().next() else { panic!() };
    scene.pod("p1", Some("10.0.0.1"), true).report(0, START);
    scene.pod.as_mut().unwrap().metadata.annotations = pod.metadata.annotations;
    scene.step();
    assert_eq!(scene.condition("UpToDate"), "True/UpToDate");
    scene
}

#[test]
fn a_change_that_needs_a_restart_waits_for_the_next_start_and_is_shown() {
    let mut scene = planned();
    scene.tier.as_mut().unwrap().spec.image = Some("dexorder/agent:2".to_owned());
    let plan = scene.step();
    assert!(names(&plan).is_empty());
    assert_eq!(scene.condition("UpToDate"), "False/PendingRestart");
    assert_eq!(scene.condition("Ready"), "True/Ready");
    scene.tier = None;
    scene.step();
    assert_eq!(scene.condition("UpToDate"), "False/PendingRestart", "without a tier the last word stands");
}

#[test]
fn a_change_that_needs_no_restart_takes_effect_at_once() {
    let mut scene = planned();
    let tier = &mut scene.tier.as_mut().unwrap().spec;
    tier.idle_timeout.default = "5m".parse().unwrap();
    tier.storage.retention_policy = RetentionPolicy::Delete;
    let plan = scene.step();
    assert_eq!(names(&plan), ["SetClaimOwners"]);
    assert_eq!(scene.condition("UpToDate"), "True/UpToDate");
    assert_eq!(plan.next, Next::At(scene.now + SignedDuration::from_secs(240)));
}

#[test]
fn a_key_is_shown_and_rotated_once_for_each_request() {
    let mut scene = scene();
    scene.tier.as_mut().unwrap().spec.auth_modes.push(AuthMode::Direct);
    let secret = Some(LocalSecretRef { name: "hashes".to_owned() });
    let direct = Some(DirectAuth { oidc: None, credentials_secret_ref: secret });
    scene.workspace.spec.auth = Auth { mode: AuthMode::Direct, direct };
    scene.bound_claim().step();
    scene.pod("p1", Some("10.0.0.1"), true).report(0, START);
    scene.memory.report.as_mut().unwrap().what.public_key = Some("thumb1".to_owned());
    scene.step();
    assert_eq!(scene.status().public_key.as_deref(), Some("thumb1"));
    let annotations = scene.workspace.metadata.annotations.get_or_insert_default();
    annotations.insert(keys::ROTATE_DIRECT_KEY.to_owned(), "1".to_owned());
    let plan = scene.step();
    assert!(matches!(&plan.first[..], [Action::RotateKey { request, .. }] if request == "1"));
    let report = &mut scene.memory.report.as_mut().unwrap().what;
    report.public_key = Some("thumb2".to_owned());
    report.key_rotation = Some("1".to_owned());
    assert!(names(&scene.step()).is_empty());
    assert_eq!(scene.status().public_key.as_deref(), Some("thumb2"));
}

#[test]
fn a_pod_without_an_address_is_deleted_only_as_it_was_seen() {
    let mut scene = scene();
    scene.bound_claim().step();
    scene.pod("p1", None, false);
    scene.pod.as_mut().unwrap().metadata.resource_version = Some("7".to_owned());
    scene.workspace.spec.operating_mode = OperatingMode::Suspended;
    let version = Some("7".to_owned());
    assert_eq!(scene.step().then, [Action::DeletePod { uid: "p1".to_owned(), version }]);
}

#[test]
fn the_phases_of_a_start_are_told_with_what_is_written_anyway() {
    let mut scene = scene();
    scene.bound_claim().step();
    let asked = scene.status().start.unwrap();
    assert_eq!((asked.kind.as_deref(), asked.request_time.unwrap().0), (Some("Cold"), scene.now));
    scene.pod("p1", Some("10.0.0.1"), false).wait(1).step();
    let plan = scene.wait(1).pod("p1", Some("10.0.0.1"), true).report(0, START).step();
    let start = scene.status().start.unwrap();
    assert_eq!(start.sidecar_ready_time.unwrap().0.as_second(), START);
    assert_eq!(plan.started.unwrap().phases.request_time.unwrap().0.as_second(), START);
    assert!(scene.wait(5).step().status.is_none());
}
