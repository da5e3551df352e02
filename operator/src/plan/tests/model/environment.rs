//! What happens around the operator: the kubelet, users, the watches, time, and what goes wrong.

use super::{
    Mutation, System,
    state::{Mind, Phase, Rel, State, rel},
};
use crate::plan::Next;

/// How long an operator may be away.
const AWAY: Rel = 960;

/// Something that happens around the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The watch shows the workspace as it is.
    SeeWorkspace,
    /// The watch shows the pod as it is.
    SeePod,
    /// The pod gets on, or a terminating one goes.
    Kubelet,
    /// Time passes until the operator's next look.
    Tick,
    /// The gateway touches the workspace.
    Touch,
    /// A user's call begins.
    Call,
    /// It ends.
    CallEnds,
    /// Somebody deletes the pod.
    DeletePod,
    /// The kubelet restarts a silent sidecar.
    Heal,
    /// A fault.
    Fault(Fault),
}

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The node throws the pod out.
    Evict,
    /// The sidecar no longer answers.
    Silence,
    /// The sidecar ends and is started anew at once.
    Restart,
    /// The operator is started anew.
    Forget,
    /// The operator is away for long, and is started anew.
    Away,
    /// The image can't be pulled any more.
    NoImage,
}

impl System {
    /// What may happen. What would change nothing is left out by the caller.
    pub(super) fn events(state: &State) -> Vec<Event> {
        let mut events = vec![
            Event::SeeWorkspace,
            Event::SeePod,
            Event::Kubelet,
            Event::CallEnds,
            Event::Heal,
            Event::Tick,
        ];
        let budget = state.budget;
        if budget.touches > 0 {
            events.push(Event::Touch);
        }
        if budget.calls > 0 {
            events.push(Event::Call);
        }
        if budget.deletions > 0 {
            events.push(Event::DeletePod);
        }
        if budget.faults > 0 {
            let faults =
                [Fault::Evict, Fault::Silence, Fault::Restart, Fault::Forget, Fault::Away, Fault::NoImage];
            events.extend(faults.map(Event::Fault));
        }
        events
    }

    /// Whether the watches have caught up and the operator has nothing to do at this moment.
    fn is_settled(&self, state: &State) -> bool {
        state.is_seen() && self.look(state, None) == *state
    }

    /// The state after an event; the same one if it can't happen.
    pub(super) fn happens(&self, state: &State, event: Event) -> State {
        let mut next = state.clone();
        match event {
            Event::SeeWorkspace => next.seen_workspace = next.workspace.clone(),
            Event::SeePod => next.seen_pod.clone_from(&next.pod),
            // The watch lags by one change at most.
            Event::Kubelet if next.pod == next.seen_pod => next.kubelet(),
            Event::Tick => match self.plan(state).next {
                // The watches catch up within a deadline, and an operator that has something to do does it first.
                Next::At(moment) if self.is_settled(state) => next.pass(rel(moment).max(0)),
                _ => {}
            },
            Event::Touch => {
                next.budget.touches -= 1;
                next.workspace.touch += 1;
                next.owed = true;
            }
            Event::Call => {
                if let Some(pod) = next.pod.as_mut().filter(|pod| pod.serves()) {
                    pod.in_flight = true;
                    pod.last_activity = 0;
                    next.budget.calls -= 1;
                }
            }
            Event::CallEnds => {
                if let Some(pod) = next.pod.as_mut().filter(|pod| pod.in_flight) {
                    pod.in_flight = false;
                    pod.last_activity = 0;
                }
            }
            Event::DeletePod => {
                if let Some(pod) = next.pod.as_mut().filter(|pod| !pod.terminating) {
                    pod.terminating = true;
                    next.budget.deletions -= 1;
                }
            }
            // The kubelet needs half a minute to notice: an operator that has something to do does it before.
            Event::Heal if self.is_settled(state) => {
                if let Some(pod) = next.pod.as_mut().filter(|pod| pod.silent) {
                    pod.silent = false;
                }
            }
            Event::Kubelet | Event::Heal => {}
            Event::Fault(fault) => next.fault(fault, self.mutation),
        }
        next.settle()
    }
}

impl State {
    /// What follows at once from what has happened, and the one state that stands for all like it.
    pub(super) fn settle(mut self) -> Self {
        let served = self.pod.as_ref().is_some_and(super::state::Pod::serves);
        if served && self.workspace.shown.ready.is_some_and(|(status, _)| status) {
            self.owed = false;
        }
        self.was_stopped |= self.workspace.shown.suspended.is_some_and(|(status, _)| status);
        self.normal()
    }

    fn kubelet(&mut self) {
        let Some(pod) = &mut self.pod else { return };
        if pod.terminating {
            self.pod = None;
            return;
        }
        pod.phase = match pod.phase {
            Phase::Pending if self.broken => Phase::NoImage,
            Phase::Pending => {
                pod.last_activity = 0;
                Phase::Addressed
            }
            Phase::Addressed if !pod.draining && !pod.silent => Phase::Ready,
            Phase::Ready if pod.draining || pod.silent => Phase::Addressed,
            other => other,
        };
    }

    fn fault(&mut self, fault: Fault, mutation: Option<Mutation>) {
        let before = self.clone();
        match fault {
            Fault::Evict => {
                if let Some(pod) = self.pod.as_mut().filter(|pod| !pod.terminating) {
                    pod.phase = Phase::Failed;
                    pod.in_flight = false;
                }
            }
            Fault::Silence => {
                if let Some(pod) = self.pod.as_mut().filter(|pod| pod.answers()) {
                    pod.silent = true;
                    // Who calls gets no answer from a process that hangs.
                    pod.in_flight = false;
                }
            }
            Fault::Restart => {
                if let Some(pod) = self.pod.as_mut().filter(|pod| pod.answers()) {
                    // Who calls gets no answer from a process that ends.
                    pod.in_flight = false;
                    // A drain is marked in the pod.
                    pod.draining &= mutation != Some(Mutation::ForgetDrain);
                }
            }
            Fault::Forget | Fault::Away => {
                if fault == Fault::Away {
                    self.pass(AWAY);
                }
                self.memory = Mind::default();
                self.seen_workspace = self.workspace.clone();
                self.seen_pod.clone_from(&self.pod);
            }
            Fault::NoImage => self.broken = true,
        }
        if *self != before {
            self.budget.faults -= 1;
        }
    }
}
