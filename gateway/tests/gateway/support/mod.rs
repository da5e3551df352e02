//! What the tests share.

mod api_server;
mod client;
mod sidecar;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::Ed25519KeyPair;
use dexorder_gateway::config::Config;
use dexorder_gateway::server::{self, Running};
use dexorder_protocol::{Issuer, KeySet, SigningKey, TrustedKeys};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) use api_server::ApiServer;
pub(crate) use client::{Answer, Client};
pub(crate) use sidecar::{Behaviour, OF_AGENT, Sidecar, endpoint};

pub(crate) const NAMESPACE: &str = "dexorder";
const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "https://gw.example/mcp";

/// A gateway with everything around it.
pub(crate) struct World {
    pub(crate) cluster: Arc<ApiServer>,
    pub(crate) client: Client,
    pub(crate) management: Client,
    pub(crate) gateway: Running,
    login: EncodingKey,
    /// The keys that sidecars trust.
    pub(crate) trusted: Arc<TrustedKeys>,
    pub(crate) files: TempDir,
}

/// Starts a gateway whose watch has listed the workspaces. `settings` is added to its configuration.
pub(crate) async fn world(settings: &str) -> World {
    let world = unlisted_world(settings).await;
    world.until_ready().await;
    world
}

/// Starts a gateway and does not wait for its watch.
pub(crate) async fn unlisted_world(settings: &str) -> World {
    prepared_world(settings, |_| {}).await
}

/// The same, with files that are there before it starts. `FILES` in the settings stands for their folder; the API keys are
/// in its folder `api-keys`.
pub(crate) async fn prepared_world(settings: &str, prepare: impl FnOnce(&Path)) -> World {
    // Another test of this process may have installed it.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let files = tempfile::tempdir().unwrap();
    let key_file = files.path().join("signing/key.pem");
    for folder in ["signing", "api-keys"] {
        std::fs::create_dir(files.path().join(folder)).unwrap();
    }
    std::fs::write(&key_file, SigningKey::generate_pem().unwrap()).unwrap();
    prepare(files.path());
    let pem = std::fs::read_to_string(&key_file).unwrap();
    let settings = settings.replace("FILES", files.path().to_str().unwrap());
    let keys = KeySet::default().with(Issuer::Gateway, &SigningKey::from_pem(&pem).unwrap());
    let login = EncodingKey::from_ed_der(Ed25519KeyPair::generate().unwrap().to_pkcs8v1().unwrap().as_ref());
    let mut jwk = Jwk::from_encoding_key(&login, Algorithm::EdDSA).unwrap();
    jwk.common.key_id = Some("k".to_owned());
    let config = format!(
        "listen: 127.0.0.1:0\nmanagementListen: 127.0.0.1:0\npublicUrl: https://gw.example\n\
         workspaceNamespace: {NAMESPACE}\nsigningKeyFile: {}\ndefaults: {{tier: standard, authMode: Gateway}}\n\
         auth: {{apiKeysFolder: '{}', issuers: [{{issuer: '{ISSUER}', jwks: '{}'}}]}}\n{settings}\n",
        key_file.display(),
        files.path().join("api-keys").display(),
        json!({"keys": [jwk]}),
    );
    let cluster = ApiServer::start().await;
    let gateway = server::start(Config::parse(&config).unwrap(), cluster.client()).await.unwrap();
    World {
        client: Client::new(gateway.address),
        management: Client::new(gateway.management_address),
        trusted: Arc::new(TrustedKeys::from_json(&keys.to_json().unwrap()).unwrap()),
        cluster,
        gateway,
        login,
        files,
    }
}

impl World {
    /// A token of a user, as the issuer makes it.
    pub(crate) fn token(&self, user: &str) -> String {
        self.token_with(&json!({"sub": user}))
    }

    /// A token with these claims besides or in place of the usual ones.
    pub(crate) fn token_with(&self, change: &Value) -> String {
        let now = jiff::Timestamp::now().as_second();
        let mut claims =
            json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "trader1", "iat": now, "exp": now + 3600});
        claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let header = Header { kid: Some("k".to_owned()), ..Header::new(Algorithm::EdDSA) };
        encode(&header, &claims, &self.login).unwrap()
    }

    /// Calls a tool as a user.
    pub(crate) async fn call(&self, user: &str) -> Answer {
        self.client.post(&self.token(user), &call(1)).await
    }

    /// A sidecar that trusts this gateway.
    pub(crate) async fn sidecar(&self, workspace_uid: &str) -> Sidecar {
        Sidecar::start(workspace_uid, Arc::clone(&self.trusted)).await
    }

    /// A workspace that runs, with its sidecar.
    pub(crate) async fn running(&self, user: &str) -> Sidecar {
        self.running_in_mode(user, "Gateway").await
    }

    /// The same, of an auth mode.
    pub(crate) async fn running_in_mode(&self, user: &str, mode: &str) -> Sidecar {
        let uid = self.cluster.apply_in_mode(&name_of(user), user, mode);
        let sidecar = self.sidecar(&uid).await;
        self.cluster.set_status(&name_of(user), running("pod-1", &sidecar.endpoint(), "Ready"));
        self.until_seen().await;
        sidecar
    }

    /// Waits until the gateway's watch is ready.
    pub(crate) async fn until_ready(&self) {
        until("the gateway is ready", async || self.management.get("/readyz").await.status == 200).await;
    }

    /// Waits until the gateway has seen everything that was written so far: one more workspace is the proof.
    pub(crate) async fn until_seen(&self) {
        let marker = format!("marker-{}", self.cluster.version());
        self.cluster.apply(&marker, &marker);
        let written = self.cluster.count().to_string();
        until("the gateway has seen the writes", async || {
            self.metric("dexorder_gateway_workspaces").await == written
        })
        .await;
    }

    /// The value of a metric.
    pub(crate) async fn metric(&self, name: &str) -> String {
        let text = self.management.get("/metrics").await.text();
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap_or("0").to_owned()
    }
}

/// The name that the tests give to a user's workspace.
pub(crate) fn name_of(user: &str) -> String {
    format!("of-{user}")
}

/// A status whose `Ready` has this reason, without a pod.
pub(crate) fn status(reason: &str) -> Value {
    let ready = if reason == "Ready" { "True" } else { "False" };
    json!({
        "observedGeneration": 1,
        "conditions": [
            condition("Accepted", "True", "Accepted"),
            condition("Ready", ready, reason),
        ],
    })
}

/// A condition.
pub(crate) fn condition(kind: &str, status: &str, reason: &str) -> Value {
    json!({
        "type": kind, "status": status, "reason": reason, "message": format!("about {reason}"),
        "lastTransitionTime": "2026-11-24T00:00:00Z",
    })
}

/// A status with a pod.
pub(crate) fn running(pod_uid: &str, endpoint: &str, reason: &str) -> Value {
    let mut status = status(reason);
    status["podUID"] = json!(pod_uid);
    status["endpoint"] = json!(endpoint);
    status
}

/// A tool call.
pub(crate) fn call(id: u32) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": "run_indicator"}})
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, holds: impl AsyncFnMut() -> bool) {
    until_within(Duration::from_secs(10), what, holds).await;
}

/// Waits until a condition holds that takes longer to come true.
pub(crate) async fn until_within(limit: Duration, what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(limit, async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(waited.is_ok(), "it did not come true that {what}");
}
