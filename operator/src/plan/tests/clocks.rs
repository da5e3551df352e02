//! Clocks that differ by minutes: the API server's, and that of the replica that led before.

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::SignedDuration};

use super::fixtures::{IDLE_SECONDS, START, Scene, names, scene};
use crate::plan::{Drain, Memory, Next, Seen};

const MINUTES: SignedDuration = SignedDuration::from_mins(5);

/// The operator knows nothing but what is written, and the pod was made at that distance from its own clock.
fn forgotten(distance: SignedDuration) -> Scene {
    let mut scene = scene();
    scene.bound_claim().step();
    scene.pod("p1", None, false);
    scene.memory = Memory::default();
    scene.pod.as_mut().unwrap().metadata.creation_timestamp = Some(Time(scene.now + distance));
    scene
}

#[test]
fn a_pod_from_the_future_is_as_good_as_one_of_now() {
    let mut scene = forgotten(MINUTES);
    let plan = scene.step();
    let Next::At(next) = plan.next else { panic!("{:?}", plan.next) };
    assert!(next <= scene.now + SignedDuration::from_secs(15), "a late start is seen in time: {next}");
    scene.pod("p1", Some("10.0.0.1"), true);
    scene.pod.as_mut().unwrap().metadata.creation_timestamp = Some(Time(scene.now + MINUTES));
    let plan = scene.report(0, START).step();
    assert_eq!(scene.condition("Ready"), "True/Ready");
    assert_eq!(plan.started.unwrap().took, std::time::Duration::ZERO);
}

#[test]
fn a_start_that_the_leader_before_saw_in_the_future_delays_no_restart() {
    let mut scene = Scene::running();
    for round in 0..3 {
        let status = scene.workspace.status.as_mut().unwrap();
        status.start_time = Some(Time(scene.now + MINUTES));
        scene.pod = None;
        let plan = scene.step();
        if let (true, Next::At(due)) = (names(&plan).is_empty(), plan.next) {
            assert!(due <= scene.now + SignedDuration::from_secs(4), "round {round}: {due}");
            scene.now = due;
            scene.workspace.status.as_mut().unwrap().start_time =
                Some(Time(scene.now - SignedDuration::from_secs(4)));
            assert_eq!(names(&scene.step()), ["CreatePod"]);
        }
        scene.pod("p2", Some("10.0.0.1"), false).step();
    }
}

#[test]
fn a_stop_that_the_leader_before_began_in_the_future_is_taken_back_by_an_answer_of_now() {
    let mut scene = Scene::running();
    scene.wait(IDLE_SECONDS).report(0, START).step();
    assert_eq!(scene.condition("Ready"), "False/Draining");
    scene.memory = Memory::default();
    scene.now -= MINUTES;
    scene.touch("t1");
    assert_eq!(names(&scene.step()), ["Ask"]);
    scene.report(0, START);
    scene.step();
    assert_eq!(scene.condition("Ready"), "True/Ready");

    // And if the sidecar refuses work already, the stop goes on.
    let mut scene = Scene::running();
    scene.wait(IDLE_SECONDS).report(0, START).step();
    scene.memory = Memory::default();
    scene.now -= MINUTES;
    scene.touch("t1").report(0, START);
    scene.memory.report.as_mut().unwrap().what.draining = true;
    assert_eq!(names(&scene.step()), ["Drain"]);
    scene.memory.drain = Some(Seen { at: scene.now, what: Drain::Done(super::fixtures::drained()) });
    assert_eq!(names(&scene.step()), ["DeletePod"]);
}
