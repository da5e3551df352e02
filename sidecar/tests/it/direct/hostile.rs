//! The gateway was taken over: it has its signing key, it sees and keeps all that passes, and it tries everything.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use dexorder_protocol::direct::{ClientKey, Context, Curve, Envelope, Jwk, PrivateKey, open, proof, seal};
use dexorder_protocol::identity::sign;
use dexorder_protocol::{Issuer, SigningKey};
use http::{HeaderMap, Method, StatusCode};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::{
    Client, PASSWORD, at, by_gateway, document, give, headers, inside, password, refusal, restarted, sealed,
    with_passwords,
};
use crate::agent::Agent;
use crate::sidecar::{Sidecar, UID, USER, now};

const METHODS: [Method; 3] = [Method::POST, Method::GET, Method::DELETE];

/// All that passed the gateway.
#[derive(Default)]
struct Record {
    everything: String,
    envelopes: Vec<Envelope>,
    tokens: Vec<String>,
    proofs: Vec<String>,
    bodies: Vec<String>,
}

impl Record {
    /// A user logs in and makes a few calls, by way of this gateway.
    async fn of_a_user(sidecar: &Sidecar, agent: &Agent) -> Self {
        let mut record = Self::default();
        let document = document(sidecar).await;
        let key = ClientKey::generate().unwrap();
        let envelope = sealed(&document, &inside(&document, &key, password(PASSWORD)));
        let answer = give(sidecar, &envelope).await;
        assert_eq!(answer.status, StatusCode::OK);
        let answer = answer.json().await;
        record.everything = format!("{}{answer}", serde_json::to_string(&envelope).unwrap());
        record.envelopes.push(envelope);
        let token = answer["token"].as_str().unwrap().to_owned();
        let client = Client { key, token, run: document.run };
        for body in ["", r#"{"id":1,"method":"tools/call"}"#, r#"{"id":2,"method":"resources/read"}"#] {
            let method = if body.is_empty() { Method::GET } else { Method::POST };
            let proof = client.proof(&method, body);
            let headers = headers(sidecar, &client.token, &proof);
            assert_eq!(at(sidecar, method, "/mcp", headers, body).await.status, StatusCode::OK);
            record.everything += &proof;
            record.everything += body;
            record.proofs.push(proof);
            record.bodies.push(body.to_owned());
        }
        record.tokens.push(client.token);
        assert_eq!(agent.executed(), 3);
        record
    }

    /// Tries every combination of what was seen, and says how many those were.
    async fn try_all(&self, sidecar: &Sidecar) -> usize {
        let mut tried = 0;
        for method in METHODS {
            for token in &self.tokens {
                for proof in &self.proofs {
                    for body in self.bodies.iter().map(String::as_str).chain(["{\"id\":3}"]) {
                        let headers = headers(sidecar, token, proof);
                        let answer = at(sidecar, method.clone(), "/mcp", headers, body).await;
                        assert_eq!(refusal(answer).await.0, 401, "{method} {body}");
                        tried += 1;
                    }
                }
            }
        }
        for envelope in &self.envelopes {
            assert_eq!(refusal(give(sidecar, envelope).await).await.0, 401);
            tried += 1;
        }
        tried
    }
}

#[tokio::test]
async fn it_reads_no_credential_in_what_passes() {
    let (sidecar, agent) = with_passwords(&[]).await;
    let record = Record::of_a_user(&sidecar, &agent).await;
    for part in
        record.everything.split(|letter: char| !letter.is_ascii_alphanumeric() && !"-_+/=".contains(letter))
    {
        for bytes in [URL_SAFE_NO_PAD.decode(part), STANDARD.decode(part)].into_iter().flatten() {
            let text = String::from_utf8_lossy(&bytes);
            assert!(!text.contains(PASSWORD) && !text.contains("correct horse"), "{text}");
        }
    }
    assert!(!record.everything.contains("horse"));
}

