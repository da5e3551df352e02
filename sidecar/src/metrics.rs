//! Prometheus metrics. No workspace or user name is a label: the scrape target says which pod it is.

use std::time::Instant;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use dexorder_protocol::control::NotIdle;
use dexorder_protocol::jsonrpc::Reason;

/// How long calls take, from a cached answer to a long backtest.
const BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0, 30.0, 120.0, 600.0];

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Outcome {
    /// The agent's response went through whole.
    Answered,
    /// The client went away first.
    ClientLeft,
    /// The agent broke off in the middle of its response.
    AgentBrokeOff,
    /// A drain's deadline passed, or the session of a visitor who listened has ended.
    CutOff,
    Unauthenticated,
    CredentialRefused,
    WrongUser,
    NotForVisitors,
    TooManyRequests,
    UnknownKey,
    Replayed,
    InvalidRequest,
    RequestTooLarge,
    NotFound,
    Draining,
    AgentStarting,
    AgentUnavailable,
    /// A reason that the sidecar itself never gives.
    Other,
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum DrainResult {
    Saved,
    SaveFailed,
    InFlight,
    Active,
    Busy,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DrainLabels {
    outcome: DrainResult,
}

/// What is read at the moment of a scrape.
pub(crate) struct Moment {
    pub(crate) in_flight: u32,
    pub(crate) open_streams: u32,
    pub(crate) public_sessions: usize,
    pub(crate) agent_ready: bool,
    pub(crate) agent_start_seconds: Option<f64>,
    pub(crate) last_activity_seconds: f64,
    pub(crate) draining: bool,
}

/// All metrics of the sidecar.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    duration: Histogram,
    drains: Family<DrainLabels, Counter>,
    in_flight: Gauge,
    open_streams: Gauge,
    public_sessions: Gauge,
    notifications: Counter,
    agent_ready: Gauge,
    agent_start: Gauge<f64, std::sync::atomic::AtomicU64>,
    last_activity: Gauge<f64, std::sync::atomic::AtomicU64>,
    draining: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let metrics = Self {
            registry: Registry::with_prefix("dexorder_sidecar"),
            requests: Family::default(),
            duration: Histogram::new(BUCKETS),
            drains: Family::default(),
            in_flight: Gauge::default(),
            open_streams: Gauge::default(),
            public_sessions: Gauge::default(),
            notifications: Counter::default(),
            agent_ready: Gauge::default(),
            agent_start: Gauge::default(),
            last_activity: Gauge::default(),
            draining: Gauge::default(),
        };
        metrics.registered()
    }

    fn registered(mut self) -> Self {
        let registry = &mut self.registry;
        registry.register("requests", "MCP requests that ended, by outcome", self.requests.clone());
        registry.register_with_unit(
            "request_duration",
            "Time from the arrival of a call to the end of its response",
            Unit::Seconds,
            self.duration.clone(),
        );
        registry.register("drains", "Drains that were asked for, by outcome", self.drains.clone());
        registry.register("in_flight", "Calls that run now", self.in_flight.clone());
        registry.register("open_streams", "Streams that only listen", self.open_streams.clone());
        registry.register(
            "public_sessions",
            "Sessions of anonymous visitors that came back and have not ended",
            self.public_sessions.clone(),
        );
        registry.register(
            "notifications",
            "Notifications of the operator's that were put on a stream",
            self.notifications.clone(),
        );
        registry.register("agent_ready", "1 when the agent answers", self.agent_ready.clone());
        registry.register_with_unit(
            "agent_start",
            "Time from the start of the sidecar to the first answer of the agent, 0 before",
            Unit::Seconds,
            self.agent_start.clone(),
        );
        registry.register_with_unit(
            "last_activity_timestamp",
            "Unix time of the last activity",
            Unit::Seconds,
            self.last_activity.clone(),
        );
        registry.register("draining", "1 when new requests are refused", self.draining.clone());
        self
    }

    /// Counts a request that ended. Only calls have a duration worth a histogram.
    pub(crate) fn request_ended(&self, outcome: Outcome, began: Instant, is_call: bool) {
        self.requests.get_or_create(&RequestLabels { outcome }).inc();
        if is_call {
            self.duration.observe(began.elapsed().as_secs_f64());
        }
    }

    /// Counts streams that were told something.
    pub(crate) fn notified(&self, streams: u32) {
        self.notifications.inc_by(streams.into());
    }

    /// Counts a drain.
    pub(crate) fn drain_ended(&self, outcome: DrainResult) {
        self.drains.get_or_create(&DrainLabels { outcome }).inc();
    }

    /// The text of a scrape.
    pub(crate) fn text(&self, moment: &Moment) -> Result<String, std::fmt::Error> {
        self.in_flight.set(i64::from(moment.in_flight));
        self.open_streams.set(i64::from(moment.open_streams));
        self.public_sessions.set(i64::try_from(moment.public_sessions).unwrap_or(i64::MAX));
        self.agent_ready.set(i64::from(moment.agent_ready));
        self.agent_start.set(moment.agent_start_seconds.unwrap_or_default());
        self.last_activity.set(moment.last_activity_seconds);
        self.draining.set(i64::from(moment.draining));
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl From<Reason> for Outcome {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Unauthenticated => Self::Unauthenticated,
            Reason::WrongUser => Self::WrongUser,
            Reason::CredentialRefused => Self::CredentialRefused,
            Reason::NotForVisitors => Self::NotForVisitors,
            Reason::TooManyRequests => Self::TooManyRequests,
            Reason::UnknownKey => Self::UnknownKey,
            Reason::Replayed => Self::Replayed,
            Reason::InvalidRequest => Self::InvalidRequest,
            Reason::RequestTooLarge => Self::RequestTooLarge,
            Reason::NotFound => Self::NotFound,
            Reason::Draining => Self::Draining,
            Reason::AgentStarting => Self::AgentStarting,
            Reason::AgentUnavailable => Self::AgentUnavailable,
            _ => Self::Other,
        }
    }
}

impl From<NotIdle> for DrainResult {
    fn from(reason: NotIdle) -> Self {
        match reason {
            NotIdle::InFlight => Self::InFlight,
            NotIdle::Active => Self::Active,
            NotIdle::Busy => Self::Busy,
        }
    }
}
