//! A state of the model, and how it becomes what the plan is given.

use dexorder_crds::{
    UserWorkspaceStatus,
    condition::{ready, suspended},
};
use dexorder_protocol::control::Report;
use k8s_openapi::{
    api::core::v1::{ContainerState, ContainerStateWaiting, ContainerStatus},
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::{SignedDuration, Timestamp},
};

use super::Budget;
use crate::plan::{
    Drain, Memory, Seen, Start, StartKind,
    tests::fixtures::{START, Scene, drained, quiet_report, scene},
};

/// A number that no pod has: after the next step they are numbered anew.
pub(super) const NEW_POD: u8 = 100;

/// Seconds from the present moment of a state.
pub(super) type Rel = i32;

/// What is that old or older is all the same to the plan: an idle timeout and a minute for an activity.
const OLDEST: Rel = -960;
/// A report and an announcement are compared with a deadline, which is at most a minute ago.
const OLD_REPORT: Rel = -70;
/// A start is late, and a sidecar is asked again.
const LATE: Rel = -16;
/// A workspace that has been ready for so long counts its restarts anew.
const RECOVERED: Rel = -60;
/// More restarts than one history has faults for do not happen.
const MOST_BACKOFF: Rel = -8;

/// All that is, and what the operator knows of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::struct_excessive_bools, reason = "each can be so by itself")]
pub(in crate::plan::tests) struct State {
    pub(super) budget: Budget,
    /// The workspace as the API server has it, and as the operator's watch last showed it.
    pub(super) workspace: Resource,
    pub(super) seen_workspace: Resource,
    pub(super) pod: Option<Pod>,
    pub(super) seen_pod: Option<Pod>,
    pub(super) claim: bool,
    pub(super) memory: Mind,
    /// The image can't be pulled, for good.
    pub(super) broken: bool,
    /// Somebody waits for the workspace.
    pub(super) owed: bool,
    pub(super) was_stopped: bool,
    pub(super) violation: Option<&'static str>,
}

/// The resource: how often it was touched, and its status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Resource {
    pub(super) touch: u8,
    pub(super) shown: Shown,
}

/// What a status says, as far as anybody acts on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Shown {
    pub(super) ready: Option<(bool, &'static str)>,
    pub(super) ready_since: Rel,
    pub(super) suspended: Option<(bool, &'static str)>,
    pub(super) pod: Option<u8>,
    pub(super) endpoint: bool,
    pub(super) start_time: Option<Rel>,
    pub(super) ready_time: Option<Rel>,
    pub(super) last_activity: Option<Rel>,
    pub(super) deadline: Option<Rel>,
    pub(super) restarts: Option<i32>,
    pub(super) suspend_reason: Option<&'static str>,
    pub(super) observed_touch: u8,
}

/// The pod, and the sidecar in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::struct_excessive_bools, reason = "each can be so by itself")]
pub(super) struct Pod {
    pub(super) id: u8,
    pub(super) phase: Phase,
    pub(super) terminating: bool,
    pub(super) created: Rel,
    pub(super) draining: bool,
    pub(super) in_flight: bool,
    pub(super) silent: bool,
    pub(super) last_activity: Rel,
}

/// How far a pod has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    Pending,
    NoImage,
    Addressed,
    Ready,
    Failed,
}

/// What the operator remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Mind {
    pub(super) pod: Option<u8>,
    pub(super) start: Option<(StartKind, Rel)>,
    /// When, the last activity, whether something runs, whether it drains.
    pub(super) report: Option<(Rel, Rel, bool, bool)>,
    pub(super) silence: Option<Rel>,
    pub(super) drain: Option<(Rel, Outcome)>,
    pub(super) announced: Option<Rel>,
    pub(super) trouble: Option<Rel>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Outcome {
    Done,
    Refused,
    Unanswered,
}

impl State {
    pub(super) fn new(budget: Budget) -> Self {
        Self {
            budget,
            workspace: Resource::default(),
            seen_workspace: Resource::default(),
            pod: None,
            seen_pod: None,
            claim: false,
            memory: Mind::default(),
            broken: false,
            owed: true,
            was_stopped: false,
            violation: None,
        }
    }

    /// Whether the operator sees what is.
    pub(super) fn is_seen(&self) -> bool {
        self.seen_workspace == self.workspace && self.seen_pod == self.pod
    }

    /// Whether the reason of `Ready` is this one.
    pub(super) fn shows(&self, reason: &str) -> bool {
        self.workspace.shown.ready.is_some_and(|(_, shown)| shown == reason)
    }

