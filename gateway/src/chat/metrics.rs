//! Metrics of the chat. Labels are models, which the configuration names, and outcomes; never users.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::llm::Usage;
use super::record::Ending;

const OVERHEAD_BUCKETS: [f64; 10] = [0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 1.0, 5.0];
const TURN_BUCKETS: [f64; 10] = [0.05, 0.25, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TurnLabels {
    model: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenLabels {
    model: String,
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

/// The chat's share of the metrics.
#[derive(Clone)]
pub(crate) struct ChatMetrics {
    turns: Family<TurnLabels, Histogram>,
    overhead: Histogram,
    tokens: Family<TokenLabels, Counter>,
    calls: Family<OutcomeLabels, Counter>,
    saves: Family<OutcomeLabels, Counter>,
    pub(crate) running: Gauge,
}

impl ChatMetrics {
    pub(crate) fn registered(registry: &mut Registry) -> Self {
        let metrics = Self {
            turns: Family::new_with_constructor(|| Histogram::new(TURN_BUCKETS)),
            overhead: Histogram::new(OVERHEAD_BUCKETS),
            tokens: Family::default(),
            calls: Family::default(),
            saves: Family::default(),
            running: Gauge::default(),
        };
        registry.register_with_unit(
            "chat_turn_duration",
            "Time of a turn, by model and outcome",
            Unit::Seconds,
            metrics.turns.clone(),
        );
        registry.register_with_unit(
            "chat_overhead",
            "Time of complete turns that was neither the wake's nor the model's nor a tool's",
            Unit::Seconds,
            metrics.overhead.clone(),
        );
        registry.register("chat_tokens", "Tokens that models have used", metrics.tokens.clone());
        registry.register("chat_tool_calls", "Tool calls of turns", metrics.calls.clone());
        registry.register("chat_turns_saved", "Turns written to workspaces", metrics.saves.clone());
        registry.register("chat_running_turns", "Turns that run now", metrics.running.clone());
        metrics
    }

    pub(crate) fn turn(&self, model: &str, ending: &Ending, usage: Usage, took: Duration) {
        let outcome = match ending {
            Ending::Complete => "complete",
            Ending::Interrupted => "interrupted",
            Ending::Failed(_) => "failed",
        };
        let labels = TurnLabels { model: model.to_owned(), outcome };
        self.turns.get_or_create(&labels).observe(took.as_secs_f64());
        for (kind, count) in
            [("input", usage.input), ("output", usage.output), ("cached_input", usage.cached)]
        {
            let labels = TokenLabels { model: model.to_owned(), kind };
            self.tokens.get_or_create(&labels).inc_by(count);
        }
    }

    /// What the gateway and the keeping took of a turn.
    pub(crate) fn overhead(&self, took: Duration) {
        self.overhead.observe(took.as_secs_f64());
    }

    pub(crate) fn called(&self, failed: bool) {
        let outcome = if failed { "failed" } else { "done" };
        self.calls.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    pub(crate) fn saved(&self, done: bool) {
        let outcome = if done { "done" } else { "failed" };
        self.saves.get_or_create(&OutcomeLabels { outcome }).inc();
    }
}
