//! What a claim says, in the words of the plan. [no client]

use dexorder_crds::{AuthMode, UserWorkspaceSpec, condition::storage, keys};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;

/// Where the claim of a workspace is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimState {
    /// There is none yet.
    Missing,
    /// It waits for its volume.
    Pending,
    /// It has its volume.
    Bound,
    /// It is being deleted.
    Terminating,
    /// Its volume is gone.
    Lost,
    /// It holds the data of another user, or was made by somebody else.
    Foreign(Option<String>),
    /// A workspace of auth mode Direct has used it, and the one that asks for it has this weaker mode.
    OfStricterMode(AuthMode),
}

impl ClaimState {
    /// Reads the state of a claim for a workspace with this manifest.
    pub fn of(claim: Option<&PersistentVolumeClaim>, spec: &UserWorkspaceSpec) -> Self {
        let Some(claim) = claim else {
            return Self::Missing;
        };
        let annotation = |key| claim.metadata.annotations.as_ref().and_then(|all| all.get(key));
        let holder = annotation(keys::USER_ID);
        if holder.is_none_or(|holder| *holder != spec.user_id) {
            return Self::Foreign(holder.cloned());
        }
        if claim.metadata.deletion_timestamp.is_some() {
            return Self::Terminating;
        }
        let mode = spec.auth.mode;
        let used_by = annotation(keys::AUTH_MODE).map(String::as_str);
        if mode != AuthMode::Direct && used_by == Some(AuthMode::Direct.as_str()) {
            return Self::OfStricterMode(mode);
        }
        match claim.status.as_ref().and_then(|status| status.phase.as_deref()) {
            Some("Bound") => Self::Bound,
            Some("Lost") => Self::Lost,
            _ => Self::Pending,
        }
    }

    /// Whether a pod may be started on it. A claim that waits for its first consumer is bound by that very pod.
    pub const fn usable(&self) -> bool {
        matches!(self, Self::Missing | Self::Pending | Self::Bound)
    }

    /// Status, reason and message of the condition `StorageReady`.
    pub fn condition(&self, name: &str) -> (&'static str, &'static str, String) {
        match self {
            Self::Missing => ("False", storage::MISSING, format!("claim {name} is not made yet")),
            Self::Pending => ("False", storage::PENDING, format!("claim {name} waits for its volume")),
            Self::Bound => ("True", storage::BOUND, format!("claim {name} is bound")),
            Self::Terminating => (
                "False",
                storage::TERMINATING,
                format!("claim {name} is being deleted; a new one is made when it is gone"),
            ),
            Self::Lost => (
                "False",
                storage::LOST,
                format!(
                    "the volume of claim {name} is gone; restore it, or delete the claim to begin with an empty one"
                ),
            ),
            Self::Foreign(Some(holder)) => (
                "False",
                storage::FOREIGN,
                format!(
                    "claim {name} holds the data of user {holder}; give the workspace another name, or delete the claim"
                ),
            ),
            Self::OfStricterMode(mode) => (
                "False",
                storage::STRICTER_MODE,
                format!(
                    "claim {name} holds data that a workspace of auth mode Direct keeps from the gateway; set spec.auth.mode to Direct, or, if the user agrees, open it to mode {mode} with `kubectl annotate --overwrite pvc/{name} {}={mode}`",
                    keys::AUTH_MODE,
                    mode = mode.as_str()
                ),
            ),
            Self::Foreign(None) => (
                "False",
                storage::FOREIGN,
                format!(
                    "claim {name} was not made for a workspace; give the workspace another name, or delete the claim"
                ),
            ),
        }
    }
}
