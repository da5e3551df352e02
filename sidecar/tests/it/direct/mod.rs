//! Auth mode Direct.

mod hostile;
mod login;
mod requests;
mod restart;

use dexorder_protocol::direct::{
    ClientKey, Context, Credential, CredentialKind, Envelope, KeyDocument, Sealed, SessionAnswer, proof,
    random_id, seal,
};
use http::{HeaderMap, Method, StatusCode};
use serde_json::Value;

use crate::agent::Agent;
use crate::client::{Answer, full, send};
use crate::sidecar::{Place, Sidecar, USER, now};

pub(super) const PASSWORD: &str = "correct horse battery staple";
/// Of [`PASSWORD`], with little memory: what is tested here is not its cost.
const HASH: &str =
    "$argon2id$v=19$m=64,t=1,p=1$42dXqLriglNrxPvx/a3ssg$IQOCq8d5IDy7XqM9sIdbx31YYi0dqlPWhL0EPxD0dMQ";

/// A user's client with what it got.
pub(super) struct Client {
    pub(super) key: ClientKey,
    pub(super) token: String,
    pub(super) run: String,
}

/// A sidecar that checks passwords, with an agent.
pub(super) async fn with_passwords(over: &[(&str, &str)]) -> (Sidecar, Agent) {
    let place = Place::new();
    std::fs::create_dir(place.path("hashes")).unwrap();
    std::fs::write(place.path("hashes").join(USER), HASH).unwrap();
    std::fs::write(place.path("hashes").join("laptop"), format!("{HASH}\n")).unwrap();
    std::fs::create_dir(place.path("keys")).unwrap();
    let sidecar = start(place, over).await;
    let agent = Agent::start(&sidecar.place.socket());
    sidecar.ready().await;
    (sidecar, agent)
}

/// A sidecar at a place that was prepared.
pub(super) async fn start(place: Place, over: &[(&str, &str)]) -> Sidecar {
    let keys = place.path("keys").to_str().unwrap().to_owned();
    let hashes = place.path("hashes").to_str().unwrap().to_owned();
    let mut all = vec![("DEXORDER_AUTH_MODE", "Direct"), ("DEXORDER_DIRECT_KEY_DIR", keys.as_str())];
    if !over.iter().any(|(name, _)| *name == "DEXORDER_DIRECT_ISSUER") {
        all.push(("DEXORDER_DIRECT_CREDENTIALS_DIR", hashes.as_str()));
    }
    all.extend_from_slice(over);
    Sidecar::start_with(place, &all).await
}

/// What the gateway says of every request to a workspace of mode Direct.
pub(super) fn by_gateway(sidecar: &Sidecar) -> HeaderMap {
    sidecar.place.user_headers("gateway")
}

pub(super) async fn at(
    sidecar: &Sidecar,
    method: Method,
    path: &str,
    headers: HeaderMap,
    body: &str,
) -> Answer {
    send(sidecar.server.mcp_addr(), method, path, headers, full(body.to_owned())).await.unwrap()
}

pub(super) async fn document(sidecar: &Sidecar) -> KeyDocument {
    let answer = at(sidecar, Method::GET, "/direct/key", by_gateway(sidecar), "").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    serde_json::from_value(answer.json().await).unwrap()
}

pub(super) fn password(value: &str) -> Credential {
    Credential { kind: CredentialKind::Password, id: None, value: value.to_owned() }
}

pub(super) fn inside(document: &KeyDocument, key: &ClientKey, credential: Credential) -> Sealed {
    Sealed {
        credential,
        client_key: key.public().clone(),
        nonce: random_id().unwrap(),
        run: document.run.clone(),
        expires_at: now() + 60,
    }
}

pub(super) fn sealed(document: &KeyDocument, inside: &Sealed) -> Envelope {
    let context =
        Context { namespace: &document.namespace, workspace_uid: &document.workspace_uid, user: USER };
    seal(&document.keys[0], &context, inside).unwrap()
}

pub(super) async fn give(sidecar: &Sidecar, envelope: &Envelope) -> Answer {
    let body = serde_json::to_string(envelope).unwrap();
    at(sidecar, Method::POST, "/direct/session", by_gateway(sidecar), &body).await
}

/// Gives a credential and gets a token.
pub(super) async fn log_in(sidecar: &Sidecar, credential: Credential) -> Client {
    let (document, key) = (document(sidecar).await, ClientKey::generate().unwrap());
    let answer = give(sidecar, &sealed(&document, &inside(&document, &key, credential))).await;
    assert_eq!(answer.status, StatusCode::OK);
    let SessionAnswer { token, run, expires_at, time } = serde_json::from_value(answer.json().await).unwrap();
    assert!(expires_at <= time + 3600);
    Client { key, token, run }
}

impl Client {
    pub(super) fn proof(&self, method: &Method, body: &str) -> String {
        let request = proof::Request { method: method.as_str(), token: &self.token, run: &self.run };
        proof::sign(&self.key, &request, body.as_bytes(), now()).unwrap()
    }

    pub(super) fn headers(&self, sidecar: &Sidecar, method: &Method, body: &str) -> HeaderMap {
        headers(sidecar, &self.token, &self.proof(method, body))
    }

    pub(super) async fn call(&self, sidecar: &Sidecar, body: &str) -> Answer {
        let headers = self.headers(sidecar, &Method::POST, body);
        at(sidecar, Method::POST, "/mcp", headers, body).await
    }
}

pub(super) fn headers(sidecar: &Sidecar, token: &str, proof: &str) -> HeaderMap {
    let mut headers = by_gateway(sidecar);
    headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
    headers.insert("dexorder-proof", proof.parse().unwrap());
    headers
}

/// Status and reason of a refusal, which its body and its header agree on.
pub(super) async fn refusal(answer: Answer) -> (u16, String) {
    let (status, header) =
        (answer.status.as_u16(), answer.header("dexorder-reason").unwrap_or_default().to_owned());
    let body: Value = answer.json().await;
    assert_eq!(body["error"]["data"]["reason"], header.as_str(), "{body}");
    (status, header)
}

pub(super) fn is(status: u16, reason: &str) -> (u16, String) {
    (status, reason.to_owned())
}

/// The same place for another sidecar: what a restart finds.
pub(super) async fn restarted(sidecar: Sidecar) -> Sidecar {
    let Sidecar { place, server } = sidecar;
    server.stop().await;
    start(place, &[]).await
}

/// UID of another workspace.
pub(super) const OTHER_UID: &str = "other-uid";
