//! What a plan is made from and what it consists of. [no client]

use dexorder_crds::{AuthMode, StartPhases, UserWorkspace, UserWorkspaceStatus, WorkspaceTier};
use dexorder_protocol::control::{Assignment, DrainRequest};
use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, Pod},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
    jiff::Timestamp,
};

use super::{
    memory::{Memory, StartKind},
    turn::Turn,
};
use crate::{build::Settings, pool::Free};

/// Everything that a plan may look at.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// The workspace as the API server has it.
    pub workspace: &'a UserWorkspace,
    /// The tier that it names, if there is one.
    pub tier: Option<&'a WorkspaceTier>,
    /// The pod of its name, or the one on its claim.
    pub pod: Option<&'a Pod>,
    /// The claim of its name, or the one that it was given from the warm pool.
    pub claim: Option<&'a PersistentVolumeClaim>,
    /// What the sidecar said.
    pub memory: &'a Memory,
    /// Whether it may start now.
    pub turn: Turn,
    /// A member of the warm pool that the workspace may take over, if it is its turn to.
    pub member: Option<&'a Free>,
    /// What every pod is built with.
    pub settings: &'a Settings,
}

/// Something to do in the cluster or at the sidecar.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make the claim. That it exists already is fine.
    CreateClaim(Box<PersistentVolumeClaim>),
    /// Set who owns the claim: the workspace (deleted with it) or nobody (kept).
    SetClaimOwners(Vec<OwnerReference>),
    /// Write on the claim which auth mode it is used with.
    MarkClaim(AuthMode),
    /// Make the pod. That it exists already is fine: the next look sees which one it is.
    CreatePod {
        /// The pod.
        pod: Box<Pod>,
        /// How the start came about.
        kind: StartKind,
        /// When it was asked for.
        asked: Timestamp,
    },
    /// Take a member of the warm pool over: its claim first, then its pod.
    TakeOver {
        /// The member.
        member: Box<Free>,
        /// Who owns the claim from now on.
        owners: Vec<OwnerReference>,
        /// What its sidecar is told.
        assignment: Box<Assignment>,
        /// When the start was asked for.
        asked: Timestamp,
    },
    /// Take the pod over whose claim was taken over before.
    TakePod {
        /// The pod.
        pod: Box<Pod>,
        /// What its sidecar is told.
        assignment: Box<Assignment>,
        /// When the start was asked for.
        asked: Timestamp,
    },
    /// Tell the sidecar of a pod that was taken over whom it serves. However often it is told.
    Assign {
        /// UID of the pod.
        pod_uid: String,
        /// Address of the pod.
        ip: String,
        /// What it is told.
        assignment: Box<Assignment>,
    },
    /// Get into the line of starts.
    Line {
        /// When the start was asked for.
        asked: Timestamp,
    },
    /// Delete the pod with this UID and no other.
    DeletePod {
        /// UID of the pod.
        uid: String,
        /// Its resource version, if it may be deleted only as it was observed: it had nothing to save then.
        version: Option<String>,
    },
    /// Delete the workspace itself, as it was observed.
    DeleteWorkspace,
    /// Read the events of a pod whose start takes long, or that ended without a cause.
    ReadEvents {
        /// UID of the pod.
        pod_uid: String,
    },
    /// Announce that the workspace stops at the deadline unless it is used.
    Announce {
        /// UID of the pod.
        pod_uid: String,
        /// Address of the pod.
        ip: String,
        /// The deadline.
        deadline: Timestamp,
        /// What people read.
        message: String,
    },
    /// Have the sidecar make another key.
    RotateKey {
        /// UID of the pod.
        pod_uid: String,
        /// Address of the pod.
        ip: String,
        /// What tells this request from others.
        request: String,
    },
    /// Ask the sidecar of the pod for its report.
    Ask {
        /// UID of the pod.
        pod_uid: String,
        /// Address of the pod.
        ip: String,
    },
    /// Ask the sidecar of the pod to drain.
    Drain {
        /// UID of the pod.
        pod_uid: String,
        /// Address of the pod.
        ip: String,
        /// On which condition.
        request: DrainRequest,
    },
}

/// An event for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Whether something is wrong.
    pub warning: bool,
    /// CamelCase reason.
    pub reason: &'static str,
    /// What happened.
    pub message: String,
}

/// When to look again if nothing changes before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Only when something changes.
    OnChange,
    /// At this moment.
    At(Timestamp),
}

/// What the line of starts is to know of a workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// It waits for its turn.
    Waiting,
    /// Its pod is on its way.
    Starting,
    /// It neither starts nor wants to.
    Free,
}

/// A start that has just ended in a ready workspace.
#[derive(Clone, Debug, PartialEq)]
pub struct Started {
    /// How it came about.
    pub kind: StartKind,
    /// How long it took.
    pub took: std::time::Duration,
    /// When it reached each of its phases.
    pub phases: StartPhases,
}

/// The first answer after a start, to somebody who waited for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// How the start came about.
    pub kind: StartKind,
    /// The time from the start's request to the answer.
    pub took: std::time::Duration,
}

/// What to do now, in this order: `first`, the status, `then`, the notes.
///
/// The status is written with the resource version that the plan was made from. What must not happen on stale
/// information therefore stands in `then`: it is left out if the write is refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Actions that are right even if the workspace has changed meanwhile.
    pub first: Vec<Action>,
    /// The new status, if it differs from the present one.
    pub status: Option<UserWorkspaceStatus>,
    /// Actions that follow from the status that was written.
    pub then: Vec<Action>,
    /// Events.
    pub notes: Vec<Note>,
    /// A start that ended.
    pub started: Option<Started>,
    /// The first answer after a start.
    pub answered: Option<Answered>,
    /// What the line of starts is to know.
    pub line: Line,
    /// When to look again.
    pub next: Next,
}
