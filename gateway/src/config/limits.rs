//! The part of the configuration that says what anybody may cost.

use serde::Deserialize;

use super::values::{Problems, byte_size};
use crate::limits::Range;

const MIN_BODY: usize = 1024;
const MAX_BODY: usize = 64 * 1024 * 1024;
/// More than this a minute is no limit.
const MOST: u32 = 10_000_000;

/// What anybody may cost in a minute; 0: no limit.
#[derive(Clone, Debug)]
pub struct LimitsConfig {
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Range>,
    /// Requests.
    pub requests: Requests,
    /// New workspaces.
    pub new_workspaces: NewWorkspaces,
    /// Starts that are asked for without a credential.
    pub wakes: AnonymousWakes,
    /// Logins at workspaces of mode Direct.
    pub logins: DirectLogins,
}

/// Requests a minute.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Requests {
    /// From one address.
    pub per_address: u32,
    /// Of one user.
    pub per_user: u32,
}

/// New workspaces a minute.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct NewWorkspaces {
    /// For one address.
    pub per_address: u32,
    /// In all.
    pub in_all: u32,
}

/// Starts without a credential a minute.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct AnonymousWakes {
    /// From one address.
    pub per_address: u32,
    /// Of one workspace.
    pub per_workspace: u32,
}

/// Logins at one workspace of mode Direct a minute.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct DirectLogins {
    /// From one address.
    pub per_address: u32,
}

/// As it stands in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(super) struct RawLimits {
    request_body: String,
    trusted_proxies: Vec<String>,
    requests_per_minute: Requests,
    new_workspaces_per_minute: NewWorkspaces,
    anonymous_wakes_per_minute: AnonymousWakes,
    direct_logins_per_minute: DirectLogins,
}

impl Default for Requests {
    fn default() -> Self {
        Self { per_address: 60_000, per_user: 6_000 }
    }
}

impl Default for NewWorkspaces {
    fn default() -> Self {
        Self { per_address: 600, in_all: 1_200 }
    }
}

impl Default for AnonymousWakes {
    fn default() -> Self {
        Self { per_address: 60, per_workspace: 20 }
    }
}

impl Default for DirectLogins {
    fn default() -> Self {
        Self { per_address: 20 }
    }
}

impl Default for RawLimits {
    fn default() -> Self {
        Self {
            request_body: "4MiB".to_owned(),
            trusted_proxies: Vec::new(),
            requests_per_minute: Requests::default(),
            new_workspaces_per_minute: NewWorkspaces::default(),
            anonymous_wakes_per_minute: AnonymousWakes::default(),
            direct_logins_per_minute: DirectLogins::default(),
        }
    }
}

impl RawLimits {
    /// The limits, and the largest body.
    pub(super) fn check(self, problems: &mut Problems) -> Option<(LimitsConfig, usize)> {
        let Self {
            request_body,
            trusted_proxies,
            requests_per_minute: requests,
            new_workspaces_per_minute: new_workspaces,
            anonymous_wakes_per_minute: wakes,
            direct_logins_per_minute: logins,
        } = self;
        let body = problems.take(
            "limits.requestBody",
            &request_body,
            "a size from 1KiB to 64MiB, like 4MiB",
            byte_size(&request_body).filter(|size| (MIN_BODY..=MAX_BODY).contains(size)),
        );
        let ranges: Vec<Range> = trusted_proxies
            .iter()
            .enumerate()
            .filter_map(|(index, text)| {
                let place = format!("limits.trustedProxies[{index}]");
                problems.take(&place, text, "a range of addresses, like 10.0.0.0/8", text.parse().ok())
            })
            .collect();
        for (place, value) in [
            ("requestsPerMinute.perAddress", requests.per_address),
            ("requestsPerMinute.perUser", requests.per_user),
            ("newWorkspacesPerMinute.perAddress", new_workspaces.per_address),
            ("newWorkspacesPerMinute.inAll", new_workspaces.in_all),
            ("anonymousWakesPerMinute.perAddress", wakes.per_address),
            ("anonymousWakesPerMinute.perWorkspace", wakes.per_workspace),
            ("directLoginsPerMinute.perAddress", logins.per_address),
        ] {
            rate(problems, &format!("limits.{place}"), value);
        }
        Some((LimitsConfig { trusted_proxies: ranges, requests, new_workspaces, wakes, logins }, body?))
    }
}

/// Notes a number that is out of bounds.
pub(super) fn rate(problems: &mut Problems, place: &str, value: u32) {
    if value > MOST {
        problems.add(place, &format!("is {value}: expected a number up to {MOST}, or 0 for no limit"));
    }
}