    /// Every moment of the state, with the age from which on it makes no difference to the plan.
    fn moments(&mut self) -> Vec<(&mut Rel, Rel)> {
        let mut all = Vec::new();
        for shown in [&mut self.workspace.shown, &mut self.seen_workspace.shown] {
            all.push((&mut shown.ready_since, OLD_REPORT));
            all.extend(shown.start_time.as_mut().map(|moment| (moment, MOST_BACKOFF)));
            all.extend(shown.ready_time.as_mut().map(|moment| (moment, OLDEST)));
            all.extend(shown.last_activity.as_mut().map(|moment| (moment, OLDEST)));
            all.extend(shown.deadline.as_mut().map(|moment| (moment, 0)));
        }
        for pod in [&mut self.pod, &mut self.seen_pod].into_iter().flatten() {
            all.extend([(&mut pod.created, LATE), (&mut pod.last_activity, OLDEST)]);
        }
        let Mind { pod: _, start, report, silence, drain, announced, trouble } = &mut self.memory;
        all.extend(start.iter_mut().map(|(_, moment)| (moment, LATE)));
        all.extend(report.iter_mut().flat_map(|(at, last, _, _)| [(at, OLD_REPORT), (last, OLDEST)]));
        all.extend(drain.iter_mut().map(|(at, _)| (at, LATE)));
        let others = [(silence, LATE), (announced, OLD_REPORT), (trouble, LATE)];
        all.extend(others.into_iter().filter_map(|(moment, oldest)| Some((moment.as_mut()?, oldest))));
        all
    }

    /// Time passes.
    pub(super) fn pass(&mut self, seconds: Rel) {
        for (moment, _) in self.moments() {
            *moment -= seconds;
        }
    }

    /// The one state that stands for all that are like this one: old is old, and pods are numbered by who knows them.
    pub(super) fn normal(mut self) -> Self {
        for (moment, oldest) in self.moments() {
            *moment = (*moment).max(oldest);
        }
        for pod in [&mut self.pod, &mut self.seen_pod].into_iter().flatten() {
            // The activity of a pod that was never ready is older than the moment at which it gets ready.
            let starts = pod.phase == Phase::Addressed && !pod.draining && !pod.silent;
            if pod.terminating || starts || !matches!(pod.phase, Phase::Addressed | Phase::Ready) {
                pod.last_activity = 0;
            }
        }
        for shown in [&mut self.workspace.shown, &mut self.seen_workspace.shown] {
            // Of two the later counts, but for the restarts.
            if shown.ready_time <= shown.last_activity {
                shown.ready_time = shown.ready_time.map(|time| if time <= RECOVERED { OLDEST } else { time });
            }
            if shown.suspended.is_none_or(|(_, reason)| reason != suspended::STOPPING) {
                shown.ready_since = 0;
            }
        }
        let mut known: Vec<u8> = Vec::new();
        let ids = [&mut self.pod, &mut self.seen_pod].into_iter().flatten().map(|pod| &mut pod.id);
        let ids = ids.chain(self.workspace.shown.pod.as_mut());
        let ids = ids.chain(self.seen_workspace.shown.pod.as_mut()).chain(self.memory.pod.as_mut());
        for id in ids {
            let place = known.iter().position(|other| other == id).unwrap_or_else(|| {
                known.push(*id);
                known.len() - 1
            });
            *id = u8::try_from(place).unwrap();
        }
        self
    }

    /// What the plan is given.
    pub(super) fn scene(&self) -> Scene {
        let mut scene = scene();
        let Resource { touch, shown } = &self.seen_workspace;
        if *touch > 0 {
            scene.touch(&touch.to_string());
        }
        scene.workspace.status = shown.ready.is_some().then(|| shown.status());
        if self.claim {
            scene.bound_claim();
        }
        if let Some(pod) = &self.seen_pod {
            pod.build(&mut scene);
        }
        scene.memory = self.memory.build();
        scene
    }
}

pub(super) fn at(rel: Rel) -> Timestamp {
    Timestamp::from_second(START).unwrap() + SignedDuration::from_secs(rel.into())
}

pub(super) fn rel(moment: Timestamp) -> Rel {
    i32::try_from(moment.as_second() - START).unwrap()
}

pub(super) fn uid(id: u8) -> String {
    format!("p{id}")
}

pub(super) fn id(uid: &str) -> u8 {
    uid[1..].parse().unwrap()
}

impl Pod {
    fn build(&self, scene: &mut Scene) {
        let ip = matches!(self.phase, Phase::Addressed | Phase::Ready).then_some("10.0.0.1");
        scene.pod(&uid(self.id), ip, self.phase == Phase::Ready);
        let pod = scene.pod.as_mut().unwrap();
        pod.metadata.creation_timestamp = Some(Time(at(self.created)));
        pod.metadata.resource_version = Some("seen".to_owned());
        if self.phase == Phase::Failed {
            scene.pod_status().phase = Some("Failed".to_owned());
        } else if self.phase == Phase::NoImage {
            scene.pod_status().container_statuses = Some(vec![no_image()]);
        }
        if self.terminating {
            scene.pod_terminates();
        }
    }

    /// Whether the sidecar answers the operator.
    pub(super) fn answers(&self) -> bool {
        matches!(self.phase, Phase::Addressed | Phase::Ready) && !self.silent
    }

    /// Whether users are served.
    pub(super) fn serves(&self) -> bool {
        self.phase == Phase::Ready && !self.silent && !self.draining
    }
}

