//! The operator's look: what the plan says is carried out, or a part of it.

use std::{
    collections::HashMap,
    sync::{Arc, MutexGuard, PoisonError},
};

use dexorder_crds::condition::{ready, suspended};
use dexorder_protocol::control::{DrainMode, DrainRequest};

use super::{
    Mutation, System,
    state::{Mind, NEW_POD, Outcome, Phase, Pod, Resource, Shown, State, id, rel},
};
use crate::plan::{Action, Next, Plan, StartKind};

/// What the operator sees.
pub(super) type View = (Resource, Option<Pod>, bool, Mind);

/// A write that fails: what comes after it in the look is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// Which of the look's steps.
    step: usize,
    /// Whether it took effect, and only its answer was lost.
    took_effect: bool,
}

/// One step of a look.
enum Doing<'a> {
    Act(&'a Action),
    Write(Shown),
}

impl System {
    /// The plan for what the operator sees. The same view leads to the same plan: it is made once.
    pub(super) fn plan(&self, state: &State) -> Arc<Plan> {
        let view = (state.seen_workspace.clone(), state.seen_pod.clone(), state.claim, state.memory.clone());
        if let Some(known) = self.plans().get(&view) {
            return known.clone();
        }
        let mut plan = state.scene().plan();
        if let Some(mutation) = self.mutation {
            mutation.apply(state, &mut plan);
        }
        let plan = Arc::new(plan);
        self.plans().insert(view, plan.clone());
        plan
    }

    // Each entry is whole.
    fn plans(&self) -> MutexGuard<'_, HashMap<View, Arc<Plan>>> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ways in which a look may fail on the way.
    pub(super) fn cuts(&self, state: &State) -> Vec<Cut> {
        let plan = self.plan(state);
        let steps = doings(&plan).into_iter().enumerate().filter(|(_, doing)| match doing {
            // What a sidecar does not answer is the sidecar's silence.
            Doing::Act(action) => !matches!(
                action,
                Action::Ask { .. }
                    | Action::Drain { .. }
                    | Action::Announce { .. }
                    | Action::ReadEvents { .. }
            ),
            Doing::Write(shown) => *shown != state.seen_workspace.shown,
        });
        steps.flat_map(|(step, _)| [false, true].map(|took_effect| Cut { step, took_effect })).collect()
    }

    /// The state after a look.
    pub(super) fn look(&self, state: &State, cut: Option<Cut>) -> State {
        let mut next = state.clone();
        if cut.is_some() {
            next.budget.faults -= 1;
        }
        let plan = self.plan(state);
        for (step, doing) in doings(&plan).into_iter().enumerate() {
            let fails = cut.filter(|cut| cut.step == step);
            if fails.is_some_and(|cut| !cut.took_effect) {
                return next.settle();
            }
            let answered = match doing {
                Doing::Act(action) => next.act(action, fails.is_none()),
                Doing::Write(shown) => next.write(shown, fails.is_none()),
            };
            if fails.is_some() || !answered {
                return next.settle();
            }
        }
        // What was not written stands.
        let shown = next.seen_workspace.shown.clone();
        let ready = shown.ready.is_some_and(|(status, _)| status);
        if ready && next.seen_pod.as_ref().is_none_or(|pod| pod.terminating || pod.phase == Phase::Failed) {
            next.violate("still ready though the pod ends or is gone");
        }
        next.settle()
    }
}

fn doings(plan: &Plan) -> Vec<Doing<'_>> {
    let written = plan.status.as_ref().map(|status| Doing::Write(Shown::of(status)));
    plan.first.iter().map(Doing::Act).chain(written).chain(plan.then.iter().map(Doing::Act)).collect()
}

impl Mutation {
    fn apply(self, state: &State, plan: &mut Plan) {
        let shown = &state.seen_workspace.shown;
        match self {
            Self::SkipDrain => {
                for action in &mut plan.then {
                    if let Action::Drain { pod_uid, .. } = action {
                        *action = Action::DeletePod { uid: pod_uid.clone(), version: None };
                    }
                }
            }
            Self::StayReady => {
                let terminates = state.seen_pod.as_ref().is_some_and(|pod| pod.terminating);
                if terminates && shown.ready.is_some_and(|(status, _)| status) {
                    plan.status = None;
                }
            }
            Self::SwallowTouch => {
                if state.seen_pod.is_none() && shown.suspended.is_some_and(|(status, _)| status) {
                    (plan.status, plan.next) = (None, Next::OnChange);
                    plan.first.clear();
                    plan.then.clear();
                }
            }
            Self::LeaveEnded => {
                if state.seen_pod.as_ref().is_some_and(|pod| pod.phase == Phase::Failed) {
                    plan.first.clear();
                    plan.then.clear();
                }
            }
            Self::TrustStale => {
                for action in &mut plan.then {
                    if let Action::Drain { request, .. } = action {
                        request.mode = DrainMode::Force;
                    }
                }
            }
            Self::ForgetDrain => {}
            Self::ForgetDeadlines => plan.next = Next::OnChange,
        }
    }
}

