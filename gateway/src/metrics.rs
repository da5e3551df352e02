//! Prometheus metrics. No workspace or user name is a label.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dexorder_protocol::jsonrpc::Reason;
use http::Method;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::auth::AuthError;
use crate::chat::ChatMetrics;
use crate::limits::Limit;

/// From a workspace that is up already to one whose image must be pulled.
const WAKE_BUCKETS: [f64; 14] =
    [0.005, 0.025, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0];
/// Time to the response's head: from the gateway's own share to a long call.
const HEAD_BUCKETS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0];

/// A text out of a small fixed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Name(&'static str);

impl EncodeLabelValue for Name {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        EncodeLabelValue::encode(&self.0, encoder)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: Name,
    outcome: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabels {
    limit: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WakeLabels {
    outcome: WakeResult,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    write: WriteKind,
    outcome: Name,
}

/// How a wake ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum WakeResult {
    /// A pod takes connections.
    Awake,
    /// Something must be changed first.
    Refused,
    /// The cluster did not do what was asked for.
    Failed,
    /// Nobody waited any longer.
    Abandoned,
}

/// A write to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum WriteKind {
    Create,
    Touch,
}

/// How a request went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A workspace answered.
    Forwarded,
    /// The gateway refused it.
    Refused(Reason),
}

impl Outcome {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Forwarded => "Forwarded",
            Self::Refused(reason) => reason.as_str(),
        }
    }
}

/// What is looked up when it is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known {
    /// Workspaces, and those of anonymous visitors among them.
    pub(crate) workspaces: usize,
    pub(crate) of_visitors: usize,
    pub(crate) api_keys: usize,
    pub(crate) watch_healthy: bool,
}

