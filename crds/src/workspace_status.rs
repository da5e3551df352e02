//! What the operator reports of a workspace.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, Time};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// What the operator last saw and did. Written by the operator alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserWorkspaceStatus {
    /// The generation of the manifest that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`, `UpToDate`, `StorageReady`, `Ready`, `Suspended` and `Saved`. The reason of `Ready` is the state that people see.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// URL of the sidecar's MCP endpoint: the pod's own address. Set as soon as the pod has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub endpoint: Option<String>,
    /// Name of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub pod_name: Option<String>,
    /// UID of the pod that the rest of this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "podUID")]
    #[schemars(length(max = 64))]
    pub pod_uid: Option<String>,
    /// Name of the claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub claim_name: Option<String>,
    /// The user's last activity, as the sidecar told it when the operator last asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_activity_time: Option<Time>,
    /// When the operator next asks the sidecar whether the workspace is idle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_deadline_time: Option<Time>,
    /// Place in the line of starts of its tier, while the start waits for its turn. Renewed when it has halved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub queue_position: Option<i32>,
    /// The phases of the last start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<StartPhases>,
    /// When the current start was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the current start was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_time: Option<Time>,
    /// When the workspace was last stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend_time: Option<Time>,
    /// When the next of `spec.wakeSchedules` starts the stopped workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_wake_time: Option<Time>,
    /// When an anonymous visitor's workspace is removed with its volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire_time: Option<Time>,
    /// Why it was last stopped: `Idle`, `Requested` or `Expired`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub suspend_reason: Option<String>,
    /// How often the pod was made again in a row. Starts anew once the workspace has been ready for a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub restarts: Option<i32>,
    /// How long the last start took, such as `1s250ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_duration: Option<crate::Duration>,
    /// Commit of the user's repository that the last drain saved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub saved_commit: Option<String>,
    /// Value of the annotation `dexorder.io/touched-at` that the operator last acted on. Another value wakes a stopped workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub observed_touch: Option<String>,
    /// Thumbprint of the workspace's own public key (auth mode Direct).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub public_key: Option<String>,
}

/// When a start reached each of its phases. A phase that was not seen is left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StartPhases {
    /// How the start came about: `Cold`, `Resume` or `Restart`, or `Warm` if it took over a pod of the warm pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub kind: Option<String>,
    /// The start was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_time: Option<MicroTime>,
    /// Its turn came, and the pod was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create_time: Option<MicroTime>,
    /// A node was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_time: Option<MicroTime>,
    /// Volume and images are there, and the containers run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pulled_time: Option<MicroTime>,
    /// The sidecar is up, by its own clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sidecar_ready_time: Option<MicroTime>,
    /// The agent gave its first answer, by the sidecar's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_ready_time: Option<MicroTime>,
    /// The first request was answered, by the sidecar's clock. Written with what is written next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_answer_time: Option<MicroTime>,
}
