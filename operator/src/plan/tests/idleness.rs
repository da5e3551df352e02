//! When a workspace counts as idle.

use dexorder_crds::WakeSchedule;
use k8s_openapi::jiff::SignedDuration;

use super::fixtures::{IDLE_SECONDS, START, Scene, names};
use crate::plan::{Action, Next, Seen};
use dexorder_protocol::control::DrainMode;

#[test]
fn nothing_is_asked_until_shortly_before_the_deadline() {
    let mut scene = Scene::running();
    let plan = scene.wait(IDLE_SECONDS - 61).step();
    assert!(names(&plan).is_empty());
    assert_eq!(plan.next, Next::At(scene.now + SignedDuration::from_secs(1)));
}

#[test]
fn at_the_deadline_the_sidecar_is_asked_and_nothing_is_stopped_without_its_answer() {
    let mut scene = Scene::running();
    assert_eq!(names(&scene.wait(IDLE_SECONDS).step()), ["Ask"]);
    scene.memory.pod_uid = Some("p1".to_owned());
    scene.memory.silence = Some(Seen { at: scene.now, what: "refused".to_owned() });
    let plan = scene.step();
    assert!(names(&plan).is_empty());
    assert_eq!(plan.next, Next::At(scene.now + SignedDuration::from_secs(10)));
    assert_eq!(names(&scene.wait(10).step()), ["Ask"]);
    assert_eq!(scene.condition("Ready"), "True/Ready");
}

#[test]
fn an_idle_workspace_is_drained_only_if_nothing_has_happened_since() {
    let mut scene = Scene::running();
    let plan = scene.wait(IDLE_SECONDS).report(0, START).step();
    assert_eq!(scene.condition("Ready"), "False/Draining");
    let Some(Action::Drain { request, .. }) = plan.then.first() else {
        panic!("{:?}", plan.then);
    };
    assert_eq!(request.mode, DrainMode::IfIdle);
    assert_eq!(request.idle_since_time.map(k8s_openapi::jiff::Timestamp::as_second), Some(START));
}

#[test]
fn activity_moves_the_deadline() {
    let mut scene = Scene::running();
    let plan = scene.wait(IDLE_SECONDS).report(0, START + 600).step();
    assert!(names(&plan).is_empty());
    assert_eq!(scene.status().last_activity_time.unwrap().0.as_second(), START + 600);
    assert_eq!(scene.status().idle_deadline_time.unwrap().0.as_second(), START + 600 + IDLE_SECONDS);
    assert_eq!(scene.condition("Ready"), "True/Ready");
}

#[test]
fn a_call_that_runs_past_the_deadline_keeps_the_workspace() {
    let mut scene = Scene::running();
    scene.wait(IDLE_SECONDS);
    let mut writes = 0;
    for _ in 0..100 {
        let plan = scene.report(1, START).step();
        writes += usize::from(plan.status.is_some());
        assert!(!names(&plan).contains(&"Drain"));
        let Next::At(next) = plan.next else { panic!("{:?}", plan.next) };
        assert!(next > scene.now);
        scene.now = next;
        assert_eq!(names(&scene.step()), ["Ask"]);
    }
    assert_eq!(scene.condition("Ready"), "True/Ready");
    let hours = (scene.now.as_second() - START) / IDLE_SECONDS;
    assert!(writes <= usize::try_from(hours).unwrap() + 100, "{writes} writes");
}

#[test]
fn a_stale_report_is_no_reason_to_stop() {
    let mut scene = Scene::running();
    scene.wait(IDLE_SECONDS - 100).report(0, START).step();
    assert_eq!(names(&scene.wait(200).step()), ["Ask"]);
}

#[test]
fn a_workspace_that_is_kept_awake_has_no_deadline() {
    let mut scene = Scene::running();
    scene.workspace.spec.operating_mode = dexorder_crds::OperatingMode::Running;
    let plan = scene.wait(1_000_000).step();
    assert!(names(&plan).is_empty());
    assert_eq!(scene.status().idle_deadline_time, None);
}

