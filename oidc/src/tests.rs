//! Real signed tokens against real key sources: inline, in a file, behind a URL, and discovered over loopback HTTP.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::mutation::{CASES, change};
use super::*;

const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "https://gw.example/mcp";
const NOW: i64 = 1_800_000_000;

/// A key of an issuer.
struct TestKey {
    kid: &'static str,
    algorithm: Algorithm,
    private: EncodingKey,
}

impl TestKey {
    fn ed25519(kid: &'static str) -> Self {
        let der = Ed25519KeyPair::generate().unwrap().to_pkcs8v1().unwrap();
        Self { kid, algorithm: Algorithm::EdDSA, private: EncodingKey::from_ed_der(der.as_ref()) }
    }

    fn p256(kid: &'static str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let der = pair.to_pkcs8v1().unwrap();
        Self { kid, algorithm: Algorithm::ES256, private: EncodingKey::from_ec_der(der.as_ref()) }
    }

    fn rsa(kid: &'static str) -> Self {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let base64 = base64::engine::general_purpose::STANDARD.encode(der.as_ref());
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{base64}\n-----END PRIVATE KEY-----\n");
        Self { kid, algorithm: Algorithm::RS256, private: EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap() }
    }

    fn jwk(&self) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.private, self.algorithm).unwrap();
        jwk.common.key_id = Some(self.kid.to_owned());
        serde_json::to_value(jwk).unwrap()
    }

    fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.kid.to_owned()), ..Header::new(self.algorithm) };
        encode(&header, claims, &self.private).unwrap()
    }
}

fn jwks(keys: &[&TestKey]) -> String {
    json!({"keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>()}).to_string()
}

fn claims() -> Value {
    json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "trader1", "exp": NOW + 3600, "iat": NOW})
}

