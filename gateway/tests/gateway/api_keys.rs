//! API keys: as good as a token of their user, and no better.

use std::path::Path;

use dexorder_gateway::NewKey;
use http::Method;
use jiff::Timestamp;

use crate::support::{World, call, name_of, prepared_world};

fn add(files: &Path, user: &str, end: Option<i64>) -> NewKey {
    let end = end.map(|second| Timestamp::from_second(second).unwrap());
    let key = NewKey::make(user, end).unwrap();
    let entry = serde_json::to_string(&key.entry).unwrap();
    std::fs::write(files.join("api-keys").join(&key.name), entry).unwrap();
    key
}

/// A gateway that knows keys of two users, and one that has ended.
async fn with_keys() -> (World, [String; 3]) {
    let mut keys = Vec::new();
    let world = prepared_world("", |files| {
        for (user, end) in [("trader1", None), ("trader2", None), ("trader1", Some(1))] {
            keys.push(add(files, user, end).key);
        }
    })
    .await;
    world.until_ready().await;
    (world, keys.try_into().unwrap())
}

#[tokio::test]
async fn a_key_is_good_for_its_users_workspace() {
    let (world, [first, second, _]) = with_keys().await;
    let (own, other) = (world.running("trader1").await, world.running("trader2").await);
    for (key, user) in [(&first, "trader1"), (&second, "trader2")] {
        let answer = world.client.post(key, &call(1)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["result"]["user"], user);
    }
    assert_eq!((own.seen().len(), other.seen().len()), (1, 1));
    assert!(!own.seen()[0].headers.contains_key("authorization"));
    let bearer = format!("Bearer {first}");
    let headers = [("authorization", bearer.as_str())];
    assert_eq!(world.client.send(Method::GET, "/v1/models", &headers, "").await.status, 200);
    assert_eq!(world.metric("dexorder_gateway_api_keys").await, "3");
}

#[tokio::test]
async fn a_key_that_does_not_hold_is_refused_and_not_shown() {
    let (world, [first, second, ended]) = with_keys().await;
    let _sidecar = world.running("trader1").await;
    let mixed = format!("{}{}", &first[..first.len() - 43], &second[second.len() - 43..]);
    for (key, expected) in [
        (ended.as_str(), "the API key has expired"),
        (mixed.as_str(), "the API key is unknown, or was withdrawn"),
        (&NewKey::make("trader1", None).unwrap().key, "the API key is unknown, or was withdrawn"),
        (&first[..first.len() - 1], "the API key is malformed"),
        ("dxk_", "the API key is malformed"),
    ] {
        let answer = world.client.post(key, &call(1)).await;
        assert_eq!((answer.status, answer.message().as_str()), (401, expected));
        assert!(answer.header("www-authenticate").starts_with("Bearer error=\"invalid_token\""));
        assert!(!answer.text().contains(&key[4..]) || key == "dxk_");
    }
    assert_eq!(world.metric("dexorder_gateway_auth_failures_total{reason=\"key_expired\"}").await, "1");
    assert_eq!(world.cluster.touches(&name_of("trader1")), 0);
}

#[tokio::test]
async fn nobody_gets_an_identity_that_the_platform_keeps_for_itself() {
    let (world, _) = with_keys().await;
    for user in ["anonymous:0123", "anonymous", "gateway"] {
        let answer = world.call(user).await;
        assert_eq!((answer.status, answer.reason().as_str()), (401, "Unauthenticated"), "{user}");
    }
    assert_eq!(world.cluster.count(), 0);
}
