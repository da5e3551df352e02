//! A namespace with a warm pool, in memory: many pods and claims by name, their sidecars, and the operator that keeps the
//! pool.

mod world;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use dexorder_crds::{UserWorkspace, WarmPool, WorkspaceTier};
use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, Pod},
    jiff::Timestamp,
};
use kube::{
    Client, ResourceExt,
    runtime::reflector::{
        ObjectRef,
        store::{Writer, store},
    },
};
use serde_json::{Value, json};
use tower::{service_fn, util::BoxCloneSyncService};

use super::{
    looks::key,
    operator::{Turns, context, show_all},
};
use crate::{
    build::Settings,
    clock::Clock,
    context::{Context, Stores},
    plan::tests::fixtures::{START, scene, tier},
    pool::Keeper,
    reconcile::reconcile,
    sidecar::Sidecars,
    watch::{trim_claim, trim_pod},
};
use world::{Server, World, lock};

/// The yard and its operator.
pub(super) struct Yard {
    world: Arc<Mutex<World>>,
    pub(super) context: Arc<Context>,
    keeper: Keeper,
    workspaces: Writer<UserWorkspace>,
    tiers: Writer<WorkspaceTier>,
    pods: Writer<Pod>,
    claims: Writer<PersistentVolumeClaim>,
    pub(super) size: Option<i32>,
    _turns: Turns,
}

impl Yard {
    /// A yard whose tier asks for so many members.
    pub(super) fn new(size: i32) -> Self {
        let clock = Clock::of_runtime(Timestamp::from_second(START).unwrap());
        Self::on(Arc::default(), clock, Some(size))
    }

    /// Another operator for what is there: it remembers nothing.
    pub(super) fn anew(&self) -> Self {
        Self::on(self.world.clone(), self.context.clock, self.size)
    }

