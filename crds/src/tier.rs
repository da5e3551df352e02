//! `WorkspaceTier`: the licence's terms, written by the platform's operators.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ResourceRequirements, Toleration};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{AuthMode, Duration, TierStorage};

/// What the pods of a tier may reach besides the cluster's DNS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Egress {
    /// Nothing.
    #[default]
    None,
    /// Public addresses on ports 80 and 443.
    Web,
    /// Everything that the cluster can reach.
    Any,
}

impl Egress {
    /// The text of the manifest, which is also the value of the pods' label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Web => "Web",
            Self::Any => "Any",
        }
    }
}

/// What users of a tier may do with their tools and data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Access {
    /// Resources, and tools that are marked read-only.
    ReadOnly,
    /// Everything that the agent offers.
    #[default]
    Full,
}

/// Terms of a tier: how long its workspaces may idle, what they may do, and what they get.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "dexorder.io",
    version = "v1alpha1",
    kind = "WorkspaceTier",
    plural = "workspacetiers",
    shortname = "wtier",
    category = "dexorder",
    doc = "The terms of one licence: idle timeout, access, storage, resources and image of the workspaces that name this tier.",
    derive = "PartialEq",
    printcolumn(
        name = "Idle",
        type_ = "string",
        json_path = ".spec.idleTimeout.default",
        description = "Idle timeout of a workspace that asks for none."
    ),
    printcolumn(
        name = "Most",
        type_ = "string",
        json_path = ".spec.idleTimeout.most",
        description = "Longest idle timeout that a workspace may ask for."
    ),
    printcolumn(
        name = "Access",
        type_ = "string",
        json_path = ".spec.access",
        description = "What its users may do."
    ),
    printcolumn(
        name = "Storage",
        type_ = "string",
        json_path = ".spec.storage.size",
        description = "Size of the volume."
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct WorkspaceTierSpec {
    /// How long a workspace may idle before it is stopped.
    pub idle_timeout: IdleTimeoutPolicy,
    /// Longest life of an anonymous visitor's workspace; it is removed with its volume afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]{1,5}(h|m|s|ms)){1,4}$') && duration(self) >= duration('1m')").message("maxLifetime must be at least 1m, written like 30m or 1h30m"))]
    pub max_lifetime: Option<Duration>,
    /// What its users may do: `ReadOnly` or `Full` (default).
    #[serde(default)]
    pub access: Access,
    /// What the pods may reach besides DNS: `None` (default), `Web` (ports 80 and 443 of public addresses) or `Any`. Needs a network plugin that enforces NetworkPolicies.
    #[serde(default)]
    pub egress: Egress,
    /// Auth modes that a workspace of this tier may choose.
    #[schemars(length(min = 1, max = 3))]
    pub auth_modes: Vec<AuthMode>,
    /// The volume of a workspace.
    pub storage: TierStorage,
    /// Image of the agent. A workspace may name another in `spec.template.image`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// CPU and memory of the agent's container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Runtime class of the pods, such as `gvisor`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub runtime_class_name: Option<String>,
    /// Where the pods may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduling: Option<Scheduling>,
    /// Started pods with fresh volumes that wait for new users: a workspace that asks for nothing but what the tier gives takes one over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_pool: Option<WarmPool>,
    /// Most workspaces of this tier that may be starting at once; the others wait in line. Left out: no limit of the tier's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_concurrent_starts: Option<i32>,
}

/// The idle timeout of a tier: what a workspace gets, and the most that it may ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("duration(self.default) <= duration(self.most)").message("idleTimeout.default must not be longer than idleTimeout.most: lower the one or raise the other"))]
pub struct IdleTimeoutPolicy {
    /// Idle timeout of a workspace that asks for none, such as `15m`.
    #[x_kube(validation = Rule::new("self.matches('^([0-9]{1,5}(h|m|s|ms)){1,4}$') && duration(self) >= duration('5s') && duration(self) <= duration('720h')").message("idleTimeout.default must be from 5s to 720h, such as 15m"))]
    pub default: Duration,
    /// Longest idle timeout that a workspace may ask for, such as `8h`.
    #[x_kube(validation = Rule::new("self.matches('^([0-9]{1,5}(h|m|s|ms)){1,4}$') && duration(self) >= duration('5s') && duration(self) <= duration('720h')").message("idleTimeout.most must be from 5s to 720h, such as 8h"))]
    pub most: Duration,
}

/// Where the pods of a tier may run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Scheduling {
    /// Labels that a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(length(max = 16))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the pods tolerate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub tolerations: Vec<Toleration>,
    /// Priority class of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
}

/// Started pods with fresh volumes that wait for new users.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WarmPool {
    /// How many to keep. At most three are made at once.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub size: i32,
}
