//! Reads variables one by one and keeps what is wrong with them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use dexorder_protocol::control::{Access, AuthMode};
use http::HeaderValue;
use jiff::SignedDuration;
use tracing_subscriber::filter::Targets;

/// The variables, and what was found wrong so far.
pub(super) struct Reader<F> {
    lookup: F,
    pub(super) problems: Vec<String>,
}

impl<F: Fn(&str) -> Option<String>> Reader<F> {
    pub(super) fn new(lookup: F) -> Self {
        Self { lookup, problems: Vec::new() }
    }

    /// A variable that may be missing; an empty one is.
    pub(super) fn given(&self, name: &str) -> Option<String> {
        (self.lookup)(name).filter(|value| !value.is_empty())
    }

    pub(super) fn problem(&mut self, what: &str) {
        self.problems.push(what.to_owned());
    }

    pub(super) fn required<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let Some(value) = (self.lookup)(name) else {
            self.problems.push(format!("{name} is not set"));
            return None;
        };
        self.parse(name, &value, parse)
    }

    pub(super) fn optional<T>(
        &mut self,
        name: &str,
        default: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = (self.lookup)(name).unwrap_or_else(|| default.to_owned());
        self.parse(name, &value, parse)
    }

    fn parse<T>(&mut self, name: &str, value: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        parse(value).map_err(|expected| self.problems.push(format!("{name} is {value:?}: {expected}"))).ok()
    }
}

pub(super) fn text(value: &str) -> Result<String, String> {
    if value.is_empty() { Err("it must not be empty".to_owned()) } else { Ok(value.to_owned()) }
}

/// The user ID goes to the agent in a header.
pub(super) fn user_id(value: &str) -> Result<String, String> {
    HeaderValue::from_bytes(value.as_bytes()).map_err(|_| "it must hold no control characters".to_owned())?;
    text(value)
}

pub(super) fn auth_mode(value: &str) -> Result<AuthMode, String> {
    match value {
        "Public" => Ok(AuthMode::Public),
        "Gateway" => Ok(AuthMode::Gateway),
        "Direct" => Ok(AuthMode::Direct),
        _ => Err("it must be Public, Gateway or Direct".to_owned()),
    }
}

pub(super) fn access(value: &str) -> Result<Access, String> {
    match value {
        "ReadOnly" => Ok(Access::ReadOnly),
        "Full" => Ok(Access::Full),
        _ => Err("it must be ReadOnly or Full".to_owned()),
    }
}

pub(super) fn absolute_path(value: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(value);
    if path.is_absolute() { Ok(path) } else { Err("it must be an absolute path".to_owned()) }
}

pub(super) fn address(value: &str) -> Result<SocketAddr, String> {
    value.parse().map_err(|_| "it must be an address and a port, such as 0.0.0.0:8080".to_owned())
}

/// A time that something is waited for.
pub(super) fn duration(value: &str) -> Result<Duration, String> {
    up_to(value, Duration::from_hours(1))
        .ok_or_else(|| "it must be a duration up to 1h, such as 45s or 1m30s".to_owned())
}

/// A time that something lasts.
pub(super) fn long_duration(value: &str) -> Result<Duration, String> {
    up_to(value, Duration::from_hours(24 * 366))
        .ok_or_else(|| "it must be a duration up to a year, such as 15m or 24h".to_owned())
}

fn up_to(value: &str, most: Duration) -> Option<Duration> {
    let duration = Duration::try_from(value.parse::<SignedDuration>().ok()?).ok()?;
    (!duration.is_zero() && duration <= most).then_some(duration)
}

pub(super) fn count(value: &str) -> Result<u32, String> {
    value
        .parse()
        .ok()
        .filter(|number| (1..=1_000_000).contains(number))
        .ok_or_else(|| "it must be a number from 1 to 1000000".to_owned())
}

/// The URL of an issuer's keys.
pub(super) fn url(value: &str) -> Result<http::Uri, String> {
    dexorder_oidc::key_url(value)
        .ok_or_else(|| "it must be an https URL (http only for a loopback address)".to_owned())
}

pub(super) fn log_filter(value: &str) -> Result<Targets, String> {
    value.parse().map_err(|_| "it must be levels such as info or info,dexorder_sidecar=debug".to_owned())
}