    fn on(world: Arc<Mutex<World>>, clock: Clock, size: Option<i32>) -> Self {
        let server = Server { world: world.clone(), clock };
        let api = server.clone();
        let client = Client::new(service_fn(move |request| api.clone().serve(request)), "dexorder");
        let transport = BoxCloneSyncService::new(service_fn(move |request| server.clone().answer(request)));
        let (tier_store, tiers) = store();
        let (workspace_store, workspaces) = store();
        let (pod_store, pods) = store();
        let (claim_store, claims) = store();
        let stores =
            Stores { workspaces: workspace_store, tiers: tier_store, pods: pod_store, claims: claim_store };
        let sidecars = Sidecars::over(transport, key(), clock);
        let (context, turns) = context(client, sidecars, Settings::default(), stores, clock);
        let keeper = Keeper::new(context.clone());
        let mut yard = Self { world, context, keeper, workspaces, tiers, pods, claims, size, _turns: turns };
        yard.sync();
        yard
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.world)
    }

    /// The watches show what is.
    pub(super) fn sync(&mut self) {
        self.see_workspaces();
        self.see_pods();
        self.see_claims();
    }

    /// The watches of tiers and workspaces show what is.
    pub(super) fn see_workspaces(&mut self) {
        let world = lock(&self.world);
        let tier = self.size.map(|size| {
            let mut tier = tier();
            tier.spec.warm_pool = Some(WarmPool { size });
            tier
        });
        show_all(&mut self.tiers, tier.into_iter().collect());
        show_all(&mut self.workspaces, world.all("userworkspaces"));
    }

    /// The watch of pods shows what is.
    pub(super) fn see_pods(&mut self) {
        let mut pods: Vec<Pod> = lock(&self.world).all("pods");
        pods.iter_mut().for_each(trim_pod);
        show_all(&mut self.pods, pods);
    }

    /// The watch of claims shows what is.
    pub(super) fn see_claims(&mut self) {
        let mut claims: Vec<PersistentVolumeClaim> = lock(&self.world).all("persistentvolumeclaims");
        claims.iter_mut().for_each(trim_claim);
        show_all(&mut self.claims, claims);
    }

    /// The keeper looks until the pool is as it should be.
    pub(super) async fn fill(&mut self) {
        for _ in 0..10 {
            self.tend().await;
            self.world().kubelet();
        }
        self.tend().await;
    }

    pub(super) async fn tend(&mut self) {
        self.sync();
        self.tend_as_seen().await;
    }

    /// The keeper looks at what the watches have shown until now.
    pub(super) async fn tend_as_seen(&mut self) {
        self.keeper.look().await;
    }

    /// A user goes: the workspace is deleted, and the garbage collector ends its pod.
    pub(super) fn goes(&mut self, name: &str) {
        let mut world = lock(&self.world);
        let uid = world.object("userworkspaces", name)["metadata"]["uid"].clone();
        if uid.is_null() {
            return;
        }
        world.remove("userworkspaces", name);
        for pod in world.names("pods") {
            let mut pod = world.object("pods", &pod);
            if pod["metadata"]["ownerReferences"][0]["uid"] == uid {
                pod["metadata"]["deletionTimestamp"] = json!(self.context.clock.now().to_string());
                world.put("pods", pod);
            }
        }
    }

    /// A user comes: a workspace of that name.
    pub(super) fn comes(&mut self, name: &str, change: impl FnOnce(&mut UserWorkspace)) {
        let mut workspace = scene().workspace;
        workspace.metadata.name = Some(name.to_owned());
        workspace.spec.user_id = format!("user-of-{name}");
        change(&mut workspace);
        let mut world = lock(&self.world);
        let number = world.next_version();
        workspace.metadata.uid = Some(format!("uid-{name}-{number}"));
        world.put("userworkspaces", json!(workspace));
    }

    /// Looks at the workspace until nothing is left to do at once. Watches that do not keep up show nothing new.
    pub(super) async fn look(&mut self, name: &str, keeps_up: bool) {
        for round in 0..8 {
            if keeps_up || round == 0 {
                self.sync();
            }
            let found = self.context.stores.workspaces.get(&ObjectRef::new(name).within("dexorder"));
            let Some(workspace) = found else { return };
            let before = self.world().writes.len();
            let failed = reconcile(workspace, self.context.clone()).await.is_err();
            if failed || self.world().writes.len() == before {
                return;
            }
        }
    }

    /// Looks once at what the watches have shown until now.
    pub(super) async fn look_as_seen(&mut self, name: &str) {
        let found = self.context.stores.workspaces.get(&ObjectRef::new(name).within("dexorder"));
        if let Some(workspace) = found {
            let _ = reconcile(workspace, self.context.clone()).await;
        }
    }

    /// The look that the controller would come to again, with pauses in between, until the workspace is ready.
    pub(super) async fn until_ready(&mut self, name: &str) -> bool {
        for _ in 0..20 {
            self.look(name, true).await;
            if self.reason(name) == "Ready" {
                return true;
            }
            self.world().kubelet();
            tokio::time::advance(std::time::Duration::from_secs(3)).await;
        }
        false
    }

    /// The reason of `Ready`.
    pub(super) fn reason(&self, name: &str) -> String {
        let status = self.world().object("userworkspaces", name)["status"].clone();
        let ready =
            status["conditions"].as_array().into_iter().flatten().find(|one| one["type"] == "Ready").cloned();
        ready.and_then(|ready| ready["reason"].as_str().map(str::to_owned)).unwrap_or_default()
    }

    pub(super) fn status(&self, name: &str) -> Value {
        self.world().object("userworkspaces", name)["status"].clone()
    }

    /// The names of the pods on each claim that has one.
    pub(super) fn pods_by_claim(&self) -> BTreeMap<String, Vec<String>> {
        let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pod in self.world().all::<Pod>("pods") {
            let volumes = pod.spec.as_ref().unwrap().volumes.clone().unwrap_or_default();
            let claim =
                volumes.into_iter().find_map(|volume| volume.persistent_volume_claim).unwrap().claim_name;
            all.entry(claim).or_default().push(pod.name_any());
        }
        all
    }

    /// Names of the free members' pods.
    pub(super) fn free(&self) -> Vec<String> {
        let pods = self.world().all::<Pod>("pods");
        pods.into_iter().filter(crate::pool::free).map(|pod| pod.name_any()).collect()
    }
}
