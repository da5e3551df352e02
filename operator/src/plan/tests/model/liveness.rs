//! What a state comes to if nothing goes wrong any more: the workspace gets ready, and is stopped when left alone.

use std::sync::PoisonError;

use dexorder_crds::condition::ready;

use super::{System, environment::Event, state::State};

/// Longer than any way to the end.
const MOST_STEPS: usize = 400;

impl System {
    /// Whether somebody who waits gets the workspace or is told why not, and a workspace that is left alone is stopped.
    pub(super) fn ends_well(&self, state: &State) -> bool {
        let mut way: Vec<State> = Vec::new();
        let mut present = state.clone();
        let fate = loop {
            if let Some(fate) = self.fates().get(&present).copied() {
                break fate;
            }
            if let Some(begin) = way.iter().position(|before| *before == present) {
                break way[begin..].iter().all(is_told_why_not);
            }
            way.push(present.clone());
            match self.goes_on(&present) {
                Some(next) if way.len() < MOST_STEPS => present = next,
                Some(_) => break false,
                None => break is_stopped(&present) || is_told_why_not(&present),
            }
        };
        self.fates().extend(way.into_iter().map(|state| (state, fate)));
        fate
    }

    /// The states of a life in which nothing goes wrong: a start, idleness, a stop, and the same again after a touch.
    pub(super) fn calm_life(&self) -> Vec<State> {
        let mut life = vec![State::new(self.budget)];
        for _ in 0..2 {
            while let Some(next) = life.last().and_then(|state| self.goes_on(state)) {
                if life.contains(&next) {
                    break;
                }
                life.push(next);
            }
            let touched = life.last().map(|stopped| self.happens(stopped, Event::Touch));
            life.extend(touched.map(|touched| State { budget: self.budget, ..touched }));
        }
        life
    }

    /// The next state in calm weather: the watches are quick, the operator looks, the kubelet gets on, then time passes.
    fn goes_on(&self, state: &State) -> Option<State> {
        let after = |event| Some(self.happens(state, event)).filter(|next| next != state);
        after(Event::CallEnds)
            .or_else(|| after(Event::SeeWorkspace))
            .or_else(|| after(Event::SeePod))
            .or_else(|| Some(self.look(state, None)).filter(|next| next != state))
            .or_else(|| after(Event::Heal))
            .or_else(|| after(Event::Kubelet))
            .or_else(|| after(Event::Tick))
    }

    // Each entry is whole.
    fn fates(&self) -> std::sync::MutexGuard<'_, std::collections::HashMap<State, bool>> {
        self.fates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_stopped(state: &State) -> bool {
    state.workspace.shown.suspended.is_some_and(|(status, _)| status) && state.pod.is_none() && !state.owed
}

fn is_told_why_not(state: &State) -> bool {
    state.broken && state.shows(ready::IMAGE_PULL_FAILED)
}
