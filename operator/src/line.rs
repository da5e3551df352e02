//! The line of starts: so many at once, fair between tiers, in the order of the requests within a tier. [no client]
//!
//! It lives in memory and is built anew after a restart: who waits has the time of the request in the status, who
//! starts has a pod.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::jiff::Timestamp;

use crate::plan::Turn;

/// A workspace in the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// UID of the workspace.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its tier.
    pub tier: String,
}

/// Order within a tier.
type Key = (Timestamp, String);

#[derive(Debug, Default)]
struct Tier {
    /// Most starts at once.
    limit: Option<usize>,
    starting: usize,
    waiting: BTreeMap<Key, Place>,
}

#[derive(Debug, Default)]
struct State {
    tiers: HashMap<String, Tier>,
    /// The tier of each workspace that starts.
    starting: HashMap<String, Place>,
    /// The tier and the order of each workspace that waits.
    waiting: HashMap<String, (String, Timestamp)>,
}

/// The line of starts.
#[derive(Debug)]
pub struct Line {
    /// Most starts at once, whatever their tier.
    most: usize,
    state: Mutex<State>,
}

impl Line {
    /// A line that lets so many start at once.
    pub fn new(most: usize) -> Self {
        Self { most: most.max(1), state: Mutex::default() }
    }

    /// Where the workspace stands.
    pub fn turn(&self, uid: &str) -> Turn {
        self.state().turn(uid)
    }

    /// The workspace wants to start since then. Answers who may start now, itself perhaps among them.
    pub fn join(&self, place: Place, asked: Timestamp, limit: Option<usize>) -> Vec<Place> {
        let mut state = self.state();
        let tier = state.tiers.entry(place.tier.clone()).or_default();
        tier.limit = limit;
        if !state.starting.contains_key(&place.uid) {
            state.leave_waiting(&place.uid);
            state.waiting.insert(place.uid.clone(), (place.tier.clone(), asked));
            let tier = state.tiers.entry(place.tier.clone()).or_default();
            tier.waiting.insert((asked, place.uid.clone()), place);
        }
        state.admit(self.most)
    }

    /// The workspace has a pod on its way, whatever the line says. Answers who may start now.
    pub fn starts(&self, place: Place) -> Vec<Place> {
        let mut state = self.state();
        if state.starting.get(&place.uid).is_none_or(|known| known.tier != place.tier) {
            state.leave(&place.uid);
            state.begin(place);
        }
        state.admit(self.most)
    }

    /// The workspace neither starts nor wants to. Answers who may start now.
    pub fn leave(&self, uid: &str) -> Vec<Place> {
        let mut state = self.state();
        if state.leave(uid) { state.admit(self.most) } else { Vec::new() }
    }

    /// Takes out who is gone. Answers who may start now.
    pub fn retain(&self, exists: impl Fn(&Place) -> bool) -> Vec<Place> {
        let mut state = self.state();
        let waiting = state.tiers.values().flat_map(|tier| tier.waiting.values());
        let gone: Vec<String> = state
            .starting
            .values()
            .chain(waiting)
            .filter(|place| !exists(place))
            .map(|place| place.uid.clone())
            .collect();
        for uid in &gone {
            state.leave(uid);
        }
        if gone.is_empty() { Vec::new() } else { state.admit(self.most) }
    }

    /// How many of that tier wait before the workspace would: all, if it is not in the line.
    pub fn ahead(&self, uid: &str, tier: &str) -> usize {
        let state = self.state();
        match state.turn(uid) {
            Turn::Go => 0,
            Turn::Wait(place) => usize::try_from(place).unwrap_or(usize::MAX).saturating_sub(1),
            Turn::Unasked => state.tiers.get(tier).map_or(0, |tier| tier.waiting.len()),
        }
    }

    /// The first that wait in that tier.
    pub fn first(&self, tier: &str, most: usize) -> Vec<Place> {
        let state = self.state();
        state
            .tiers
            .get(tier)
            .map_or_else(Vec::new, |tier| tier.waiting.values().take(most).cloned().collect())
    }

    /// How many more could start now in that tier if nobody waited. None while somebody does.
    pub fn room(&self, tier: &str, limit: Option<usize>) -> usize {
        let state = self.state();
        if !state.waiting.is_empty() {
            return 0;
        }
        let starting = state.tiers.get(tier).map_or(0, |tier| tier.starting);
        let of_tier = limit.map_or(usize::MAX, |limit| limit.saturating_sub(starting));
        self.most.saturating_sub(state.starting.len()).min(of_tier)
    }

    /// How many start and how many wait.
    pub fn counts(&self) -> (usize, usize) {
        let state = self.state();
        (state.starting.len(), state.waiting.len())
    }

