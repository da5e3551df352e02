//! `UserWorkspace`: one user's workspace as its manifest describes it.

use k8s_openapi::api::core::v1::ResourceRequirements;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Duration, StorageOverrides, UserWorkspaceStatus};

/// How the users of a workspace prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum AuthMode {
    /// Nobody is asked; the workspace makes an anonymous session with read-only access.
    Public,
    /// The gateway authenticates and vouches for the user.
    Gateway,
    /// The workspace checks an encrypted credential by itself; the gateway can't read it.
    Direct,
}

impl AuthMode {
    /// The text of the manifest.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "Public",
            Self::Gateway => "Gateway",
            Self::Direct => "Direct",
        }
    }
}

/// Whether the workspace follows its user, or is kept awake or stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OperatingMode {
    /// Starts when it is touched, stops when it is idle.
    #[default]
    Auto,
    /// Is kept awake.
    Running,
    /// Is kept stopped, whatever touches it.
    Suspended,
}

/// What one user's workspace is: who it belongs to, the tier, how users prove themselves, and where it differs from its tier.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "dexorder.io",
    version = "v1alpha1",
    kind = "UserWorkspace",
    plural = "userworkspaces",
    shortname = "uws",
    category = "dexorder",
    namespaced,
    status = "UserWorkspaceStatus",
    derive = "PartialEq",
    doc = "One user's workspace: an agent pod that starts when its user connects and stops when idle, and a volume with the user's git repository that outlives it.",
    selectable = ".spec.userId",
    selectable = ".spec.tier",
    validation = Rule::new("self.metadata.name.size() <= 50").message("metadata.name must be at most 50 characters: the pod and the claim are named after it"),
    printcolumn(name = "Tier", type_ = "string", json_path = ".spec.tier", description = "The workspace's tier."),
    printcolumn(name = "Auth", type_ = "string", json_path = ".spec.auth.mode", description = "How its users prove who they are."),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason", description = "What the workspace is doing: the reason of its Ready condition."),
    printcolumn(name = "Idle Deadline", type_ = "string", json_path = ".status.idleDeadlineTime", description = "When the operator next asks whether the workspace is idle."),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "User", type_ = "string", json_path = ".spec.userId", priority = 1, description = "The user it belongs to."),
    printcolumn(name = "Endpoint", type_ = "string", json_path = ".status.endpoint", priority = 1, description = "URL of its sidecar.")
)]
#[serde(rename_all = "camelCase")]
pub struct UserWorkspaceSpec {
    /// ID of the user that the workspace belongs to, as the gateway knows it after it verified a token. Can't be changed.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[^\s\x00-\x1f\x7f]+$"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("userId can't be changed: the volume holds that user's data; create another UserWorkspace for another user"))]
    pub user_id: String,
    /// Name of the WorkspaceTier whose terms apply: `free`, `standard`, `enterprise` or another.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub tier: String,
    /// How users prove who they are.
    pub auth: Auth,
    /// Time without activity after which the workspace is stopped, such as `30m`. Left out: the tier's default. Never more than the tier's most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]{1,5}(h|m|s|ms)){1,4}$') && duration(self) >= duration('5s') && duration(self) <= duration('720h')").message("idleTimeout must be from 5s to 720h, written like 30m or 1h30m"))]
    pub idle_timeout: Option<Duration>,
    /// `Auto` (default): starts when touched, stops when idle. `Running`: kept awake. `Suspended`: kept stopped.
    #[serde(default)]
    pub operating_mode: OperatingMode,
    /// When a stopped workspace is started without a request, and a running one counts as active. Without effect while `operatingMode` is `Suspended`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub wake_schedules: Vec<WakeSchedule>,
    /// Storage where it differs from the tier's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageOverrides>,
    /// Git remote that a new workspace is seeded from and that saves are pushed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<Repository>,
    /// The agent's container where it differs from the tier's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<WorkspaceTemplate>,
}

/// Moments at which a workspace is started, as cron has them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WakeSchedule {
    /// Minute, hour, day of the month, month and day of the week, such as `0 9 * * 1-5`.
    #[schemars(length(min = 1, max = 128))]
    pub schedule: String,
    /// Time zone of the schedule by its IANA name, such as `Europe/Berlin`. Left out: UTC.
    #[serde(default = "default_time_zone")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9_+/-]+$"))]
    pub time_zone: String,
}

fn default_time_zone() -> String {
    "UTC".to_owned()
}

/// How users prove who they are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.mode != 'Direct' || has(self.direct)").message("auth.mode Direct needs auth.direct: give oidc (issuer, audience, and jwksUri or jwks) or credentialsSecretRef"),
    validation = Rule::new("self.mode == 'Direct' || !has(self.direct)").message("auth.direct is for auth.mode Direct alone: remove it or set mode to Direct")
)]
pub struct Auth {
    /// `Public`, `Gateway` or `Direct`; the tier says which of them it allows.
    pub mode: AuthMode,
    /// How the workspace checks its users by itself. Needed with `Direct`, refused otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direct: Option<DirectAuth>,
}

/// How the workspace checks a credential by itself: exactly one of the two ways.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.oidc) != has(self.credentialsSecretRef)").message("auth.direct takes exactly one of oidc and credentialsSecretRef"))]
pub struct DirectAuth {
    /// Tokens of an OpenID provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oidc: Option<OidcVerification>,
    /// Secret in the workspace's namespace with argon2id hashes of credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<LocalSecretRef>,
}

/// How a token of an OpenID provider is checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.jwksUri) != has(self.jwks)").message("oidc takes exactly one of jwksUri and jwks"))]
pub struct OidcVerification {
    /// The `iss` that a token must have: an https URL.
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^https://"))]
    pub issuer: String,
    /// The `aud` that a token must have.
    #[schemars(length(min = 1, max = 512))]
    pub audience: String,
    /// The claim that must be the workspace's user ID. Left out: `sub`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub user_id_claim: Option<String>,
    /// URL of the issuer's keys (JWKS). The pod must reach it: see `egress` of the tier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^https://"))]
    pub jwks_uri: Option<String>,
    /// The issuer's keys (JWKS) as JSON, for a workspace without a way to the issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16_384))]
    pub jwks: Option<String>,
}

/// A Secret in the workspace's own namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalSecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// A git remote of the user's repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Repository {
    /// URL of the remote, `https://` or `ssh://`.
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^(https|ssh)://"))]
    pub url: String,
    /// Branch to seed from and push to.
    #[serde(default = "default_branch")]
    #[schemars(length(min = 1, max = 255))]
    pub branch: String,
    /// Secret in the workspace's namespace with the credential (`username` and `password`, or `ssh-privatekey`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalSecretRef>,
}

fn default_branch() -> String {
    "main".to_owned()
}

/// The agent's container where it differs from the tier's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkspaceTemplate {
    /// Image of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// Environment variables of the agent. Names that start with `DEXORDER_` are the operator's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub env: Vec<EnvVar>,
    /// CPU and memory of the agent's container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
}

/// An environment variable of the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvVar {
    /// Name of the variable.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$"))]
    #[x_kube(validation = Rule::new("!self.startsWith('DEXORDER_')").message("names that start with DEXORDER_ are the operator's own: choose another"))]
    pub name: String,
    /// Its value.
    #[serde(default)]
    #[schemars(length(max = 4096))]
    pub value: String,
}
