//! Every state that the plan can get into, with an environment that delays, fails, repeats and reorders: one workspace,
//! a touch, a call, a deletion of its pod, a fault. Time goes on by the plan's own deadlines.
//!
//! A state is small and relative to its own moment, so that two that differ by the time of day are one. What the plan
//! is given is built from it, and what the plan answers is taken into it again.

mod environment;
mod liveness;
mod operator;
mod state;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Instant,
};

use dexorder_crds::condition::ready;
use stateright::{Checker, Model, Property};

use environment::Event;
use operator::{Cut, View};
use state::State;

use crate::plan::Plan;

const RULES: &str = "no rule is broken";
const LIVENESS: &str = "ready, or told why not, and stopped when left alone";

/// What the checked system may do and what is broken about it.
#[derive(Debug, Default)]
struct System {
    /// How often each of these may happen.
    budget: Budget,
    /// Whether histories begin at each state of a life in calm weather, or at a new workspace.
    anywhere: bool,
    /// A rule that the plan is made to break: the check must find it.
    mutation: Option<Mutation>,
    /// What is planned for a view.
    plans: Mutex<HashMap<View, Arc<Plan>>>,
    /// What a state comes to if nothing goes wrong any more, by the state.
    fates: Mutex<HashMap<State, bool>>,
}

/// How often something may happen in one history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Budget {
    touches: u8,
    deletions: u8,
    faults: u8,
    calls: u8,
}

/// A plan that skips a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutation {
    /// The pod of an idle workspace is deleted without a drain.
    SkipDrain,
    /// A workspace with a terminating pod is still reported ready.
    StayReady,
    /// A touch counts as acted on without a start.
    SwallowTouch,
    /// A pod that has ended is left where it is.
    LeaveEnded,
    /// A stop is decided on a report from before the deadline.
    TrustStale,
    /// A sidecar that is started anew in a drained pod serves.
    ForgetDrain,
    /// The plan never asks to be woken.
    ForgetDeadlines,
}

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Around the operator.
    Event(Event),
    /// The operator looks, and perhaps fails on the way.
    Look(Option<Cut>),
}

impl Model for System {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        if self.anywhere { self.calm_life() } else { vec![State::new(self.budget)] }
    }

    fn actions(&self, state: &State, actions: &mut Vec<Step>) {
        if state.violation.is_some() {
            return;
        }
        actions.extend(Self::events(state).into_iter().map(Step::Event));
        actions.push(Step::Look(None));
        if state.budget.faults > 0 {
            actions.extend(self.cuts(state).into_iter().map(|cut| Step::Look(Some(cut))));
        }
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let next = match step {
            Step::Event(event) => self.happens(state, event),
            Step::Look(cut) => self.look(state, cut),
        };
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all = vec![
            Property::always(RULES, |_, state: &State| state.violation.is_none()),
            Property::always(LIVENESS, |system: &System, state| system.ends_well(state)),
        ];
        if self.anywhere {
            return all;
        }
        all.extend([
            Property::sometimes("it becomes ready", |_, state: &State| state.shows(ready::READY)),
            Property::sometimes("it is stopped", |_, state: &State| state.shows(ready::SUSPENDED)),
        ]);
        if self.budget.touches > 0 {
            all.push(Property::sometimes("a touch brings it back", |_, state: &State| {
                state.budget.touches == 0 && !state.owed && state.was_stopped && state.shows(ready::READY)
            }));
        }
        all
    }
}

/// Other bounds by `MODEL_BOUNDS`: touches, deletions, faults and calls, such as `1 1 1 0`. More than one fault, or a fault
/// besides everything else, takes minutes to hours.
fn bounds() -> Vec<Budget> {
    let given = std::env::var("MODEL_BOUNDS").ok();
    let usual = ["1 1 0 0", "1 0 0 1", "0 0 1 0"];
    let all = given.as_deref().map_or_else(|| usual.to_vec(), |given| vec![given]);
    all.into_iter()
        .map(|text| {
            let numbers: Vec<u8> = text.split(' ').map(|number| number.parse().unwrap()).collect();
            let [touches, deletions, faults, calls] = numbers[..] else {
                panic!("four numbers, not {text:?}")
            };
            Budget { touches, deletions, faults, calls }
        })
        .collect()
}

#[test]
fn every_state_keeps_the_rules_and_a_touched_workspace_gets_ready_or_says_why_not() {
    for budget in bounds() {
        let begun = Instant::now();
        let checked = System { budget, ..System::default() }.checker().threads(2).spawn_bfs().join();
        println!(
            "{budget:?}: {} states, {} steps, at most {} deep, in {:.1?}",
            checked.unique_state_count(),
            checked.state_count(),
            checked.max_depth(),
            begun.elapsed()
        );
        checked.assert_properties();
        assert!(checked.unique_state_count() > 1000, "the environment does nothing");
    }
}

/// How many steps are walked from each state of a calm life, with everything that may happen. More by `MODEL_STEPS`.
const STEPS: usize = 9;

#[test]
fn whatever_happens_together_at_any_moment_of_a_life_keeps_the_rules() {
    let given = std::env::var("MODEL_STEPS").ok().map(|text| text.parse().unwrap());
    let steps = given.unwrap_or(STEPS);
    let begun = Instant::now();
    let budget = Budget { touches: 1, deletions: 1, faults: 1, calls: 1 };
    let system = System { budget, anywhere: true, ..System::default() };
    let life = system.calm_life().len();
    let checked = system.checker().threads(2).target_max_depth(steps + 1).spawn_bfs().join();
    println!(
        "{steps} steps from each of {life} states: {} states, in {:.1?}",
        checked.unique_state_count(),
        begun.elapsed()
    );
    checked.assert_properties();
    assert!(checked.unique_state_count() > 1000, "the environment does nothing");
}

#[test]
fn a_plan_that_breaks_a_rule_is_found() {
    let none = Budget { touches: 0, deletions: 0, faults: 0, calls: 0 };
    for (mutation, budget) in [
        (Mutation::SkipDrain, none),
        (Mutation::StayReady, Budget { deletions: 1, ..none }),
        (Mutation::SwallowTouch, Budget { touches: 1, ..none }),
        (Mutation::LeaveEnded, Budget { faults: 1, ..none }),
        (Mutation::TrustStale, Budget { calls: 1, ..none }),
        (Mutation::ForgetDrain, Budget { faults: 1, ..none }),
        (Mutation::ForgetDeadlines, none),
    ] {
        let system = System { budget, mutation: Some(mutation), ..System::default() };
        let checked = system
            .checker()
            .threads(2)
            .finish_when(stateright::HasDiscoveries::AnyFailures)
            .spawn_bfs()
            .join();
        let found = checked.discoveries();
        assert!(
            found.contains_key(RULES) || found.contains_key(LIVENESS),
            "{mutation:?} was not found in {} states",
            checked.unique_state_count()
        );
    }
}
