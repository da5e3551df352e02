//! What the operator counts. No label holds the name of a workspace or a user.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use dexorder_crds::StartPhases;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

use crate::plan::{Answered, Started};

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

/// Labels of a phase of a start.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PhaseLabels {
    kind: &'static str,
    phase: &'static str,
    tier: String,
}

/// Labels of the line of starts.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LineLabels {
    state: &'static str,
}

/// Labels of a warm pool.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PoolLabels {
    state: &'static str,
    tier: String,
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
    phases: Family<PhaseLabels, Histogram>,
    line: Family<LineLabels, Gauge>,
    pool: Family<PoolLabels, Gauge>,
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
        let starts = Family::new_with_constructor(of_starts as fn() -> Histogram);
        registry.register(
            "start_duration_seconds",
            "Time from a start's request to a ready workspace",
            starts.clone(),
        );
        let phases = Family::new_with_constructor(of_starts as fn() -> Histogram);
        registry.register(
            "start_phase_seconds",
            "Time from a start's request to the end of each of its phases",
            phases.clone(),
        );
        let line = Family::default();
        registry.register(
            "line",
            "Workspaces that start, and that wait for their turn to start",
            line.clone(),
        );
        let pool = Family::default();
        registry.register(
            "pool_members",
            "Members of the warm pools: wanted, ready to be taken over, and on their way",
            pool.clone(),
        );
        let leader = Gauge::default();
        registry.register("leader", "1 while this replica acts", leader.clone());
        let sidecar_calls = Family::default();
        registry.register("sidecar_calls", "Control calls to sidecars by outcome", sidecar_calls.clone());
        Self { registry, writes, reconciles, duration, starts, phases, line, pool, leader, sidecar_calls }
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
        for (phase, took) in phases_of(&started.phases) {
            let labels = PhaseLabels { kind: started.kind.as_str(), phase, tier: tier.to_owned() };
            self.phases.get_or_create(&labels).observe(took);
        }
    }

    /// Counts the first answer after a start, as the last of its phases.
    pub fn answered(&self, tier: &str, answered: Answered) {
        let labels = PhaseLabels { kind: answered.kind.as_str(), phase: "answer", tier: tier.to_owned() };
        self.phases.get_or_create(&labels).observe(answered.took.as_secs_f64());
    }

    /// Tells how many start and how many wait.
    pub fn line(&self, starting: usize, waiting: usize) {
        for (state, count) in [("starting", starting), ("waiting", waiting)] {
            self.line.get_or_create(&LineLabels { state }).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Tells how many members the pool of a tier has and should have.
    pub fn pool(&self, tier: &str, wanted: usize, ready: usize, starting: usize) {
        for (state, count) in [("wanted", wanted), ("ready", ready), ("starting", starting)] {
            let labels = PoolLabels { state, tier: tier.to_owned() };
            if wanted + ready + starting == 0 {
                self.pool.remove(&labels);
            } else {
                self.pool.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
            }
        }
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

fn of_starts() -> Histogram {
    Histogram::new([0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0])
}

/// The seconds from the request to each phase that was seen. Two clocks may differ: no phase ends before the request.
fn phases_of(phases: &StartPhases) -> Vec<(&'static str, f64)> {
    let StartPhases {
        kind: _,
        request_time,
        create_time,
        scheduled_time,
        pulled_time,
        sidecar_ready_time,
        agent_ready_time,
        // It may come later than the others.
        first_answer_time: _,
    } = phases;
    let Some(request) = request_time else {
        return Vec::new();
    };
    let since = |time: &MicroTime| time.0.duration_since(request.0).as_secs_f64().max(0.0);
    [
        ("created", create_time),
        ("scheduled", scheduled_time),
        ("pulled", pulled_time),
        ("sidecar", sidecar_ready_time),
        ("agent", agent_ready_time),
    ]
    .into_iter()
    .filter_map(|(phase, time)| Some((phase, since(time.as_ref()?))))
    .collect()
}
