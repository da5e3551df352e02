//! The sidecar's control API, called by the operator alone.

use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Path of the report: `GET`, answers a [`Report`].
pub const REPORT_PATH: &str = "/v1/report";
/// Path of the drain: `POST` of a [`DrainRequest`], answers a [`DrainOutcome`].
pub const DRAIN_PATH: &str = "/v1/drain";
/// Path of the rotation: `POST` of a [`RotateKeyRequest`], answers a [`RotateKeyOutcome`].
pub const ROTATE_KEY_PATH: &str = "/v1/rotate-key";
/// Path of the notification: `POST` of a [`NotifyRequest`], answers a [`NotifyOutcome`].
pub const NOTIFY_PATH: &str = "/v1/notify";
/// Path of the assignment: `POST` of an [`Assignment`], answers the [`Report`] of the assigned sidecar.
pub const ASSIGN_PATH: &str = "/v1/assign";

/// What the sidecar sees of its workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// When the sidecar started.
    pub start_time: Timestamp,
    /// The last time that a request began or ended or its stream carried something; the start time before the first.
    pub last_activity_time: Timestamp,
    /// Requests that are running now.
    pub in_flight: u32,
    /// Streams that are open without a request of their own (a client that listens). They don't keep it awake.
    pub open_streams: u32,
    /// Work that the agent does without a request, by name.
    #[serde(default)]
    pub busy: Vec<String>,
    /// Whether the agent answers.
    pub agent_ready: bool,
    /// When the agent first answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_ready_time: Option<Timestamp>,
    /// When the agent's answer to a request was first passed on to a client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_answer_time: Option<Timestamp>,
    /// Whether new requests are refused.
    pub draining: bool,
    /// Commit of the repository after the last save.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved_commit: Option<String>,
    /// UID of the workspace that the sidecar serves; none while it waits in a pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace_uid: Option<String>,
    /// Mode Direct: thumbprint of the workspace's public key (base64url of its SHA-256).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// Mode Direct: the last request for a rotation that was carried out, as [`RotateKeyRequest::request`] gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_rotation: Option<String>,
}

/// On which condition to drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DrainMode {
    /// Only if nothing runs and nothing has happened since [`DrainRequest::idle_since_time`], decided atomically.
    IfIdle,
    /// In any case.
    Force,
}

/// Asks the sidecar to refuse new work, let running work end, and save.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrainRequest {
    /// On which condition.
    pub mode: DrainMode,
    /// With [`DrainMode::IfIdle`]: activity after this moment means that the workspace is not idle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_since_time: Option<Timestamp>,
    /// How long running work may take to end, in seconds. Left out: the sidecar's own limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_seconds: Option<u32>,
}

/// Why a drain was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NotIdle {
    /// A request is running.
    InFlight,
    /// Something happened after the moment that was asked about.
    Active,
    /// The agent works without a request.
    Busy,
}

/// What became of a drain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrainOutcome {
    /// Whether the workspace now refuses work and is saved as far as it could be.
    pub drained: bool,
    /// Why it was refused, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<NotIdle>,
    /// What the sidecar saw when it refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Box<Report>>,
    /// Commit of the repository after the save.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved_commit: Option<String>,
    /// Whether everything is committed.
    #[serde(default)]
    pub clean: bool,
    /// What the git remote has, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<RemoteState>,
    /// Requests that were cut off at the deadline.
    #[serde(default)]
    pub cancelled: u32,
    /// What went wrong with the save, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// How far the workspace's git remote is in step with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RemoteState {
    /// The last commit that was pushed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pushed: Option<String>,
    /// Why the remote has not got everything, or what somebody has to do there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Asks a workspace of mode Direct for a new key. Each request is carried out once, however often it comes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RotateKeyRequest {
    /// What tells this request from the one before: the value of the annotation that asks for it.
    pub request: String,
}

/// The key after a rotation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RotateKeyOutcome {
    /// Its thumbprint.
    pub public_key: String,
    /// Whether it is new: false if this request was carried out before.
    pub rotated: bool,
}

/// How much a notification matters, as MCP has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NotifyLevel {
    /// Worth knowing.
    Info,
    /// Something is about to happen.
    Notice,
    /// Something may be lost.
    Warning,
}

/// Asks the sidecar to tell the clients that listen: an MCP `notifications/message` on their open streams.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NotifyRequest {
    /// How much it matters.
    pub level: NotifyLevel,
    /// What the user reads.
    pub message: String,
}

/// Who was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NotifyOutcome {
    /// Open streams that the notification was put on.
    pub streams: u32,
}

/// How the users of a workspace prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuthMode {
    /// Anonymous sessions.
    Public,
    /// The gateway vouches for the user.
    Gateway,
    /// The user proves it to the workspace itself.
    Direct,
}

/// What users may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// Read and run, change nothing.
    ReadOnly,
    /// Everything.
    Full,
}

/// The workspace that a pod of a pool becomes. It is final.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Assignment {
    /// UID of the workspace: from now on the audience of every signed identity.
    pub workspace_uid: String,
    /// Name of the workspace.
    pub workspace: String,
    /// Namespace of the workspace.
    pub namespace: String,
    /// The user that it belongs to.
    pub user_id: String,
    /// How its users prove who they are: `Public` or `Gateway`.
    pub auth_mode: AuthMode,
    /// What users may do.
    pub access: Access,
}
