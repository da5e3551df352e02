//! What the operator counts. No label holds the name of a workspace or a user.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::plan::Started;

/// Labels of a write to the API server.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WriteLabels {
    verb: &'static str,
    kind: &'static str,
}

/// Labels of a reconcile.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

/// Labels of a start.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StartLabels {
    kind: &'static str,
    tier: String,
}

/// The operator's metrics and their registry.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    writes: Family<WriteLabels, Counter>,
    reconciles: Family<OutcomeLabels, Counter>,
    duration: Histogram,
    starts: Family<StartLabels, Histogram>,
    leader: Gauge<i64, std::sync::atomic::AtomicI64>,
    sidecar_calls: Family<OutcomeLabels, Counter<u64, AtomicU64>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("dexorder");
        let writes = Family::default();
        registry.register("api_writes", "Writes to the API server", writes.clone());
        let reconciles = Family::default();
        registry.register("reconciles", "Looks at a workspace by outcome", reconciles.clone());
        let duration = Histogram::new([0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 60.0]);
        registry.register("reconcile_duration_seconds", "Time of a look at a workspace", duration.clone());
        let starts = Family::new_with_constructor(
            (|| Histogram::new([0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0]))
                as fn() -> Histogram,
        );
        registry.register(
            "start_duration_seconds",
            "Time from a start's request to a ready workspace",
            starts.clone(),
        );
        let leader = Gauge::default();
        registry.register("leader", "1 while this replica acts", leader.clone());
        let sidecar_calls = Family::default();
        registry.register("sidecar_calls", "Control calls to sidecars by outcome", sidecar_calls.clone());
        Self { registry, writes, reconciles, duration, starts, leader, sidecar_calls }
    }
}

impl Metrics {
    /// Counts a write to the API server.
    pub fn wrote(&self, verb: &'static str, kind: &'static str) {
        self.writes.get_or_create(&WriteLabels { verb, kind }).inc();
    }

    /// Counts a look at a workspace.
    pub fn reconciled(&self, outcome: &'static str, took: std::time::Duration) {
        self.reconciles.get_or_create(&OutcomeLabels { outcome }).inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// Counts a start that ended in a ready workspace.
    pub fn started(&self, tier: &str, started: &Started) {
        let labels = StartLabels { kind: started.kind.as_str(), tier: tier.to_owned() };
        self.starts.get_or_create(&labels).observe(started.took.as_secs_f64());
    }

    /// Counts a call to a sidecar.
    pub fn called_sidecar(&self, outcome: &'static str) {
        self.sidecar_calls.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// Tells whether this replica acts.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// All metrics in the `OpenMetrics` text format.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
