//! The turn of a start: most starts begin at once, the others wait in line. [no client]

use dexorder_crds::{
    StartPhases,
    condition::{ConditionType, ready},
};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::{Action, Line, Planner, PodState, draft, memory::StartKind, phases::micros};

/// A start that takes longer no longer holds others back.
const HOLDS_PLACE: SignedDuration = SignedDuration::from_secs(60);
/// A waiting workspace looks after its place at least this often.
const SOONEST: i64 = 5;
/// A waiting workspace looks after its place at least this seldom.
const LATEST: i64 = 60;

/// Whether a workspace may start now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Turn {
    /// It is not in the line.
    Unasked,
    /// It may start.
    Go,
    /// So many of its tier, itself among them, wait up to here.
    Wait(u32),
}

impl Planner<'_> {
    pub(super) fn is_queued(&self) -> bool {
        draft::condition(&self.before, ConditionType::Ready)
            .is_some_and(|condition| condition.reason == ready::QUEUED)
    }

    /// When the start that is wanted was asked for. A start that waits keeps its place through a restart.
    pub(super) fn asked_at(&self) -> Timestamp {
        let shown = self.before.start.as_ref().and_then(|start| start.request_time.as_ref());
        shown.filter(|_| self.is_queued()).map_or(self.now, |time| time.0)
    }

    /// Whether the start may go on; if not, the plan waits.
    pub(super) fn has_turn(&mut self, kind: StartKind) -> bool {
        let asked = self.asked_at();
        self.line = Line::Waiting;
        match self.observed.turn {
            Turn::Go => {
                self.line = Line::Starting;
                true
            }
            Turn::Unasked => {
                self.first.push(Action::Line { asked });
                self.hold_status = true;
                false
            }
            Turn::Wait(place) => {
                self.wait(place, kind, asked);
                false
            }
        }
    }

    fn wait(&mut self, place: u32, kind: StartKind, asked: Timestamp) {
        let place = i32::try_from(place).unwrap_or(i32::MAX).max(1);
        let shown = self.before.queue_position.filter(|_| self.is_queued());
        // Ten thousand that wait must not write ten thousand times a second: the place is renewed when it has halved.
        let shown = shown.filter(|shown| place <= *shown && place > *shown / 2).unwrap_or(place);
        self.draft.running();
        self.draft.status.queue_position = Some(shown);
        self.draft.status.next_wake_time = None;
        self.draft.status.start = Some(StartPhases {
            kind: Some(kind.name().to_owned()),
            request_time: Some(micros(asked)),
            ..StartPhases::default()
        });
        let tier = &self.observed.workspace.spec.tier;
        self.draft.not_ready(
            ready::QUEUED,
            format!(
                "other workspaces start first: at place {shown} or better in the line of tier \"{tier}\""
            ),
        );
        let seconds = i64::from(place / 4).clamp(SOONEST, LATEST);
        self.look_by(self.now + SignedDuration::from_secs(seconds));
    }

    /// What the line is to know after this look.
    pub(super) fn line(&self) -> Line {
        match &self.pod {
            PodState::Alive(pod) if self.line == Line::Free => {
                let begun = self.start_of(pod);
                let on_its_way = !pod.ready
                    && pod.problem.is_none()
                    && !self.has_trouble(pod)
                    && !draft::is_stopping(&self.draft.status)
                    && begun.is_some_and(|begun| self.now < begun + HOLDS_PLACE);
                if on_its_way { Line::Starting } else { Line::Free }
            }
            _ => self.line,
        }
    }
}
