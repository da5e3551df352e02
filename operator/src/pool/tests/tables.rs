//! One situation each.

use dexorder_crds::{Access, AuthMode, keys};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::fixtures::{Scene, end, fail, give_claim, give_pod, scene, set_ready, told};
use crate::pool::Action;

#[test]
fn an_empty_pool_is_filled_a_few_at_a_time_and_no_further() {
    let mut scene = scene(5);
    let plan = scene.plan();
    assert_eq!(told(&plan), ["+0", "+1", "+2"]);
    for action in plan.actions {
        scene.create(action);
    }
    assert!(told(&scene.plan()).is_empty(), "three are on their way");
    scene.change_pod(1, |pod| set_ready(pod, true));
    assert_eq!(told(&scene.plan()), ["+3"]);
    let filled = Scene::filled(5);
    assert!(told(&filled.plan()).is_empty());
    assert_eq!(filled.plan().ready.len(), 5);
}

#[test]
fn a_full_line_of_starts_leaves_no_room() {
    for (room, expected) in [(0, 0), (1, 1), (2, 2), (9, 3)] {
        let scene = Scene { room, ..scene(5) };
        assert_eq!(scene.plan().actions.len(), expected, "room for {room}");
    }
}

#[test]
fn a_member_is_nobodys_and_waits_for_whom_it_is_given_to() {
    let plan = scene(1).plan();
    let Some(Action::Create { claim, pod, .. }) = plan.actions.first() else { panic!("{plan:?}") };
    let labels = pod.metadata.labels.clone().unwrap();
    assert_eq!(labels[keys::POOL_LABEL], "standard");
    assert_eq!(labels[keys::TIER_LABEL], "standard");
    assert!(!labels.contains_key(keys::WORKSPACE_LABEL));
    assert_eq!((&pod.metadata.name, &pod.metadata.owner_references), (&claim.metadata.name, &None));
    assert!(!claim.metadata.annotations.as_ref().unwrap().contains_key(keys::USER_ID));
    let spec = pod.spec.as_ref().unwrap();
    let names = |container: &k8s_openapi::api::core::v1::Container| -> Vec<String> {
        container.env.iter().flatten().map(|variable| variable.name.clone()).collect()
    };
    let sidecar = names(&spec.init_containers.as_ref().unwrap()[0]);
    for name in ["DEXORDER_POOL", "DEXORDER_POD_UID", "DEXORDER_ASSIGNMENT_FILE"] {
        assert!(sidecar.iter().any(|known| known == name), "{name}");
    }
    for name in [
        "DEXORDER_WORKSPACE_UID",
        "DEXORDER_WORKSPACE",
        "DEXORDER_USER_ID",
        "DEXORDER_AUTH_MODE",
        "DEXORDER_ACCESS",
    ] {
        assert!(!sidecar.iter().any(|known| known == name), "{name}");
    }
    let agent = names(&spec.containers[0]);
    assert!(agent.iter().any(|known| known == "DEXORDER_ACCESS"));
    assert!(!agent.iter().any(|known| known == "DEXORDER_USER_ID"));
    let volumes = spec.volumes.as_ref().unwrap();
    let claimed = volumes.iter().find_map(|volume| volume.persistent_volume_claim.as_ref()).unwrap();
    assert_eq!(Some(&claimed.claim_name), claim.metadata.name.as_ref());
    let files = volumes.iter().find_map(|volume| volume.downward_api.as_ref()?.items.clone()).unwrap();
    assert!(files.iter().any(|file| file.path == "assignment"));
}

#[test]
fn who_was_given_away_is_left_alone_and_replaced() {
    let mut scene = Scene::filled(2);
    scene.workspaces.insert("w1".to_owned());
    scene.change_claim(0, |claim| give_claim(claim, "w1"));
    assert_eq!(told(&scene.plan()), ["+2"], "half given away is given away");
    scene.change_pod(0, |pod| give_pod(pod, "w1"));
    assert_eq!(told(&scene.plan()), ["+2"]);
    // Its pod is gone, the volume is kept: the number stays used.
    scene.pods.remove(0);
    scene.workspaces.clear();
    assert_eq!(told(&scene.plan()), ["+2"]);
}

