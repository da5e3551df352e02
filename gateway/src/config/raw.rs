//! The configuration as it stands in the file, and its check. Every bad value is reported, each with its place.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use dexorder_crds::AuthMode;
use dexorder_oidc::{algorithm, key_url};
use jsonwebtoken::Algorithm;
use serde::Deserialize;

use super::chat::RawChat;
use super::limits::RawLimits;
use super::values::{Problems, label, origin, public_url};
use super::visitors::RawVisitors;
use super::{Config, Defaults, IssuerConfig, KeySource};

const MAX_TIMEOUT: Duration = Duration::from_mins(10);

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Raw {
    listen: String,
    management_listen: String,
    public_url: String,
    workspace_namespace: String,
    signing_key_file: PathBuf,
    defaults: RawDefaults,
    auth: RawAuth,
    #[serde(default)]
    wake: RawWake,
    #[serde(default)]
    limits: RawLimits,
    #[serde(default)]
    visitors: RawVisitors,
    tls: Option<RawTls>,
    #[serde(default)]
    shutdown: RawShutdown,
    #[serde(default)]
    allowed_origins: Vec<String>,
    #[serde(default)]
    chat: RawChat,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawDefaults {
    tier: String,
    auth_mode: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawAuth {
    #[serde(default)]
    issuers: Vec<RawIssuer>,
    api_keys_folder: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawIssuer {
    issuer: String,
    audience: Option<String>,
    jwks: Option<String>,
    jwks_file: Option<PathBuf>,
    jwks_uri: Option<String>,
    #[serde(default = "default_claim")]
    user_id_claim: String,
    user_id_prefix: Option<String>,
    #[serde(default = "default_algorithms")]
    algorithms: Vec<String>,
    ca_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWake {
    timeout: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTls {
    folder: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawShutdown {
    timeout: String,
}

fn default_claim() -> String {
    "sub".to_owned()
}

fn default_algorithms() -> Vec<String> {
    ["EdDSA", "RS256", "ES256"].map(str::to_owned).to_vec()
}

impl Default for RawWake {
    fn default() -> Self {
        Self { timeout: "60s".to_owned() }
    }
}

impl Default for RawShutdown {
    fn default() -> Self {
        Self { timeout: "50s".to_owned() }
    }
}

impl Raw {
    /// The checked configuration, or one line for each value that can't be used.
    pub(super) fn check(self) -> Result<Config, Vec<String>> {
        let Self {
            listen,
            management_listen,
            public_url: url,
            workspace_namespace,
            signing_key_file,
            defaults,
            auth,
            wake,
            limits,
            visitors,
            tls,
            shutdown,
            allowed_origins,
            chat,
        } = self;
        let mut problems = Problems::default();
        let address = "an address and a port, like 0.0.0.0:8080";
        let listen = problems.take("listen", &listen, address, listen.parse().ok());
        let management_listen =
            problems.take("managementListen", &management_listen, address, management_listen.parse().ok());
        let public_url = problems.take(
            "publicUrl",
            &url,
            "an http or https URL without path, like https://workspaces.example.com",
            public_url(&url),
        );
        let namespace = problems.take(
            "workspaceNamespace",
            &workspace_namespace,
            "the name of a namespace, like dexorder",
            label(&workspace_namespace),
        );
        let defaults = defaults.check(&mut problems);
        let resource = format!("{}{}", url.trim_end_matches('/'), dexorder_protocol::MCP_PATH);
        let api_keys_folder = auth.api_keys_folder.clone();
        let issuers = auth.check(&mut problems, &resource);
        let wake_timeout = timeout(&mut problems, "wake.timeout", &wake.timeout);
        let limits = limits.check(&mut problems);
        let visitors = visitors.check(&mut problems);
        let shutdown_timeout = timeout(&mut problems, "shutdown.timeout", &shutdown.timeout);
        let allowed_origins = origins(&mut problems, &allowed_origins);
        let chat = chat.check(&mut problems);
        problems.finish(|| {
            let (limits, body_limit) = limits?;
            Some(Config {
                listen: listen?,
                management_listen: management_listen?,
                public_url: public_url?,
                workspace_namespace: namespace?,
                signing_key_file,
                defaults: defaults?,
                issuers,
                api_keys_folder,
                wake_timeout: wake_timeout?,
                body_limit,
                limits,
                visitors,
                tls_folder: tls.map(|tls| tls.folder),
                allowed_origins,
                shutdown_timeout: shutdown_timeout?,
                chat: chat?,
            })
        })
    }
}

impl RawDefaults {
    fn check(self, problems: &mut Problems) -> Option<Defaults> {
        let Self { tier, auth_mode } = self;
        let mode = problems.take(
            "defaults.authMode",
            &auth_mode,
            "Gateway: this gateway authenticates everyone for whom it creates a workspace",
            (auth_mode == AuthMode::Gateway.as_str()).then_some(AuthMode::Gateway),
        );
        let tier =
            problems.take("defaults.tier", &tier, "the name of a WorkspaceTier, like standard", label(&tier));
        Some(Defaults { tier: tier?, auth_mode: mode? })
    }
}

impl RawAuth {
    fn check(self, problems: &mut Problems, resource: &str) -> Vec<IssuerConfig> {
        if self.issuers.is_empty() && self.api_keys_folder.is_none() {
            let what = "is empty: name at least one OpenID issuer, or apiKeysFolder, or nobody can log in";
            problems.add("auth.issuers", what);
        }
        let several = self.issuers.len() > 1;
        let mut known = BTreeSet::new();
        let mut checked = Vec::new();
        for (index, issuer) in self.issuers.into_iter().enumerate() {
            let place = format!("auth.issuers[{index}]");
            if !known.insert(issuer.issuer.clone()) {
                problems.add(&format!("{place}.issuer"), "stands twice: each issuer has one entry");
            }
            if several && issuer.user_id_prefix.is_none() {
                problems.add(
                    &format!("{place}.userIdPrefix"),
                    "is needed with more than one issuer, so that two of them can't name the same user by accident: \
                     give each its own, or '' where the users are the same people",
                );
            }
            checked.extend(issuer.check(problems, &place, resource));
        }
        checked
    }
}

impl RawIssuer {
    fn check(self, problems: &mut Problems, place: &str, resource: &str) -> Option<IssuerConfig> {
        let Self {
            issuer,
            audience,
            jwks,
            jwks_file,
            jwks_uri,
            user_id_claim,
            user_id_prefix,
            algorithms,
            ca_file,
        } = self;
        let at = |field: &str| format!("{place}.{field}");
        let https = "an https URL (http only for a loopback address)";
        if issuer.is_empty() {
            problems.add(&at("issuer"), "is empty: expected the `iss` of the issuer's tokens");
        }
        let audience = audience.unwrap_or_else(|| resource.to_owned());
        if audience.is_empty() {
            problems.add(&at("audience"), "is empty: expected the `aud` of tokens for this gateway");
        }
        let keys = match (jwks, jwks_file, jwks_uri) {
            (Some(text), None, None) => match dexorder_oidc::Keys::parse(&text) {
                Ok(_) => Some(KeySource::Inline(text)),
                Err(error) => {
                    problems.add(&at("jwks"), &error.to_string());
                    None
                }
            },
            (None, Some(path), None) => Some(KeySource::File(path)),
            (None, None, Some(uri)) => {
                problems.take(&at("jwksUri"), &uri, https, key_url(&uri)).map(KeySource::Uri)
            }
            (None, None, None) => problems
                .take(
                    &at("issuer"),
                    &issuer,
                    &format!("{https}, as its keys are discovered there"),
                    key_url(&issuer),
                )
                .map(KeySource::Discovery),
            _ => {
                problems.add(
                    place,
                    "names its keys twice: give one of jwks, jwksFile and jwksUri, or none for discovery",
                );
                None
            }
        };
        if user_id_claim.is_empty() {
            problems.add(&at("userIdClaim"), "is empty: expected the name of a claim, like sub");
        }
        let user_id_prefix = user_id_prefix.unwrap_or_default();
        if user_id_prefix.len() > 64 || user_id_prefix.chars().any(|c| c.is_whitespace() || c.is_control()) {
            problems.add(&at("userIdPrefix"), "is unusable: expected at most 64 characters without spaces");
        }
        let algorithms = check_algorithms(problems, &at("algorithms"), &algorithms);
        Some(IssuerConfig {
            issuer,
            audience,
            keys: keys?,
            user_id_claim,
            user_id_prefix,
            algorithms,
            ca_file,
        })
    }
}

fn check_algorithms(problems: &mut Problems, place: &str, names: &[String]) -> Vec<Algorithm> {
    if names.is_empty() {
        problems.add(place, "is empty: name the algorithms that the issuer signs with, like [RS256]");
    }
    let expected = "one of EdDSA, ES256, ES384, RS256, RS384, RS512, PS256, PS384, PS512";
    names.iter().filter_map(|name| problems.take(place, name, expected, algorithm(name))).collect()
}

fn timeout(problems: &mut Problems, place: &str, text: &str) -> Option<Duration> {
    let value = text.parse::<dexorder_crds::Duration>().ok().map(dexorder_crds::Duration::as_std);
    let in_bounds = value.filter(|value| (Duration::from_secs(1)..=MAX_TIMEOUT).contains(value));
    problems.take(place, text, "a duration from 1s to 10m, like 60s", in_bounds)
}

fn origins(problems: &mut Problems, texts: &[String]) -> HashSet<String> {
    let expected = "the origin of a web page without path, like https://chat.example.com";
    let mut set = HashSet::new();
    for (index, text) in texts.iter().enumerate() {
        set.extend(problems.take(&format!("allowedOrigins[{index}]"), text, expected, origin(text)));
    }
    set
}
