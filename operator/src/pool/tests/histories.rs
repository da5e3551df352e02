//! Generated histories: members are made, given away and lost, watches lag behind, the operator is started anew. Never
//! are there more free members than were asked for, and never is anything deleted that was given away.

use std::collections::{BTreeMap, HashSet};

use dexorder_crds::keys;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use proptest::prelude::*;
use std::sync::Arc;

use super::fixtures::{Scene, TIER, end, fail, give_claim, give_pod, scene, set_ready};
use crate::pool::{Action, Target, free};

#[derive(Clone, Copy, Debug)]
enum Event {
    Look,
    /// The watches of pods and of claims show what is.
    SeePods,
    SeeClaims,
    Ready(usize),
    Fail(usize),
    PodGoes(usize),
    /// A workspace takes the member: its claim alone, or the pod too.
    Take(usize, bool),
    /// A half-taken member's pod is taken, too.
    TakeRest(usize),
    WorkspacesGo,
    /// The operator is started anew: what it remembers is gone, what it sees is new.
    Restart,
    /// What was made is no longer fresh.
    Age,
    Size(i32),
    Image(bool),
    Room(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => Just(Event::Look),
        3 => Just(Event::SeePods),
        3 => Just(Event::SeeClaims),
        4 => (0..6_usize).prop_map(Event::Ready),
        1 => (0..6_usize).prop_map(Event::Fail),
        1 => (0..6_usize).prop_map(Event::PodGoes),
        3 => ((0..6_usize), any::<bool>()).prop_map(|(which, whole)| Event::Take(which, whole)),
        1 => (0..6_usize).prop_map(Event::TakeRest),
        1 => Just(Event::WorkspacesGo),
        1 => Just(Event::Restart),
        1 => Just(Event::Age),
        1 => (0..5_i32).prop_map(Event::Size),
        1 => any::<bool>().prop_map(Event::Image),
        1 => (0..4_usize).prop_map(Event::Room),
    ]
}

/// What is, and what the operator sees of it.
struct World {
    pods: BTreeMap<String, Pod>,
    claims: BTreeMap<String, PersistentVolumeClaim>,
    seen: Scene,
    takers: u32,
}

