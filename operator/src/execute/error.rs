//! Why an action failed, and what follows from that. [no client]

use dexorder_crds::condition::ready;

use super::API_TIMEOUT;

/// Why an action failed.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    /// The API server refused or could not be reached.
    #[error("failed to {verb} {kind} {name}: {source}")]
    Api {
        /// What was tried.
        verb: &'static str,
        /// On which kind of object.
        kind: &'static str,
        /// Namespace and name of the object.
        name: String,
        /// What failed.
        #[source]
        source: Box<kube::Error>,
    },
    /// The claim of the workspace's name is not the workspace's.
    #[error("{0}")]
    ClaimTaken(String),
    /// The pod of the workspace's name is not the workspace's.
    #[error("pod {0} belongs to something else; delete it or give the workspace another name")]
    PodNameTaken(String),
    /// The API server did not answer.
    #[error("failed to {verb} {kind} {name}: no answer within {API_TIMEOUT:?}")]
    Timeout {
        /// What was tried.
        verb: &'static str,
        /// On which kind of object.
        kind: &'static str,
        /// Namespace and name of the object.
        name: String,
    },
}

impl ExecuteError {
    /// The HTTP status of a refusal.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            Self::ClaimTaken(_) | Self::PodNameTaken(_) | Self::Timeout { .. } => None,
        }
    }

    /// Whether somebody else wrote in between: look again soon.
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }

    /// The reason of `Ready` if it fails for good: a permission, a quota, an invalid object, a name that is taken.
    pub fn refusal(&self) -> Option<&'static str> {
        match self {
            Self::ClaimTaken(_) => Some(ready::STORAGE_NOT_READY),
            Self::PodNameTaken(_) => Some(ready::POD_NAME_TAKEN),
            Self::Api { .. } => matches!(self.code(), Some(400 | 403 | 422)).then_some(ready::REFUSED_BY_API),
            Self::Timeout { .. } => None,
        }
    }
}
