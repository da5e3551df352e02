//! Durations as Kubernetes users write them: `15m`, `1h30m`, `90s` (GEP-2257).

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A length of time in the format of GEP-2257: one to four parts of a number and a unit `h`, `m`, `s` or `ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Duration(std::time::Duration);

/// Why a text is not a [`Duration`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no duration: write one to four numbers with a unit each, like 15m, 1h30m or 90s")]
pub struct ParseDurationError(String);

impl Duration {
    /// A duration of so many seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(std::time::Duration::from_secs(seconds))
    }

    /// The duration, without what is finer than a millisecond.
    pub const fn from_std(duration: std::time::Duration) -> Self {
        let millis = duration.as_millis();
        #[allow(clippy::cast_possible_truncation, reason = "2^64 milliseconds are 584 million years")]
        Self(std::time::Duration::from_millis(millis as u64))
    }

    /// The same length of time as the standard library's type.
    pub const fn as_std(self) -> std::time::Duration {
        self.0
    }
}

impl FromStr for Duration {
    type Err = ParseDurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || ParseDurationError(text.to_owned());
        let mut rest = text;
        let mut parts = 0;
        let mut milliseconds: u64 = 0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(refuse)?;
            if digits == 0 || digits > 5 || parts == 4 {
                return Err(refuse());
            }
            let number: u64 = rest[..digits].parse().map_err(|_| refuse())?;
            rest = &rest[digits..];
            let (unit, length) = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)]
                .into_iter()
                .find(|(unit, _)| rest.starts_with(unit))
                .ok_or_else(refuse)?;
            rest = &rest[unit.len()..];
            milliseconds += number * length;
            parts += 1;
        }
        if parts == 0 {
            return Err(refuse());
        }
        Ok(Self(std::time::Duration::from_millis(milliseconds)))
    }
}

impl TryFrom<String> for Duration {
    type Error = ParseDurationError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Duration> for String {
    fn from(duration: Duration) -> Self {
        duration.to_string()
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.0.as_millis();
        if total == 0 {
            return f.write_str("0s");
        }
        let parts = [
            (total / 3_600_000, "h"),
            (total / 60_000 % 60, "m"),
            (total / 1_000 % 60, "s"),
            (total % 1_000, "ms"),
        ];
        parts.into_iter().filter(|(n, _)| *n > 0).try_for_each(|(n, unit)| write!(f, "{n}{unit}"))
    }
}

/// Only the type: what a duration may be is a rule of each field, with a message that says what to write.
impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": 32,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_what_people_use() {
        for text in ["15m", "1h30m", "90s", "500ms", "24h", "1h1m1s1ms"] {
            let parsed: Duration = text.parse().unwrap();
            assert_eq!(parsed, parsed.to_string().parse().unwrap(), "{text}");
        }
        assert_eq!("90s".parse::<Duration>().unwrap().to_string(), "1m30s");
        assert_eq!("0s".parse::<Duration>().unwrap().to_string(), "0s");
    }

    #[test]
    fn refuses_what_is_no_duration() {
        for text in ["", "-5m", "15", "m", "1d", "1.5h", "123456s", "1h1h1h1h1h", "1m "] {
            assert!(text.parse::<Duration>().is_err(), "{text}");
        }
    }
}