impl World {
    fn new() -> Self {
        Self { pods: BTreeMap::new(), claims: BTreeMap::new(), seen: scene(3), takers: 0 }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Look => self.look(),
            Event::SeePods => self.seen.pods = self.pods.values().cloned().map(Arc::new).collect(),
            Event::SeeClaims => self.seen.claims = self.claims.values().cloned().map(Arc::new).collect(),
            Event::Ready(which) => self.change_pod(which, |pod| set_ready(pod, true)),
            Event::Fail(which) => self.change_pod(which, fail),
            Event::PodGoes(which) => {
                if let Some(name) = self.pods.keys().nth(which).cloned() {
                    self.remove_pod(&name);
                }
            }
            Event::Take(which, whole) => self.take(which, whole),
            Event::TakeRest(which) => self.take_rest(which),
            Event::WorkspacesGo => self.seen.workspaces.clear(),
            Event::Restart => {
                self.seen.fresh.clear();
                self.happens(Event::SeePods);
                self.happens(Event::SeeClaims);
            }
            Event::Age => {
                // By then the watches have caught up with what was made.
                self.happens(Event::SeePods);
                self.happens(Event::SeeClaims);
                self.seen.fresh.clear();
            }
            Event::Size(size) => {
                self.seen.tier.as_mut().unwrap().spec.warm_pool.as_mut().unwrap().size = size;
            }
            Event::Image(other) => {
                self.seen.tier.as_mut().unwrap().spec.image = Some(format!("dexorder/agent:{other}"));
            }
            Event::Room(room) => self.seen.room = room,
        }
    }

    fn change_pod(&mut self, which: usize, change: impl FnOnce(&mut Pod)) {
        let version = self.seen.version();
        if let Some(pod) = self.pods.values_mut().nth(which) {
            change(pod);
            pod.metadata.resource_version = Some(version);
        }
    }

    /// The kubelet is done with a pod: a claim that waits for its end goes, too.
    fn remove_pod(&mut self, name: &str) {
        self.pods.remove(name);
        if self.claims.get(name).is_some_and(|claim| claim.metadata.deletion_timestamp.is_some()) {
            self.claims.remove(name);
        }
    }

    fn take(&mut self, which: usize, whole: bool) {
        // Whoever takes a member chose it by what was seen, and changes what is as it was seen.
        let ready = self.seen.plan().ready;
        let Some(name) = ready.get(which % ready.len().max(1)).cloned() else { return };
        let seen = self.seen.claims.iter().find(|claim| claim.metadata.name.as_ref() == Some(&name)).cloned();
        let version = self.seen.version();
        let same = |claim: &&mut PersistentVolumeClaim| {
            seen.is_some_and(|seen| seen.metadata.resource_version == claim.metadata.resource_version)
        };
        let Some(claim) = self.claims.get_mut(&name).filter(same) else { return };
        self.takers += 1;
        let workspace = format!("w{}", self.takers);
        give_claim(claim, &workspace);
        claim.metadata.resource_version = Some(version);
        self.seen.workspaces.insert(workspace.clone());
        if whole {
            self.take_pod(&name, &workspace);
        }
    }

    fn take_rest(&mut self, which: usize) {
        let half = |(name, claim): (&String, &PersistentVolumeClaim)| {
            let workspace = claim.metadata.labels.as_ref()?.get(keys::WORKSPACE_LABEL)?;
            self.seen.workspaces.contains(workspace).then(|| (name.clone(), workspace.clone()))
        };
        let halves: Vec<_> = self.claims.iter().filter_map(half).collect();
        if let Some((name, workspace)) = halves.get(which) {
            self.take_pod(name, workspace);
        }
    }

    fn take_pod(&mut self, name: &str, workspace: &str) {
        let version = self.seen.version();
        if let Some(pod) =
            self.pods.get_mut(name).filter(|pod| free(*pod) && pod.metadata.deletion_timestamp.is_none())
        {
            give_pod(pod, workspace);
            pod.metadata.resource_version = Some(version);
        }
    }

    fn look(&mut self) {
        for action in self.seen.plan().actions {
            match action {
                Action::Create { number, claim, pod } => self.create(number, *claim, *pod),
                Action::Delete { claim, pod } => {
                    if let Some(claim) = claim
                        && !self.delete_claim(&claim)
                    {
                        continue;
                    }
                    if let Some(pod) = pod {
                        self.delete_pod(&pod);
                    }
                }
            }
        }
    }

    fn create(&mut self, number: u32, claim: PersistentVolumeClaim, pod: Pod) {
        let name = claim.metadata.name.clone().unwrap();
        if self.claims.contains_key(&name) {
            return;
        }
        let mut made = Scene { pods: Vec::new(), claims: Vec::new(), ..self.seen.clone() };
        made.create(Action::Create { number, claim: Box::new(claim), pod: Box::new(pod) });
        let (claim, pod) = (made.claims[0].as_ref().clone(), made.pods[0].as_ref().clone());
        let _ = std::iter::repeat_with(|| self.seen.version()).take(4).count();
        self.claims.insert(name.clone(), claim);
        self.seen.fresh.insert(number);
        assert!(
            self.pods.insert(name, pod).is_none_or(|pod| free(&pod)),
            "a pod on a volume that was given away"
        );
        let whole = self.claims.iter().filter(|(name, claim)| {
            let works = self
                .pods
                .get(*name)
                .is_some_and(|pod| free(pod) && pod.metadata.deletion_timestamp.is_none() && !failed(pod));
            free(*claim) && claim.metadata.deletion_timestamp.is_none() && works
        });
        assert!(whole.count() <= self.seen.size(), "more free members than were asked for");
    }

    fn delete_claim(&mut self, target: &Target) -> bool {
        let Some(claim) = self.claims.get_mut(&target.name) else { return true };
        let metadata = &claim.metadata;
        if metadata.uid.as_ref() != Some(&target.uid)
            || metadata.resource_version.as_ref() != Some(&target.version)
        {
            return false;
        }
        assert!(free(claim), "a claim that was given away was deleted");
        if self.pods.contains_key(&target.name) {
            end(&mut claim.metadata);
            claim.metadata.resource_version = Some(self.seen.version());
        } else {
            self.claims.remove(&target.name);
        }
        true
    }

    fn delete_pod(&mut self, target: &Target) {
        let Some(pod) = self.pods.get(&target.name) else { return };
        let metadata = &pod.metadata;
        if metadata.uid.as_ref() == Some(&target.uid)
            && metadata.resource_version.as_ref() == Some(&target.version)
        {
            assert!(free(pod), "a pod that was given away was deleted");
            self.remove_pod(&target.name);
        }
    }
}

fn failed(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Failed")
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 60,
        rng_seed: proptest::test_runner::RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn never_more_than_asked_and_never_what_was_given_away(events in proptest::collection::vec(event(), 1..80)) {
        let mut world = World::new();
        for event in events {
            world.happens(event);
        }
        // In calm weather the pool is as it should be.
        world.seen.workspaces.extend((0..=world.takers).map(|number| format!("w{number}")));
        world.seen.room = 10;
        for _ in 0..40 {
            world.happens(Event::Restart);
            world.happens(Event::Look);
            for which in 0..world.pods.len() {
                let fails = world.pods.values().nth(which).is_some_and(failed);
                if !fails {
                    world.happens(Event::Ready(which));
                }
            }
            for claim in world.claims.clone().into_values().filter(|claim| claim.metadata.deletion_timestamp.is_some()) {
                let name = claim.metadata.name.unwrap();
                if !world.pods.contains_key(&name) {
                    world.claims.remove(&name);
                }
            }
        }
        world.happens(Event::Restart);
        let plan = world.seen.plan();
        prop_assert!(plan.actions.is_empty(), "{:?}", plan.actions);
        prop_assert_eq!((plan.ready.len(), plan.coming), (world.seen.size(), 0));
        let names: HashSet<_> = world.claims.keys().filter(|name| keys::member_of(name).is_some_and(|(tier, _)| tier == TIER)).collect();
        prop_assert_eq!(names.len(), world.claims.len());
    }
}
