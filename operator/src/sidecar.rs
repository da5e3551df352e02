//! The operator's calls to a sidecar's control API. [client]

use std::{
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use bytes::Bytes;
use dexorder_protocol::{
    CONTROL_PORT, Issuer, SigningKey,
    control::{
        ASSIGN_PATH, Assignment, DRAIN_PATH, DrainOutcome, DrainRequest, NOTIFY_PATH, NotifyOutcome,
        NotifyRequest, REPORT_PATH, ROTATE_KEY_PATH, Report, RotateKeyOutcome, RotateKeyRequest,
    },
    headers,
    identity::{self, IdentityError, OPERATOR_SUBJECT},
};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use k8s_openapi::jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use tower::{BoxError, ServiceExt, service_fn, util::BoxCloneSyncService};

use crate::{clock::Clock, skew::Skews};

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

/// A sidecar's answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The sidecar's clock, if the answer says.
    pub date: Option<Timestamp>,
    /// The body.
    pub body: Bytes,
}

/// What carries a call to a sidecar and its answer back.
pub type Transport = BoxCloneSyncService<Request<Full<Bytes>>, Answer, BoxError>;

/// Calls sidecars, signed as the operator.
#[derive(Clone, Debug)]
pub struct Sidecars {
    transport: Transport,
    key: Arc<RwLock<Arc<SigningKey>>>,
    clock: Clock,
    skews: Arc<Skews>,
}

