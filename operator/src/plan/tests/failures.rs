//! Each thing that can go wrong has a reason of its own and a warning, and once its cause is gone the start goes on with
//! the same volume.

use dexorder_crds::condition::ready;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, PodCondition, PodStatus,
};

use super::fixtures::{START, Scene, names, scene};
use crate::plan::{Problem, Seen};

type Damage = fn(&mut Scene);

/// A workspace that is on its way, and then this happens to its pod, its claim or what its events say.
fn damaged(damage: Damage) -> Scene {
    let mut scene = Scene::running();
    scene.wait(100);
    damage(&mut scene);
    scene
}

fn container(scene: &mut Scene, state: ContainerState, last: Option<ContainerState>) {
    let status = PodStatus {
        phase: Some("Running".to_owned()),
        pod_ip: Some("10.0.0.1".to_owned()),
        container_statuses: Some(vec![ContainerStatus {
            name: "agent".to_owned(),
            state: Some(state),
            last_state: last,
            ..ContainerStatus::default()
        }]),
        ..PodStatus::default()
    };
    *scene.pod_status() = status;
}

fn waits(scene: &mut Scene, reason: &str) {
    let waiting = ContainerStateWaiting { reason: Some(reason.to_owned()), message: None };
    container(scene, ContainerState { waiting: Some(waiting), ..ContainerState::default() }, None);
}

fn killed() -> ContainerState {
    let terminated = ContainerStateTerminated { reason: Some("OOMKilled".to_owned()), ..Default::default() };
    ContainerState { terminated: Some(terminated), ..ContainerState::default() }
}

fn unschedulable(scene: &mut Scene, message: &str) {
    scene.pod("p1", None, false);
    let condition = |type_: &str, reason: &str, message: &str| PodCondition {
        type_: type_.to_owned(),
        status: "False".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        ..PodCondition::default()
    };
    scene.pod_status().conditions = Some(vec![condition("PodScheduled", "Unschedulable", message)]);
}

fn ended(scene: &mut Scene, reason: Option<&str>) {
    let status = scene.pod_status();
    status.phase = Some("Failed".to_owned());
    status.reason = reason.map(str::to_owned);
    // Its events are read, and say nothing either.
    scene.events_tell(None);
}

/// The containers do not come up, and the events of the pod say why.
fn late(scene: &mut Scene, reason: &'static str) {
    scene.pod("p1", None, false).wait(20);
    scene.memory.pod_uid = Some("p1".to_owned());
    let told = Problem { reason, message: "as the kubelet says".to_owned() };
    scene.memory.trouble = Some(Seen { at: scene.now, what: Some(told) });
}

fn claim_phase(scene: &mut Scene, phase: &str) {
    scene.claim.as_mut().unwrap().status.as_mut().unwrap().phase = Some(phase.to_owned());
}

const DAMAGES: [(&str, Damage); 17] = [
    (ready::TERMINATING, |scene| {
        scene.pod_terminates();
    }),
    (ready::EVICTED, |scene| ended(scene, Some("Evicted"))),
    (ready::POD_FAILED, |scene| ended(scene, None)),
    (ready::OUT_OF_MEMORY, |scene| container(scene, killed(), None)),
    (ready::OUT_OF_MEMORY, |scene| container(scene, ContainerState::default(), Some(killed()))),
    (ready::IMAGE_PULL_FAILED, |scene| waits(scene, "ImagePullBackOff")),
    (ready::CRASH_LOOP, |scene| waits(scene, "CrashLoopBackOff")),
    (ready::POD_FAILED, |scene| waits(scene, "CreateContainerError")),
    (ready::UNSCHEDULABLE, |scene| unschedulable(scene, "0/2 nodes are available: 2 Insufficient memory.")),
    (ready::VOLUME_NOT_MOUNTED, |scene| {
        unschedulable(
            scene,
            "0/1 nodes are available: 1 node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode.",
        );
    }),
    (ready::STORAGE_NOT_READY, |scene| {
        unschedulable(scene, "0/1 nodes are available: storageclass.storage.k8s.io \"fast\" not found.");
    }),
    (ready::VOLUME_NOT_MOUNTED, |scene| late(scene, ready::VOLUME_NOT_MOUNTED)),
    (ready::SECRET_NOT_FOUND, |scene| late(scene, ready::SECRET_NOT_FOUND)),
    (ready::NODE_LOST, |scene| {
        let condition = |type_: &str, status: &str| PodCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            ..PodCondition::default()
        };
        scene.pod_status().conditions =
            Some(vec![condition("Ready", "False"), condition("ContainersReady", "True")]);
    }),
    (ready::SIDECAR_SILENT, |scene| {
        scene.pod("p1", Some("10.0.0.1"), false);
        scene.probe_fails();
        scene.memory.pod_uid = Some("p1".to_owned());
        scene.memory.silence = Some(Seen { at: scene.now, what: "no answer".to_owned() });
    }),
    (ready::STORAGE_NOT_READY, |scene| {
        scene.pod = None;
        claim_phase(scene, "Lost");
    }),
    (ready::STORAGE_NOT_READY, |scene| {
        scene.pod = None;
        let time = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(scene.now);
        scene.claim.as_mut().unwrap().metadata.deletion_timestamp = Some(time);
    }),
];

