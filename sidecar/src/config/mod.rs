//! The configuration, from the environment that the operator sets. Every value that can't be used is named at once.

mod reader;
#[cfg(test)]
mod tests;

use std::env;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use dexorder_protocol::control::{Access, Assignment, AuthMode};
use tracing_subscriber::filter::Targets;

use reader::{
    Reader, absolute_path, access, address, auth_mode, count, duration, log_filter, long_duration, text, url,
    user_id,
};

/// All that the sidecar is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whom it serves.
    pub tenancy: Tenancy,
    /// What anonymous visitors may use, in mode Public.
    pub public: PublicConfig,
    /// How users are checked, in mode Direct.
    pub direct: Option<DirectConfig>,
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
    /// How long the client of an older revision may take to answer what the agent asks it.
    pub input_timeout: Duration,
    /// What is logged.
    pub log: Targets,
}

/// Whom the sidecar serves.
#[derive(Clone, Debug)]
pub enum Tenancy {
    /// One workspace, from the start.
    Workspace(Assignment),
    /// Nobody yet: the pod waits in a pool.
    Pool {
        /// UID of the pod: the audience of the operator's calls until it has a workspace.
        pod_uid: String,
        /// Where the assignment is written for a sidecar that restarts.
        assignment_file: PathBuf,
    },
}

/// What anonymous visitors may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicConfig {
    /// How long a session lasts after its last request.
    pub session_lifetime: Duration,
    /// How many sessions there may be at once, and streams that listen.
    pub sessions: u32,
    /// Requests a minute of all visitors together.
    pub calls_per_minute: u32,
    /// Requests a minute of one session.
    pub session_calls_per_minute: u32,
    /// Calls at once.
    pub concurrent: u32,
}

/// How a workspace of mode Direct checks its users.
#[derive(Clone, Debug)]
pub struct DirectConfig {
    /// Folder of the workspace's own keys, which nobody else mounts.
    pub key_folder: PathBuf,
    /// What is checked.
    pub credentials: CredentialsConfig,
}

/// What a user of a workspace of mode Direct proves themselves with.
#[derive(Clone, Debug)]
pub enum CredentialsConfig {
    /// Tokens of an OpenID issuer.
    Oidc(OidcConfig),
    /// Passwords, checked against the argon2id hashes in the files of a folder.
    Hashes(PathBuf),
}

/// An OpenID issuer.
#[derive(Clone, Debug)]
pub struct OidcConfig {
    /// The `iss` of its tokens.
    pub issuer: String,
    /// The `aud` that they must have.
    pub audience: String,
    /// The claim that must be the workspace's user ID.
    pub user_claim: String,
    /// URL of its keys.
    pub jwks_uri: Option<http::Uri>,
    /// Its keys themselves.
    pub jwks: Option<String>,
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
        let mut read = Reader::new(lookup);
        let tenancy = tenancy(&mut read);
        let public = public(&mut read);
        let direct = match &tenancy {
            Some(Tenancy::Workspace(workspace)) if workspace.auth_mode == AuthMode::Direct => {
                direct(&mut read).map(Some)
            }
            Some(_) | None => Some(None),
        };
        let agent_socket = read.optional("DEXORDER_AGENT_SOCKET", "/run/dexorder/agent.sock", absolute_path);
        let identity_keys_file =
            read.optional("DEXORDER_IDENTITY_KEYS_FILE", "/etc/dexorder/pod/identity-keys", absolute_path);
        let mcp_addr = read.optional("DEXORDER_MCP_ADDR", "0.0.0.0:8080", address);
        let control_addr = read.optional("DEXORDER_CONTROL_ADDR", "0.0.0.0:8081", address);
        let drain_timeout = read.optional("DEXORDER_DRAIN_TIMEOUT", "45s", duration);
        let hold_timeout = read.optional("DEXORDER_HOLD_TIMEOUT", "30s", duration);
        let input_timeout = read.optional("DEXORDER_INPUT_TIMEOUT", "10m", duration);
        let log = read.optional("RUST_LOG", "info", log_filter);
        (|| {
            Some(Self {
                tenancy: tenancy?,
                public: public?,
                direct: direct?,
                agent_socket: agent_socket?,
                identity_keys_file: identity_keys_file?,
                mcp_addr: mcp_addr?,
                control_addr: control_addr?,
                drain_timeout: drain_timeout?,
                hold_timeout: hold_timeout?,
                input_timeout: input_timeout?,
                log: log?,
            })
        })()
        .ok_or(ConfigError(read.problems))
    }
}

