//! Single looks: what the executor does when a call is refused, conflicts or gets no answer.

use std::{sync::Arc, time::Duration};

use dexorder_crds::keys;
use dexorder_protocol::{Issuer, KeySet, SigningKey, TrustedKeys};
use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, Pod},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
    jiff::{SignedDuration, Timestamp},
};

use super::{cluster::Cluster, fate::Fate, operator::Operator};
use crate::{
    build::Settings,
    clock::Clock,
    plan::tests::fixtures::{IDLE_SECONDS, START, scene, tier},
};

pub(super) fn key() -> Arc<SigningKey> {
    Arc::new(SigningKey::from_pem(&SigningKey::generate_pem().unwrap()).unwrap())
}

pub(super) fn operator(key: &Arc<SigningKey>) -> Operator {
    let clock = Clock::of_runtime(Timestamp::from_second(START).unwrap());
    Operator::new(Cluster::new(clock, scene().workspace), clock, &tier(), key)
}

/// Status and reason of `Ready`, and its message.
pub(super) fn ready(operator: &Operator) -> (String, String) {
    let world = operator.cluster.world();
    let status = world.workspace.as_ref().and_then(|workspace| workspace.status.clone()).unwrap_or_default();
    let found = status.conditions.into_iter().find(|condition| condition.type_ == "Ready");
    found.map_or_else(Default::default, |found| (format!("{}/{}", found.status, found.reason), found.message))
}

async fn started() -> Operator {
    let mut operator = operator(&key());
    start(&mut operator).await;
    operator
}

async fn start(operator: &mut Operator) {
    operator.look(true).await;
    for _ in 0..2 {
        operator.cluster.world().kubelet();
        operator.look(true).await;
    }
    assert_eq!(ready(operator).0, "True/Ready");
}

#[tokio::test(start_paused = true)]
async fn a_start_costs_five_writes() {
    let operator = started().await;
    let expected = [
        "POST persistentvolumeclaims",
        "POST pods",
        "PATCH userworkspaces",
        "PATCH userworkspaces",
        "PATCH userworkspaces",
        "POST events",
    ];
    assert_eq!(operator.cluster.world().writes, expected);
}

