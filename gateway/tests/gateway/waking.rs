//! From a user without a running workspace to an answer. The tests play the operator.

use std::net::TcpListener;
use std::sync::Arc;

use http::{Method, StatusCode};
use serde_json::json;

use crate::support::{
    Behaviour, Sidecar, World, condition, endpoint, name_of, running, status, until, world,
};

/// Workspace of a user in a state without a pod, seen by the gateway. Returns its UID.
async fn stopped(world: &World, user: &str, reason: &str) -> String {
    let uid = world.cluster.apply(&name_of(user), user);
    world.cluster.set_status(&name_of(user), status(reason));
    world.until_seen().await;
    uid
}

/// Waits for the touch of a workspace and acts on it as the operator does: the pod runs.
async fn start_when_touched(world: &World, user: &str, pod_uid: &str, sidecar: &Sidecar) {
    let name = name_of(user);
    until("the workspace is touched", async || {
        let observed =
            world.cluster.get(&name).unwrap()["status"]["observedTouch"].as_str().map(str::to_owned);
        world.cluster.touched_at(&name) != observed
    })
    .await;
    world.cluster.set_status(&name, running(pod_uid, &sidecar.endpoint(), "Starting"));
}

#[tokio::test]
async fn a_new_user_gets_one_workspace_however_many_requests_come() {
    let world = Arc::new(world("").await);
    let requests: Vec<_> = (0..20)
        .map(|_| {
            let world = Arc::clone(&world);
            tokio::spawn(async move { world.call("Jane.Doe@example.com").await.status })
        })
        .collect();
    until("the workspace is created", async || world.cluster.count() == 1).await;
    let created = world.cluster.of_user("Jane.Doe@example.com").unwrap();
    let name = created["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("jane-doe-example-com-"), "{name}");
    assert_eq!(created["spec"]["tier"], "standard");
    assert_eq!(created["spec"]["auth"]["mode"], "Gateway");
    assert_eq!(created["metadata"]["labels"]["app.kubernetes.io/managed-by"], "dexorder-gateway");
    assert!(world.cluster.touched_at(name).is_some(), "it is made awake");
    until("the requests are held", async || world.metric("dexorder_gateway_held_requests").await == "20")
        .await;
    let sidecar = world.sidecar(created["metadata"]["uid"].as_str().unwrap()).await;
    world.cluster.set_status(name, running("pod-1", &sidecar.endpoint(), "Starting"));
    for request in requests {
        assert_eq!(request.await.unwrap(), 200);
    }
    assert_eq!((world.cluster.creates(), world.cluster.touches(name)), (1, 0));
    assert_eq!(sidecar.seen().len(), 20);
    assert_eq!(world.metric("dexorder_gateway_held_requests").await, "0");
}

#[tokio::test]
async fn a_workspace_that_was_applied_by_hand_is_used_whatever_its_name() {
    let world = world("").await;
    let uid = stopped(&world, "trader1", "Pending").await;
    let sidecar = world.sidecar(&uid).await;
    let (answer, ()) = tokio::join!(world.call("trader1"), async {
        until("the request is held", async || world.metric("dexorder_gateway_held_requests").await == "1")
            .await;
        world.cluster.set_status(&name_of("trader1"), running("pod-1", &sidecar.endpoint(), "Ready"));
    });
    assert_eq!(answer.status, 200);
    assert_eq!(world.cluster.creates(), 0);
}

#[tokio::test]
async fn a_suspended_workspace_is_touched_once_and_all_requests_are_answered() {
    let world = Arc::new(world("").await);
    let uid = stopped(&world, "trader1", "Suspended").await;
    let sidecar = world.sidecar(&uid).await;
    let requests: Vec<_> = (0..10)
        .map(|_| {
            let world = Arc::clone(&world);
            tokio::spawn(async move { world.call("trader1").await.status })
        })
        .collect();
    until("the requests are held", async || world.metric("dexorder_gateway_held_requests").await == "10")
        .await;
    start_when_touched(&world, "trader1", "pod-1", &sidecar).await;
    for request in requests {
        assert_eq!(request.await.unwrap(), 200);
    }
    assert_eq!(world.cluster.touches(&name_of("trader1")), 1);
    let touched = world.cluster.touched_at(&name_of("trader1")).unwrap();
    let fraction = touched.strip_suffix('Z').and_then(|text| text.split('.').nth(1)).unwrap();
    assert_eq!(fraction.len(), 6, "{touched} has no microseconds");
}

#[tokio::test]
async fn a_request_that_a_draining_sidecar_refused_is_answered_by_the_next_pod() {
    let world = world("").await;
    let old = world.running("trader1").await;
    let uid = world.cluster.get("of-trader1").unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    old.behave(Behaviour::Draining);
    let new = world.sidecar(&uid).await;
    let (answer, ()) = tokio::join!(world.call("trader1"), async {
        start_when_touched(&world, "trader1", "pod-2", &new).await;
    });
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!((old.seen().len(), new.seen().len()), (1, 1));
    assert_eq!(old.seen()[0].body, new.seen()[0].body);
    assert_eq!(world.cluster.touches("of-trader1"), 1);
}

#[tokio::test]
async fn a_touch_that_went_under_in_a_stop_is_made_again() {
    let world = world("").await;
    let old = world.running("trader1").await;
    let uid = world.cluster.get("of-trader1").unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    old.behave(Behaviour::Draining);
    let new = world.sidecar(&uid).await;
    let (answer, ()) = tokio::join!(world.call("trader1"), async {
        until("the workspace is touched", async || world.cluster.touches("of-trader1") == 1).await;
        // The stop that was decided takes the touch as seen.
        let mut suspended = status("Suspended");
        suspended["observedTouch"] = world.cluster.touched_at("of-trader1").into();
        world.cluster.set_status("of-trader1", suspended);
        start_when_touched(&world, "trader1", "pod-2", &new).await;
    });
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(world.cluster.touches("of-trader1"), 2);
}

#[tokio::test]
async fn a_pod_is_dialled_before_it_listens() {
    let world = world("").await;
    let uid = stopped(&world, "trader1", "Suspended").await;
    // An address where nothing listens yet.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let name = name_of("trader1");
    let (answer, _sidecar) = tokio::join!(world.call("trader1"), async {
        until("the workspace is touched", async || world.cluster.touches(&name) == 1).await;
        world.cluster.set_status(&name, running("pod-1", &endpoint(address), "Starting"));
        world.until_seen().await;
        Sidecar::start_at(address, &uid, Arc::clone(&world.trusted)).await
    });
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_pod_that_is_gone_though_the_status_says_ready_is_replaced_unseen() {
    let world = world("").await;
    let old = world.running("trader1").await;
    let uid = world.cluster.get("of-trader1").unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    drop(old);
    let new = world.sidecar(&uid).await;
    let (answer, ()) = tokio::join!(world.call("trader1"), async {
        start_when_touched(&world, "trader1", "pod-2", &new).await;
    });
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(world.cluster.touches("of-trader1"), 1);
}

#[tokio::test]
async fn when_the_budget_ends_the_answer_says_what_the_workspace_is_doing() {
    let world = world("wake: {timeout: 1s}").await;
    stopped(&world, "trader1", "Unschedulable").await;
    let answer = world.call("trader1").await;
    assert_eq!((answer.status, answer.reason().as_str()), (503, "WorkspaceStarting"));
    assert!(!answer.header("retry-after").is_empty());
    assert_eq!(answer.json()["error"]["data"]["state"], "Unschedulable");
    assert!(answer.message().contains("Unschedulable: about Unschedulable"), "{}", answer.message());
    assert_eq!(answer.json()["id"], 1);
}

#[tokio::test]
async fn what_can_not_run_is_refused_at_once_with_its_reason() {
    let world = world("").await;
    for (user, reason, expected) in
        [("u1", "TierNotFound", 503), ("u2", "IdleTimeoutTooLong", 503), ("u3", "AuthModeNotAllowed", 403)]
    {
        world.cluster.apply(&name_of(user), user);
        let mut refused = status("NotAccepted");
        refused["conditions"][0] = condition("Accepted", "False", reason);
        world.cluster.set_status(&name_of(user), refused);
        world.until_seen().await;
        let answer = world.call(user).await;
        assert_eq!((answer.status, answer.reason().as_str()), (expected, "WorkspaceRefused"));
        assert_eq!(answer.json()["error"]["data"]["state"], reason);
        assert_eq!(answer.header("retry-after"), "");
    }
    world.cluster.apply(&name_of("u4"), "u4");
    world.cluster.change(&name_of("u4"), |object| object["spec"]["operatingMode"] = json!("Suspended"));
    world.until_seen().await;
    let answer = world.call("u4").await;
    assert_eq!((answer.status, answer.reason().as_str()), (503, "WorkspaceRefused"));
    assert!(answer.message().contains("an operator keeps this workspace stopped"), "{}", answer.message());
    assert_eq!(world.cluster.touches(&name_of("u4")), 0);
}

#[tokio::test]
async fn listening_does_not_wake() {
    let world = world("").await;
    stopped(&world, "trader1", "Suspended").await;
    let token = format!("Bearer {}", world.token("trader1"));
    let headers = [("authorization", token.as_str()), ("accept", "text/event-stream")];
    for method in [Method::GET, Method::DELETE] {
        let answer = world.client.send(method, "/mcp", &headers, "").await;
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert_eq!(answer.json()["error"]["data"]["state"], "Suspended");
    }
    let listen = json!({"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen"});
    assert_eq!(world.client.post(&world.token("trader1"), &listen).await.status, 503);
    assert_eq!(world.client.post(&world.token("stranger"), &listen).await.status, 503);
    assert_eq!((world.cluster.touches("of-trader1"), world.cluster.creates()), (0, 0));
}

#[tokio::test]
async fn a_name_that_belongs_to_another_user_is_not_taken() {
    let world = world("").await;
    // The name that would be made for the user.
    world.cluster.apply("trader1-be63fb5641", "someone-else");
    world.until_seen().await;
    let answer = world.call("trader1").await;
    assert_eq!((answer.status, answer.reason().as_str()), (409, "WorkspaceRefused"));
}

#[tokio::test]
async fn a_cluster_that_fails_for_a_moment_is_asked_again_and_a_refusal_is_passed_on() {
    let world = world("").await;
    let uid = stopped(&world, "trader1", "Suspended").await;
    let sidecar = world.sidecar(&uid).await;
    world.cluster.fail(Some(StatusCode::INTERNAL_SERVER_ERROR));
    let (answer, ()) = tokio::join!(world.call("trader1"), async {
        until("the request is held", async || world.metric("dexorder_gateway_held_requests").await == "1")
            .await;
        world.cluster.fail(None);
        start_when_touched(&world, "trader1", "pod-1", &sidecar).await;
    });
    assert_eq!(answer.status, 200);
    world.cluster.fail(Some(StatusCode::FORBIDDEN));
    let answer = world.call("new-user").await;
    assert_eq!((answer.status, answer.reason().as_str()), (503, "WorkspaceRefused"));
    assert!(answer.message().contains("the cluster refuses"), "{}", answer.message());
}

#[tokio::test]
async fn a_workspace_that_is_removed_is_made_anew() {
    let world = world("").await;
    let sidecar = world.running("trader1").await;
    assert_eq!(world.call("trader1").await.status, 200);
    world.cluster.delete("of-trader1");
    drop(sidecar);
    world.until_seen().await;
    let (answer, _sidecar) = tokio::join!(world.call("trader1"), async {
        until("the workspace is created", async || world.cluster.creates() == 1).await;
        let created = world.cluster.of_user("trader1").unwrap();
        let sidecar = world.sidecar(created["metadata"]["uid"].as_str().unwrap()).await;
        let name = created["metadata"]["name"].as_str().unwrap();
        world.cluster.set_status(name, running("pod-9", &sidecar.endpoint(), "Starting"));
        sidecar
    });
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn a_workspace_that_is_kept_stopped_no_more_is_served_though_the_watch_does_not_say_so_yet() {
    let world = world("").await;
    let uid = stopped(&world, "trader1", "Suspended").await;
    let sidecar = world.sidecar(&uid).await;
    let name = name_of("trader1");
    world.cluster.change(&name, |object| object["spec"]["operatingMode"] = json!("Suspended"));
    world.until_seen().await;
    assert_eq!(world.call("trader1").await.status, StatusCode::SERVICE_UNAVAILABLE);
    world.cluster.break_watches(true);
    world.cluster.change(&name, |object| object["spec"]["operatingMode"] = json!("Auto"));
    world.cluster.set_status(&name, running("pod-1", &sidecar.endpoint(), "Ready"));
    assert_eq!(world.call("trader1").await.status, StatusCode::OK);
}