fn with(change: &Value) -> Value {
    let mut claims = claims();
    for (name, value) in change.as_object().unwrap() {
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(name),
            value => claims.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    claims
}

fn terms(keys: KeySource) -> IssuerConfig {
    IssuerConfig {
        issuer: ISSUER.to_owned(),
        audience: AUDIENCE.to_owned(),
        keys,
        user_id_claim: "sub".to_owned(),
        user_id_prefix: String::new(),
        algorithms: ["EdDSA", "RS256", "ES256"].into_iter().filter_map(algorithm).collect(),
        ca_file: None,
    }
}

async fn check(verifier: &Verifier, token: &str, now: i64) -> Result<String, TokenError> {
    verifier.verify(token, now).await.map(|verified| verified.user)
}

async fn inline(keys: &[&TestKey]) -> Verifier {
    Verifier::new(&[terms(KeySource::Inline(jwks(keys)))], 100).await.unwrap()
}

#[tokio::test]
async fn each_algorithm_is_verified_with_its_key() {
    let keys = [TestKey::ed25519("ed"), TestKey::p256("ec"), TestKey::rsa("rsa")];
    let auth = inline(&[&keys[0], &keys[1], &keys[2]]).await;
    for key in &keys {
        assert_eq!(
            check(&auth, &key.sign(&claims()), NOW).await.as_deref(),
            Ok("trader1"),
            "{:?}",
            key.algorithm
        );
    }
}

#[tokio::test]
async fn each_claim_is_checked_and_the_answer_says_which() {
    let key = TestKey::ed25519("k");
    let auth = inline(&[&key]).await;
    for (change, expected) in [
        (json!({}), Ok("trader1")),
        (json!({"exp": NOW - 60}), Err(TokenError::Expired)),
        (json!({"exp": NOW - 5}), Ok("trader1")),
        (json!({"exp": null}), Err(TokenError::NoExpiry)),
        (json!({"exp": "tomorrow"}), Err(TokenError::Malformed)),
        (json!({"exp": 1_800_000_000.5}), Ok("trader1")),
        (json!({"exp": i64::MAX}), Ok("trader1")),
        (json!({"exp": i64::MIN}), Err(TokenError::Expired)),
        (json!({"nbf": NOW + 60}), Err(TokenError::NotYetValid)),
        (json!({"nbf": NOW - 60}), Ok("trader1")),
        (json!({"aud": "https://other.example/mcp"}), Err(TokenError::Audience)),
        (json!({"aud": null}), Err(TokenError::Audience)),
        (json!({"aud": ["https://other.example", AUDIENCE]}), Ok("trader1")),
        (json!({"aud": []}), Err(TokenError::Audience)),
        (json!({"iss": "https://evil.example"}), Err(TokenError::UnknownIssuer)),
        (json!({"iss": format!("{ISSUER}/")}), Err(TokenError::UnknownIssuer)),
        (json!({"sub": null}), Err(TokenError::User)),
        (json!({"sub": 7}), Err(TokenError::User)),
        (json!({"sub": "two words"}), Err(TokenError::User)),
    ] {
        let outcome = check(&auth, &key.sign(&with(&change)), NOW).await;
        assert_eq!(outcome.as_deref(), expected.as_deref(), "{change}");
    }
}

#[tokio::test]
async fn a_token_for_one_resource_is_good_there_alone() {
    let key = TestKey::ed25519("k");
    let auth = inline(&[&key]).await;
    let (here, elsewhere) = ("https://gw.example/workspaces/a/mcp", "https://gw.example/workspaces/b/mcp");
    let token = key.sign(&with(&json!({"aud": here})));
    let general = key.sign(&claims());
    // More than once: what is remembered must not widen it.
    for _ in 0..2 {
        for (token, resource, holds) in [
            (&token, Some(here), true),
            (&token, Some(elsewhere), false),
            (&token, None, false),
            (&general, Some(here), true),
            (&general, None, true),
        ] {
            let outcome = auth.verify_for(token, resource, NOW).await;
            assert_eq!(outcome.is_ok(), holds, "{resource:?}: {outcome:?}");
        }
    }
}

#[tokio::test]
async fn forged_tokens_are_refused() {
    let (key, other) = (TestKey::ed25519("k"), TestKey::ed25519("k"));
    let rsa = TestKey::rsa("rsa");
    let auth = inline(&[&key, &rsa]).await;
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let good = key.sign(&claims());
    let pieces: Vec<&str> = good.split('.').collect();

    let foreign_key = other.sign(&claims());
    assert_eq!(check(&auth, &foreign_key, NOW).await, Err(TokenError::Signature));

    let changed = format!("{}.{}.{}", pieces[0], part(with(&json!({"sub": "admin"}))), pieces[2]);
    assert_eq!(check(&auth, &changed, NOW).await, Err(TokenError::Signature));

    for none in ["none", "None", "NONE"] {
        let unsigned = format!("{}.{}.", part(json!({"alg": none, "kid": "k"})), pieces[1]);
        assert_eq!(check(&auth, &unsigned, NOW).await, Err(TokenError::Algorithm), "{none}");
    }

    // The public key, known to all, as the secret of a symmetric signature.
    let secret = rsa.jwk()["n"].as_str().unwrap().to_owned();
    let header = Header { kid: Some("rsa".to_owned()), ..Header::new(Algorithm::HS256) };
    let confused = encode(&header, &claims(), &EncodingKey::from_secret(secret.as_bytes())).unwrap();
    assert_eq!(check(&auth, &confused, NOW).await, Err(TokenError::Algorithm));

    // A key named for another algorithm than its own.
    let header = Header { kid: Some("rsa".to_owned()), ..Header::new(Algorithm::EdDSA) };
    let mismatched = encode(&header, &claims(), &key.private).unwrap();
    assert_eq!(check(&auth, &mismatched, NOW).await, Err(TokenError::UnknownKey));

    // Keys that a token brings along count for nothing.
    let mut header = Header { kid: Some("k".to_owned()), ..Header::new(Algorithm::EdDSA) };
    header.jwk = Some(serde_json::from_value(other.jwk()).unwrap());
    let self_signed = encode(&header, &claims(), &other.private).unwrap();
    assert_eq!(check(&auth, &self_signed, NOW).await, Err(TokenError::Signature));

    let critical =
        format!("{}.{}.{}", part(json!({"alg": "EdDSA", "kid": "k", "crit": ["b64"]})), pieces[1], pieces[2]);
    assert_eq!(check(&auth, &critical, NOW).await, Err(TokenError::Malformed));
    assert!(check(&auth, &good[..good.len() - 4], NOW).await.is_err());
    assert_eq!(check(&auth, &format!("{}.{}", pieces[0], pieces[1]), NOW).await, Err(TokenError::Malformed));
}

#[tokio::test]
async fn an_algorithm_that_the_issuer_does_not_use_is_refused_though_the_key_would_fit() {
    let key = TestKey::rsa("rsa");
    let only_ed =
        IssuerConfig { algorithms: vec![Algorithm::EdDSA], ..terms(KeySource::Inline(jwks(&[&key]))) };
    let auth = Verifier::new(&[only_ed], 100).await.unwrap();
    assert_eq!(check(&auth, &key.sign(&claims()), NOW).await, Err(TokenError::Algorithm));
}

#[tokio::test]
async fn an_issuer_vouches_with_its_own_keys_and_under_its_own_prefix() {
    let (ours, theirs) = (TestKey::ed25519("k"), TestKey::ed25519("k"));
    let partner = IssuerConfig {
        issuer: "https://partner.example".to_owned(),
        user_id_prefix: "partner:".to_owned(),
        user_id_claim: "email".to_owned(),
        ..terms(KeySource::Inline(jwks(&[&theirs])))
    };
    let auth = Verifier::new(&[terms(KeySource::Inline(jwks(&[&ours]))), partner], 100).await.unwrap();
    assert_eq!(check(&auth, &theirs.sign(&claims()), NOW).await, Err(TokenError::Signature));
    let foreign = with(&json!({"iss": "https://partner.example", "email": "a@b.example"}));
    assert_eq!(check(&auth, &theirs.sign(&foreign), NOW).await.as_deref(), Ok("partner:a@b.example"));
}

#[tokio::test]
async fn a_remembered_token_ends_when_it_says_so() {
    let key = TestKey::ed25519("k");
    let auth = inline(&[&key]).await;
    let token = key.sign(&with(&json!({"exp": NOW + 30})));
    assert!(check(&auth, &token, NOW).await.is_ok());
    assert!(check(&auth, &token, NOW + 29).await.is_ok());
    assert_eq!(check(&auth, &token, NOW + 60).await, Err(TokenError::Expired));
}

/// An issuer on loopback: its keys can be changed, taken away, and its visitors are counted.
struct TestIssuer {
    url: String,
    state: Arc<IssuerState>,
}

#[derive(Default)]
struct IssuerState {
    jwks: Mutex<Option<String>>,
    issuer: Mutex<String>,
    fetches: AtomicUsize,
}

impl TestIssuer {
    async fn start(keys: &[&TestKey]) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(IssuerState::default());
        *state.issuer.lock().unwrap() = url.clone();
        let router = Router::new()
            .route("/keys", get(serve_keys))
            .route("/.well-known/openid-configuration", get(serve_configuration))
            .with_state(Arc::clone(&state));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let issuer = Self { url, state };
        issuer.publish(Some(keys));
        issuer
    }

    fn publish(&self, keys: Option<&[&TestKey]>) {
        *self.state.jwks.lock().unwrap() = keys.map(jwks);
    }

    fn fetches(&self) -> usize {
        self.state.fetches.load(Ordering::SeqCst)
    }

    fn uri(&self) -> KeySource {
        KeySource::Uri(format!("{}/keys", self.url).parse().unwrap())
    }
}

