//! Generated histories of a warm pool and the workspaces that take its members over: users come and go, writes are
//! refused, conflict, get lost or get no answer, watches lag, sidecars are silent, pods vanish, the operator is started anew.

use std::{collections::BTreeMap, time::Duration};

use dexorder_crds::{UserWorkspace, keys};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use proptest::prelude::*;

use super::{fate::Fate, yard::Yard};
use crate::{plan::tests::fixtures::histories, pool};

const SIZE: i32 = 2;
const USERS: usize = 4;

#[derive(Clone, Copy, Debug)]
enum Event {
    Comes(usize),
    Goes(usize),
    /// The operator looks at a workspace, and sees what is or what it saw before.
    Look(usize, bool),
    /// The keeper looks at the pool, and sees what is or what it saw before.
    Tend(bool),
    /// One of the watches catches up: of workspaces, of pods, of claims.
    See(usize),
    Kubelet,
    /// What becomes of the write after so many others.
    Write(usize, Fate),
    Silence(bool),
    PodGoes(usize),
    Wait(u64),
    /// The operator is started anew.
    Anew,
}

fn event() -> impl Strategy<Value = Event> {
    let user = 0..USERS;
    prop_oneof![
        4 => user.clone().prop_map(Event::Comes),
        1 => user.clone().prop_map(Event::Goes),
        8 => (user, any::<bool>()).prop_map(|(user, sees)| Event::Look(user, sees)),
        4 => any::<bool>().prop_map(Event::Tend),
        6 => (0..3_usize).prop_map(Event::See),
        4 => Just(Event::Kubelet),
        4 => (0..5_usize, Fate::any()).prop_map(|(after, fate)| Event::Write(after, fate)),
        1 => any::<bool>().prop_map(Event::Silence),
        1 => (0..6_usize).prop_map(Event::PodGoes),
        2 => prop_oneof![Just(1), Just(5), Just(30), Just(70)].prop_map(Event::Wait),
        1 => Just(Event::Anew),
    ]
}

fn name(user: usize) -> String {
    format!("w{user}")
}

async fn happens(mut yard: Yard, event: Event) -> Yard {
    match event {
        Event::Comes(user) => {
            let name = name(user);
            if !yard.world().names("userworkspaces").contains(&name) {
                yard.comes(&name, |_| {});
                yard.see_workspaces();
            }
        }
        Event::Goes(user) => yard.goes(&name(user)),
        Event::Look(user, true) => yard.look(&name(user), true).await,
        Event::Look(user, false) => yard.look_as_seen(&name(user)).await,
        Event::See(0) => yard.see_workspaces(),
        Event::See(1) => yard.see_pods(),
        Event::See(_) => yard.see_claims(),
        Event::Tend(sees) => {
            if sees {
                yard.sync();
            }
            yard.tend_as_seen().await;
        }
        Event::Kubelet => yard.world().kubelet(),
        Event::Write(after, fate) => {
            let fates = &mut yard.world().fates;
            fates.clear();
            fates.extend(std::iter::repeat_n(None, after).chain([Some(fate)]));
        }
        Event::Silence(silent) => yard.world().silent = silent,
        Event::PodGoes(which) => {
            let pods = yard.world().names("pods");
            if let Some(pod) = pods.get(which) {
                yard.world().remove("pods", pod);
            }
        }
        Event::Wait(seconds) => tokio::time::advance(Duration::from_secs(seconds)).await,
        Event::Anew => yard = yard.anew(),
    }
    yard
}

