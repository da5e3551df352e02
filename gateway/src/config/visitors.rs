//! The part of the configuration for anonymous visitors.

use std::time::Duration;

use serde::Deserialize;

use super::limits::rate;
use super::values::{Problems, label};

const MOST_LIFETIME: Duration = Duration::from_hours(7 * 24);

/// Anonymous visitors.
#[derive(Clone, Debug)]
pub struct VisitorsConfig {
    /// Tier of their workspaces.
    pub tier: String,
    /// How long one may come back. The operator removes the workspace after the tier's `maxLifetime`.
    pub lifetime: Duration,
    /// Most workspaces of visitors that there may be.
    pub most: usize,
    /// New visitors a minute from one address; 0: no limit.
    pub new_per_address: u32,
    /// New visitors a minute in all; 0: no limit.
    pub new_in_all: u32,
    /// Requests of one visitor a minute; 0: no limit.
    pub requests: u32,
    /// The chat, if they may use it.
    pub chat: Option<VisitorsChat>,
}

/// Turns of visitors in the chat a minute; 0: no limit.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct VisitorsChat {
    /// Of one visitor.
    pub per_visitor: u32,
    /// Of all.
    pub in_all: u32,
}

/// As it stands in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(super) struct RawVisitors {
    enabled: bool,
    tier: String,
    lifetime: String,
    most: usize,
    new_per_minute: NewVisitors,
    requests_per_minute: u32,
    chat: RawVisitorsChat,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
struct RawVisitorsChat {
    enabled: bool,
    turns_per_minute: VisitorsChat,
}

impl Default for VisitorsChat {
    fn default() -> Self {
        Self { per_visitor: 10, in_all: 60 }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
struct NewVisitors {
    per_address: u32,
    in_all: u32,
}

impl Default for RawVisitors {
    fn default() -> Self {
        Self {
            enabled: false,
            tier: "free".to_owned(),
            lifetime: "1h".to_owned(),
            most: 100,
            new_per_minute: NewVisitors::default(),
            requests_per_minute: 300,
            chat: RawVisitorsChat::default(),
        }
    }
}

impl Default for NewVisitors {
    fn default() -> Self {
        Self { per_address: 10, in_all: 60 }
    }
}

impl RawVisitors {
    /// The settings, or nothing if there are to be no visitors.
    pub(super) fn check(self, problems: &mut Problems) -> Option<VisitorsConfig> {
        let Self { enabled, tier, lifetime, most, new_per_minute, requests_per_minute: requests, chat } =
            self;
        let NewVisitors { per_address: new_per_address, in_all: new_in_all } = new_per_minute;
        let span = lifetime.parse::<dexorder_crds::Duration>().ok().map(dexorder_crds::Duration::as_std);
        let in_bounds = span.filter(|span| (Duration::from_mins(1)..=MOST_LIFETIME).contains(span));
        let lifetime =
            problems.take("visitors.lifetime", &lifetime, "a duration from 1m to 168h, like 1h", in_bounds);
        let tier =
            problems.take("visitors.tier", &tier, "the name of a WorkspaceTier, like free", label(&tier));
        if most == 0 {
            problems.add("visitors.most", "is 0: expected at least 1, or enabled: false");
        }
        rate(problems, "visitors.newPerMinute.perAddress", new_per_address);
        rate(problems, "visitors.newPerMinute.inAll", new_in_all);
        rate(problems, "visitors.requestsPerMinute", requests);
        let RawVisitorsChat { enabled: may_chat, turns_per_minute: turns } = chat;
        rate(problems, "visitors.chat.turnsPerMinute.perVisitor", turns.per_visitor);
        rate(problems, "visitors.chat.turnsPerMinute.inAll", turns.in_all);
        let (tier, lifetime, chat) = (tier?, lifetime?, may_chat.then_some(turns));
        enabled.then_some(VisitorsConfig {
            tier,
            lifetime,
            most,
            new_per_address,
            new_in_all,
            requests,
            chat,
        })
    }
}