#[test]
fn each_has_a_reason_of_its_own_and_one_warning() {
    for (reason, damage) in DAMAGES {
        let mut scene = damaged(damage);
        let plan = scene.step();
        assert_eq!(scene.condition("Ready"), format!("False/{reason}"));
        let warnings: Vec<_> = plan.notes.iter().filter(|note| note.warning).collect();
        assert_eq!(warnings.len(), 1, "{reason}: {:?}", plan.notes);
        assert_eq!((warnings[0].reason, &warnings[0].message), (reason, &scene.message("Ready")));
        assert!(!warnings[0].message.is_empty());
        assert!(scene.step().notes.is_empty(), "{reason} is told once");
    }
}

#[test]
fn nothing_is_made_anew_while_the_cause_lasts() {
    for (reason, damage) in DAMAGES {
        let mut scene = damaged(damage);
        let ends = scene.pod.as_ref().is_some_and(|pod| {
            pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Failed")
        });
        let expected: &[&str] = if ends { &["DeletePod"] } else { &[] };
        let done: Vec<_> =
            names(&scene.step()).into_iter().filter(|name| !["Ask", "ReadEvents"].contains(name)).collect();
        assert_eq!(done, expected, "{reason}");
    }
}

#[test]
fn each_goes_on_with_the_same_volume_once_its_cause_is_gone() {
    for (reason, damage) in DAMAGES {
        let mut scene = damaged(damage);
        scene.step();
        scene.wait(400);
        let survives = scene.pod.as_ref().is_some_and(|pod| {
            pod.metadata.deletion_timestamp.is_none()
                && pod.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Failed")
        });
        scene.bound_claim();
        if !survives {
            scene.pod = None;
            assert_eq!(names(&scene.step()), ["CreatePod"], "{reason}");
        }
        scene.memory.silence = None;
        scene.memory.trouble = None;
        scene.pod(if survives { "p1" } else { "p2" }, Some("10.0.0.1"), true);
        scene.report(0, START + 400);
        if !survives {
            scene.memory.pod_uid = Some("p2".to_owned());
        }
        scene.step();
        assert_eq!(scene.condition("Ready"), "True/Ready", "{reason}");
        assert_eq!(scene.condition("StorageReady"), "True/Bound", "{reason}");
    }
}

#[test]
fn a_sidecar_that_hangs_is_asked_whatever_it_said_before() {
    let mut scene = Scene::running();
    scene.wait(100).report(0, START);
    scene.wait(3).pod("p1", Some("10.0.0.1"), false);
    scene.probe_fails();
    let plan = scene.step();
    assert!(!names(&plan).contains(&"Ask"), "it has just answered");
    assert_eq!(scene.condition("Ready"), "False/Starting");
    assert!(names(&scene.wait(7).step()).contains(&"Ask"));
    scene.memory.silence = Some(Seen { at: scene.now, what: "no answer".to_owned() });
    let plan = scene.step();
    assert_eq!(scene.condition("Ready"), "False/SidecarSilent");
    assert!(plan.notes.iter().any(|note| note.warning && note.reason == ready::SIDECAR_SILENT));
}

#[test]
fn a_pod_that_vanished_unseen_is_told_and_made_again_with_back_off() {
    let mut scene = damaged(|scene| scene.pod = None);
    let plan = scene.step();
    assert_eq!(names(&plan), ["CreatePod"]);
    assert_eq!(
        plan.notes.iter().map(|note| (note.warning, note.reason)).collect::<Vec<_>>(),
        [(true, "PodGone")]
    );
    scene.wait(1).pod = None;
    scene.workspace.status.as_mut().unwrap().pod_uid = Some("p2".to_owned());
    scene.step();
    assert_eq!(scene.status().restarts, Some(2));
    scene.wait(1).step();
    assert!(names(&scene.step()).is_empty(), "two restarts within a second of each other");
}

#[test]
fn a_claim_that_waits_for_its_volume_is_told() {
    let mut scene = scene();
    scene.bound_claim().step();
    claim_phase(&mut scene, "Pending");
    scene.pod("p1", None, false).wait(20);
    let plan = scene.step();
    assert_eq!(scene.condition("Ready"), "False/StorageNotReady");
    assert!(plan.notes.iter().any(|note| note.warning && note.reason == ready::STORAGE_NOT_READY));
    claim_phase(&mut scene, "Bound");
    scene.pod("p1", Some("10.0.0.1"), true).report(0, START).step();
    assert_eq!(scene.condition("Ready"), "True/Ready");
}
