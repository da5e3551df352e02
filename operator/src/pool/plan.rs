//! What to do about the pool of one tier, decided from what was observed alone. [no client]

use std::collections::{BTreeMap, BTreeSet, HashSet};

use dexorder_crds::{AuthMode, WorkspaceTier, keys};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::{Resource, ResourceExt};

use super::member::{ended, free, hash, ready, whole_claim};
use crate::{
    build::{self, Member, PodFor, Settings},
    plan::Terms,
};

/// The most members of a tier that are on their way at once.
const PACE: usize = 3;
/// The most members that are deleted in one look because they are too many.
const SURPLUS_PACE: usize = 10;

/// What a tier asks for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// How many.
    pub size: usize,
    /// The tier.
    pub tier: &'a WorkspaceTier,
    /// The auth mode of its members.
    pub mode: AuthMode,
    /// What they are made from.
    pub terms: &'a Terms,
}

/// Everything that a plan may look at.
#[derive(Clone, Copy)]
pub struct Observed<'a> {
    /// Where the members are.
    pub namespace: &'a str,
    /// Name of the tier.
    pub tier: &'a str,
    /// Name of the operator, if it has one.
    pub operator: Option<&'a str>,
    /// What the tier asks for; none if it is gone, or can't have a pool.
    pub wanted: Option<Wanted<'a>>,
    /// What every pod is built with.
    pub settings: &'a Settings,
    /// The pods with a name of the tier's pool, whosever they are.
    pub pods: &'a [std::sync::Arc<Pod>],
    /// The claims with such a name.
    pub claims: &'a [std::sync::Arc<PersistentVolumeClaim>],
    /// Numbers of the members that were made a moment ago: what is missing of them may not have been seen yet.
    pub fresh: &'a HashSet<u32>,
    /// How many more starts the line of starts has room for.
    pub room: usize,
    /// Whether a workspace of that name may be taking the member of that name over.
    pub takes: &'a dyn Fn(&str, &str) -> bool,
}

/// One object, as it was observed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its resource version.
    pub version: String,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make the claim, and if that was made, the pod.
    Create {
        /// The member's number.
        number: u32,
        /// The claim.
        claim: Box<PersistentVolumeClaim>,
        /// The pod.
        pod: Box<Pod>,
    },
    /// Delete the claim, and if it was as observed, the pod.
    Delete {
        /// The claim, unless it is gone already.
        claim: Option<Target>,
        /// The pod, if there is one.
        pod: Option<Target>,
    },
}

/// What to do, and what there is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// In this order.
    pub actions: Vec<Action>,
    /// Names of the members that can be taken over.
    pub ready: Vec<String>,
    /// How many are on their way.
    pub coming: usize,
    /// How many the tier asks for.
    pub wanted: usize,
}

/// A member as it was observed.
struct Seen<'a> {
    number: u32,
    claim: Option<&'a PersistentVolumeClaim>,
    pod: Option<&'a Pod>,
}

/// What a member is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    /// It was given away, or is nobody's member: its name is used, and that is all.
    Taken,
    /// It ends already.
    Ending,
    /// It is no good.
    Spoiled,
    /// It would be made differently today.
    Outdated,
    /// It is on its way.
    Coming,
    /// It can be taken over.
    Ready,
}

/// Decides what to do.
pub fn plan(observed: &Observed<'_>) -> Plan {
    let members = members(observed);
    let with = |state: State| members.iter().filter(move |(_, found)| *found == state);
    let count = |state: State| with(state).count();
    let (ready, coming, outdated) = (count(State::Ready), count(State::Coming), count(State::Outdated));
    let wanted = observed.wanted.map_or(0, |wanted| wanted.size);

    let mut actions: Vec<Action> = with(State::Spoiled).map(|(member, _)| delete(member)).collect();
    let room = PACE.min(observed.room).saturating_sub(coming);
    if ready + coming >= wanted {
        // Outdated ones go first, then those on their way, the highest numbers first.
        let surplus = ready + coming + outdated - wanted;
        let mut order: Vec<_> = members.iter().filter(|(_, state)| *state >= State::Outdated).collect();
        order.sort_by_key(|(member, state)| (*state, std::cmp::Reverse(member.number)));
        actions.extend(order.into_iter().take(surplus.min(SURPLUS_PACE)).map(|(member, _)| delete(member)));
    } else {
        let lacking = wanted - ready - coming;
        let new = lacking.saturating_sub(outdated).min(room);
        actions.extend(new_numbers(&members).take(new).filter_map(|number| create(observed, number)));
        // One by one an outdated member makes room for its successor.
        let replaced = outdated.min(lacking).min(room - new);
        actions.extend(with(State::Outdated).take(replaced).map(|(member, _)| delete(member)));
    }
    let ready = with(State::Ready).map(|(member, _)| keys::member_name(observed.tier, member.number));
    Plan { actions, ready: ready.collect(), coming, wanted }
}

