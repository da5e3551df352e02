//! What survives a restart, and what a change of the key ends.

use dexorder_protocol::direct::{ClientKey, Curve};
use http::{Method, StatusCode};
use serde_json::json;

use super::{
    Client, PASSWORD, at, document, give, headers, inside, is, log_in, password, refusal, restarted, sealed,
    with_passwords,
};

const BODY: &str = r#"{"jsonrpc":"2.0","id":42,"method":"tools/call"}"#;

#[tokio::test]
async fn key_and_token_survive_a_restart_and_what_was_used_is_not_taken_again() {
    let (sidecar, agent) = with_passwords(&[]).await;
    let before = document(&sidecar).await;
    let key = ClientKey::generate().unwrap();
    let envelope = sealed(&before, &inside(&before, &key, password(PASSWORD)));
    assert_eq!(give(&sidecar, &envelope).await.status, StatusCode::OK);
    let client = log_in(&sidecar, password(PASSWORD)).await;
    let used = client.proof(&Method::POST, BODY);
    let first = at(&sidecar, Method::POST, "/mcp", headers(&sidecar, &client.token, &used), BODY).await;
    assert_eq!(first.status, StatusCode::OK);

    let sidecar = restarted(sidecar).await;
    let after = document(&sidecar).await;
    assert_eq!(after.keys, before.keys);
    assert_ne!(after.run, before.run);
    let executed = agent.executed();
    let refused = is(401, "CredentialRefused");
    assert_eq!(refusal(give(&sidecar, &envelope).await).await, refused);
    let again = at(&sidecar, Method::POST, "/mcp", headers(&sidecar, &client.token, &used), BODY).await;
    assert_eq!(refusal(again).await, refused);
    assert_eq!(agent.executed(), executed);
    let client = Client { run: after.run, ..client };
    assert_eq!(client.call(&sidecar, BODY).await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_key_is_changed_once_for_each_request_and_the_old_one_is_taken_for_a_while() {
    let (sidecar, _agent) = with_passwords(&[]).await;
    let before = document(&sidecar).await;
    let client = log_in(&sidecar, password(PASSWORD)).await;
    let request = json!({"request": "2026-11-28"});
    let (status, first) = sidecar.control("/v1/rotate-key", &request).await;
    assert_eq!((status, &first["rotated"]), (StatusCode::OK, &json!(true)));
    let (_, again) = sidecar.control("/v1/rotate-key", &request).await;
    assert_eq!(again, json!({"rotated": false, "publicKey": first["publicKey"]}));
    let report = sidecar.report().await;
    assert_eq!((&report["publicKey"], &report["keyRotation"]), (&first["publicKey"], &json!("2026-11-28")));
    let after = document(&sidecar).await;
    assert_ne!(after.keys[0], before.keys[0]);
    assert_eq!(after.keys[1], before.keys[0], "who has pinned the old one can still come");
    assert!(after.keys[0].bytes(Curve::X25519).is_ok());

    assert_eq!(client.call(&sidecar, BODY).await.status, StatusCode::OK, "tokens go on for a while");
    let key = ClientKey::generate().unwrap();
    for document in [&before, &after] {
        let envelope = sealed(document, &inside(document, &key, password(PASSWORD)));
        assert_eq!(give(&sidecar, &envelope).await.status, StatusCode::OK);
    }
    sidecar.control("/v1/rotate-key", &json!({"request": "2026-11-29"})).await;
    let envelope = sealed(&before, &inside(&before, &key, password(PASSWORD)));
    assert_eq!(refusal(give(&sidecar, &envelope).await).await, is(401, "UnknownKey"));
    assert_eq!(refusal(client.call(&sidecar, BODY).await).await, is(401, "CredentialRefused"));
}

#[tokio::test]
async fn a_folder_with_something_else_than_keys_is_named_and_left_alone() {
    let (sidecar, _agent) = with_passwords(&[]).await;
    let file = sidecar.place.path("keys").join("keys.json");
    let Client { .. } = log_in(&sidecar, password(PASSWORD)).await;
    std::fs::write(&file, "{}").unwrap();
    let place = sidecar.place;
    sidecar.server.stop().await;
    let keys = place.path("keys").to_str().unwrap().to_owned();
    let hashes = place.path("hashes").to_str().unwrap().to_owned();
    let environment = place.environment(&[
        ("DEXORDER_AUTH_MODE", "Direct"),
        ("DEXORDER_DIRECT_KEY_DIR", &keys),
        ("DEXORDER_DIRECT_CREDENTIALS_DIR", &hashes),
    ]);
    let lookup =
        |name: &str| environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let config = dexorder_sidecar::config::Config::read(lookup).unwrap();
    let error = dexorder_sidecar::server::Server::start(config).await.err().unwrap().to_string();
    assert!(error.contains(file.to_str().unwrap()), "{error}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "{}");
}