/// All metrics of the gateway.
pub(crate) struct Metrics {
    registry: Registry,
    chat: ChatMetrics,
    requests: Family<RequestLabels, Counter>,
    head: Histogram,
    auth_failures: Family<ReasonLabels, Counter>,
    limited: Family<LimitLabels, Counter>,
    visitors: Counter,
    wakes: Family<WakeLabels, Histogram>,
    held: Gauge,
    streams: Gauge,
    retries: Family<ReasonLabels, Counter>,
    writes: Family<WriteLabels, Counter>,
    workspaces: Gauge,
    of_visitors: Gauge,
    api_keys: Gauge,
    watch_healthy: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("dexorder_gateway");
        let metrics = Self {
            chat: ChatMetrics::registered(&mut registry),
            registry,
            requests: Family::default(),
            head: Histogram::new(HEAD_BUCKETS),
            auth_failures: Family::default(),
            limited: Family::default(),
            visitors: Counter::default(),
            wakes: Family::new_with_constructor(|| Histogram::new(WAKE_BUCKETS)),
            held: Gauge::default(),
            streams: Gauge::default(),
            retries: Family::default(),
            writes: Family::default(),
            workspaces: Gauge::default(),
            of_visitors: Gauge::default(),
            api_keys: Gauge::default(),
            watch_healthy: Gauge::default(),
        };
        metrics.registered()
    }

    fn registered(mut self) -> Self {
        let registry = &mut self.registry;
        registry.register(
            "build",
            "Version of the gateway",
            Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]),
        );
        registry.register("requests", "MCP requests, by method and outcome", self.requests.clone());
        registry.register_with_unit(
            "response_head",
            "Time from the arrival of a request to the head of the workspace's response",
            Unit::Seconds,
            self.head.clone(),
        );
        registry.register("auth_failures", "Requests without a token that holds", self.auth_failures.clone());
        registry.register("visitors", "Anonymous visitors that were made", self.visitors.clone());
        registry.register(
            "limited",
            "What was refused because it was too much, by limit",
            self.limited.clone(),
        );
        registry.register_with_unit(
            "wake_duration",
            "Time of a connect that could not be answered from what was known",
            Unit::Seconds,
            self.wakes.clone(),
        );
        registry.register("held_requests", "Requests that wait for their workspace now", self.held.clone());
        registry.register("open_streams", "Event streams that are open now", self.streams.clone());
        registry.register(
            "retries",
            "Requests sent again because a sidecar had not begun them",
            self.retries.clone(),
        );
        registry.register("workspace_writes", "Writes to the cluster", self.writes.clone());
        registry.register("workspaces", "Workspaces that are known", self.workspaces.clone());
        registry.register(
            "anonymous_workspaces",
            "Workspaces of anonymous visitors that are known",
            self.of_visitors.clone(),
        );
        registry.register("api_keys", "API keys that are known", self.api_keys.clone());
        registry.register(
            "watch_healthy",
            "1 while the watch of the workspaces is current",
            self.watch_healthy.clone(),
        );
        self
    }

    /// The share of the chat.
    pub(crate) fn chat(&self) -> ChatMetrics {
        self.chat.clone()
    }

    pub(crate) fn request(&self, method: &Method, outcome: Outcome) {
        let method = Name(match *method {
            Method::POST => "POST",
            Method::GET => "GET",
            Method::DELETE => "DELETE",
            _ => "other",
        });
        self.requests.get_or_create(&RequestLabels { method, outcome: Name(outcome.as_str()) }).inc();
    }

    pub(crate) fn response_head(&self, after: Duration) {
        self.head.observe(after.as_secs_f64());
    }

    pub(crate) fn auth_failure(&self, error: AuthError) {
        self.auth_failures.get_or_create(&ReasonLabels { reason: Name(error.label()) }).inc();
    }

    pub(crate) fn visitor(&self) {
        self.visitors.inc();
    }

    pub(crate) fn limited(&self, limit: Limit) {
        self.limited.get_or_create(&LimitLabels { limit: Name(limit.label()) }).inc();
    }

    pub(crate) fn retry(&self, reason: &'static str) {
        self.retries.get_or_create(&ReasonLabels { reason: Name(reason) }).inc();
    }

    pub(crate) fn wrote(&self, write: WriteKind, done: bool) {
        let outcome = Name(if done { "done" } else { "failed" });
        self.writes.get_or_create(&WriteLabels { write, outcome }).inc();
    }

    /// Counts a request as held until the result is dropped.
    pub(crate) fn hold(&self) -> Raised {
        Raised::new(&self.held)
    }

    /// Counts a stream as open until the result is dropped.
    pub(crate) fn stream(&self) -> Raised {
        Raised::new(&self.streams)
    }

    /// Measures a wake.
    pub(crate) fn wake(self: &Arc<Self>) -> WakeTimer {
        WakeTimer { metrics: Arc::clone(self), begun: Instant::now(), result: WakeResult::Abandoned }
    }

    /// The text of a scrape.
    pub(crate) fn text(&self, known: Known) -> String {
        let Known { workspaces, of_visitors, api_keys, watch_healthy } = known;
        for (gauge, count) in
            [(&self.workspaces, workspaces), (&self.of_visitors, of_visitors), (&self.api_keys, api_keys)]
        {
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        self.watch_healthy.set(i64::from(watch_healthy));
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// A gauge that is one higher while this lives.
pub(crate) struct Raised(Gauge);

impl Raised {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Records the length of a wake when it is dropped.
pub(crate) struct WakeTimer {
    metrics: Arc<Metrics>,
    begun: Instant,
    result: WakeResult,
}

impl WakeTimer {
    pub(crate) fn end(mut self, result: WakeResult) {
        self.result = result;
    }
}

impl Drop for WakeTimer {
    fn drop(&mut self) {
        let labels = WakeLabels { outcome: self.result };
        self.metrics.wakes.get_or_create(&labels).observe(self.begun.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use dexorder_oidc::TokenError;

    use super::*;

    #[test]
    fn a_scrape_shows_what_was_counted() {
        let metrics = Arc::new(Metrics::new());
        metrics.request(&Method::POST, Outcome::Forwarded);
        metrics.request(&Method::PATCH, Outcome::Refused(Reason::NotFound));
        metrics.auth_failure(TokenError::Expired.into());
        metrics.wake().end(WakeResult::Awake);
        drop(metrics.wake());
        let held = metrics.hold();
        let text = metrics.text(Known { workspaces: 3, of_visitors: 1, api_keys: 2, watch_healthy: true });
        for line in [
            r#"dexorder_gateway_requests_total{method="POST",outcome="Forwarded"} 1"#,
            r#"dexorder_gateway_requests_total{method="other",outcome="NotFound"} 1"#,
            r#"dexorder_gateway_auth_failures_total{reason="expired"} 1"#,
            r#"dexorder_gateway_wake_duration_seconds_count{outcome="Awake"} 1"#,
            r#"dexorder_gateway_wake_duration_seconds_count{outcome="Abandoned"} 1"#,
            "dexorder_gateway_held_requests 1",
            "dexorder_gateway_workspaces 3",
            "dexorder_gateway_anonymous_workspaces 1",
            "dexorder_gateway_api_keys 2",
            "dexorder_gateway_watch_healthy 1",
        ] {
            assert!(text.contains(line), "{line} is missing in:\n{text}");
        }
        drop(held);
        assert!(metrics.text(Known::default()).contains("dexorder_gateway_held_requests 0"));
    }
}