#[tokio::test(start_paused = true)]
async fn a_refused_pod_is_told_and_tried_again() {
    let mut operator = operator(&key());
    operator.cluster.world().fates.extend([None, Some(Fate::Refused)]);
    operator.look(true).await;
    let (reason, message) = ready(&operator);
    assert_eq!(reason, "False/RefusedByApi");
    assert!(message.contains("ws-w1") && message.contains("tried again"), "{message}");
    operator.look(true).await;
    assert_eq!(ready(&operator).0, "False/Starting");
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_creation_got_no_answer_is_found_and_not_made_twice() {
    let mut operator = operator(&key());
    operator.cluster.world().fates.extend([None, Some(Fate::Unanswered)]);
    operator.look(true).await;
    operator.look(true).await;
    operator.cluster.world().kubelet();
    operator.look(true).await;
    let world = operator.cluster.world();
    assert_eq!(world.writes.iter().filter(|write| *write == "POST pods").count(), 1);
    assert_eq!(world.pod.as_ref().unwrap().metadata.uid.as_deref(), Some("pod-1"));
}

#[tokio::test(start_paused = true)]
async fn a_claim_of_the_name_that_nobody_watches_is_not_taken() {
    let mut operator = operator(&key());
    operator.sync();
    let foreign = PersistentVolumeClaim {
        metadata: ObjectMeta { name: Some("ws-w1".to_owned()), ..ObjectMeta::default() },
        ..PersistentVolumeClaim::default()
    };
    operator.cluster.world().claim = Some(foreign);
    operator.look(false).await;
    let (reason, message) = ready(&operator);
    assert_eq!(reason, "False/StorageNotReady");
    assert!(message.contains("was not made for a workspace"), "{message}");
    assert!(operator.cluster.world().pod.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_pod_of_the_name_that_nobody_watches_is_told() {
    let mut operator = operator(&key());
    operator.sync();
    let foreign = Pod {
        metadata: ObjectMeta { name: Some("ws-w1".to_owned()), ..ObjectMeta::default() },
        ..Pod::default()
    };
    operator.cluster.world().pod = Some(foreign);
    operator.look(false).await;
    assert_eq!(ready(&operator).0, "False/PodNameTaken");
}

#[tokio::test(start_paused = true)]
async fn an_announcement_is_made_though_an_old_sidecar_knows_nothing_of_it() {
    for old in [false, true] {
        let mut operator = started().await;
        operator.cluster.world().sidecar.old = old;
        tokio::time::advance(Duration::from_secs(u64::try_from(IDLE_SECONDS).unwrap() - 59)).await;
        operator.look(true).await;
        let metrics = operator.context.metrics.encode().unwrap();
        assert!(metrics.contains("dexorder_sidecar_calls_total{outcome=\"notified\"} 1"), "{metrics}");
        let events = |operator: &Operator| {
            operator.cluster.world().writes.iter().filter(|write| *write == "POST events").count()
        };
        assert_eq!(events(&operator), 2, "started, and announced");
        operator.look(true).await;
        assert_eq!(events(&operator), 2, "once is enough");
        tokio::time::advance(Duration::from_mins(1)).await;
        operator.look(true).await;
        operator.cluster.world().kubelet();
        operator.look(true).await;
        assert_eq!(ready(&operator).0, "False/Suspended");
    }
}

#[tokio::test(start_paused = true)]
async fn pods_are_told_of_other_keys_once() {
    let mut operator = started().await;
    let context = operator.context.clone();
    let patches = |operator: &Operator| {
        operator.cluster.world().writes.iter().filter(|write| *write == "PATCH pods").count()
    };
    context.publish_keys().await;
    assert_eq!(patches(&operator), 0, "they know these");
    context.settings.set(Settings { identity_keys: "keys-2".to_owned(), ..Settings::default() });
    operator.cluster.world().fates.push_back(Some(Fate::Fails));
    context.publish_keys().await;
    context.publish_keys().await;
    assert_eq!(patches(&operator), 1);
    operator.sync();
    context.publish_keys().await;
    assert_eq!(patches(&operator), 1, "only what differs is written");
    let world = operator.cluster.world();
    let annotations = world.pod.as_ref().unwrap().metadata.annotations.as_ref().unwrap();
    assert_eq!(annotations[keys::IDENTITY_KEYS], "keys-2");
}

/// A sidecar that knows the operator by its key and judges it by a clock that is so many seconds ahead.
async fn started_with_clock(ahead: i64) -> Operator {
    let key = key();
    let mut operator = operator(&key);
    let trusted = KeySet::default().with(Issuer::Operator, &key).to_json().unwrap();
    {
        let mut world = operator.cluster.world();
        world.sidecar.keys = Some(Arc::new(TrustedKeys::from_json(&trusted).unwrap()));
        world.sidecar.ahead = SignedDuration::from_secs(ahead);
    }
    start(&mut operator).await;
    operator
}

#[tokio::test(start_paused = true)]
async fn a_sidecar_whose_clock_is_minutes_off_is_understood_and_stopped_in_time() {
    for ahead in [0, 4, -4, 300, -300, 1800, -1800] {
        let mut operator = started_with_clock(ahead).await;
        let wait = |seconds| tokio::time::advance(Duration::from_secs(seconds));
        let metrics = operator.context.metrics.encode().unwrap();
        assert!(!metrics.contains("report_failed"), "{ahead}: the sidecar refuses the operator");
        wait(600).await;
        let active = operator.context.clock.now() + SignedDuration::from_secs(ahead);
        operator.cluster.world().sidecar.last_activity = active;
        // At the deadline that it would have had without that activity.
        wait(300).await;
        operator.look(true).await;
        assert_eq!(ready(&operator).0, "True/Ready", "{ahead}: stopped too soon");
        // An operator that was started anew knows nothing of the clock.
        operator.context.notebook.retain(|_| false);
        wait(540).await;
        operator.look(true).await;
        assert_eq!(ready(&operator).0, "True/Ready", "{ahead}: stopped too soon");
        wait(61).await;
        operator.look(true).await;
        assert_eq!(ready(&operator).0, "False/Draining", "{ahead}: stopped too late");
    }
}

#[tokio::test(start_paused = true)]
async fn an_operator_that_begins_anew_in_a_stop_asks_by_the_sidecars_clock() {
    let mut operator = started_with_clock(-300).await;
    tokio::time::advance(Duration::from_secs(901)).await;
    operator.cluster.world().fates.extend([None, Some(Fate::Lost)]);
    operator.look(true).await;
    assert_eq!(ready(&operator).0, "False/Draining");
    // Something happens after all, before another operator goes on with the stop.
    let key = operator.key.clone();
    let mut other = Operator::new(operator.cluster.clone(), operator.context.clock, &tier(), &key);
    {
        let mut world = operator.cluster.world();
        world.sidecar.draining = false;
        world.sidecar.last_activity = other.context.clock.now() - SignedDuration::from_secs(300);
    }
    other.look(true).await;
    assert_eq!(ready(&other).0, "True/Ready", "it was not idle");
}
