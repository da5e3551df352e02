//! Sealed credentials: who gets a token, and who does not.

use dexorder_protocol::direct::{ClientKey, Context, Credential, CredentialKind, Sealed, seal};
use dexorder_protocol::{Issuer, KeySet, SigningKey};
use http::{Method, StatusCode};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::{
    PASSWORD, at, by_gateway, document, give, inside, is, log_in, password, refusal, sealed, start,
    with_passwords,
};
use crate::agent::Agent;
use crate::sidecar::{Place, Sidecar, UID, USER, now};

const BODY: &str = r#"{"jsonrpc":"2.0","id":42,"method":"tools/call"}"#;
const ISSUER: &str = "https://id.example";

#[tokio::test]
async fn a_password_gets_a_token_and_the_agent_sees_the_user_alone() {
    let (sidecar, agent) = with_passwords(&[]).await;
    let laptop = Credential { id: Some("laptop".to_owned()), ..password(PASSWORD) };
    for credential in [password(PASSWORD), laptop] {
        let client = log_in(&sidecar, credential).await;
        assert_eq!(client.call(&sidecar, BODY).await.status, StatusCode::OK);
    }
    let seen = agent.last_seen();
    assert_eq!(seen.headers["dexorder-user"], USER);
    assert_eq!(seen.body, BODY);
    for header in ["authorization", "dexorder-proof", "dexorder-identity"] {
        assert!(!seen.headers.contains_key(header), "the agent got {header}");
    }
}

#[tokio::test]
async fn the_key_is_shown_with_where_it_is_good_and_reported() {
    let (sidecar, _agent) = with_passwords(&[]).await;
    let document = document(&sidecar).await;
    assert_eq!((document.namespace.as_str(), document.workspace_uid.as_str()), ("dexorder", UID));
    assert!((document.time - now()).abs() < 600);
    let thumbprint = document.keys[0].thumbprint();
    assert_eq!(document.keys[0].kid.as_ref(), Some(&thumbprint));
    assert_eq!(sidecar.report().await["publicKey"], thumbprint.as_str());
}

#[tokio::test]
async fn an_envelope_that_does_not_hold_is_refused_for_what_it_is() {
    let (sidecar, _agent) = with_passwords(&[]).await;
    let before = sidecar.report().await["lastActivityTime"].clone();
    let (document, key) = (document(&sidecar).await, ClientKey::generate().unwrap());
    let inside = |credential| inside(&document, &key, credential);
    let good = || inside(password(PASSWORD));
    let refused = is(401, "CredentialRefused");
    for (case, inside) in [
        ("a wrong password", inside(password("wrong"))),
        ("no password", inside(password(""))),
        ("another entry", inside(Credential { id: Some("phone".to_owned()), ..password(PASSWORD) })),
        ("a path", inside(Credential { id: Some("../hashes/laptop".to_owned()), ..password(PASSWORD) })),
        ("another kind", inside(Credential { kind: CredentialKind::Token, ..password(PASSWORD) })),
        ("expired", Sealed { expires_at: now() - 1, ..good() }),
        ("good for too long", Sealed { expires_at: now() + 600, ..good() }),
        ("of another run", Sealed { run: "another".to_owned(), ..good() }),
        ("a short nonce", Sealed { nonce: "c2hvcnQ".to_owned(), ..good() }),
        ("a key for something else", Sealed { client_key: document.keys[0].clone(), ..good() }),
    ] {
        let answer = give(&sidecar, &sealed(&document, &inside)).await;
        assert_eq!(refusal(answer).await, refused, "{case}");
    }
    let here = Context { namespace: &document.namespace, workspace_uid: UID, user: USER };
    for context in [
        Context { namespace: "elsewhere", ..here },
        Context { workspace_uid: "other-uid", ..here },
        Context { user: "trader2", ..here },
    ] {
        let envelope = seal(&document.keys[0], &context, &good()).unwrap();
        assert_eq!(refusal(give(&sidecar, &envelope).await).await, refused, "{context:?}");
    }
    let mut unknown = sealed(&document, &good());
    unknown.kid = "of-nobody".to_owned();
    assert_eq!(refusal(give(&sidecar, &unknown).await).await, is(401, "UnknownKey"));
    let mut changed = sealed(&document, &good());
    changed.enc = sealed(&document, &good()).enc;
    assert_eq!(refusal(give(&sidecar, &changed).await).await, refused);
    assert_eq!(sidecar.report().await["lastActivityTime"], before, "who is refused is no activity");

    let envelope = sealed(&document, &good());
    assert_eq!(give(&sidecar, &envelope).await.status, StatusCode::OK);
    assert_eq!(refusal(give(&sidecar, &envelope).await).await, is(401, "Replayed"));
    assert_ne!(sidecar.report().await["lastActivityTime"], before, "who is let in is");
}

