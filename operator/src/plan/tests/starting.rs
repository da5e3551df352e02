//! How a workspace starts, and how it comes back after something went wrong.

use k8s_openapi::{
    api::core::v1::{
        ContainerState, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, Event, PodCondition,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::fixtures::{START, Scene, names, scene};
use crate::plan::{Action, Next, StartKind, trouble};

#[test]
fn a_new_workspace_gets_its_claim_and_its_pod_in_one_look() {
    let mut scene = scene();
    let plan = scene.step();
    assert_eq!(names(&plan), ["CreateClaim", "CreatePod"]);
    assert!(matches!(plan.first[1], Action::CreatePod { kind: StartKind::Cold, .. }));
    assert_eq!(scene.condition("Ready"), "False/Starting");
    assert_eq!(scene.condition("Accepted"), "True/Accepted");
    assert_eq!(scene.condition("Suspended"), "False/Running");
}

#[test]
fn the_endpoint_is_told_as_soon_as_the_pod_has_an_address() {
    let mut scene = scene();
    scene.bound_claim().step();
    scene.pod("p1", None, false);
    assert!(scene.plan().status.is_none(), "nothing new to say before that");
    scene.pod("p1", Some("10.0.0.1"), false).step();
    assert_eq!(scene.status().endpoint.as_deref(), Some("http://10.0.0.1:8080/mcp"));
    assert_eq!(scene.condition("Ready"), "False/Starting");
    assert_eq!(names(&scene.pod("p1", Some("10.0.0.1"), true).step()), ["Ask"]);
    let plan = scene.report(0, START).step();
    assert_eq!(scene.condition("Ready"), "True/Ready");
    assert!(plan.started.is_some());
    assert_eq!(plan.notes[0].reason, "Started");
}

#[test]
fn a_settled_workspace_asks_for_nothing() {
    let mut scene = Scene::running();
    let plan = scene.wait(60).step();
    assert!(plan.status.is_none() && names(&plan).is_empty() && plan.notes.is_empty());
    assert!(matches!(plan.next, Next::At(_)));
}

#[test]
fn a_terminating_pod_is_never_reported_ready() {
    let mut scene = Scene::running();
    scene.pod_terminates().step();
    assert_eq!(scene.condition("Ready"), "False/Terminating");
    assert_eq!(scene.status().endpoint, None);
    scene.pod = None;
    let plan = scene.step();
    assert_eq!(names(&plan), ["CreatePod"]);
    assert!(matches!(plan.first[0], Action::CreatePod { kind: StartKind::Restart, .. }));
}

#[test]
fn an_evicted_pod_is_replaced_and_the_cause_told() {
    let mut scene = Scene::running();
    let status = scene.pod_status();
    status.phase = Some("Failed".to_owned());
    status.reason = Some("Evicted".to_owned());
    let plan = scene.step();
    assert_eq!(names(&plan), ["DeletePod"]);
    assert_eq!(scene.condition("Ready"), "False/Evicted");
    assert!(plan.notes[0].warning);
    scene.pod = None;
    assert_eq!(names(&scene.step()), ["CreatePod"]);
    assert_eq!(scene.status().restarts, Some(1));
}

/// The kubelet shows a pod that it evicted as one that succeeded, if all containers end cleanly when asked to.
#[test]
fn an_evicted_pod_that_ended_cleanly_is_named_by_its_events() {
    let mut scene = Scene::running();
    scene.pod_status().phase = Some("Succeeded".to_owned());
    assert_eq!(names(&scene.step()), ["ReadEvents"]);
    assert_eq!(scene.condition("Ready"), "False/PodFailed");
    let event = Event {
        type_: Some("Warning".to_owned()),
        reason: Some("Evicted".to_owned()),
        message: Some("Usage of EmptyDir volume \"tmp\" exceeds the limit \"1Gi\".".to_owned()),
        ..Event::default()
    };
    scene.events_tell(trouble(&[event]));
    let plan = scene.step();
    assert_eq!(names(&plan), ["DeletePod"]);
    assert_eq!(scene.condition("Ready"), "False/Evicted");
    assert!(plan.notes[0].message.contains("exceeds the limit"));
}

#[test]
fn a_pod_that_ends_before_its_start_was_shown_is_no_stopped_workspace() {
    let mut scene = Scene::suspended();
    assert_eq!(names(&scene.touch("t1").step()), ["CreatePod"]);
    assert_eq!(scene.condition("Suspended"), "True/Idle", "the start is shown with the pod's address");
    scene.pod("p2", None, false).pod_status().phase = Some("Failed".to_owned());
    assert_eq!(names(&scene.step()), ["ReadEvents"]);
    assert_eq!(scene.condition("Suspended"), "False/Running");
    scene.events_tell(None);
    assert_eq!(names(&scene.step()), ["DeletePod"]);
    scene.pod = None;
    assert_eq!(names(&scene.step()), ["CreatePod"]);
    assert_eq!(
        (scene.status().restarts, scene.status().start.unwrap().kind),
        (Some(1), Some("Restart".to_owned()))
    );
}

#[test]
fn repeated_failures_wait_longer_each_time() {
    let mut scene = Scene::running();
    let mut waits = Vec::new();
    for round in 2..6 {
        scene.pod = None;
        let mut plan = scene.step();
        if let (true, Next::At(due)) = (names(&plan).is_empty(), plan.next) {
            waits.push(due.duration_since(scene.now).as_secs());
            scene.now = due;
            plan = scene.step();
        }
        assert_eq!(names(&plan), ["CreatePod"], "round {round}");
        scene.pod(&format!("p{round}"), Some("10.0.0.1"), false).step();
    }
    assert_eq!(waits, [1, 2, 4]);
}

#[test]
fn a_pod_that_does_not_get_on_says_why() {
    let waiting = |reason: &str| ContainerStatus {
        name: "agent".to_owned(),
        state: Some(ContainerState {
            waiting: Some(ContainerStateWaiting { reason: Some(reason.to_owned()), message: None }),
            ..Default::default()
        }),
        ..Default::default()
    };
    let killed = ContainerStatus {
        name: "agent".to_owned(),
        last_state: Some(ContainerState {
            terminated: Some(ContainerStateTerminated {
                reason: Some("OOMKilled".to_owned()),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    };
    for (container, expected) in [
        (waiting("ImagePullBackOff"), "False/ImagePullFailed"),
        (waiting("CrashLoopBackOff"), "False/CrashLoop"),
        (killed, "False/OutOfMemory"),
    ] {
        let mut scene = scene();
        scene.bound_claim().step();
        scene.pod("p1", Some("10.0.0.1"), false);
        scene.pod_status().container_statuses = Some(vec![container]);
        let plan = scene.step();
        assert_eq!(scene.condition("Ready"), expected);
        assert!(plan.notes.iter().any(|note| note.warning), "{expected}");
    }
}

#[test]
fn a_claim_of_another_user_is_never_used() {
    let mut scene = scene();
    scene.bound_claim();
    scene.workspace.spec.user_id = "trader2".to_owned();
    let plan = scene.step();
    assert!(names(&plan).is_empty());
    assert_eq!(scene.condition("StorageReady"), "False/ClaimOfAnotherUser");
    assert_eq!(scene.condition("Ready"), "False/StorageNotReady");
}

#[test]
fn a_terminating_claim_is_waited_for() {
    let mut scene = scene();
    scene.bound_claim();
    scene.claim.as_mut().unwrap().metadata.deletion_timestamp = Some(Time(scene.now));
    assert!(names(&scene.step()).is_empty());
    assert_eq!(scene.condition("StorageReady"), "False/ClaimTerminating");
    scene.claim = None;
    assert_eq!(names(&scene.step()), ["CreateClaim", "CreatePod"]);
}

#[test]
fn what_does_not_fit_the_tier_is_not_started_and_not_stopped() {
    let mut scene = scene();
    scene.tier = None;
    assert!(names(&scene.step()).is_empty());
    assert_eq!(scene.condition("Accepted"), "False/TierNotFound");
    assert_eq!(scene.condition("Ready"), "False/NotAccepted");

    let mut scene = Scene::running();
    scene.tier = None;
    let plan = scene.wait(1_000_000).step();
    assert!(names(&plan).is_empty(), "nothing is stopped without terms");
    assert_eq!(scene.condition("Ready"), "True/Ready");
    assert_eq!(scene.condition("Accepted"), "False/TierNotFound");
}

#[test]
fn an_idle_timeout_over_the_tiers_most_is_named_with_the_most() {
    let mut scene = scene();
    scene.workspace.spec.idle_timeout = Some("2h".parse().unwrap());
    assert!(names(&scene.step()).is_empty());
    assert_eq!(scene.condition("Accepted"), "False/IdleTimeoutTooLong");
    assert!(scene.message("Accepted").contains("at most 1h"), "{}", scene.message("Accepted"));
}

#[test]
fn a_deleted_workspace_is_left_to_the_garbage_collector() {
    let mut scene = Scene::running();
    scene.workspace.metadata.deletion_timestamp = Some(Time(scene.now));
    let plan = scene.step();
    assert!(plan.status.is_none() && names(&plan).is_empty());
}

#[test]
fn a_pod_that_never_got_ready_is_replaced_when_the_manifest_is_corrected() {
    let mut scene = scene();
    scene.bound_claim();
    let Some(Action::CreatePod { pod: made, .. }) = scene.step().first.into_iter().next() else { panic!() };
    scene.pod("p1", None, false);
    scene.pod.as_mut().unwrap().metadata.annotations = made.metadata.annotations;
    scene.pod_status().container_statuses = Some(vec![ContainerStatus {
        name: "agent".to_owned(),
        state: Some(ContainerState {
            waiting: Some(ContainerStateWaiting { reason: Some("ErrImagePull".to_owned()), message: None }),
            ..Default::default()
        }),
        ..Default::default()
    }]);
    assert!(names(&scene.step()).is_empty(), "nothing has changed yet");
    let template = scene.workspace.spec.template.get_or_insert_default();
    template.image = Some("dexorder/agent:2".to_owned());
    assert_eq!(names(&scene.step()), ["DeletePod"]);
}

#[test]
fn a_node_that_does_not_answer_is_named_and_its_pod_is_left_alone() {
    let mut scene = Scene::running();
    scene.pod("p1", Some("10.0.0.1"), false);
    let up =
        PodCondition { type_: "ContainersReady".to_owned(), status: "True".to_owned(), ..Default::default() };
    scene.pod_status().conditions.as_mut().unwrap().push(up);
    assert!(names(&scene.step()).is_empty(), "the pod may still run and write");
    assert_eq!(scene.condition("Ready"), "False/NodeLost");
    scene.pod("p1", Some("10.0.0.1"), true).report(0, START).step();
    assert_eq!(scene.condition("Ready"), "True/Ready");
}
