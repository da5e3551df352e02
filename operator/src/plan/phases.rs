//! The phases of a start: when each was reached, as the operator saw it. [no client]

use dexorder_crds::StartPhases;
use k8s_openapi::{
    api::core::v1::{ContainerStatus, Pod},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};

use super::{
    Planner, PodState,
    memory::{Memory, StartKind},
};

/// When a pod was first seen to have got on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Progress {
    /// It had a node.
    pub scheduled: Option<Timestamp>,
    /// Its containers ran.
    pub running: Option<Timestamp>,
}

impl Memory {
    /// Notes how far the pod of a start has come.
    pub fn watch(&mut self, pod: Option<&Pod>, now: Timestamp) {
        let made = self.start.is_some_and(|start| start.kind != StartKind::Warm);
        let Some(pod) = pod.filter(|pod| made && pod.metadata.uid == self.pod_uid) else {
            return;
        };
        if is_scheduled(pod) {
            self.progress.scheduled.get_or_insert(now);
        }
        if is_running(pod) {
            self.progress.running.get_or_insert(now);
        }
    }
}

/// Whether the pod has a node.
pub(super) fn is_scheduled(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some())
}

/// Whether volume and images are there and every container runs.
pub(super) fn is_running(pod: &Pod) -> bool {
    let running = |container: &ContainerStatus| {
        container.state.as_ref().is_some_and(|state| state.running.is_some() || state.terminated.is_some())
    };
    let status = pod.status.as_ref();
    let main = status.and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    !main.is_empty() && main.iter().all(running)
}

/// A moment as a status has it, to the microsecond.
pub(super) fn micros(moment: Timestamp) -> MicroTime {
    MicroTime(Timestamp::from_microsecond(moment.as_microsecond()).unwrap_or(moment))
}

impl Planner<'_> {
    /// The phases as far as they are known. They are written with whatever else is written, and never alone.
    pub(super) fn phases(&self) -> Option<StartPhases> {
        let shown = self.draft.status.start.clone();
        let PodState::Alive(pod) = &self.pod else {
            // The last start's, unless the next one has begun.
            return if shown == self.before.start { self.with_first_answer(shown) } else { shown };
        };
        let same = self.before.pod_uid.as_deref() == Some(pod.uid.as_str());
        if same && self.before.ready_time.is_some() {
            return self.with_first_answer(shown);
        }
        let memory = self.observed.memory.about(Some(&pod.uid));
        // What a member of the warm pool went through before it was taken over is no part of this start.
        let report = memory.report.as_ref().map(|report| &report.what).filter(|_| !pod.taken);
        // Of another pod than the shown one the status tells no more than the request.
        let of_start = shown.clone().filter(|shown| same || shown.create_time.is_none());
        let asked = of_start.as_ref().and_then(|shown| shown.request_time.clone());
        let shown_kind = of_start.and_then(|shown| shown.kind);
        let of_pod = shown.filter(|_| same).unwrap_or_default();
        let (kind, asked, created) = match &memory.start {
            Some(start) => (Some(start.kind), Some(micros(start.asked)), Some(micros(start.created))),
            None if pod.taken => (Some(StartKind::Warm), asked, of_pod.create_time.clone()),
            None => (None, asked, pod.created.map(micros)),
        };
        self.with_first_answer(Some(StartPhases {
            kind: kind
                .map(|kind| kind.name().to_owned())
                .or(shown_kind)
                .or_else(|| Some(self.start_kind().name().to_owned())),
            request_time: asked.or_else(|| created.clone()),
            create_time: created,
            scheduled_time: memory.progress.scheduled.map(micros).or(of_pod.scheduled_time),
            pulled_time: memory.progress.running.map(micros).or(of_pod.pulled_time),
            sidecar_ready_time: report.map(|report| micros(report.start_time)),
            agent_ready_time: report.and_then(|report| report.agent_ready_time).map(micros),
            first_answer_time: None,
        }))
    }

    /// How the start came about that the status tells of.
    pub(super) fn shown_kind(&self) -> Option<StartKind> {
        StartKind::named(self.before.start.as_ref()?.kind.as_deref()?)
    }
}
