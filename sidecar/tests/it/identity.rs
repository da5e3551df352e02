//! Who gets in, and what the others are told.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dexorder_protocol::Issuer;
use dexorder_protocol::identity::sign;
use http::{HeaderMap, Method, StatusCode};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::client::{full, send};
use crate::sidecar::{Place, Sidecar, UID, USER, identity, key, now};

const CALL: &str = r#"{"jsonrpc":"2.0","id":"abc","method":"tools/list"}"#;

fn claims() -> Value {
    json!({"iss": "dexorder-gateway", "aud": UID, "sub": USER, "iat": now(), "exp": now() + 60, "jti": "1"})
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// A token of the gateway whose claims were changed after it was signed.
fn tampered(place: &Place) -> String {
    let good = sign(&place.gateway, Issuer::Gateway, UID, "someone-else", now()).unwrap();
    let mut parts: Vec<&str> = good.split('.').collect();
    let changed = part(&claims());
    parts[1] = &changed;
    parts.join(".")
}

/// A token without a signature.
fn alg_none(place: &Place) -> String {
    format!(
        "{}.{}.",
        part(&json!({"alg": "none", "typ": "JWT", "kid": place.gateway.kid()})),
        part(&claims())
    )
}

/// A token that uses the public key, which is no secret, as the secret of an HMAC.
fn hs256_with_the_public_key(place: &Place) -> String {
    let set: Value = serde_json::from_str(&place.key_set().to_json().unwrap()).unwrap();
    let public = URL_SAFE_NO_PAD.decode(set["gateway"][0]["x"].as_str().unwrap()).unwrap();
    let header = Header { kid: Some(place.gateway.kid()), ..Header::new(Algorithm::HS256) };
    encode(&header, &claims(), &EncodingKey::from_secret(&public)).unwrap()
}

#[tokio::test]
async fn only_the_gateways_word_for_this_user_at_this_workspace_gets_in() {
    let sidecar = Sidecar::start().await;
    let agent = Agent::start(&sidecar.place.socket());
    let place = &sidecar.place;
    let (gateway, operator) = (&place.gateway, &place.operator);
    let by = |key, issuer, uid, user, at| identity(&sign(key, issuer, uid, user, at).unwrap());
    let mut twice = place.user_headers(USER);
    twice.append("dexorder-identity", twice["dexorder-identity"].clone());
    let mut bearer = HeaderMap::new();
    let token = sign(gateway, Issuer::Gateway, UID, USER, now()).unwrap();
    bearer.insert("authorization", format!("Bearer {token}").parse().unwrap());
    bearer.insert("dexorder-user", USER.parse().unwrap());
    let refused = [
        ("missing", HeaderMap::new()),
        ("in another header", bearer),
        ("sent twice", twice),
        ("not a token", identity("trader1")),
        ("expired", by(gateway, Issuer::Gateway, UID, USER, now() - 120)),
        ("from the future", by(gateway, Issuer::Gateway, UID, USER, now() + 60)),
        ("of another workspace", by(gateway, Issuer::Gateway, "other-uid", USER, now())),
        ("of the operator", by(operator, Issuer::Operator, UID, USER, now())),
        ("of the gateway with the operator's key", by(operator, Issuer::Gateway, UID, USER, now())),
        ("of an unknown key", by(&key(), Issuer::Gateway, UID, USER, now())),
        ("tampered with", identity(&tampered(place))),
        ("alg none", identity(&alg_none(place))),
        ("HS256 with the public key", identity(&hs256_with_the_public_key(place))),
    ];
    let number = refused.len();
    for (case, headers) in refused {
        let answer = sidecar.request(Method::POST, headers, full(CALL)).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{case}");
        assert_eq!(answer.header("dexorder-reason"), Some("Unauthenticated"), "{case}");
        let body = answer.json().await;
        assert_eq!(body["id"], "abc", "{case}");
        assert_eq!(body["error"]["data"]["reason"], "Unauthenticated", "{case}");
    }
    assert_eq!(agent.executed(), 0);
    let good = sidecar.request(Method::POST, place.user_headers(USER), full(CALL)).await;
    assert_eq!(good.status, StatusCode::OK);
    assert_eq!(agent.executed(), 1);
    #[allow(clippy::cast_precision_loss)]
    let refused = Some(number as f64);
    assert_eq!(sidecar.metric("dexorder_sidecar_requests_total{outcome=\"Unauthenticated\"}").await, refused);
}

#[tokio::test]
async fn another_user_is_told_that_the_workspace_is_not_theirs() {
    let sidecar = Sidecar::start().await;
    let agent = Agent::start(&sidecar.place.socket());
    let headers = sidecar.place.user_headers("trader2");
    let answer = sidecar.request(Method::POST, headers, full(CALL)).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    let body = answer.json().await;
    assert_eq!(body["error"]["data"]["reason"], "WrongUser");
    assert!(!body.to_string().contains(USER), "it tells whose it is: {body}");
    assert_eq!(agent.executed(), 0);
}

#[tokio::test]
async fn a_refused_request_is_no_activity() {
    let sidecar = Sidecar::start().await;
    let _agent = Agent::start(&sidecar.place.socket());
    sidecar.ready().await;
    let before = sidecar.report().await;
    sidecar.request(Method::POST, HeaderMap::new(), full(CALL)).await;
    sidecar.request(Method::POST, sidecar.place.user_headers("trader2"), full(CALL)).await;
    sidecar.probe("/metrics").await;
    assert_eq!(sidecar.report().await["lastActivityTime"], before["lastActivityTime"]);
}

#[tokio::test]
async fn control_calls_are_the_operators_alone() {
    let sidecar = Sidecar::start().await;
    let agent = Agent::start(&sidecar.place.socket());
    sidecar.ready().await;
    let place = &sidecar.place;
    let by = |key, issuer, uid, subject| identity(&sign(key, issuer, uid, subject, now()).unwrap());
    let refused = [
        ("missing", HeaderMap::new()),
        ("of the gateway", place.user_headers(USER)),
        ("of the gateway as the operator", by(&place.gateway, Issuer::Operator, UID, "operator")),
        ("of another workspace", by(&place.operator, Issuer::Operator, "other-uid", "operator")),
        ("of another subject", by(&place.operator, Issuer::Operator, UID, USER)),
    ];
    for (case, headers) in refused {
        for (method, path) in [
            (Method::GET, "/v1/report"),
            (Method::POST, "/v1/drain"),
            (Method::POST, "/v1/notify"),
            (Method::POST, "/v1/rotate-key"),
            (Method::POST, "/v1/assign"),
        ] {
            let body = full(json!({"mode": "Force"}).to_string());
            let answer =
                send(sidecar.server.control_addr(), method, path, headers.clone(), body).await.unwrap();
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{case}: {path}");
            assert_eq!(answer.json().await["reason"], "Unauthenticated");
        }
    }
    assert_eq!(agent.saves(), 0);
    assert_eq!(sidecar.report().await["draining"], false);
}