#[test]
fn an_annotation_keeps_it_awake_until_its_time_and_no_longer() {
    let mut scene = Scene::running();
    let until = scene.now + SignedDuration::from_secs(3 * IDLE_SECONDS);
    let annotations = scene.workspace.metadata.annotations.get_or_insert_default();
    annotations.insert(dexorder_crds::keys::KEEP_AWAKE_UNTIL.to_owned(), until.to_string());
    let plan = scene.wait(2 * IDLE_SECONDS).report(0, START).step();
    assert!(names(&plan).is_empty());
    assert_eq!(plan.next, Next::At(until - SignedDuration::from_secs(60)));
    scene.wait(IDLE_SECONDS).report(0, START).step();
    assert_eq!(scene.condition("Ready"), "False/Draining");
}

#[test]
fn an_annotation_that_is_no_time_is_named_and_keeps_nothing_awake() {
    let mut scene = Scene::running();
    let annotations = scene.workspace.metadata.annotations.get_or_insert_default();
    annotations.insert(dexorder_crds::keys::KEEP_AWAKE_UNTIL.to_owned(), "tomorrow".to_owned());
    scene.wait(IDLE_SECONDS).report(0, START).step();
    assert_eq!(scene.condition("Ready"), "False/Draining");
    let message = scene.message("Accepted");
    assert!(message.contains("\"tomorrow\" is no time"), "{message}");
}

#[test]
fn an_idle_workspace_is_announced_a_minute_before_its_stop_and_once() {
    let mut scene = Scene::running();
    assert_eq!(names(&scene.wait(IDLE_SECONDS - 60).step()), ["Ask"]);
    let plan = scene.report(0, START).step();
    let Some(Action::Announce { deadline, message, .. }) = plan.first.first() else {
        panic!("{:?}", plan.first);
    };
    assert_eq!(deadline.as_second(), START + IDLE_SECONDS);
    assert!(message.contains("unless it is used"), "{message}");
    scene.memory.announced = Some(*deadline);
    let plan = scene.step();
    assert!(names(&plan).is_empty() && plan.status.is_none());
    assert_eq!(plan.next, Next::At(*deadline));
    assert_eq!(names(&scene.wait(60).step()), ["Ask"]);
    scene.report(0, START).step();
    assert_eq!(scene.condition("Ready"), "False/Draining");
}

#[test]
fn one_that_is_used_is_not_announced() {
    let mut scene = Scene::running();
    scene.wait(IDLE_SECONDS - 60).report(1, START);
    assert!(names(&scene.step()).is_empty(), "a call runs");
    scene.report(0, START + 500);
    assert!(names(&scene.step()).is_empty(), "it was used five minutes ago");
}

#[test]
fn a_touch_shortly_before_the_deadline_counts_as_activity() {
    let mut scene = Scene::running();
    scene.wait(IDLE_SECONDS - 30).touch("t1").report(0, START).step();
    assert_eq!(scene.status().idle_deadline_time.unwrap().0.as_second(), START + 2 * IDLE_SECONDS - 30);
    assert!(names(&scene.wait(60).report(0, START).step()).is_empty());
}

#[test]
fn a_moment_of_a_schedule_counts_as_activity() {
    let mut scene = Scene::running();
    // 08:00 UTC is the moment at which every scene begins.
    scene.workspace.spec.wake_schedules =
        vec![WakeSchedule { schedule: "10 8 * * *".to_owned(), time_zone: "UTC".to_owned() }];
    scene.wait(IDLE_SECONDS).report(0, START).step();
    assert_eq!(scene.condition("Ready"), "True/Ready");
    assert_eq!(scene.status().idle_deadline_time.unwrap().0.as_second(), START + 600 + IDLE_SECONDS);
}