fn tenancy<F: Fn(&str) -> Option<String>>(read: &mut Reader<F>) -> Option<Tenancy> {
    if read.given("DEXORDER_POOL").is_some_and(|pool| pool == "true") {
        let pod_uid = read.required("DEXORDER_POD_UID", text);
        let file = read.optional("DEXORDER_ASSIGNMENT_FILE", "/etc/dexorder/pod/assignment", absolute_path);
        return Some(Tenancy::Pool { pod_uid: pod_uid?, assignment_file: file? });
    }
    let workspace_uid = read.required("DEXORDER_WORKSPACE_UID", text);
    let workspace = read.required("DEXORDER_WORKSPACE", text);
    let namespace = read.required("DEXORDER_NAMESPACE", text);
    let user_id = read.required("DEXORDER_USER_ID", user_id);
    let auth_mode = read.required("DEXORDER_AUTH_MODE", auth_mode);
    let access = read.required("DEXORDER_ACCESS", access);
    Some(Tenancy::Workspace(Assignment {
        workspace_uid: workspace_uid?,
        workspace: workspace?,
        namespace: namespace?,
        user_id: user_id?,
        auth_mode: auth_mode?,
        access: access?,
    }))
}

fn public<F: Fn(&str) -> Option<String>>(read: &mut Reader<F>) -> Option<PublicConfig> {
    let session_lifetime = read.optional("DEXORDER_SESSION_TTL", "15m", long_duration);
    let sessions = read.optional("DEXORDER_PUBLIC_SESSIONS", "64", count);
    let calls_per_minute = read.optional("DEXORDER_PUBLIC_CALLS_PER_MINUTE", "600", count);
    let session_calls_per_minute = read.optional("DEXORDER_PUBLIC_SESSION_CALLS_PER_MINUTE", "120", count);
    let concurrent = read.optional("DEXORDER_PUBLIC_CONCURRENT", "32", count);
    Some(PublicConfig {
        session_lifetime: session_lifetime?,
        sessions: sessions?,
        calls_per_minute: calls_per_minute?,
        session_calls_per_minute: session_calls_per_minute?,
        concurrent: concurrent?,
    })
}

fn direct<F: Fn(&str) -> Option<String>>(read: &mut Reader<F>) -> Option<DirectConfig> {
    let key_folder = read.required("DEXORDER_DIRECT_KEY_DIR", absolute_path);
    let credentials = match (
        read.given("DEXORDER_DIRECT_ISSUER"),
        read.given("DEXORDER_DIRECT_CREDENTIALS_DIR"),
    ) {
        (None, Some(_)) => {
            read.required("DEXORDER_DIRECT_CREDENTIALS_DIR", absolute_path).map(CredentialsConfig::Hashes)
        }
        (Some(_), None) => oidc(read).map(CredentialsConfig::Oidc),
        (None, None) | (Some(_), Some(_)) => {
            read.problem("one of DEXORDER_DIRECT_ISSUER and DEXORDER_DIRECT_CREDENTIALS_DIR must be set with mode Direct");
            None
        }
    };
    Some(DirectConfig { key_folder: key_folder?, credentials: credentials? })
}

fn oidc<F: Fn(&str) -> Option<String>>(read: &mut Reader<F>) -> Option<OidcConfig> {
    let issuer = read.required("DEXORDER_DIRECT_ISSUER", text);
    let audience = read.required("DEXORDER_DIRECT_AUDIENCE", text);
    let user_claim = read.optional("DEXORDER_DIRECT_USER_CLAIM", "sub", text);
    let jwks = read.given("DEXORDER_DIRECT_JWKS");
    let jwks_uri =
        if jwks.is_none() { read.required("DEXORDER_DIRECT_JWKS_URI", url).map(Some) } else { Some(None) };
    Some(OidcConfig {
        issuer: issuer?,
        audience: audience?,
        user_claim: user_claim?,
        jwks_uri: jwks_uri?,
        jwks,
    })
}
