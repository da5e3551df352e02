//! What the operator remembers of a workspace between two looks without writing it anywhere. [no client]
//!
//! Everything here may be lost at any moment: a plan made without it asks again.

use dexorder_protocol::control::{DrainOutcome, Report};
use k8s_openapi::jiff::Timestamp;

use super::{Problem, phases::Progress};

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
    /// On a pod of the warm pool.
    Warm,
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
            Self::Warm => "warm",
            Self::Resume => "resume",
            Self::Restart => "restart",
        }
    }

    /// The text in a status.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cold => "Cold",
            Self::Warm => "Warm",
            Self::Resume => "Resume",
            Self::Restart => "Restart",
        }
    }

    /// The kind of that text.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Cold, Self::Warm, Self::Resume, Self::Restart].into_iter().find(|kind| kind.name() == name)
    }
}

/// A start under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Start {
    /// How it came about.
    pub kind: StartKind,
    /// When it was asked for.
    pub asked: Timestamp,
    /// When the pod was made, or taken over.
    pub created: Timestamp,
}

/// What is remembered of one workspace's present pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// The pod that all of this is about.
    pub pod_uid: Option<String>,
    /// When and how the pod was asked for.
    pub start: Option<Start>,
    /// How far its start has come.
    pub progress: Progress,
    /// The sidecar's last report.
    pub report: Option<Seen<Report>>,
    /// The last time that the sidecar did not answer, if it has not answered since.
    pub silence: Option<Seen<String>>,
    /// What became of the drain of this stop.
    pub drain: Option<Seen<Drain>>,
    /// Since when the sidecar has been asked to drain.
    pub drain_asked: Option<Timestamp>,
    /// The idle deadline that was announced to the user.
    pub announced: Option<Timestamp>,
    /// Whether the time of the first answer was counted.
    pub told_answer: bool,
    /// What the pod's events say of a start that takes long.
    pub trouble: Option<Seen<Option<Problem>>>,
}

impl Memory {
    /// Memory of a pod that was just asked for.
    pub fn of_start(pod_uid: String, start: Start) -> Self {
        Self { pod_uid: Some(pod_uid), start: Some(start), ..Self::default() }
    }

    /// Forgets that the sidecar did not answer.
    pub fn forget_silence(&mut self) {
        self.silence = None;
        self.drain = self.drain.take().filter(|drain| !matches!(drain.what, Drain::Unanswered(_)));
    }

    /// Forgets what became of a stop that was taken back: what ended it must not end the next one.
    pub fn forget_stop(&mut self) {
        self.drain = self.drain.take().filter(|drain| matches!(drain.what, Drain::Done(_)));
        self.drain_asked = None;
    }

    /// This memory if it is about that pod, an empty one otherwise.
    #[must_use]
    pub fn about(&self, pod_uid: Option<&str>) -> Self {
        if self.pod_uid.as_deref() == pod_uid { self.clone() } else { Self::default() }
    }
}
