//! The last phase of a start: the first request is answered. Only the sidecar knows when, and nothing is written for it
//! alone. [no client]

use std::time::Duration;

use dexorder_crds::StartPhases;
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::{SignedDuration, Timestamp},
};

use super::{AlivePod, Answered, Planner, StartKind, memory::Memory, phases::micros};

/// Whoever waited for the start has an answer by then: the sidecar is asked once more.
const ANSWERED_BY: SignedDuration = SignedDuration::from_secs(5);
/// Who comes later has not waited for the start.
const WAITED: SignedDuration = SignedDuration::from_secs(60);
/// The clock of a node is known to a second or so.
const SAME_PROCESS: SignedDuration = SignedDuration::from_secs(3);

impl Planner<'_> {
    /// The phases of the last start, with the first answer if that is known by now.
    pub(super) fn with_first_answer(&self, shown: Option<StartPhases>) -> Option<StartPhases> {
        let shown = shown?;
        let answer = self.first_answer(&shown).map(micros);
        Some(StartPhases { first_answer_time: shown.first_answer_time.clone().or(answer), ..shown })
    }

    /// When the sidecar of the present pod gave its first answer.
    fn first_answer(&self, phases: &StartPhases) -> Option<Timestamp> {
        let memory = self
            .observed
            .memory
            .about(self.draft.status.pod_uid.as_deref().or(self.before.pod_uid.as_deref()));
        let report = memory.report?.what;
        // A container that was started anew does not know what the one before has answered.
        let is_another = |up: &MicroTime| report.start_time.duration_since(up.0).abs() > SAME_PROCESS;
        if phases.sidecar_ready_time.as_ref().is_some_and(is_another) {
            None
        } else {
            report.first_answer_time
        }
    }

    /// Asks once more soon after the start: who waited for it has an answer then.
    pub(super) fn follow_first_answer(&mut self, pod: &AlivePod, memory: &Memory) {
        let Some(ready) = self.draft.status.ready_time.as_ref().map(|time| time.0) else { return };
        let shown = self.before.start.as_ref().is_some_and(|start| start.first_answer_time.is_some());
        let due = ready + ANSWERED_BY;
        // An operator that was started anew learns it with the next report.
        let Some(report) = memory.report.as_ref().filter(|_| !shown) else { return };
        if report.at >= due || report.what.first_answer_time.is_some() {
            return;
        }
        if self.now < due {
            self.look_by(due);
        } else if self.now < ready + WAITED {
            self.ask(pod, memory);
        }
    }

    /// The time from the request to the first answer, once: for whoever waited for the start.
    pub(super) fn answered(&self) -> Option<Answered> {
        let status = &self.draft.status;
        let ready = status.ready_time.as_ref()?.0;
        let shown = self.before.start.as_ref().filter(|_| self.before.pod_uid == status.pod_uid);
        if self.observed.memory.told_answer || shown.is_some_and(|shown| shown.first_answer_time.is_some()) {
            return None;
        }
        let phases = self.phases()?;
        let answer = self.first_answer(&phases).filter(|answer| *answer <= ready + WAITED)?;
        let took = answer.duration_since(phases.request_time?.0);
        Some(Answered {
            kind: phases.kind.as_deref().and_then(StartKind::named)?,
            took: Duration::try_from(took).unwrap_or_default(),
        })
    }
}