/// The rules that are broken.
fn broken(yard: &Yard) -> Vec<String> {
    let mut all = Vec::new();
    for (claim, pods) in yard.pods_by_claim() {
        if pods.len() > 1 {
            all.push(format!("{pods:?} are on claim {claim}"));
        }
    }
    let world = yard.world();
    let mut volumes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for claim in world.all::<PersistentVolumeClaim>("persistentvolumeclaims") {
        let Some(workspace) = claim.labels().get(keys::WORKSPACE_LABEL) else { continue };
        volumes.entry(workspace.clone()).or_default().push(claim.name_any());
        if claim.annotations().get(keys::USER_ID) != Some(&format!("user-of-{workspace}")) {
            all.push(format!("claim {} of {workspace} does not bear its user", claim.name_any()));
        }
    }
    for (workspace, claims) in volumes.into_iter().filter(|(_, claims)| claims.len() > 1) {
        all.push(format!("{workspace} has the volumes {claims:?}"));
    }
    for pod in world.all::<Pod>("pods") {
        let owners: Vec<_> = pod.owner_references().iter().map(|owner| owner.uid.clone()).collect();
        let served = world.assigned.get(pod.metadata.uid.as_deref().unwrap_or_default());
        if served.is_some_and(|served| !owners.contains(served)) {
            all.push(format!("pod {} serves {served:?} and is owned by {owners:?}", pod.name_any()));
        }
    }
    // A pod whose claim was taken over is promised, and one whose claim ends is on its way out.
    let stays =
        |claim: &PersistentVolumeClaim| pool::free(claim) && claim.metadata.deletion_timestamp.is_none();
    let claims = world.all::<PersistentVolumeClaim>("persistentvolumeclaims").into_iter().filter(stays);
    let claims: Vec<_> = claims.map(|claim| claim.name_any()).collect();
    let pods = world.all::<Pod>("pods").into_iter();
    let stays = |pod: &Pod| {
        pool::free(pod) && pod.metadata.deletion_timestamp.is_none() && claims.contains(&pod.name_any())
    };
    let free: Vec<_> = pods.filter(stays).map(|pod| pod.name_any()).collect();
    if free.len() > usize::try_from(SIZE).unwrap() {
        all.push(format!("{free:?} are more free members than were asked for"));
    }
    all
}

/// Nothing goes wrong any more: everybody gets ready, and the pool is full.
async fn calm(yard: &mut Yard) -> Result<(), String> {
    yard.world().fates.clear();
    yard.world().silent = false;
    for _ in 0..60 {
        yard.tend().await;
        let users = yard.world().all::<UserWorkspace>("userworkspaces");
        for user in &users {
            yard.look(&user.name_any(), true).await;
        }
        yard.world().kubelet();
        tokio::time::advance(Duration::from_secs(7)).await;
        let waiting: Vec<_> =
            users.iter().map(ResourceExt::name_any).filter(|name| yard.reason(name) != "Ready").collect();
        if waiting.is_empty() && yard.free().len() == usize::try_from(SIZE).unwrap() {
            return Ok(());
        }
    }
    let world = yard.world();
    let told: Vec<_> = world
        .names("userworkspaces")
        .iter()
        .map(|name| (name.clone(), world.object("userworkspaces", name)["status"]["conditions"].to_string()))
        .collect();
    Err(format!(
        "pods {:?}, claims {:?}, {told:?}",
        world.names("pods"),
        world.names("persistentvolumeclaims")
    ))
}

async fn play(events: Vec<Event>) -> Result<(), TestCaseError> {
    let mut yard = Yard::new(SIZE);
    yard.fill().await;
    for event in events {
        yard = happens(yard, event).await;
        let broken = broken(&yard);
        prop_assert!(broken.is_empty(), "{event:?}: {broken:?}");
    }
    let settled = calm(&mut yard).await;
    prop_assert!(settled.is_ok(), "{settled:?}");
    let broken = broken(&yard);
    prop_assert!(broken.is_empty(), "{broken:?}");
    Ok(())
}

proptest! {
    #![proptest_config(histories(150))]

    #[test]
    fn members_are_given_to_one_user_each_whatever_the_api_server_answers(
        events in proptest::collection::vec(event(), 1..60)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(play(events))?;
    }
}
