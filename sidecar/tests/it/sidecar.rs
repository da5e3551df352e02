//! A sidecar in auth mode Gateway, with keys of its own, and the two who may call it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dexorder_protocol::identity::sign;
use dexorder_protocol::{Issuer, KeySet, SigningKey, headers};
use dexorder_sidecar::config::Config;
use dexorder_sidecar::server::Server;
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{Answer, TestBody, full, send};

pub(crate) const UID: &str = "0b9f6c1e-uid";
pub(crate) const USER: &str = "trader1";

/// Folder and keys of a workspace.
pub(crate) struct Place {
    folder: TempDir,
    pub(crate) gateway: SigningKey,
    pub(crate) operator: SigningKey,
}

/// A sidecar that runs in this process.
pub(crate) struct Sidecar {
    pub(crate) place: Place,
    pub(crate) server: Server,
}

pub(crate) fn key() -> SigningKey {
    SigningKey::from_pem(&SigningKey::generate_pem().unwrap()).unwrap()
}

pub(crate) fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self { folder: TempDir::new().unwrap(), gateway: key(), operator: key() };
        std::fs::write(place.keys_file(), place.key_set().to_json().unwrap()).unwrap();
        place
    }

    pub(crate) fn key_set(&self) -> KeySet {
        KeySet::default().with(Issuer::Gateway, &self.gateway).with(Issuer::Operator, &self.operator)
    }

    pub(crate) fn keys_file(&self) -> PathBuf {
        self.folder.path().join("identity-keys")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("agent.sock")
    }

    /// The environment that the operator would set, with what the test wants else.
    pub(crate) fn environment(&self, over: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut all = vec![
            ("DEXORDER_WORKSPACE_UID".to_owned(), UID.to_owned()),
            ("DEXORDER_WORKSPACE".to_owned(), "trader1-0a1b2c3d4e".to_owned()),
            ("DEXORDER_NAMESPACE".to_owned(), "dexorder".to_owned()),
            ("DEXORDER_USER_ID".to_owned(), USER.to_owned()),
            ("DEXORDER_AUTH_MODE".to_owned(), "Gateway".to_owned()),
            ("DEXORDER_ACCESS".to_owned(), "Full".to_owned()),
            ("DEXORDER_AGENT_SOCKET".to_owned(), self.socket().to_str().unwrap().to_owned()),
            ("DEXORDER_IDENTITY_KEYS_FILE".to_owned(), self.keys_file().to_str().unwrap().to_owned()),
            ("DEXORDER_MCP_ADDR".to_owned(), "127.0.0.1:0".to_owned()),
            ("DEXORDER_CONTROL_ADDR".to_owned(), "127.0.0.1:0".to_owned()),
        ];
        for (name, value) in over {
            all.retain(|(known, _)| known != name);
            all.push(((*name).to_owned(), (*value).to_owned()));
        }
        all
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The headers of a request of the newest revision, signed by the gateway for this user.
    pub(crate) fn user_headers(&self, user: &str) -> HeaderMap {
        let mut headers = self.bare_headers(user);
        headers.insert("mcp-protocol-version", "2026-07-28".parse().unwrap());
        headers
    }

    /// The same, without a revision.
    pub(crate) fn bare_headers(&self, user: &str) -> HeaderMap {
        identity(&sign(&self.gateway, Issuer::Gateway, UID, user, now()).unwrap())
    }

    /// A request's headers, signed by the operator.
    pub(crate) fn operator_headers(&self) -> HeaderMap {
        self.operator_headers_for(UID)
    }

    /// A request's headers, signed by the operator for this workspace or pod.
    pub(crate) fn operator_headers_for(&self, uid: &str) -> HeaderMap {
        identity(&sign(&self.operator, Issuer::Operator, uid, "operator", now()).unwrap())
    }

    pub(crate) async fn post(
        &self,
        mcp: SocketAddr,
        what: &str,
        body: TestBody,
    ) -> Result<Answer, hyper::Error> {
        let mut headers = self.user_headers(USER);
        headers.insert("content-type", "application/json".parse().unwrap());
        headers.insert(crate::agent::DO, what.parse().unwrap());
        send(mcp, Method::POST, "/mcp", headers, body).await
    }

    pub(crate) async fn drain(&self, control: SocketAddr, request: &Value) -> Answer {
        let body = full(request.to_string());
        send(control, Method::POST, "/v1/drain", self.operator_headers(), body).await.unwrap()
    }
}

impl Sidecar {
    pub(crate) async fn start() -> Self {
        Self::start_with(Place::new(), &[]).await
    }

    pub(crate) async fn start_with(place: Place, over: &[(&str, &str)]) -> Self {
        let environment = place.environment(over);
        let lookup =
            |name: &str| environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        let server = Server::start(Config::read(lookup).unwrap()).await.unwrap();
        Self { place, server }
    }

    /// Waits until it has seen the agent.
    pub(crate) async fn ready(&self) {
        tokio::time::timeout(Duration::from_secs(10), async {
            while self.probe("/readyz").await.status != StatusCode::OK {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("the sidecar never became ready");
    }

    /// A call of the user.
    pub(crate) async fn call(&self, what: &str) -> Answer {
        self.try_call(what).await.unwrap()
    }

    pub(crate) async fn try_call(&self, what: &str) -> Result<Answer, hyper::Error> {
        let body = full(json!({"jsonrpc": "2.0", "id": 42, "method": "tools/call"}).to_string());
        self.place.post(self.server.mcp_addr(), what, body).await
    }

    /// A request to the MCP port with headers of the test's own.
    pub(crate) async fn request(&self, method: Method, headers: HeaderMap, body: TestBody) -> Answer {
        send(self.server.mcp_addr(), method, "/mcp", headers, body).await.unwrap()
    }

    /// An unsigned request to the control port.
    pub(crate) async fn probe(&self, path: &str) -> Answer {
        send(self.server.control_addr(), Method::GET, path, HeaderMap::new(), full("")).await.unwrap()
    }

    pub(crate) async fn report(&self) -> Value {
        let headers = self.place.operator_headers();
        let answer =
            send(self.server.control_addr(), Method::GET, "/v1/report", headers, full("")).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK);
        answer.json().await
    }

    /// A control call of the operator's.
    pub(crate) async fn control(&self, path: &str, request: &Value) -> (StatusCode, Value) {
        let body = full(request.to_string());
        let headers = self.place.operator_headers();
        let answer = send(self.server.control_addr(), Method::POST, path, headers, body).await.unwrap();
        (answer.status, answer.json().await)
    }

    pub(crate) async fn drain(&self, request: Value) -> (StatusCode, Value) {
        let answer = self.place.drain(self.server.control_addr(), &request).await;
        (answer.status, answer.json().await)
    }

    /// The value of a metric's line, which starts with `line`.
    pub(crate) async fn metric(&self, line: &str) -> Option<f64> {
        let text = self.probe("/metrics").await.text().await;
        text.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok())
    }
}

pub(crate) fn identity(token: &str) -> HeaderMap {
    HeaderMap::from_iter([(headers::IDENTITY.parse().unwrap(), token.parse().unwrap())])
}