#[tokio::test]
async fn what_is_no_envelope_is_refused() {
    let (sidecar, _agent) = with_passwords(&[]).await;
    let post = |body: String| {
        let headers = by_gateway(&sidecar);
        let sidecar = &sidecar;
        async move { at(sidecar, Method::POST, "/direct/session", headers, &body).await }
    };
    for body in ["", "{}", "[]", r#"{"kid":1}"#, r#"{"kid":"a","enc":"b","ciphertext":"c","more":1}"#] {
        assert_eq!(refusal(post(body.to_owned()).await).await, is(400, "CredentialRefused"), "{body}");
    }
    assert_eq!(refusal(post("x".repeat(65 * 1024)).await).await, is(413, "RequestTooLarge"));
    for (method, path, allowed) in
        [(Method::GET, "/direct/session", "POST"), (Method::POST, "/direct/key", "GET")]
    {
        let answer = at(&sidecar, method, path, by_gateway(&sidecar), "").await;
        assert_eq!((answer.status, answer.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, Some(allowed)));
    }
}

#[tokio::test]
async fn only_the_gateways_way_leads_here() {
    let (sidecar, _agent) = with_passwords(&[]).await;
    let place = &sidecar.place;
    for (headers, expected) in [
        (http::HeaderMap::new(), is(401, "Unauthenticated")),
        (place.operator_headers(), is(401, "Unauthenticated")),
        (place.user_headers(USER), is(403, "WrongUser")),
        (place.user_headers("anonymous"), is(403, "WrongUser")),
    ] {
        for (method, path) in
            [(Method::GET, "/direct/key"), (Method::POST, "/direct/session"), (Method::POST, "/mcp")]
        {
            let answer = at(&sidecar, method, path, headers.clone(), "{}").await;
            assert_eq!(refusal(answer).await, expected, "{path}");
        }
    }
}

#[tokio::test]
async fn a_workspace_of_another_mode_has_no_key() {
    let sidecar = Sidecar::start().await;
    let _agent = Agent::start(&sidecar.place.socket());
    for (method, path) in [(Method::GET, "/direct/key"), (Method::POST, "/direct/session")] {
        let answer = at(&sidecar, method, path, sidecar.place.user_headers(USER), "{}").await;
        assert_eq!(refusal(answer).await, is(404, "NotFound"), "{path}");
    }
    let (status, problem) = sidecar.control("/v1/rotate-key", &json!({"request": "1"})).await;
    assert_eq!((status, &problem["reason"]), (StatusCode::CONFLICT, &json!("AuthModeNotOffered")));
}

#[tokio::test]
async fn attempts_are_limited() {
    let (sidecar, _agent) = with_passwords(&[]).await;
    let (document, key) = (document(&sidecar).await, ClientKey::generate().unwrap());
    let mut expired = inside(&document, &key, password("guess"));
    expired.expires_at = now() - 1;
    let envelope = sealed(&document, &expired);
    let mut refused = 0;
    while give(&sidecar, &envelope).await.status != StatusCode::TOO_MANY_REQUESTS {
        refused += 1;
        // As many as come at once, and those whose share grew back meanwhile.
        assert!(refused < 200, "attempts are not limited");
    }
    assert!(refused >= 20, "{refused}");
    assert!(give(&sidecar, &envelope).await.header("retry-after").is_some());
}