#[tokio::test]
async fn it_can_use_nothing_again_however_it_is_put_together() {
    let (sidecar, agent) = with_passwords(&[]).await;
    let mut record = Record::of_a_user(&sidecar, &agent).await;
    // Another client of the same user, so that there is something to swap.
    let other = super::log_in(&sidecar, password(PASSWORD)).await;
    let body = r#"{"id":9,"method":"ping"}"#;
    let proof = other.proof(&Method::POST, body);
    let first = at(&sidecar, Method::POST, "/mcp", headers(&sidecar, &other.token, &proof), body).await;
    assert_eq!(first.status, StatusCode::OK);
    record.tokens.push(other.token);
    record.proofs.push(proof);
    record.bodies.push(body.to_owned());
    let executed = agent.executed();
    let tried = record.try_all(&sidecar).await;
    assert!(tried > 100, "{tried}");
    assert_eq!(agent.executed(), executed);
    // Nor when the workspace has been started again.
    let sidecar = restarted(sidecar).await;
    record.try_all(&sidecar).await;
    assert_eq!(agent.executed(), executed);
}

#[tokio::test]
async fn what_it_holds_back_it_can_only_deliver_as_it_is_and_once() {
    let (sidecar, agent) = with_passwords(&[]).await;
    let client = super::log_in(&sidecar, password(PASSWORD)).await;
    let body = r#"{"id":1,"method":"tools/call","params":{"name":"show"}}"#;
    let held = headers(&sidecar, &client.token, &client.proof(&Method::POST, body));
    for changed in
        [body.replace("show", "delete"), format!("{body} "), String::new(), format!("{body}{body}")]
    {
        let answer = at(&sidecar, Method::POST, "/mcp", held.clone(), &changed).await;
        assert_eq!(refusal(answer).await.0, 401, "{changed}");
    }
    for method in [Method::GET, Method::DELETE] {
        assert_eq!(refusal(at(&sidecar, method, "/mcp", held.clone(), body).await).await.0, 401);
    }
    assert_eq!(agent.executed(), 0);
    // A change that was refused did not use it up.
    let (one, two) = tokio::join!(
        at(&sidecar, Method::POST, "/mcp", held.clone(), body),
        at(&sidecar, Method::POST, "/mcp", held.clone(), body),
    );
    let good = [one.status, two.status].into_iter().filter(|status| *status == StatusCode::OK).count();
    assert_eq!((good, agent.executed()), (1, 1));
}

#[tokio::test]
async fn it_can_not_speak_for_the_user_with_its_own_key() {
    let (sidecar, agent) = with_passwords(&[]).await;
    let record = Record::of_a_user(&sidecar, &agent).await;
    let executed = agent.executed();
    let body = r#"{"id":1,"method":"tools/call"}"#;
    let gateway = &sidecar.place.gateway;
    let mine = ClientKey::generate().unwrap();
    let run = document(&sidecar).await.run;
    let identity = |issuer, subject| {
        let token = sign(gateway, issuer, UID, subject, now()).unwrap();
        HeaderMap::from_iter([("dexorder-identity".parse().unwrap(), token.parse().unwrap())])
    };
    let proof_for = |token: &str| {
        let request = proof::Request { method: "POST", token, run: &run };
        proof::sign(&mine, &request, body.as_bytes(), now()).unwrap()
    };
    let mut tries = Vec::new();
    // As the user, as an operator, as anybody: mode Direct takes nobody's word for who the user is.
    for subject in [USER, "operator", "anonymous", "gateway"] {
        tries.push(identity(Issuer::Gateway, subject));
        tries.push(identity(Issuer::Operator, subject));
    }
    // With a user's token and a proof of its own.
    tries.push(headers(&sidecar, &record.tokens[0], &proof_for(&record.tokens[0])));
    // With a token of its own, signed by its own key, or by nobody.
    let claims = json!({
        "iss": "dexorder-direct", "aud": UID, "sub": USER, "iat": now(), "exp": now() + 600, "jti": "x",
        "cnf": {"jkt": mine.public().thumbprint()},
    });
    let pem = SigningKey::generate_pem().unwrap();
    let key = EncodingKey::from_ed_pem(pem.as_bytes()).unwrap();
    let forged = encode(&Header::new(Algorithm::EdDSA), &claims, &key).unwrap();
    let hmac = encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(b"x")).unwrap();
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let unsigned = format!("{}.{}.", part(&json!({"alg": "none"})), part(&claims));
    // Claims of its own under the signature of a real token.
    let real: Vec<&str> = record.tokens[0].split('.').collect();
    let grafted = format!("{}.{}.{}", real[0], part(&claims), real[2]);
    // The identity that it may sign, in the token's place.
    let vouched = sign(gateway, Issuer::Gateway, UID, USER, now()).unwrap();
    for token in [forged, hmac, unsigned, grafted, vouched] {
        tries.push(headers(&sidecar, &token, &proof_for(&token)));
    }
    for (number, headers) in tries.into_iter().enumerate() {
        let answer = at(&sidecar, Method::POST, "/mcp", headers, body).await;
        assert!([401, 403].contains(&refusal(answer).await.0), "try {number}");
    }
    assert_eq!(agent.executed(), executed);
}