async fn serve_keys(State(state): State<Arc<IssuerState>>) -> Result<String, http::StatusCode> {
    state.fetches.fetch_add(1, Ordering::SeqCst);
    state.jwks.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or(http::StatusCode::BAD_GATEWAY)
}

async fn serve_configuration(State(state): State<Arc<IssuerState>>) -> String {
    let issuer = state.issuer.lock().unwrap().clone();
    let url = issuer.trim_end_matches("-changed");
    json!({"issuer": issuer, "jwks_uri": format!("{url}/keys")}).to_string()
}

#[tokio::test]
async fn keys_are_discovered_at_the_issuer() {
    let key = TestKey::ed25519("k");
    let issuer = TestIssuer::start(&[&key]).await;
    let discovered = IssuerConfig {
        issuer: issuer.url.clone(),
        ..terms(KeySource::Discovery(issuer.url.parse().unwrap()))
    };
    let auth = Verifier::new(std::slice::from_ref(&discovered), 100).await.unwrap();
    let token = key.sign(&with(&json!({"iss": issuer.url})));
    assert_eq!(check(&auth, &token, NOW).await.as_deref(), Ok("trader1"));

    *issuer.state.issuer.lock().unwrap() = format!("{}-changed", issuer.url);
    let misled = Verifier::new(&[discovered], 100).await.unwrap();
    assert_eq!(check(&misled, &token, NOW).await, Err(TokenError::KeysUnavailable));
}

#[tokio::test]
async fn a_rotated_key_is_taken_up_and_a_withdrawn_one_forgotten() {
    let (old, new) = (TestKey::ed25519("old"), TestKey::ed25519("new"));
    let issuer = TestIssuer::start(&[&old]).await;
    let auth = Verifier::with_min_interval(&[terms(issuer.uri())], 100, Duration::ZERO).await.unwrap();
    let old_token = old.sign(&claims());
    assert!(check(&auth, &old_token, NOW).await.is_ok());
    assert_eq!(issuer.fetches(), 1);
    issuer.publish(Some(&[&new]));
    assert!(check(&auth, &old_token, NOW).await.is_ok(), "a known key needs no fetch");
    assert_eq!(issuer.fetches(), 1);
    assert!(check(&auth, &new.sign(&claims()), NOW).await.is_ok());
    assert_eq!(check(&auth, &old_token, NOW).await, Err(TokenError::UnknownKey), "also from memory");
}

