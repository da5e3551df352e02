//! The first answer after a start: counted once, and written with what is written anyway.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::fixtures::{IDLE_SECONDS, START, Scene, names, scene};
use crate::plan::{Plan, StartKind};

/// A workspace whose pod is ready two seconds after the request.
fn ready(answer: Option<i64>) -> (Scene, Plan) {
    let mut scene = scene();
    scene.bound_claim().step();
    scene.wait(2).pod("p1", Some("10.0.0.1"), true);
    answered(&mut scene, answer);
    let plan = scene.step();
    (scene, plan)
}

fn answered(scene: &mut Scene, answer: Option<i64>) {
    scene.report(0, START);
    let time = answer.map(|second| Timestamp::from_second(START + second).unwrap());
    scene.memory.report.as_mut().unwrap().what.first_answer_time = time;
}

fn shown(scene: &Scene) -> Option<i64> {
    Some(scene.status().start?.first_answer_time?.0.as_second() - START)
}

#[test]
fn whoever_waited_is_told_with_the_rest_of_the_start() {
    let (mut scene, plan) = ready(Some(1));
    assert_eq!(shown(&scene), Some(1));
    let counted = plan.answered.unwrap();
    assert_eq!((counted.kind, counted.took.as_secs()), (StartKind::Cold, 1));
    assert_eq!(scene.step().answered, None, "once is enough");
}

#[test]
fn an_answer_after_the_start_is_asked_for_once_and_costs_no_write() {
    let (mut scene, plan) = ready(None);
    assert_eq!((shown(&scene), plan.answered), (None, None));
    assert!(names(&scene.wait(4).step()).is_empty());
    let plan = scene.wait(1).step();
    assert_eq!((names(&plan), plan.status), (vec!["Ask"], None));
    answered(&mut scene, Some(3));
    let plan = scene.step();
    assert_eq!((names(&plan), plan.status), (vec![], None));
    assert_eq!(plan.answered.unwrap().took.as_secs(), 3);
    scene.memory.told_answer = true;
    assert_eq!(scene.step().answered, None);
    // It is written with the stop.
    scene.wait(IDLE_SECONDS);
    answered(&mut scene, Some(3));
    scene.step();
    assert_eq!(scene.condition("Ready"), "False/Draining");
    assert_eq!(shown(&scene), Some(3));
}

#[test]
fn a_start_for_nobody_is_asked_about_once_and_its_first_answer_is_shown_and_not_counted() {
    let (mut scene, _) = ready(None);
    scene.wait(5);
    answered(&mut scene, None);
    assert!(names(&scene.step()).is_empty(), "nobody has waited");
    scene.wait(IDLE_SECONDS - 10);
    answered(&mut scene, Some(500));
    let plan = scene.step();
    assert_eq!((plan.answered, plan.status), (None, None));
    scene.memory.report.as_mut().unwrap().what.in_flight = 0;
    scene.workspace.spec.operating_mode = dexorder_crds::OperatingMode::Suspended;
    scene.step();
    assert_eq!(shown(&scene), Some(500));
}

#[test]
fn what_another_process_of_the_sidecar_answered_first_is_no_part_of_the_start() {
    let (mut scene, _) = ready(None);
    scene.wait(5);
    answered(&mut scene, Some(5));
    scene.memory.report.as_mut().unwrap().what.start_time += SignedDuration::from_secs(30);
    assert_eq!(scene.step().answered, None);
}

#[test]
fn the_next_start_does_not_take_over_the_answer_of_the_last_one() {
    let (mut scene, _) = ready(Some(1));
    scene.wait(100);
    answered(&mut scene, Some(1));
    scene.pod = None;
    scene.step();
    assert_eq!(scene.condition("Ready"), "False/Starting");
    assert_eq!(shown(&scene), None);
}