/// All that have a name of the pool, by number.
fn members<'a>(observed: &Observed<'a>) -> Vec<(Seen<'a>, State)> {
    let mut found: BTreeMap<u32, Seen<'a>> = BTreeMap::new();
    let at = |number| Seen { number, claim: None, pod: None };
    for claim in observed.claims {
        if let Some(number) = number(observed, claim.as_ref()) {
            found.entry(number).or_insert_with(|| at(number)).claim = Some(claim);
        }
    }
    for pod in observed.pods {
        if let Some(number) = number(observed, pod.as_ref()) {
            found.entry(number).or_insert_with(|| at(number)).pod = Some(pod);
        }
    }
    found
        .into_values()
        .map(|member| {
            let state = state(observed, &member);
            (member, state)
        })
        .collect()
}

fn number<K: Resource>(observed: &Observed<'_>, object: &K) -> Option<u32> {
    let name = object.meta().name.as_deref()?;
    let (tier, number) = keys::member_of(name)?;
    (tier == observed.tier && object.meta().namespace.as_deref() == Some(observed.namespace))
        .then_some(number)
}

fn state(observed: &Observed<'_>, member: &Seen<'_>) -> State {
    let mine = |labels: &BTreeMap<String, String>| {
        labels.get(keys::OPERATOR_LABEL).map(String::as_str) == observed.operator
    };
    match (member.claim, member.pod) {
        (_, Some(pod)) if !free(pod) || !mine(pod.labels()) => State::Taken,
        (Some(claim), None) if !free(claim) || !mine(claim.labels()) => State::Taken,
        // Somebody is taking it over, unless the workspace has gone in between, or has got something else.
        (Some(claim), Some(_)) if !free(claim) => {
            let workspace = claim.labels().get(keys::WORKSPACE_LABEL);
            if workspace.is_some_and(|name| (observed.takes)(name, &claim.name_any())) {
                State::Taken
            } else {
                spoiled(member)
            }
        }
        (Some(claim), Some(pod)) => whole(observed, member, claim, pod),
        _ if observed.fresh.contains(&member.number) => State::Coming,
        _ => spoiled(member),
    }
}

fn whole(observed: &Observed<'_>, member: &Seen<'_>, claim: &PersistentVolumeClaim, pod: &Pod) -> State {
    if pod.metadata.deletion_timestamp.is_some() || !whole_claim(claim) {
        return spoiled(member);
    }
    if ended(pod) {
        // Whatever ends it at once must not have it made again all the time.
        return if observed.fresh.contains(&member.number) { State::Coming } else { State::Spoiled };
    }
    let Some(wanted) = observed.wanted else {
        return if ready(pod) { State::Ready } else { State::Coming };
    };
    let (claim_today, pod_today) = make(observed, &wanted, member.number);
    let as_today = hash(pod) == hash(&pod_today) && hash(claim) == hash(&claim_today);
    match (as_today, ready(pod)) {
        (true, true) => State::Ready,
        (true, false) => State::Coming,
        (false, true) => State::Outdated,
        (false, false) => State::Spoiled,
    }
}

/// What is left of it is deleted, unless that was done.
fn spoiled(member: &Seen<'_>) -> State {
    let ends = |metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta| {
        metadata.deletion_timestamp.is_some()
    };
    let claim_ends = member.claim.is_none_or(|claim| ends(&claim.metadata) || !free(claim));
    let pod_ends = member.pod.is_none_or(|pod| ends(&pod.metadata));
    if claim_ends && pod_ends { State::Ending } else { State::Spoiled }
}

fn delete(member: &Seen<'_>) -> Action {
    let claim = member.claim.filter(|claim| free(*claim) && claim.metadata.deletion_timestamp.is_none());
    let pod = member.pod.filter(|pod| pod.metadata.deletion_timestamp.is_none());
    Action::Delete { claim: claim.map(target), pod: pod.map(target) }
}

fn target<K: Resource>(object: &K) -> Target {
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    let metadata = object.meta();
    Target { name: text(&metadata.name), uid: text(&metadata.uid), version: text(&metadata.resource_version) }
}

/// The lowest numbers that nothing bears: if one of them was made already and is not seen yet, making it again fails.
fn new_numbers(members: &[(Seen<'_>, State)]) -> impl Iterator<Item = u32> {
    let used: BTreeSet<u32> = members.iter().map(|(member, _)| member.number).collect();
    (0..=u32::MAX).filter(move |number| !used.contains(number))
}

fn create(observed: &Observed<'_>, number: u32) -> Option<Action> {
    let (claim, pod) = make(observed, &observed.wanted?, number);
    Some(Action::Create { number, claim: Box::new(claim), pod: Box::new(pod) })
}

fn make(observed: &Observed<'_>, wanted: &Wanted<'_>, number: u32) -> (PersistentVolumeClaim, Pod) {
    let member = Member {
        name: keys::member_name(observed.tier, number),
        namespace: observed.namespace.to_owned(),
        tier: observed.tier.to_owned(),
        mode: wanted.mode,
        operator: observed.operator.map(str::to_owned),
    };
    let Wanted { size: _, tier, mode: _, terms } = *wanted;
    let pod = build::pod(PodFor::Member(&member), Some(tier), terms, observed.settings);
    (build::member_claim(&member, terms), pod)
}
