//! The part of the configuration that names MCP servers of the platform.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use serde::Deserialize;

use super::chat::{api_url, time};
use super::values::{Problems, label};

const MOST: usize = 16;

/// An MCP server whose tools every turn has.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Its name. Its tools are called `NAME_TOOL`.
    pub name: String,
    /// URL of its endpoint.
    pub url: Uri,
    /// The tools that may be used.
    pub tools: Vec<String>,
    /// File with the bearer token that it wants, reread at each request.
    pub credential_file: Option<PathBuf>,
    /// PEM of certificates to trust besides the public ones.
    pub ca_file: Option<PathBuf>,
    /// How long one request may take.
    pub timeout: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawServer {
    name: String,
    url: String,
    tools: Vec<String>,
    credential_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    #[serde(default = "default_timeout")]
    timeout: String,
}

fn default_timeout() -> String {
    "10s".to_owned()
}

/// Checks all of them.
pub(super) fn check(raw: Vec<RawServer>, problems: &mut Problems) -> Vec<ServerConfig> {
    if raw.len() > MOST {
        problems.add("chat.servers", &format!("has {} entries: expected at most {MOST}", raw.len()));
    }
    let mut names = BTreeSet::new();
    let mut servers = Vec::new();
    for (index, server) in raw.into_iter().enumerate() {
        let place = format!("chat.servers[{index}]");
        if !names.insert(server.name.clone()) {
            problems.add(&format!("{place}.name"), "stands twice: each server has a name of its own");
        }
        servers.extend(server.check(problems, &place));
    }
    servers
}

impl RawServer {
    fn check(self, problems: &mut Problems, place: &str) -> Option<ServerConfig> {
        let Self { name, url, tools, credential_file, ca_file, timeout } = self;
        let at = |field: &str| format!("{place}.{field}");
        let short = label(&name).filter(|name| name.len() <= 24);
        let expected = "a name of at most 24 characters: lower-case letters, digits and -";
        let known = problems.take(&at("name"), &name, expected, short);
        let expected = "the http or https URL of an MCP endpoint, like https://tools.example.com/mcp";
        let parsed = api_url(&url).and_then(|_| url.parse().ok());
        let url = problems.take(&at("url"), &url, expected, parsed);
        if tools.is_empty() {
            problems.add(&at("tools"), "is empty: name the tools that may be used");
        }
        let timeout = time(problems, &at("timeout"), &timeout);
        Some(ServerConfig { name: known?, url: url?, tools, credential_file, ca_file, timeout: timeout? })
    }
}