/// A container whose image can't be had.
fn no_image() -> ContainerStatus {
    let waiting = ContainerStateWaiting { reason: Some("ImagePullBackOff".to_owned()), message: None };
    ContainerStatus {
        name: "agent".to_owned(),
        state: Some(ContainerState { waiting: Some(waiting), ..ContainerState::default() }),
        ..ContainerStatus::default()
    }
}

impl Mind {
    pub(super) fn build(&self) -> Memory {
        let Self { pod, start, report, silence, drain, announced, trouble } = self;
        let seen = |at: Timestamp, what: Drain| Seen { at, what };
        Memory {
            pod_uid: pod.map(uid),
            start: start.map(|(kind, created)| Start { kind, asked: at(created), created: at(created) }),
            progress: crate::plan::Progress::default(),
            report: report.map(|(moment, last, runs, draining)| Seen {
                at: at(moment),
                what: Report { in_flight: runs.into(), draining, ..quiet_report(at(0), at(last)) },
            }),
            silence: silence.map(|moment| Seen { at: at(moment), what: String::new() }),
            drain: drain.map(|(moment, outcome)| match outcome {
                Outcome::Done => seen(at(moment), Drain::Done(drained())),
                Outcome::Refused => seen(at(moment), Drain::Refused),
                Outcome::Unanswered => seen(at(moment), Drain::Unanswered(String::new())),
            }),
            // Read for a stop that somebody asked for, alone.
            drain_asked: drain.map(|(moment, _)| at(moment)),
            announced: announced.map(at),
            told_answer: true,
            trouble: trouble.map(|moment| Seen { at: at(moment), what: None }),
        }
    }

    /// What is remembered of that pod; what was known of another is forgotten.
    pub(super) fn about(&mut self, pod: u8) -> &mut Self {
        if self.pod != Some(pod) {
            *self = Self { pod: Some(pod), ..Self::default() };
        }
        self
    }

    pub(super) fn forget_stop(&mut self) {
        self.drain = self.drain.filter(|(_, outcome)| *outcome == Outcome::Done);
    }
}

impl Shown {
    fn status(&self) -> UserWorkspaceStatus {
        let time = |moment: Option<Rel>| moment.map(|moment| Time(at(moment)));
        let condition = |type_: &str, (status, reason): (bool, &str), since| Condition {
            type_: type_.to_owned(),
            status: if status { "True" } else { "False" }.to_owned(),
            reason: reason.to_owned(),
            last_transition_time: Time(at(since)),
            message: String::new(),
            observed_generation: Some(1),
        };
        let conditions = [
            self.ready.map(|ready| condition("Ready", ready, self.ready_since)),
            self.suspended.map(|suspended| condition("Suspended", suspended, 0)),
        ];
        UserWorkspaceStatus {
            observed_generation: Some(1),
            conditions: conditions.into_iter().flatten().collect(),
            endpoint: self.endpoint.then(String::new),
            pod_uid: self.pod.map(uid),
            start_time: time(self.start_time),
            ready_time: time(self.ready_time),
            last_activity_time: time(self.last_activity),
            idle_deadline_time: time(self.deadline),
            restarts: self.restarts,
            suspend_reason: self.suspend_reason.map(str::to_owned),
            observed_touch: (self.observed_touch > 0).then(|| self.observed_touch.to_string()),
            ..UserWorkspaceStatus::default()
        }
    }

    /// What the status of that workspace says.
    pub(super) fn of(status: &UserWorkspaceStatus) -> Self {
        let find = |type_: &str| status.conditions.iter().find(|condition| condition.type_ == type_);
        let read = |type_| find(type_).map(|found| (found.status == "True", known(&found.reason)));
        let time = |time: &Option<Time>| time.as_ref().map(|time| rel(time.0));
        Self {
            ready: read("Ready"),
            ready_since: find("Ready").map_or(0, |found| rel(found.last_transition_time.0)),
            suspended: read("Suspended"),
            pod: status.pod_uid.as_deref().map(id),
            endpoint: status.endpoint.is_some(),
            start_time: time(&status.start_time),
            ready_time: time(&status.ready_time),
            last_activity: time(&status.last_activity_time),
            deadline: time(&status.idle_deadline_time),
            restarts: status.restarts,
            suspend_reason: status.suspend_reason.as_deref().map(known),
            observed_touch: status.observed_touch.as_ref().map_or(0, |touch| touch.parse().unwrap()),
        }
    }
}

/// The reasons that the model can come upon.
const REASONS: [&str; 17] = [
    ready::PENDING,
    ready::STARTING,
    ready::READY,
    ready::DRAINING,
    ready::SUSPENDED,
    ready::TERMINATING,
    ready::STORAGE_NOT_READY,
    ready::IMAGE_PULL_FAILED,
    ready::POD_FAILED,
    ready::SIDECAR_SILENT,
    ready::POD_NAME_TAKEN,
    ready::EVICTED,
    suspended::IDLE,
    suspended::REQUESTED,
    suspended::EXPIRED,
    suspended::RUNNING,
    suspended::STOPPING,
];

/// A reason without an owner.
pub(super) fn known(reason: &str) -> &'static str {
    REASONS.into_iter().find(|known| *known == reason).unwrap()
}
