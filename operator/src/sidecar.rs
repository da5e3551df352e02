//! The operator's calls to a sidecar's control API. [client]

use std::{net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use dexorder_protocol::{
    CONTROL_PORT, Issuer, SigningKey,
    control::{
        DRAIN_PATH, DrainOutcome, DrainRequest, NOTIFY_PATH, NotifyOutcome, NotifyRequest, REPORT_PATH,
        ROTATE_KEY_PATH, Report, RotateKeyOutcome, RotateKeyRequest,
    },
    headers,
    identity::{self, IdentityError, OPERATOR_SUBJECT},
};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use k8s_openapi::jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};

/// How long a report, a notification or a rotation may take.
const SHORT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a drain may take: the sidecar's own limit and a little more.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(55);
/// The longest answer that is read.
const MOST_BYTES: usize = 64 * 1024;

/// Why a sidecar gave no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum SidecarError {
    /// The pod's address is no IP address.
    #[error("the pod's address \"{0}\" is no IP address")]
    Address(String),
    /// The call could not be signed.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The call could not be put into words.
    #[error("failed to build a call to the sidecar at {ip}")]
    Request {
        /// The pod.
        ip: String,
        /// What failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Nobody answered in time.
    #[error("the sidecar at {0} did not answer within {1:?}")]
    Timeout(String, Duration),
    /// The connection failed.
    #[error("failed to reach the sidecar at {ip}: {source}")]
    Connect {
        /// The pod.
        ip: String,
        /// What failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The answer is none of the expected ones.
    #[error("the sidecar at {ip} answered {status}: {text}")]
    Answer {
        /// The pod.
        ip: String,
        /// The HTTP status.
        status: StatusCode,
        /// The beginning of the body.
        text: String,
    },
}

/// Calls sidecars, signed as the operator.
#[derive(Clone, Debug)]
pub struct Sidecars {
    client: Client<HttpConnector, Full<Bytes>>,
    key: Arc<SigningKey>,
}

impl Sidecars {
    /// A caller that signs with this key.
    pub fn new(key: Arc<SigningKey>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(Duration::from_secs(1)));
        connector.set_nodelay(true);
        Self { client: Client::builder(TokioExecutor::new()).pool_max_idle_per_host(1).build(connector), key }
    }

    /// Asks for the report.
    pub async fn report(&self, ip: &str, workspace_uid: &str) -> Result<Report, SidecarError> {
        let request = self.request(ip, workspace_uid, Method::GET, REPORT_PATH, Bytes::new())?;
        let (status, body) = within(ip, SHORT_TIMEOUT, self.send(ip, request)).await?;
        parse(ip, status, &body)
    }

    /// Asks to drain. A refusal is an outcome, no error.
    pub async fn drain(
        &self,
        ip: &str,
        workspace_uid: &str,
        request: &DrainRequest,
    ) -> Result<DrainOutcome, SidecarError> {
        let (status, body) = self.post(ip, workspace_uid, DRAIN_PATH, request, DRAIN_TIMEOUT).await?;
        let status = if status == StatusCode::CONFLICT { StatusCode::OK } else { status };
        parse(ip, status, &body)
    }

    /// Asks a workspace of auth mode Direct for another key. The same request is carried out once.
    pub async fn rotate_key(
        &self,
        ip: &str,
        workspace_uid: &str,
        request: &str,
    ) -> Result<RotateKeyOutcome, SidecarError> {
        let request = RotateKeyRequest { request: request.to_owned() };
        let (status, body) = self.post(ip, workspace_uid, ROTATE_KEY_PATH, &request, SHORT_TIMEOUT).await?;
        parse(ip, status, &body)
    }

    /// Has the sidecar tell the clients that listen.
    pub async fn notify(
        &self,
        ip: &str,
        workspace_uid: &str,
        request: &NotifyRequest,
    ) -> Result<NotifyOutcome, SidecarError> {
        let (status, body) = self.post(ip, workspace_uid, NOTIFY_PATH, request, SHORT_TIMEOUT).await?;
        parse(ip, status, &body)
    }

    async fn post(
        &self,
        ip: &str,
        workspace_uid: &str,
        path: &str,
        body: &impl Serialize,
        limit: Duration,
    ) -> Result<(StatusCode, Bytes), SidecarError> {
        let body = serde_json::to_vec(body)
            .map_err(|error| SidecarError::Request { ip: ip.to_owned(), source: error.into() })?;
        let request = self.request(ip, workspace_uid, Method::POST, path, body.into())?;
        within(ip, limit, self.send(ip, request)).await
    }

    fn request(
        &self,
        ip: &str,
        workspace_uid: &str,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, SidecarError> {
        let host = match ip.parse::<IpAddr>() {
            Ok(IpAddr::V4(ip)) => ip.to_string(),
            Ok(IpAddr::V6(ip)) => format!("[{ip}]"),
            Err(_) => return Err(SidecarError::Address(ip.to_owned())),
        };
        let now = Timestamp::now().as_second();
        let token = identity::sign(&self.key, Issuer::Operator, workspace_uid, OPERATOR_SUBJECT, now)?;
        Request::builder()
            .method(method)
            .uri(format!("http://{host}:{CONTROL_PORT}{path}"))
            .header(headers::IDENTITY, token)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| SidecarError::Request { ip: ip.to_owned(), source: error.into() })
    }

    async fn send(
        &self,
        ip: &str,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), SidecarError> {
        let failed = |source| SidecarError::Connect { ip: ip.to_owned(), source };
        let response = self.client.request(request).await.map_err(|error| failed(error.into()))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MOST_BYTES).collect().await.map_err(failed)?;
        Ok((status, body.to_bytes()))
    }
}

async fn within<T>(
    ip: &str,
    limit: Duration,
    call: impl Future<Output = Result<T, SidecarError>>,
) -> Result<T, SidecarError> {
    tokio::time::timeout(limit, call).await.map_err(|_| SidecarError::Timeout(ip.to_owned(), limit))?
}

fn parse<T: DeserializeOwned>(ip: &str, status: StatusCode, body: &[u8]) -> Result<T, SidecarError> {
    let refused = || SidecarError::Answer {
        ip: ip.to_owned(),
        status,
        text: String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned(),
    };
    if status != StatusCode::OK {
        return Err(refused());
    }
    serde_json::from_slice(body).map_err(|_| refused())
}
