//! Condition types of a `UserWorkspace` and the reasons that they can have.
//!
//! The reason of `Ready` is the state that people see in `kubectl get uws`.

use std::fmt;

/// A condition type of a `UserWorkspace`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConditionType {
    /// The manifest fits its tier.
    Accepted,
    /// What runs is what manifest and tier ask for now.
    UpToDate,
    /// The claim is bound.
    StorageReady,
    /// The agent answers.
    Ready,
    /// The workspace is stopped, its volume kept.
    Suspended,
    /// The outcome of the last save.
    Saved,
}

impl ConditionType {
    /// The text in `status.conditions[].type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::UpToDate => "UpToDate",
            Self::StorageReady => "StorageReady",
            Self::Ready => "Ready",
            Self::Suspended => "Suspended",
            Self::Saved => "Saved",
        }
    }
}

impl fmt::Display for ConditionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Reasons of `Accepted`.
pub mod accepted {
    /// The manifest fits its tier.
    pub const ACCEPTED: &str = "Accepted";
    /// No `WorkspaceTier` of that name exists.
    pub const TIER_NOT_FOUND: &str = "TierNotFound";
    /// The idle timeout is longer than the tier allows.
    pub const IDLE_TIMEOUT_TOO_LONG: &str = "IdleTimeoutTooLong";
    /// The tier does not allow this auth mode.
    pub const AUTH_MODE_NOT_ALLOWED: &str = "AuthModeNotAllowed";
    /// A schedule of `spec.wakeSchedules` or its time zone can't be read; the message names it.
    pub const INVALID_SCHEDULE: &str = "InvalidSchedule";
    /// The tier names no image and the workspace gives none.
    pub const NO_IMAGE: &str = "NoImage";
}

/// Reasons of `UpToDate`.
pub mod up_to_date {
    /// What runs, or would be started, is what manifest and tier ask for.
    pub const UP_TO_DATE: &str = "UpToDate";
    /// The manifest, its tier or the operator has changed since the pod was made; the next start takes it up.
    pub const PENDING_RESTART: &str = "PendingRestart";
}

/// Reasons of `StorageReady`.
pub mod storage {
    /// The claim is bound to a volume.
    pub const BOUND: &str = "Bound";
    /// The claim waits for its volume.
    pub const PENDING: &str = "ClaimPending";
    /// The claim is being deleted.
    pub const TERMINATING: &str = "ClaimTerminating";
    /// The claim's volume is gone.
    pub const LOST: &str = "ClaimLost";
    /// A claim of that name holds another user's data.
    pub const FOREIGN: &str = "ClaimOfAnotherUser";
    /// A workspace of auth mode `Direct` has used the claim, and this one is of a weaker mode.
    pub const STRICTER_MODE: &str = "ClaimOfStricterMode";
    /// No claim exists yet.
    pub const MISSING: &str = "ClaimMissing";
}

/// Reasons of `Ready`.
pub mod ready {
    /// Nothing was started yet.
    pub const PENDING: &str = "Pending";
    /// Other workspaces start first; the message says how many.
    pub const QUEUED: &str = "Queued";
    /// The pod is on its way.
    pub const STARTING: &str = "Starting";
    /// The agent answers.
    pub const READY: &str = "Ready";
    /// New requests are refused, running ones end, the repository is saved.
    pub const DRAINING: &str = "Draining";
    /// Stopped, volume kept.
    pub const SUSPENDED: &str = "Suspended";
    /// The pod is being deleted and the next one waits for its end.
    pub const TERMINATING: &str = "Terminating";
    /// The manifest does not fit its tier: see `Accepted`.
    pub const NOT_ACCEPTED: &str = "NotAccepted";
    /// The volume can't be used: see `StorageReady`.
    pub const STORAGE_NOT_READY: &str = "StorageNotReady";
    /// The kubelet can't get the image.
    pub const IMAGE_PULL_FAILED: &str = "ImagePullFailed";
    /// No node takes the pod.
    pub const UNSCHEDULABLE: &str = "Unschedulable";
    /// The volume is attached elsewhere or can't be mounted.
    pub const VOLUME_NOT_MOUNTED: &str = "VolumeNotMounted";
    /// A Secret that the manifest names does not exist.
    pub const SECRET_NOT_FOUND: &str = "SecretNotFound";
    /// A container was killed for using too much memory.
    pub const OUT_OF_MEMORY: &str = "OutOfMemory";
    /// The agent or the sidecar ends again and again.
    pub const CRASH_LOOP: &str = "CrashLoop";
    /// The node threw the pod out.
    pub const EVICTED: &str = "Evicted";
    /// The pod ended in failure; it is made again after a back-off.
    pub const POD_FAILED: &str = "PodFailed";
    /// The API server refuses the pod or the claim: a quota, a missing permission, an invalid value.
    pub const REFUSED_BY_API: &str = "RefusedByApi";
    /// Something else bears the name of the pod.
    pub const POD_NAME_TAKEN: &str = "PodNameTaken";
    /// The sidecar of a pod that was ready does not answer.
    pub const SIDECAR_SILENT: &str = "SidecarSilent";
    /// The node does not answer.
    pub const NODE_LOST: &str = "NodeLost";
}

/// Reasons of `Suspended`, which are also the values of `status.suspendReason`.
pub mod suspended {
    /// Nothing happened for the idle timeout.
    pub const IDLE: &str = "Idle";
    /// `spec.operatingMode` is `Suspended`.
    pub const REQUESTED: &str = "Requested";
    /// An anonymous visitor's workspace has reached the end of its life.
    pub const EXPIRED: &str = "Expired";
    /// The workspace runs or starts.
    pub const RUNNING: &str = "Running";
    /// The workspace is on its way to a stop.
    pub const STOPPING: &str = "Stopping";
}

/// Reasons of `Saved`.
pub mod saved {
    /// The last drain saved and committed everything.
    pub const SAVED: &str = "Saved";
    /// The last drain saved and committed everything, and the git remote has not got it; the message says why.
    pub const NOT_PUSHED: &str = "NotPushed";
    /// The last drain could not save; the message says what happened. What was acknowledged before is on the volume.
    pub const SAVE_FAILED: &str = "SaveFailed";
    /// The sidecar did not drain at the last stop; acknowledged changes are on the volume.
    pub const NOT_DRAINED: &str = "NotDrained";
    /// Nobody knows what became of the drain: the operator was started anew during the stop, or the pod ended by itself.
    /// Acknowledged changes are on the volume.
    pub const OUTCOME_UNKNOWN: &str = "OutcomeUnknown";
}