/// Long enough for many tokens to come within it, short enough to be waited for.
const BETWEEN_FETCHES: Duration = Duration::from_millis(500);

#[tokio::test]
async fn unknown_keys_lead_to_one_fetch_in_a_while_however_many_come() {
    let (key, foreign) = (TestKey::ed25519("k"), TestKey::ed25519("foreign"));
    let issuer = TestIssuer::start(&[&key]).await;
    let auth = Verifier::with_min_interval(&[terms(issuer.uri())], 100, BETWEEN_FETCHES).await.unwrap();
    let (good, bad) = (key.sign(&claims()), foreign.sign(&claims()));
    let first = futures::future::join_all((0..20).map(|_| check(&auth, &good, NOW))).await;
    assert!(first.iter().all(Result::is_ok));
    assert_eq!(issuer.fetches(), 1);
    for _ in 0..2 {
        let refused = futures::future::join_all((0..20).map(|_| check(&auth, &bad, NOW))).await;
        assert!(refused.iter().all(|outcome| *outcome == Err(TokenError::UnknownKey)));
        assert_eq!(issuer.fetches(), 2, "one for all, and none for a key that was looked for a moment ago");
    }
}

#[tokio::test]
async fn a_key_that_is_rotated_just_after_a_fetch_is_waited_for() {
    let keys = ["1", "2", "3"].map(TestKey::ed25519);
    let issuer = TestIssuer::start(&[&keys[0]]).await;
    let auth = Verifier::with_min_interval(&[terms(issuer.uri())], 100, BETWEEN_FETCHES).await.unwrap();
    let begun = std::time::Instant::now();
    for key in &keys {
        issuer.publish(Some(&[key]));
        let tokens = (0..20).map(|number| key.sign(&with(&json!({"sub": format!("trader{number}")}))));
        let outcomes =
            futures::future::join_all(tokens.map(async |token| check(&auth, &token, NOW).await)).await;
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    }
    assert_eq!(issuer.fetches(), keys.len());
    assert!(begun.elapsed() >= 2 * BETWEEN_FETCHES, "the issuer was asked too often");
}

#[tokio::test]
async fn requests_that_are_given_up_lead_to_no_more_fetches() {
    let (key, foreign) = (TestKey::ed25519("k"), TestKey::ed25519("foreign"));
    let issuer = TestIssuer::start(&[&key]).await;
    let auth = Verifier::with_min_interval(&[terms(issuer.uri())], 100, BETWEEN_FETCHES).await.unwrap();
    assert!(check(&auth, &key.sign(&claims()), NOW).await.is_ok());
    let (bad, begun) = (foreign.sign(&claims()), std::time::Instant::now());
    while begun.elapsed() < 3 * BETWEEN_FETCHES {
        // Often enough in the middle of a fetch.
        for patience in [0, 1, 2, 5, 20] {
            let _ = tokio::time::timeout(Duration::from_millis(patience), check(&auth, &bad, NOW)).await;
        }
    }
    let most = 1 + begun.elapsed().as_millis() / BETWEEN_FETCHES.as_millis();
    assert!(issuer.fetches() as u128 <= most, "{} fetches, at most {most}", issuer.fetches());
}

