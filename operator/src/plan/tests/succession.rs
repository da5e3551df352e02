//! What a deleted workspace leaves to the next one of its name: a pod that ends, and a claim.

use dexorder_crds::{AuthMode, keys};
use k8s_openapi::api::core::v1::PodCondition;

use super::fixtures::{Scene, names, scene};
use crate::plan::Action;

/// A workspace was deleted and made again while its pod still runs.
fn made_again() -> Scene {
    let mut scene = scene();
    scene.bound_claim().pod("p1", Some("10.0.0.1"), true);
    scene.pod.as_mut().unwrap().metadata.owner_references.as_mut().unwrap()[0].uid = "uid-before".to_owned();
    scene
}

#[test]
fn the_pod_of_a_former_workspace_is_ended_and_the_start_goes_on_when_it_is_gone() {
    let mut scene = made_again();
    let plan = scene.step();
    assert!(
        matches!(&plan.first[..], [Action::DeletePod { uid, version: None }] if uid == "p1"),
        "{:?}",
        plan.first
    );
    assert_eq!(scene.condition("Ready"), "False/Terminating");
    assert_eq!(scene.status().endpoint, None);
    assert_eq!(scene.status().pod_uid, None);
    assert!(names(&scene.pod_terminates().step()).is_empty());
    assert_eq!(scene.condition("Ready"), "False/Terminating");
    scene.pod = None;
    assert_eq!(names(&scene.step()), ["CreatePod"]);
    assert_eq!(scene.condition("Ready"), "False/Starting");
}

#[test]
fn a_former_pod_is_left_alone_while_the_workspace_is_kept_stopped() {
    let mut scene = made_again();
    scene.workspace.spec.operating_mode = dexorder_crds::OperatingMode::Suspended;
    assert!(names(&scene.step()).is_empty());
    assert_eq!(scene.condition("Ready"), "False/Suspended");
}

#[test]
fn a_pod_of_another_kind_or_name_is_foreign_and_never_deleted() {
    for change in [|owner: &mut String| *owner = "w2".to_owned(), |owner: &mut String| owner.clear()] {
        let mut scene = made_again();
        change(&mut scene.pod.as_mut().unwrap().metadata.owner_references.as_mut().unwrap()[0].name);
        assert!(names(&scene.step()).is_empty());
        assert_eq!(scene.condition("Ready"), "False/PodNameTaken");
    }
    let mut scene = made_again();
    scene.pod.as_mut().unwrap().metadata.owner_references.as_mut().unwrap()[0].kind = "ReplicaSet".to_owned();
    assert!(names(&scene.step()).is_empty());
    assert_eq!(scene.condition("Ready"), "False/PodNameTaken");
}

fn of_mode(mode: AuthMode, marked: Option<&str>) -> Scene {
    let mut scene = scene();
    scene.bound_claim();
    scene.workspace.spec.auth.mode = mode;
    scene.tier.as_mut().unwrap().spec.auth_modes =
        vec![AuthMode::Public, AuthMode::Gateway, AuthMode::Direct];
    let annotations = scene.claim.as_mut().unwrap().metadata.annotations.as_mut().unwrap();
    annotations.extend(marked.map(|marked| (keys::AUTH_MODE.to_owned(), marked.to_owned())));
    scene
}

#[test]
fn a_claim_of_a_direct_workspace_is_not_taken_up_by_one_of_a_weaker_mode() {
    for mode in [AuthMode::Gateway, AuthMode::Public] {
        let mut scene = of_mode(mode, Some("Direct"));
        assert!(names(&scene.step()).is_empty());
        assert_eq!(scene.condition("StorageReady"), "False/ClaimOfStricterMode");
        assert_eq!(scene.condition("Ready"), "False/StorageNotReady");
        let message = scene.message("Ready");
        assert!(message.contains("set spec.auth.mode to Direct"), "{message}");
        assert!(
            message.contains(&format!("pvc/ws-w1 dexorder.io/auth-mode={}`", mode.as_str())),
            "{message}"
        );
    }
    assert_eq!(names(&of_mode(AuthMode::Direct, Some("Direct")).step()), ["CreatePod"]);
}

#[test]
fn a_claim_says_that_a_direct_workspace_uses_it_before_the_pod_is_made() {
    for marked in [None, Some("Gateway")] {
        let plan = of_mode(AuthMode::Direct, marked).step();
        assert_eq!(names(&plan), ["MarkClaim", "CreatePod"]);
        assert_eq!(plan.first[0], Action::MarkClaim(AuthMode::Direct));
    }
    for marked in [None, Some("Gateway"), Some("Public")] {
        assert_eq!(names(&of_mode(AuthMode::Gateway, marked).step()), ["CreatePod"]);
        assert_eq!(names(&of_mode(AuthMode::Public, marked).step()), ["CreatePod"]);
    }
}

#[test]
fn a_new_claim_says_which_mode_it_was_made_for() {
    let mut scene = of_mode(AuthMode::Direct, None);
    scene.claim = None;
    let plan = scene.step();
    assert_eq!(names(&plan), ["CreateClaim", "CreatePod"]);
    let Action::CreateClaim(claim) = &plan.first[0] else { panic!("{:?}", plan.first) };
    assert_eq!(claim.metadata.annotations.as_ref().unwrap()[keys::AUTH_MODE], "Direct");
}

#[test]
fn a_pod_that_no_node_takes_says_what_the_scheduler_said_and_where_its_volume_is() {
    let mut scene = scene();
    scene.bound_claim().step();
    let unschedulable = |message: &str| PodCondition {
        type_: "PodScheduled".to_owned(),
        status: "False".to_owned(),
        reason: Some("Unschedulable".to_owned()),
        message: Some(message.to_owned()),
        ..Default::default()
    };
    let annotations = scene.claim.as_mut().unwrap().metadata.annotations.as_mut().unwrap();
    annotations.insert(keys::SELECTED_NODE.to_owned(), "node-2".to_owned());
    scene.pod("p1", None, false);
    scene.pod_status().conditions =
        Some(vec![unschedulable("0/2 nodes are available: 2 Insufficient memory.")]);
    scene.step();
    assert_eq!(scene.condition("Ready"), "False/Unschedulable");
    assert!(scene.message("Ready").ends_with("2 Insufficient memory."), "{}", scene.message("Ready"));
    for told in [
        "0/2 nodes are available: 1 node(s) had volume node affinity conflict.",
        "0/2 nodes are available: 1 node(s) didn't match PersistentVolume's node affinity.",
    ] {
        scene.pod_status().conditions = Some(vec![unschedulable(told)]);
        scene.step();
        assert!(scene.message("Ready").contains(told));
        assert!(
            scene.message("Ready").contains("its volume is on node node-2"),
            "{}",
            scene.message("Ready")
        );
    }
}