impl State {
    /// Carries an action out. False if the API server refuses it.
    fn act(&mut self, action: &Action, answered: bool) -> bool {
        match action {
            Action::CreateClaim(_) => self.claim = true,
            Action::CreatePod { kind, .. } => self.create_pod(*kind, answered),
            Action::DeletePod { uid, version } => return self.delete_pod(id(uid), version.is_some()),
            Action::Ask { pod_uid, .. } => self.ask(id(pod_uid)),
            Action::Drain { pod_uid, request, .. } => self.drain(id(pod_uid), request),
            Action::Announce { pod_uid, deadline, .. } => {
                self.memory.about(id(pod_uid)).announced = Some(rel(*deadline));
            }
            Action::ReadEvents { pod_uid } => self.memory.about(id(pod_uid)).trouble = Some(0),
            Action::SetClaimOwners(_)
            | Action::MarkClaim(_)
            | Action::Line { .. }
            | Action::DeleteWorkspace
            | Action::RotateKey { .. }
            | Action::TakeOver { .. }
            | Action::TakePod { .. }
            | Action::Assign { .. } => self.violate("something that nobody asked for"),
        }
        true
    }

    fn create_pod(&mut self, kind: StartKind, answered: bool) {
        if !self.claim {
            self.violate("a pod without its claim");
        }
        // That of the name is there already: its watch will show it.
        if self.pod.is_some() {
            return;
        }
        let id = NEW_POD;
        self.pod = Some(Pod {
            id,
            phase: Phase::Pending,
            terminating: false,
            created: 0,
            draining: false,
            in_flight: false,
            silent: false,
            last_activity: 0,
        });
        if answered {
            self.memory = Mind { pod: Some(id), start: Some((kind, 0)), ..Mind::default() };
        }
    }

    fn delete_pod(&mut self, id: u8, as_seen: bool) -> bool {
        let unchanged = self.pod == self.seen_pod;
        let Some(pod) = self.pod.as_mut().filter(|pod| pod.id == id) else {
            return true;
        };
        if as_seen && !unchanged {
            return false;
        }
        let serves = pod.serves() && !pod.terminating;
        let runs = pod.in_flight;
        pod.terminating = true;
        if serves {
            self.violate("a pod that serves was deleted");
        }
        if runs {
            self.violate("a call was cut off");
        }
        true
    }

    fn ask(&mut self, id: u8) {
        let pod = self.pod.as_ref().filter(|pod| pod.id == id && pod.answers());
        let report = pod.map(|pod| (0, pod.last_activity, pod.in_flight, pod.draining));
        let memory = self.memory.about(id);
        if report.is_some() {
            memory.report = report;
            memory.silence = None;
        } else {
            memory.silence = Some(0);
        }
    }

    fn drain(&mut self, id: u8, request: &DrainRequest) {
        let pod = self.pod.as_mut().filter(|pod| pod.id == id && pod.answers());
        let since = request.idle_since_time.map(rel);
        let (outcome, report) = match pod {
            None => (Outcome::Unanswered, None),
            Some(pod) => {
                let active = pod.in_flight || since.is_some_and(|since| pod.last_activity > since);
                if request.mode == DrainMode::IfIdle && active && !pod.draining {
                    (Outcome::Refused, Some((0, pod.last_activity, pod.in_flight, false)))
                } else {
                    let cut = request.mode == DrainMode::Force && pod.in_flight;
                    pod.draining = true;
                    pod.in_flight = false;
                    if cut {
                        self.violation.get_or_insert("a call was drained away that nobody asked to stop");
                    }
                    (Outcome::Done, None)
                }
            }
        };
        let memory = self.memory.about(id);
        memory.drain = Some((0, outcome));
        if outcome != Outcome::Unanswered {
            memory.silence = None;
        }
        if report.is_some() {
            memory.report = report;
        }
    }

    /// Writes the status, as it was seen. False if it has changed since.
    fn write(&mut self, shown: Shown, answered: bool) -> bool {
        self.check(&shown);
        if shown == self.seen_workspace.shown {
            return true;
        }
        if self.seen_workspace != self.workspace {
            return false;
        }
        let running = shown.suspended.is_some_and(|(_, reason)| reason == suspended::RUNNING);
        self.workspace.shown = shown;
        if answered {
            self.seen_workspace = self.workspace.clone();
            if running {
                self.memory.forget_stop();
            }
        }
        true
    }

    /// The rules of what may be said, given what the operator sees.
    fn check(&mut self, shown: &Shown) {
        let ready = shown.ready.is_some_and(|(status, _)| status);
        let stopped = shown.suspended.is_some_and(|(status, _)| status);
        let seen = self.seen_pod.clone().filter(|pod| !pod.terminating && pod.phase != Phase::Failed);
        if ready && seen.as_ref().is_none_or(|pod| pod.phase != Phase::Ready) {
            self.violate("ready without a pod that is ready");
        }
        if shown.endpoint && seen.is_none() {
            self.violate("an address of a pod that ends or is gone");
        }
        if stopped && (ready || self.seen_pod.is_some()) {
            self.violate("stopped with a pod");
        }
        if shown.ready.is_some_and(|(status, reason)| !status && reason == ready::READY) {
            self.violate("not ready because it is ready");
        }
    }

    fn violate(&mut self, what: &'static str) {
        self.violation.get_or_insert(what);
    }
}