#[test]
fn a_pod_whose_workspace_went_in_between_is_deleted_and_its_claim_kept() {
    let mut scene = Scene::filled(1);
    scene.change_claim(0, |claim| give_claim(claim, "w1"));
    assert_eq!(told(&scene.plan()), ["-0 pod", "+1"]);
}

#[test]
fn too_many_are_deleted_those_on_their_way_first() {
    let mut scene = Scene::filled(3);
    scene.change_pod(1, |pod| set_ready(pod, false));
    scene.tier.as_mut().unwrap().spec.warm_pool.as_mut().unwrap().size = 1;
    assert_eq!(told(&scene.plan()), ["-1 claim pod", "-2 claim pod"]);
    scene.tier = None;
    assert_eq!(told(&scene.plan()), ["-1 claim pod", "-2 claim pod", "-0 claim pod"]);
}

#[test]
fn what_failed_is_replaced_but_not_at_once() {
    let mut scene = Scene::filled(2);
    scene.change_pod(0, fail);
    scene.fresh.insert(0);
    assert!(told(&scene.plan()).is_empty());
    scene.fresh.clear();
    assert_eq!(told(&scene.plan()), ["-0 claim pod", "+2"]);
    scene.change_claim(0, |claim| end(&mut claim.metadata));
    assert_eq!(told(&scene.plan()), ["-0 pod", "+2"]);
    scene.change_pod(0, |pod| end(&mut pod.metadata));
    assert_eq!(told(&scene.plan()), ["+2"], "its end is waited for, its number used until then");
}

#[test]
fn what_a_killed_operator_has_left_is_cleared_away() {
    let mut scene = Scene::filled(1);
    scene.pods.clear();
    scene.fresh.insert(0);
    assert!(told(&scene.plan()).is_empty(), "its pod may not have been seen yet");
    scene.fresh.clear();
    assert_eq!(told(&scene.plan()), ["-0 claim", "+1"]);
}

#[test]
fn members_follow_their_tier_one_by_one() {
    for change in [
        |scene: &mut Scene| scene.tier.as_mut().unwrap().spec.image = Some("dexorder/agent:2".to_owned()),
        |scene: &mut Scene| scene.tier.as_mut().unwrap().spec.storage.size = Quantity("2Gi".to_owned()),
        |scene: &mut Scene| scene.tier.as_mut().unwrap().spec.access = Access::ReadOnly,
        |scene: &mut Scene| scene.tier.as_mut().unwrap().spec.auth_modes = vec![AuthMode::Public],
        |scene: &mut Scene| scene.settings.sidecar_image = "dexorder/sidecar:2".to_owned(),
    ] {
        let mut scene = Scene::filled(2);
        change(&mut scene);
        scene.room = 1;
        assert_eq!(told(&scene.plan()), ["-0 claim pod"]);
        scene.pods.remove(0);
        scene.claims.remove(0);
        assert_eq!(told(&scene.plan()), ["+0"]);
        for action in scene.plan().actions {
            scene.create(action);
        }
        assert!(told(&scene.plan()).is_empty(), "the next one goes when this one is ready");
        scene.change_pod(0, |pod| set_ready(pod, true));
        assert_eq!(
            (told(&scene.plan()), scene.plan().ready),
            (vec!["-1 claim pod".to_owned()], vec!["pool-standard-0".to_owned()])
        );
    }
}

#[test]
fn keys_that_changed_make_no_member_outdated() {
    let mut scene = Scene::filled(2);
    scene.settings.identity_keys = "others".to_owned();
    assert!(told(&scene.plan()).is_empty());
}

#[test]
fn a_tier_of_mode_direct_alone_has_no_pool() {
    let mut scene = scene(2);
    scene.tier.as_mut().unwrap().spec.auth_modes = vec![AuthMode::Direct];
    assert!(told(&scene.plan()).is_empty());
    assert_eq!(scene.plan().wanted, 0);
}
