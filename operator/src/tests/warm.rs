//! Members of the warm pool that are taken over: what it costs, who gets which, and what becomes of a takeover that is
//! broken off anywhere.

use std::time::Duration;

use dexorder_crds::{OperatingMode, keys};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::{fate::Fate, yard::Yard};

async fn filled(size: i32) -> Yard {
    let mut yard = Yard::new(size);
    yard.fill().await;
    assert_eq!(yard.free().len(), usize::try_from(size).unwrap());
    yard.world().writes.clear();
    yard
}

fn served(yard: &Yard, pod: &str) -> Option<String> {
    let world = yard.world();
    let uid = world.object("pods", pod)["metadata"]["uid"].as_str()?.to_owned();
    world.assigned.get(&uid).cloned()
}

fn uid_of(yard: &Yard, workspace: &str) -> String {
    yard.world().object("userworkspaces", workspace)["metadata"]["uid"].as_str().unwrap().to_owned()
}

/// The workspace is on a member of its own, and everything says so.
fn assert_warm(yard: &Yard, name: &str) {
    let status = yard.status(name);
    assert_eq!(status["start"]["kind"], "Warm", "{status}");
    let pod = status["podName"].as_str().unwrap();
    assert_eq!(status["claimName"], pod);
    assert_eq!(served(yard, pod), Some(uid_of(yard, name)));
    let claim = yard.world().object("persistentvolumeclaims", pod);
    let pod = yard.world().object("pods", pod);
    for object in [&pod, &claim] {
        assert_eq!(object["metadata"]["labels"][keys::WORKSPACE_LABEL], name);
        assert!(object["metadata"]["labels"][keys::POOL_LABEL].is_null());
    }
    assert_eq!(pod["metadata"]["ownerReferences"][0]["uid"], uid_of(yard, name));
    assert_eq!(claim["metadata"]["annotations"][keys::USER_ID], format!("user-of-{name}"));
    assert_eq!(claim["metadata"]["annotations"][keys::AUTH_MODE], "Gateway");
    assert_eq!(status["podUID"], pod["metadata"]["uid"]);
    assert!(yard.pods_by_claim().values().all(|pods| pods.len() == 1), "{:?}", yard.pods_by_claim());
}