#[tokio::test]
async fn keys_that_never_change_are_not_waited_for() {
    let key = TestKey::ed25519("k");
    let auth = inline(&[&key]).await;
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let begun = std::time::Instant::now();
    for number in 0..100 {
        let token =
            format!("{}.{}.c2ln", part(json!({"alg": "EdDSA", "kid": number.to_string()})), part(claims()));
        assert_eq!(check(&auth, &token, NOW).await, Err(TokenError::UnknownKey));
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn known_keys_stay_in_use_when_the_issuer_is_down() {
    let key = TestKey::ed25519("k");
    let issuer = TestIssuer::start(&[&key]).await;
    let auth = Verifier::with_min_interval(&[terms(issuer.uri())], 100, Duration::ZERO).await.unwrap();
    assert!(check(&auth, &key.sign(&claims()), NOW).await.is_ok());
    issuer.publish(None);
    let unknown = TestKey::ed25519("x").sign(&claims());
    assert_eq!(
        check(&auth, &unknown, NOW).await,
        Err(TokenError::KeysUnavailable),
        "nobody can say whose it is"
    );
    assert_eq!(issuer.fetches(), 2);
    assert!(check(&auth, &key.sign(&with(&json!({"sub": "trader2"}))), NOW).await.is_ok());
}

#[tokio::test]
async fn an_issuer_that_was_never_reached_is_told_from_a_bad_token() {
    let key = TestKey::ed25519("k");
    let issuer = TestIssuer::start(&[&key]).await;
    issuer.publish(None);
    let auth = Verifier::with_min_interval(&[terms(issuer.uri())], 100, Duration::ZERO).await.unwrap();
    assert_eq!(check(&auth, &key.sign(&claims()), NOW).await, Err(TokenError::KeysUnavailable));
    issuer.publish(Some(&[&key]));
    assert!(check(&auth, &key.sign(&claims()), NOW).await.is_ok());
}

#[tokio::test]
async fn a_key_file_is_reread() {
    let (old, new) = (TestKey::ed25519("old"), TestKey::p256("new"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    let source = || terms(KeySource::File(path.clone()));
    assert!(Verifier::new(&[source()], 100).await.is_err(), "a missing file is told at the start");
    std::fs::write(&path, jwks(&[&old])).unwrap();
    let auth = Verifier::with_min_interval(&[source()], 100, Duration::ZERO).await.unwrap();
    assert!(check(&auth, &old.sign(&claims()), NOW).await.is_ok());
    std::fs::write(&path, jwks(&[&new])).unwrap();
    assert!(check(&auth, &new.sign(&claims()), NOW).await.is_ok());
    assert_eq!(check(&auth, &old.sign(&claims()), NOW).await, Err(TokenError::UnknownKey));
}

/// A value of each claim, and whether it is good.
fn any_claims() -> impl Strategy<Value = (Value, bool)> {
    let of = |name: &'static str, good: Vec<Value>, bad: Vec<Value>| {
        let bad = bad.into_iter().map(|value| (value, false));
        let cases: Vec<_> = good.into_iter().map(|value| (value, true)).chain(bad).collect();
        prop::sample::select(cases).prop_map(move |(value, good)| (name, value, good))
    };
    let nothing = Value::Null;
    (
        of("iss", vec![json!(ISSUER)], vec![json!(format!("{ISSUER}/")), json!(7), nothing.clone()]),
        of(
            "aud",
            vec![json!(AUDIENCE), json!([AUDIENCE]), json!(["x", AUDIENCE, 7])],
            vec![
                json!(format!("{AUDIENCE}/")),
                json!([[AUDIENCE]]),
                json!({AUDIENCE: AUDIENCE}),
                nothing.clone(),
            ],
        ),
        of("sub", vec![json!("trader1")], vec![json!(""), json!("a b"), json!(["trader1"]), nothing.clone()]),
        of(
            "exp",
            vec![json!(NOW + 1), json!(NOW - 9), json!(1.9e9)],
            vec![json!(NOW - 10), json!(-1), json!((NOW + 60).to_string()), json!(true), nothing.clone()],
        ),
        of("nbf", vec![json!(NOW + 10), json!(0), nothing], vec![json!(NOW + 11), json!("0"), json!([])]),
    )
        .prop_map(|(iss, aud, sub, exp, nbf)| {
            let all = [iss, aud, sub, exp, nbf];
            let claims: Value = all
                .iter()
                .filter(|(_, value, _)| !value.is_null())
                .map(|(name, value, _)| ((*name).to_owned(), value.clone()))
                .collect::<serde_json::Map<_, _>>()
                .into();
            (claims, all.iter().all(|(_, _, good)| *good))
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn a_token_holds_if_each_of_its_claims_does((claims, good) in any_claims()) {
        let key = TestKey::ed25519("k");
        let outcome = futures::executor::block_on(async { check(&inline(&[&key]).await, &key.sign(&claims), NOW).await });
        prop_assert_eq!(outcome.is_ok(), good, "{} {:?}", claims, outcome);
    }

    #[test]
    fn a_token_that_was_changed_anywhere_is_refused(change in change(), part in 0_usize..4) {
        let key = TestKey::ed25519("k");
        let token = key.sign(&claims());
        let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
        // The text as it is, or what one of its parts holds.
        let changed = if let Some(part) = parts.get_mut(part) {
            *part = URL_SAFE_NO_PAD.encode(change.of(&URL_SAFE_NO_PAD.decode(&*part).unwrap()));
            Some(parts.join(".")).filter(|changed| *changed != token)
        } else {
            change.another(&token)
        };
        if let Some(changed) = changed {
            let outcome = futures::executor::block_on(async { check(&inline(&[&key]).await, &changed, NOW).await });
            prop_assert!(outcome.is_err(), "{changed}");
        }
    }
}