#[tokio::test]
async fn what_is_sealed_to_another_key_takes_no_logins_place() {
    let (sidecar, _agent) = with_passwords(&[]).await;
    let (document, key) = (document(&sidecar).await, ClientKey::generate().unwrap());
    let mut unknown = sealed(&document, &inside(&document, &key, password("guess")));
    unknown.kid = "of-nobody".to_owned();
    for _ in 0..100 {
        assert_eq!(refusal(give(&sidecar, &unknown).await).await, is(401, "UnknownKey"));
    }
    let good = sealed(&document, &inside(&document, &key, password(PASSWORD)));
    assert_eq!(give(&sidecar, &good).await.status, StatusCode::OK);
}

struct Provider {
    key: EncodingKey,
    kid: String,
    jwks: String,
}

impl Provider {
    fn new() -> Self {
        let pem = SigningKey::generate_pem().unwrap();
        let key = SigningKey::from_pem(&pem).unwrap();
        let set = KeySet::default().with(Issuer::Gateway, &key).to_json().unwrap();
        let set: Value = serde_json::from_str(&set).unwrap();
        Self {
            key: EncodingKey::from_ed_pem(pem.as_bytes()).unwrap(),
            kid: key.kid(),
            jwks: json!({"keys": set["gateway"]}).to_string(),
        }
    }

    fn token(&self, over: &Value) -> Credential {
        let mut claims =
            json!({"iss": ISSUER, "aud": "dexorder", "sub": "s-1", "email": USER, "exp": now() + 900});
        claims.as_object_mut().unwrap().extend(over.as_object().unwrap().clone());
        let header = Header { kid: Some(self.kid.clone()), ..Header::new(Algorithm::EdDSA) };
        let value = encode(&header, &claims, &self.key).unwrap();
        Credential { kind: CredentialKind::Token, id: None, value }
    }
}

#[tokio::test]
async fn a_token_of_the_workspaces_own_issuer_gets_one_that_ends_with_it() {
    let (provider, other) = (Provider::new(), Provider::new());
    let place = Place::new();
    std::fs::create_dir(place.path("keys")).unwrap();
    let oidc = [
        ("DEXORDER_DIRECT_ISSUER", ISSUER),
        ("DEXORDER_DIRECT_AUDIENCE", "dexorder"),
        ("DEXORDER_DIRECT_USER_CLAIM", "email"),
        ("DEXORDER_DIRECT_JWKS", provider.jwks.as_str()),
    ];
    let sidecar = start(place, &oidc).await;
    let agent = Agent::start(&sidecar.place.socket());
    let client = log_in(&sidecar, provider.token(&json!({}))).await;
    assert_eq!(client.call(&sidecar, BODY).await.status, StatusCode::OK);
    assert_eq!(agent.executed(), 1);

    let document = document(&sidecar).await;
    let key = ClientKey::generate().unwrap();
    let until = now() + 300;
    let short = inside(&document, &key, provider.token(&json!({"exp": until})));
    let answer = give(&sidecar, &sealed(&document, &short)).await.json().await;
    assert_eq!(answer["expiresAt"], until);
    for (case, credential) in [
        ("another user", provider.token(&json!({"email": "trader2"}))),
        ("no user", provider.token(&json!({"email": null}))),
        ("another audience", provider.token(&json!({"aud": "elsewhere"}))),
        ("another issuer", provider.token(&json!({"iss": "https://evil.example"}))),
        ("expired", provider.token(&json!({"exp": now() - 60}))),
        ("another key", other.token(&json!({}))),
        ("a password", password(PASSWORD)),
    ] {
        let envelope = sealed(&document, &inside(&document, &key, credential));
        assert_eq!(refusal(give(&sidecar, &envelope).await).await, is(401, "CredentialRefused"), "{case}");
    }
}