#[tokio::test(start_paused = true)]
async fn a_takeover_costs_four_writes_and_the_pool_is_filled_again() {
    let mut yard = filled(2).await;
    yard.comes("w1", |_| {});
    yard.look("w1", true).await;
    assert_eq!(yard.reason("w1"), "Ready");
    assert_eq!(
        yard.world().writes,
        ["PATCH persistentvolumeclaims", "PATCH pods", "PATCH userworkspaces", "POST events"]
    );
    assert_warm(&yard, "w1");
    let up_to_date = yard.status("w1")["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .any(|one| one["type"] == "UpToDate" && one["status"] == "True");
    assert!(up_to_date);
    yard.fill().await;
    assert_eq!(yard.free(), ["pool-standard-1", "pool-standard-2"]);
    let metrics = yard.context.metrics.encode().unwrap();
    assert!(metrics.contains("kind=\"warm\""), "{metrics}");
    assert!(metrics.contains("dexorder_pool_members{state=\"ready\",tier=\"standard\"} 2"), "{metrics}");
}

#[tokio::test(start_paused = true)]
async fn the_look_needs_no_watch_to_show_what_it_wrote() {
    let mut yard = filled(1).await;
    yard.comes("w1", |_| {});
    yard.look("w1", false).await;
    assert_eq!(yard.reason("w1"), "Ready");
    assert_warm(&yard, "w1");
    // Nor does the next one take a second member or make a pod.
    yard.look("w1", false).await;
    assert_eq!(yard.world().writes.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn who_comes_first_after_a_start_of_the_operator_gets_a_member() {
    let mut yard = filled(1).await.anew();
    yard.comes("w1", |_| {});
    crate::pool::Keeper::new(yard.context.clone()).survey();
    assert!(yard.world().writes.is_empty());
    yard.look("w1", true).await;
    assert_eq!(yard.reason("w1"), "Ready");
    assert_warm(&yard, "w1");
}

#[tokio::test(start_paused = true)]
async fn each_gets_a_member_of_its_own_and_who_comes_too_late_starts_cold() {
    let mut yard = filled(2).await;
    for name in ["w1", "w2", "w3"] {
        yard.comes(name, |_| {});
    }
    // All three look at the same moment, and none sees what the others do.
    for name in ["w1", "w2", "w3"] {
        yard.look(name, false).await;
    }
    assert!(yard.until_ready("w3").await);
    assert_warm(&yard, "w1");
    assert_warm(&yard, "w2");
    assert_ne!(yard.status("w1")["podName"], yard.status("w2")["podName"]);
    assert_eq!(yard.status("w3")["start"]["kind"], "Cold");
    assert_eq!(yard.status("w3")["podName"], "ws-w3");
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_something_else_starts_cold() {
    type Change = fn(&mut dexorder_crds::UserWorkspace);
    let changes: [Change; 3] = [
        |workspace| workspace.spec.template = Some(dexorder_crds::WorkspaceTemplate::default()),
        |workspace| {
            workspace.spec.repository = Some(dexorder_crds::Repository {
                url: "https://git.example.com/u.git".to_owned(),
                branch: "main".to_owned(),
                secret_ref: None,
            });
        },
        |workspace| {
            workspace.spec.storage = Some(dexorder_crds::StorageOverrides {
                size: Some(k8s_openapi::apimachinery::pkg::api::resource::Quantity("2Gi".to_owned())),
                ..dexorder_crds::StorageOverrides::default()
            });
        },
    ];
    for change in changes {
        let mut yard = filled(1).await;
        yard.comes("w1", change);
        assert!(yard.until_ready("w1").await);
        assert_eq!(yard.status("w1")["start"]["kind"], "Cold");
        assert_eq!(yard.free(), ["pool-standard-0"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_that_changed_meanwhile_is_taken_as_it_is_now() {
    let mut yard = filled(1).await;
    yard.comes("w1", |_| {});
    yard.sync();
    let mut pod = yard.world().object("pods", "pool-standard-0");
    pod["metadata"]["annotations"]["x"] = json!("y");
    yard.world().put("pods", pod);
    let workspace = yard.context.stores.workspaces.state().remove(0);
    crate::reconcile::reconcile(workspace, yard.context.clone()).await.unwrap();
    assert_eq!(yard.reason("w1"), "Ready");
    assert_warm(&yard, "w1");
}

#[tokio::test(start_paused = true)]
async fn a_takeover_that_is_broken_off_anywhere_is_gone_on_with() {
    for write in 0..4 {
        for fate in [Fate::Conflict, Fate::Fails, Fate::Lost, Fate::Unanswered] {
            for dies in [false, true] {
                let mut yard = filled(2).await;
                yard.comes("w1", |_| {});
                yard.world().fates.extend(std::iter::repeat_n(None, write).chain([Some(fate)]));
                yard.look("w1", true).await;
                yard.world().fates.clear();
                if dies {
                    yard = yard.anew();
                }
                yard.fill().await;
                let what = format!("write {write}, {fate:?}, {dies}");
                assert!(yard.until_ready("w1").await, "{what}: {}", yard.status("w1"));
                yard.fill().await;
                assert_warm(&yard, "w1");
                assert_eq!(yard.free().len(), 2, "{what}");
                let claims = yard.world().all::<PersistentVolumeClaim>("persistentvolumeclaims");
                let theirs = claims.iter().filter(|claim| claim.labels().contains_key(keys::WORKSPACE_LABEL));
                assert_eq!(theirs.count(), 1, "{what}: one volume for one workspace");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_sidecar_that_does_not_take_its_assignment_is_told_again_and_given_up_in_the_end() {
    let mut yard = filled(1).await;
    yard.world().silent = true;
    yard.comes("w1", |_| {});
    yard.look("w1", true).await;
    assert_eq!(yard.reason("w1"), "Starting");
    yard.world().silent = false;
    tokio::time::advance(Duration::from_secs(2)).await;
    yard.look("w1", true).await;
    assert_eq!(yard.reason("w1"), "Ready");
    assert_warm(&yard, "w1");

    let mut yard = filled(1).await;
    yard.world().silent = true;
    yard.comes("w1", |_| {});
    yard.look("w1", true).await;
    tokio::time::advance(Duration::from_secs(30)).await;
    yard.look("w1", true).await;
    yard.world().kubelet();
    yard.world().silent = false;
    assert!(yard.until_ready("w1").await);
    let status = yard.status("w1");
    assert_eq!(
        (status["podName"].as_str(), status["claimName"].as_str()),
        (Some("ws-w1"), Some("pool-standard-0"))
    );
}

#[tokio::test(start_paused = true)]
async fn the_next_pod_is_the_workspaces_own_on_the_claim_that_is_there() {
    let mut yard = filled(1).await;
    yard.comes("w1", |_| {});
    yard.look("w1", true).await;
    let mode = |yard: &Yard, mode: OperatingMode| {
        let mut workspace = yard.world().object("userworkspaces", "w1");
        workspace["spec"]["operatingMode"] = json!(mode);
        workspace["metadata"]["generation"] =
            json!(workspace["metadata"]["generation"].as_i64().unwrap() + 1);
        yard.world().put("userworkspaces", workspace);
    };
    mode(&yard, OperatingMode::Suspended);
    yard.look("w1", true).await;
    // The member ends, and as long as it does nothing else gets on its volume.
    mode(&yard, OperatingMode::Running);
    yard.look("w1", true).await;
    assert_eq!(yard.pods_by_claim()["pool-standard-0"], ["pool-standard-0"]);
    yard.world().kubelet();
    assert!(yard.until_ready("w1").await);
    let status = yard.status("w1");
    assert_eq!(
        (status["podName"].as_str(), status["claimName"].as_str()),
        (Some("ws-w1"), Some("pool-standard-0"))
    );
    assert_eq!(yard.pods_by_claim()["pool-standard-0"], ["ws-w1"]);
}

#[tokio::test(start_paused = true)]
async fn a_kept_claim_is_taken_up_again_by_its_user_and_by_nobody_else() {
    let mut yard = filled(1).await;
    yard.comes("w1", |_| {});
    yard.look("w1", true).await;
    let leaves = |yard: &Yard| {
        let mut world = yard.world();
        for pod in world.names("pods") {
            if world.object("pods", &pod)["metadata"]["labels"][keys::WORKSPACE_LABEL] == "w1" {
                world.remove("pods", &pod);
            }
        }
        world.remove("userworkspaces", "w1");
    };
    leaves(&yard);
    yard.fill().await;
    assert_eq!(yard.free(), ["pool-standard-1"], "its number stays used");
    yard.comes("w1", |_| {});
    assert!(yard.until_ready("w1").await);
    let status = yard.status("w1");
    assert_eq!(
        (status["podName"].as_str(), status["claimName"].as_str()),
        (Some("ws-w1"), Some("pool-standard-0"))
    );
    leaves(&yard);
    yard.comes("w1", |workspace| workspace.spec.user_id = "somebody else".to_owned());
    yard.look("w1", true).await;
    assert_eq!(yard.reason("w1"), "StorageNotReady");
    assert_eq!(yard.free(), ["pool-standard-1"]);
}

#[tokio::test(start_paused = true)]
async fn a_workspace_that_goes_while_it_takes_a_member_over_leaves_no_pod() {
    let mut yard = filled(1).await;
    yard.comes("w1", |_| {});
    yard.world().fates.extend([None, Some(Fate::Fails)]);
    yard.look("w1", true).await;
    let claim = yard.world().object("persistentvolumeclaims", "pool-standard-0");
    assert_eq!(claim["metadata"]["labels"][keys::WORKSPACE_LABEL], "w1");
    yard.world().fates.clear();
    yard.world().remove("userworkspaces", "w1");
    yard.fill().await;
    assert_eq!(yard.world().object("pods", "pool-standard-0"), Value::Null);
    assert_eq!(yard.free(), ["pool-standard-1"]);
    assert!(!yard.world().object("persistentvolumeclaims", "pool-standard-0").is_null(), "it bears a user");
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_is_gone_has_its_members_removed_and_nothing_else() {
    let mut yard = filled(3).await;
    yard.comes("w1", |_| {});
    yard.look("w1", true).await;
    yard.size = None;
    yard.fill().await;
    assert!(yard.free().is_empty());
    assert_eq!(yard.world().names("pods"), ["pool-standard-0"]);
    assert_eq!(yard.world().names("persistentvolumeclaims"), ["pool-standard-0"]);
    assert!(!yard.context.metrics.encode().unwrap().contains("pool_members{"));
}

#[tokio::test(start_paused = true)]
async fn an_operator_that_is_killed_while_it_fills_the_pool_leaves_nothing_double() {
    for write in 0..5 {
        for fate in [Fate::Fails, Fate::Lost, Fate::Unanswered] {
            let mut yard = Yard::new(2);
            yard.world().fates.extend(std::iter::repeat_n(None, write).chain([Some(fate)]));
            yard.tend().await;
            yard.world().fates.clear();
            yard = yard.anew();
            yard.fill().await;
            assert_eq!(yard.free().len(), 2, "write {write}, {fate:?}");
            let claims = yard.world().names("persistentvolumeclaims");
            assert_eq!(claims, yard.world().names("pods"));
        }
    }
}