impl Sidecars {
    /// A caller that signs with this key.
    pub fn new(key: Arc<SigningKey>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(Duration::from_secs(1)));
        connector.set_nodelay(true);
        let client: Client<_, Full<Bytes>> =
            Client::builder(TokioExecutor::new()).pool_max_idle_per_host(1).build(connector);
        let over_the_network = service_fn(move |request| {
            let client = client.clone();
            async move {
                let response = client.request(request).await?;
                let (head, body) = response.into_parts();
                let body = Limited::new(body, MOST_BYTES).collect().await?.to_bytes();
                Ok::<_, BoxError>(Answer { status: head.status, date: date(&head.headers), body })
            }
        });
        Self::over(BoxCloneSyncService::new(over_the_network), key, Clock::default())
    }

    /// A caller whose calls go that way.
    pub fn over(transport: Transport, key: Arc<SigningKey>, clock: Clock) -> Self {
        Self { transport, key: Arc::new(RwLock::new(key)), clock, skews: Arc::default() }
    }

    /// Forgets workspaces that are gone.
    pub(crate) fn retain(&self, exists: impl Fn(&str) -> bool) {
        self.skews.retain(exists);
    }

    /// Signs with this key from now on. Tells whether it is another one than before.
    pub fn sign_with(&self, key: Arc<SigningKey>) -> bool {
        let mut present = self.key.write().unwrap_or_else(PoisonError::into_inner);
        let changes = present.kid() != key.kid();
        *present = key;
        changes
    }

    /// Asks for the report. Its times are by this clock.
    pub async fn report(&self, ip: &str, workspace_uid: &str) -> Result<Report, SidecarError> {
        let call = Call { ip, workspace_uid, method: Method::GET, path: REPORT_PATH, body: Bytes::new() };
        let (status, body) = within(ip, SHORT_TIMEOUT, self.send(&call)).await?;
        Ok(self.translated(workspace_uid, parse(ip, status, &body)?))
    }

    /// Tells a sidecar of the warm pool whom it serves. Its times are by this clock.
    pub async fn assign(
        &self,
        ip: &str,
        pod_uid: &str,
        assignment: &Assignment,
    ) -> Result<Report, SidecarError> {
        // Whether it was told before nobody knows: at this path the pod's UID stays good.
        let (status, body) = self.post(ip, pod_uid, ASSIGN_PATH, assignment, SHORT_TIMEOUT).await?;
        Ok(self.translated(pod_uid, parse(ip, status, &body)?))
    }

    /// Asks to drain. A refusal is an outcome, no error.
    pub async fn drain(
        &self,
        ip: &str,
        workspace_uid: &str,
        request: &DrainRequest,
    ) -> Result<DrainOutcome, SidecarError> {
        let mut request = request.clone();
        if let Some(since) = request.idle_since_time {
            // An operator that was started anew does not know the sidecar's clock, by which this is judged.
            self.report(ip, workspace_uid).await?;
            request.idle_since_time = Some(since + self.skews.of(workspace_uid));
        }
        let (status, body) = self.post(ip, workspace_uid, DRAIN_PATH, &request, DRAIN_TIMEOUT).await?;
        let status = if status == StatusCode::CONFLICT { StatusCode::OK } else { status };
        let outcome: DrainOutcome = parse(ip, status, &body)?;
        let report = outcome.report.map(|report| Box::new(self.translated(workspace_uid, *report)));
        Ok(DrainOutcome { report, ..outcome })
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
        if status == StatusCode::NOT_FOUND {
            // A sidecar from before this path: it knows nobody to tell.
            return Ok(NotifyOutcome { streams: 0 });
        }
        parse(ip, status, &body)
    }

    async fn post(
        &self,
        ip: &str,
        workspace_uid: &str,
        path: &'static str,
        body: &impl Serialize,
        limit: Duration,
    ) -> Result<(StatusCode, Bytes), SidecarError> {
        let body = serde_json::to_vec(body)
            .map_err(|error| SidecarError::Request { ip: ip.to_owned(), source: error.into() })?;
        let call = Call { ip, workspace_uid, method: Method::POST, path, body: body.into() };
        within(ip, limit, self.send(&call)).await
    }

    /// Sends a call, and once more if the sidecar refused it by a clock that was not known before.
    async fn send(&self, call: &Call<'_>) -> Result<(StatusCode, Bytes), SidecarError> {
        let (mut answer, learnt) = self.try_send(call).await?;
        if answer.status == StatusCode::UNAUTHORIZED && learnt {
            answer = self.try_send(call).await?.0;
        }
        Ok((answer.status, answer.body))
    }

    async fn try_send(&self, call: &Call<'_>) -> Result<(Answer, bool), SidecarError> {
        let Call { ip, workspace_uid, .. } = call;
        let answer = self.transport.clone().oneshot(self.request(call)?).await;
        let answer = answer.map_err(|source| SidecarError::Connect { ip: (*ip).to_owned(), source })?;
        let learnt = answer.date.is_some_and(|date| self.skews.learn(workspace_uid, date, self.clock.now()));
        if learnt {
            let ahead = self.skews.of(workspace_uid).as_secs();
            tracing::warn!(ip, ahead, "the clock of the pod's node differs from this one");
        }
        Ok((answer, learnt))
    }

    fn request(&self, call: &Call<'_>) -> Result<Request<Full<Bytes>>, SidecarError> {
        let Call { ip, workspace_uid, method, path, body } = call;
        let host = match ip.parse::<IpAddr>() {
            Ok(IpAddr::V4(ip)) => ip.to_string(),
            Ok(IpAddr::V6(ip)) => format!("[{ip}]"),
            Err(_) => return Err(SidecarError::Address((*ip).to_owned())),
        };
        let now = (self.clock.now() + self.skews.of(workspace_uid)).as_second();
        let key = self.key.read().unwrap_or_else(PoisonError::into_inner).clone();
        let token = identity::sign(&key, Issuer::Operator, workspace_uid, OPERATOR_SUBJECT, now)?;
        Request::builder()
            .method(method)
            .uri(format!("http://{host}:{CONTROL_PORT}{path}"))
            .header(headers::IDENTITY, token)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Full::new(body.clone()))
            .map_err(|error| SidecarError::Request { ip: (*ip).to_owned(), source: error.into() })
    }

    /// The report by this clock.
    fn translated(&self, workspace_uid: &str, report: Report) -> Report {
        let skew = self.skews.of(workspace_uid);
        Report {
            start_time: report.start_time - skew,
            last_activity_time: report.last_activity_time - skew,
            agent_ready_time: report.agent_ready_time.map(|time| time - skew),
            first_answer_time: report.first_answer_time.map(|time| time - skew),
            ..report
        }
    }
}

/// A call to a sidecar.
struct Call<'a> {
    ip: &'a str,
    workspace_uid: &'a str,
    method: Method,
    path: &'static str,
    body: Bytes,
}

/// The clock of whoever answers.
fn date(headers: &HeaderMap) -> Option<Timestamp> {
    let text = headers.get(http::header::DATE)?.to_str().ok()?;
    jiff::fmt::rfc2822::parse(text).ok().map(|date| date.timestamp())
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
