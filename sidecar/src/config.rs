//! The configuration, from the environment that the operator sets. Every value that can't be used is named at once.

use std::env;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use http::HeaderValue;
use jiff::SignedDuration;
use tracing_subscriber::filter::Targets;

/// How users prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMode {
    /// Anonymous sessions.
    Public,
    /// The gateway vouches for the user.
    Gateway,
    /// The user proves it to the workspace itself.
    Direct,
}

/// What users may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read and run, change nothing.
    ReadOnly,
    /// Everything.
    Full,
}

/// All that the sidecar is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// UID of the workspace: the audience that a signed identity must have.
    pub workspace_uid: String,
    /// Name of the workspace, for the log.
    pub workspace: String,
    /// Namespace of the workspace, for the log.
    pub namespace: String,
    /// The user that the workspace belongs to.
    pub user_id: String,
    /// How users prove who they are.
    pub auth_mode: AuthMode,
    /// What users may do: the agent enforces it.
    pub access: Access,
    /// Unix socket of the agent.
    pub agent_socket: PathBuf,
    /// File with the public keys of gateway and operator.
    pub identity_keys_file: PathBuf,
    /// Address for MCP.
    pub mcp_addr: SocketAddr,
    /// Address for probes, metrics and the operator.
    pub control_addr: SocketAddr,
    /// How long running calls may take to end when nobody says otherwise.
    pub drain_timeout: Duration,
    /// How long a request is held while the agent starts.
    pub hold_timeout: Duration,
    /// What is logged.
    pub log: Targets,
}

/// The values that can't be used, each named.
#[derive(Debug, thiserror::Error)]
pub struct ConfigError(Vec<String>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the environment of the sidecar can't be used: {}", self.0.join("; "))
    }
}

impl Config {
    /// Reads the environment of this process.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::read(|name| env::var(name).ok())
    }

    /// Reads the variables that `lookup` gives.
    pub fn read(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let mut read = Reader { lookup, problems: Vec::new() };
        let workspace_uid = read.required("DEXORDER_WORKSPACE_UID", text);
        let workspace = read.required("DEXORDER_WORKSPACE", text);
        let namespace = read.required("DEXORDER_NAMESPACE", text);
        let user_id = read.required("DEXORDER_USER_ID", user_id);
        let auth_mode = read.required("DEXORDER_AUTH_MODE", parsed);
        let access = read.required("DEXORDER_ACCESS", parsed);
        let agent_socket = read.optional("DEXORDER_AGENT_SOCKET", "/run/dexorder/agent.sock", absolute_path);
        let identity_keys_file =
            read.optional("DEXORDER_IDENTITY_KEYS_FILE", "/etc/dexorder/pod/identity-keys", absolute_path);
        let mcp_addr = read.optional("DEXORDER_MCP_ADDR", "0.0.0.0:8080", address);
        let control_addr = read.optional("DEXORDER_CONTROL_ADDR", "0.0.0.0:8081", address);
        let drain_timeout = read.optional("DEXORDER_DRAIN_TIMEOUT", "45s", duration);
        let hold_timeout = read.optional("DEXORDER_HOLD_TIMEOUT", "30s", duration);
        let log = read.optional("RUST_LOG", "info", log_filter);
        let problems = read.problems;
        (|| {
            Some(Self {
                workspace_uid: workspace_uid?,
                workspace: workspace?,
                namespace: namespace?,
                user_id: user_id?,
                auth_mode: auth_mode?,
                access: access?,
                agent_socket: agent_socket?,
                identity_keys_file: identity_keys_file?,
                mcp_addr: mcp_addr?,
                control_addr: control_addr?,
                drain_timeout: drain_timeout?,
                hold_timeout: hold_timeout?,
                log: log?,
            })
        })()
        .ok_or(ConfigError(problems))
    }
}

/// Reads variables one by one and keeps what is wrong with them.
struct Reader<F> {
    lookup: F,
    problems: Vec<String>,
}

