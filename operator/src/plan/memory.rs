//! What the operator remembers of a workspace between two looks without writing it anywhere. [no client]
//!
//! Everything here may be lost at any moment: a plan made without it asks again.

use dexorder_protocol::control::{DrainOutcome, Report};
use k8s_openapi::jiff::Timestamp;

/// Something learnt at a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen<T> {
    /// When.
    pub at: Timestamp,
    /// What.
    pub what: T,
}

/// What became of a drain.
#[derive(Clone, Debug, PartialEq)]
pub enum Drain {
    /// The sidecar refuses work and has saved, as well as it could.
    Done(DrainOutcome),
    /// There was activity: it goes on working.
    Refused,
    /// It did not answer.
    Unanswered(String),
}

/// How a start came about, for metrics and events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StartKind {
    /// On a new volume.
    Cold,
    /// Of a workspace that was stopped.
    Resume,
    /// Of a pod that had gone.
    Restart,
}

impl StartKind {
    /// The label in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Resume => "resume",
            Self::Restart => "restart",
        }
    }
}

/// What is remembered of one workspace's present pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// The pod that all of this is about.
    pub pod_uid: Option<String>,
    /// When and how the pod was asked for.
    pub start: Option<Seen<StartKind>>,
    /// The sidecar's last report.
    pub report: Option<Seen<Report>>,
    /// The last time that the sidecar did not answer, if it has not answered since.
    pub silence: Option<Seen<String>>,
    /// What became of the drain of this stop.
    pub drain: Option<Seen<Drain>>,
}

impl Memory {
    /// Memory of a pod that was just asked for.
    pub fn of_start(pod_uid: String, at: Timestamp, kind: StartKind) -> Self {
        Self { pod_uid: Some(pod_uid), start: Some(Seen { at, what: kind }), ..Self::default() }
    }

    /// This memory if it is about that pod, an empty one otherwise.
    #[must_use]
    pub fn about(&self, pod_uid: Option<&str>) -> Self {
        if self.pod_uid.as_deref() == pod_uid { self.clone() } else { Self::default() }
    }
}
