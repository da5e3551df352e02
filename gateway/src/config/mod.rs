//! The gateway's configuration: one YAML file, checked as a whole before anything starts.

mod chat;
mod limits;
mod raw;
mod servers;
mod values;
mod visitors;

pub use chat::{Answers, ChatConfig, ModelConfig, Provider, TokensParameter};
pub use dexorder_oidc::{IssuerConfig, KeySource};
pub use limits::{AnonymousWakes, LimitsConfig, NewWorkspaces, Requests};
pub use servers::ServerConfig;
pub use visitors::{VisitorsChat, VisitorsConfig};

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dexorder_crds::AuthMode;
use raw::Raw;

/// Everything that the gateway is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients are served.
    pub listen: SocketAddr,
    /// Where metrics and probes are served.
    pub management_listen: SocketAddr,
    /// URL at which clients reach the gateway, without a slash at its end.
    pub public_url: String,
    /// Namespace of the workspaces.
    pub workspace_namespace: String,
    /// PKCS#8 PEM of the key that identities are signed with.
    pub signing_key_file: PathBuf,
    /// Of a workspace that a login creates.
    pub defaults: Defaults,
    /// Who may vouch for users.
    pub issuers: Vec<IssuerConfig>,
    /// Folder with the entries of the API keys, if any are taken.
    pub api_keys_folder: Option<PathBuf>,
    /// How long a request waits for its workspace.
    pub wake_timeout: Duration,
    /// The largest request body, in bytes.
    pub body_limit: usize,
    /// What anybody may cost.
    pub limits: LimitsConfig,
    /// Anonymous visitors, if they are served.
    pub visitors: Option<VisitorsConfig>,
    /// Folder with the certificate (`tls.crt`) and its key (`tls.key`), if the gateway itself speaks TLS.
    pub tls_folder: Option<PathBuf>,
    /// Origins of web pages that may call.
    pub allowed_origins: HashSet<String>,
    /// How long running requests may take to end at a shutdown.
    pub shutdown_timeout: Duration,
    /// The chat.
    pub chat: ChatConfig,
}

/// Of a workspace that a login creates.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// Name of its `WorkspaceTier`.
    pub tier: String,
    /// Its auth mode.
    pub auth_mode: AuthMode,
}

/// Why the configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("can't read the configuration {}: {source}", path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is no YAML of the expected form.
    #[error("the configuration is malformed: {0}")]
    Form(#[from] serde_yaml::Error),
    /// Values are out of bounds. One line each.
    #[error("the configuration has values that can't be used:\n  {}", .0.join("\n  "))]
    Values(Vec<String>),
}

impl Config {
    /// Reads and checks the file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text)
    }

    /// Checks the text of a configuration.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let raw: Raw = serde_yaml::from_str(text)?;
        raw.check().map_err(ConfigError::Values)
    }

    /// The resource that clients ask tokens for: the MCP endpoint.
    pub fn resource(&self) -> String {
        format!("{}{}", self.public_url, dexorder_protocol::MCP_PATH)
    }

    /// The resource that the MCP endpoint of a workspace is.
    pub fn resource_of(&self, workspace: &str) -> String {
        format!("{}/workspaces/{workspace}{}", self.public_url, dexorder_protocol::MCP_PATH)
    }
}

#[cfg(test)]
mod tests;