    // Each change below is finished before anything could panic.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn turn(&self, uid: &str) -> Turn {
        if self.starting.contains_key(uid) {
            return Turn::Go;
        }
        let Some((tier, asked)) = self.waiting.get(uid) else {
            return Turn::Unasked;
        };
        let before =
            self.tiers.get(tier).map_or(0, |tier| tier.waiting.range(..(*asked, uid.to_owned())).count());
        Turn::Wait(u32::try_from(before).unwrap_or(u32::MAX).saturating_add(1))
    }

    fn begin(&mut self, place: Place) {
        self.tiers.entry(place.tier.clone()).or_default().starting += 1;
        self.starting.insert(place.uid.clone(), place);
    }

    fn leave(&mut self, uid: &str) -> bool {
        let waited = self.leave_waiting(uid);
        let Some(place) = self.starting.remove(uid) else {
            return waited;
        };
        if let Some(tier) = self.tiers.get_mut(&place.tier) {
            tier.starting = tier.starting.saturating_sub(1);
        }
        self.forget_tier(&place.tier);
        true
    }

    fn leave_waiting(&mut self, uid: &str) -> bool {
        let Some((name, asked)) = self.waiting.remove(uid) else {
            return false;
        };
        if let Some(tier) = self.tiers.get_mut(&name) {
            tier.waiting.remove(&(asked, uid.to_owned()));
        }
        self.forget_tier(&name);
        true
    }

    fn forget_tier(&mut self, name: &str) {
        if self.tiers.get(name).is_some_and(|tier| tier.starting == 0 && tier.waiting.is_empty()) {
            self.tiers.remove(name);
        }
    }

    /// While there is room: of the tiers that may start one, the tier that has the fewest under way goes first, and of
    /// equal ones the one whose first has waited longest.
    fn admit(&mut self, most: usize) -> Vec<Place> {
        let mut admitted = Vec::new();
        while self.starting.len() < most {
            let next = self
                .tiers
                .iter()
                .filter(|(_, tier)| tier.limit.is_none_or(|limit| tier.starting < limit))
                .filter_map(|(name, tier)| {
                    Some((tier.starting, tier.waiting.keys().next()?.clone(), name.clone()))
                })
                .min();
            let Some((_, key, name)) = next else {
                break;
            };
            let Some(place) = self.tiers.get_mut(&name).and_then(|tier| tier.waiting.remove(&key)) else {
                break;
            };
            self.waiting.remove(&place.uid);
            self.begin(place.clone());
            admitted.push(place);
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(uid: &str, tier: &str) -> Place {
        Place {
            uid: uid.to_owned(),
            namespace: "dexorder".to_owned(),
            name: uid.to_owned(),
            tier: tier.to_owned(),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn uids(places: &[Place]) -> Vec<&str> {
        places.iter().map(|place| place.uid.as_str()).collect()
    }

    #[test]
    fn who_comes_while_there_is_room_starts_at_once_and_the_others_wait_in_the_order_of_their_requests() {
        let line = Line::new(2);
        assert_eq!(uids(&line.join(place("a", "free"), at(1), None)), ["a"]);
        assert_eq!(uids(&line.join(place("b", "free"), at(2), None)), ["b"]);
        assert!(line.join(place("d", "free"), at(4), None).is_empty());
        assert!(line.join(place("c", "free"), at(3), None).is_empty());
        assert_eq!(
            [line.turn("a"), line.turn("c"), line.turn("d")],
            [Turn::Go, Turn::Wait(1), Turn::Wait(2)]
        );
        assert_eq!(line.turn("x"), Turn::Unasked);
        assert_eq!(uids(&line.leave("b")), ["c"]);
        assert_eq!([line.turn("b"), line.turn("d")], [Turn::Unasked, Turn::Wait(1)]);
        assert!(line.leave("b").is_empty(), "once is enough");
        assert_eq!(line.counts(), (2, 1));
    }

    #[test]
    fn a_tier_that_waits_in_large_numbers_does_not_hold_the_others_back() {
        let line = Line::new(4);
        for number in 0..100 {
            line.join(place(&format!("free{number:03}"), "free"), at(number), None);
        }
        line.join(place("fund", "enterprise"), at(1000), None);
        assert_eq!(line.turn("fund"), Turn::Wait(1));
        assert_eq!(uids(&line.leave("free000")), ["fund"], "its tier has the fewest under way");
        assert_eq!(uids(&line.leave("free001")), ["free004"]);
    }

    #[test]
    fn a_tiers_own_limit_holds_and_a_raised_one_lets_more_start() {
        let line = Line::new(10);
        for uid in ["a", "b", "c"] {
            line.join(place(uid, "free"), at(1), Some(1));
        }
        assert_eq!(
            [line.turn("a"), line.turn("b"), line.turn("c")],
            [Turn::Go, Turn::Wait(1), Turn::Wait(2)]
        );
        assert_eq!(uids(&line.join(place("b", "free"), at(1), Some(3))), ["b", "c"]);
    }

    #[test]
    fn starts_that_were_found_after_a_restart_take_room_and_who_is_gone_gives_it_back() {
        let line = Line::new(1);
        assert!(line.starts(place("a", "free")).is_empty());
        assert!(line.starts(place("b", "free")).is_empty());
        line.join(place("c", "free"), at(3), None);
        assert_eq!(line.counts(), (2, 1), "what runs is not turned away");
        assert!(line.leave("a").is_empty());
        assert_eq!(uids(&line.retain(|place| place.uid != "b")), ["c"]);
        line.leave("c");
        assert!(line.state().tiers.is_empty());
    }
}
