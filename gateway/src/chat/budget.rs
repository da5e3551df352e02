//! How many tokens one user may use in a day, by the user's tier. Each replica counts for itself, from its start on.

use std::collections::HashMap;
use std::time::Duration;

use super::llm::Usage;
use crate::config::ChatConfig;
use crate::limits::{Limit, Rate, counted};
use crate::metrics::Metrics;
use crate::refusal::Refusal;

const DAY: Duration = Duration::from_hours(24);
/// Users of one tier who are counted, at most.
const MOST_USERS: usize = 50_000;

/// Those of all tiers.
pub(crate) struct Budgets {
    /// Of tiers that have no model of their own.
    usual: Rate<String>,
    tiers: HashMap<String, Rate<String>>,
}

impl Budgets {
    pub(crate) fn new(config: &ChatConfig) -> Self {
        let rate = |tokens: Option<u64>| Rate::over(DAY, tokens.unwrap_or(0), MOST_USERS);
        let tiers = config.tiers.iter().map(|(tier, model)| (tier.clone(), rate(model.day_tokens)));
        Self { usual: rate(config.model.day_tokens), tiers: tiers.collect() }
    }

    fn of(&self, tier: &str) -> &Rate<String> {
        self.tiers.get(tier).unwrap_or(&self.usual)
    }

    /// Whether something is left for another turn.
    pub(crate) fn check(&self, tier: &str, user: &str, metrics: &Metrics) -> Result<(), Refusal> {
        counted(Limit::Tokens, self.of(tier).look(user.to_owned()), metrics)
    }

    /// Counts what a turn has used.
    pub(crate) fn spend(&self, tier: &str, user: &str, usage: Usage) {
        if usage.total() > 0 {
            self.of(tier).spend(user.to_owned(), usage.total());
        }
    }
}