#[tokio::test]
async fn an_envelope_gives_it_nothing_with_any_other_content_or_at_any_other_place() {
    let (sidecar, agent) = with_passwords(&[]).await;
    let record = Record::of_a_user(&sidecar, &agent).await;
    let seen = &record.envelopes[0];
    let (document, mine) = (document(&sidecar).await, ClientKey::generate().unwrap());
    // Its own key in a fresh envelope, for want of the credential.
    for guess in ["", "guess", &seen.ciphertext[..40]] {
        let envelope = sealed(&document, &inside(&document, &mine, password(guess)));
        assert_eq!(refusal(give(&sidecar, &envelope).await).await.0, 401);
    }
    // Parts of one in another.
    let own = sealed(&document, &inside(&document, &mine, password("guess")));
    for mixed in [
        Envelope { enc: own.enc.clone(), ..seen.clone() },
        Envelope { ciphertext: own.ciphertext.clone(), ..seen.clone() },
        Envelope { kid: "other".to_owned(), ..seen.clone() },
    ] {
        assert_eq!(refusal(give(&sidecar, &mixed).await).await.0, 401);
    }
    // At another workspace of the same user, even one that was given a copy of the key.
    let (other, other_agent) = with_passwords(&[]).await;
    assert_eq!(refusal(give(&other, seen).await).await, super::is(401, "UnknownKey"));
    std::fs::copy(sidecar.place.path("keys").join("keys.json"), other.place.path("keys").join("keys.json"))
        .unwrap();
    let crate::sidecar::Sidecar { place, server } = other;
    server.stop().await;
    let other = super::start(place, &[("DEXORDER_WORKSPACE_UID", super::OTHER_UID)]).await;
    let way = sign(&other.place.gateway, Issuer::Gateway, super::OTHER_UID, "gateway", now()).unwrap();
    let way = HeaderMap::from_iter([("dexorder-identity".parse().unwrap(), way.parse().unwrap())]);
    let body = serde_json::to_string(seen).unwrap();
    let answer = at(&other, Method::POST, "/direct/session", way.clone(), &body).await;
    assert_eq!(refusal(answer).await, super::is(401, "CredentialRefused"));
    let mut way = way;
    way.insert("authorization", format!("Bearer {}", record.tokens[0]).parse().unwrap());
    way.insert("dexorder-proof", record.proofs[1].parse().unwrap());
    let answer = at(&other, Method::POST, "/mcp", way, &record.bodies[1]).await;
    assert_eq!(refusal(answer).await, super::is(401, "CredentialRefused"));
    assert_eq!(other_agent.executed(), 0);
}

/// It can show a client a key of its own and open what that client seals to it. That is what the thumbprint is for: it
/// is in the workspace's status, which the gateway can't write, and a client that compares it seals nothing.
#[tokio::test]
async fn a_key_of_its_own_has_another_thumbprint() {
    let (sidecar, _agent) = with_passwords(&[]).await;
    let real = document(&sidecar).await;
    let reported = sidecar.report().await["publicKey"].as_str().unwrap().to_owned();
    let trap = PrivateKey::generate().unwrap();
    let shown = Jwk { kid: real.keys[0].kid.clone(), ..Jwk::new(Curve::X25519, trap.public()) };
    assert_eq!(real.keys[0].thumbprint(), reported);
    assert_ne!(shown.thumbprint(), reported, "whatever it calls it");
    // Nor can it pass on to the workspace what was sealed to its own key.
    let context = Context { namespace: &real.namespace, workspace_uid: UID, user: USER };
    let inside = inside(&real, &ClientKey::generate().unwrap(), password(PASSWORD));
    let mut trapped = seal(&shown, &context, &inside).unwrap();
    assert!(
        open(&trap, &context, &trapped, &real.run, now()).is_ok(),
        "a client that does not compare is lost"
    );
    trapped.kid = reported;
    let body = serde_json::to_string(&trapped).unwrap();
    let answer = at(&sidecar, Method::POST, "/direct/session", by_gateway(&sidecar), &body).await;
    assert_eq!(refusal(answer).await.0, 401);
}
