//! The resource types of Dexorder Workspaces, their validation, and the constants that name things in the cluster.
//!
//! Everything that a person can write in a manifest or read in a status is defined here; the YAML beside this
//! crate is generated from these types by the `crdgen` binary.

// The schema derive repeats each type inside a function, where `pub` can't be reached.
#![allow(unreachable_pub)]

pub mod condition;
mod duration;
pub mod keys;
mod storage;
mod tier;
mod workspace;
mod workspace_status;

pub use duration::{Duration, ParseDurationError};
pub use storage::{RetentionPolicy, StorageOverrides, TierStorage};
pub use tier::{Access, Egress, IdleTimeoutPolicy, Scheduling, WarmPool, WorkspaceTier, WorkspaceTierSpec};
pub use workspace::{
    Auth, AuthMode, DirectAuth, EnvVar, LocalSecretRef, OidcVerification, OperatingMode, Repository,
    UserWorkspace, UserWorkspaceSpec, WakeSchedule, WorkspaceTemplate,
};
pub use workspace_status::{StartPhases, UserWorkspaceStatus};

/// API group of every resource of this project.
pub const GROUP: &str = "dexorder.io";