impl<F: Fn(&str) -> Option<String>> Reader<F> {
    fn required<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let Some(value) = (self.lookup)(name) else {
            self.problems.push(format!("{name} is not set"));
            return None;
        };
        self.parse(name, &value, parse)
    }

    fn optional<T>(
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

fn text(value: &str) -> Result<String, String> {
    if value.is_empty() { Err("it must not be empty".to_owned()) } else { Ok(value.to_owned()) }
}

/// The user ID goes to the agent in a header.
fn user_id(value: &str) -> Result<String, String> {
    HeaderValue::from_bytes(value.as_bytes()).map_err(|_| "it must hold no control characters".to_owned())?;
    text(value)
}

fn parsed<T: FromStr<Err = String>>(value: &str) -> Result<T, String> {
    value.parse()
}

fn absolute_path(value: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(value);
    if path.is_absolute() { Ok(path) } else { Err("it must be an absolute path".to_owned()) }
}

fn address(value: &str) -> Result<SocketAddr, String> {
    value.parse().map_err(|_| "it must be an address and a port, such as 0.0.0.0:8080".to_owned())
}

fn duration(value: &str) -> Result<Duration, String> {
    value
        .parse::<SignedDuration>()
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .filter(|duration| !duration.is_zero() && *duration <= Duration::from_hours(1))
        .ok_or_else(|| "it must be a duration up to 1h, such as 45s or 1m30s".to_owned())
}

fn log_filter(value: &str) -> Result<Targets, String> {
    value.parse().map_err(|_| "it must be levels such as info or info,dexorder_sidecar=debug".to_owned())
}

impl FromStr for AuthMode {
    type Err = String;

    fn from_str(value: &str) -> Result<Self, String> {
        match value {
            "Public" => Ok(Self::Public),
            "Gateway" => Ok(Self::Gateway),
            "Direct" => Ok(Self::Direct),
            _ => Err("it must be Public, Gateway or Direct".to_owned()),
        }
    }
}

impl fmt::Display for AuthMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "Public",
            Self::Gateway => "Gateway",
            Self::Direct => "Direct",
        })
    }
}

impl FromStr for Access {
    type Err = String;

    fn from_str(value: &str) -> Result<Self, String> {
        match value {
            "ReadOnly" => Ok(Self::ReadOnly),
            "Full" => Ok(Self::Full),
            _ => Err("it must be ReadOnly or Full".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [(&str, &str); 6] = [
        ("DEXORDER_WORKSPACE_UID", "uid-1"),
        ("DEXORDER_WORKSPACE", "trader1"),
        ("DEXORDER_NAMESPACE", "dexorder"),
        ("DEXORDER_USER_ID", "trader1"),
        ("DEXORDER_AUTH_MODE", "Gateway"),
        ("DEXORDER_ACCESS", "Full"),
    ];

    fn read(over: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::read(|name| {
            over.iter().chain(&GOOD).find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn what_the_operator_always_sets_is_enough() {
        let config = read(&[]).unwrap();
        assert_eq!(config.auth_mode, AuthMode::Gateway);
        assert_eq!(config.drain_timeout, Duration::from_secs(45));
        assert_eq!(config.hold_timeout, Duration::from_secs(30));
        assert_eq!(config.mcp_addr.port(), dexorder_protocol::MCP_PORT);
        assert_eq!(config.control_addr.port(), dexorder_protocol::CONTROL_PORT);
    }

    #[test]
    fn durations_are_written_as_in_the_resources() {
        assert_eq!(
            read(&[("DEXORDER_DRAIN_TIMEOUT", "1m30s")]).unwrap().drain_timeout,
            Duration::from_secs(90)
        );
    }

    #[test]
    fn every_bad_value_is_named_with_what_to_write_instead() {
        let bad = [
            ("DEXORDER_WORKSPACE_UID", ""),
            ("DEXORDER_USER_ID", "a\nb"),
            ("DEXORDER_AUTH_MODE", "gateway"),
            ("DEXORDER_ACCESS", "All"),
            ("DEXORDER_AGENT_SOCKET", "agent.sock"),
            ("DEXORDER_MCP_ADDR", "8080"),
            ("DEXORDER_DRAIN_TIMEOUT", "-5s"),
            ("DEXORDER_HOLD_TIMEOUT", "soon"),
            ("RUST_LOG", "dexorder_sidecar=loud"),
        ];
        let message = read(&bad).unwrap_err().to_string();
        for (name, value) in bad {
            assert!(message.contains(&format!("{name} is {value:?}: it must")), "{name} in {message}");
        }
    }

    #[test]
    fn every_missing_value_is_named() {
        let message = Config::read(|_| None).unwrap_err().to_string();
        for (name, _) in GOOD {
            assert!(message.contains(&format!("{name} is not set")), "{name} in {message}");
        }
    }
}
