//! A namespace with a warm pool, in memory: an API server that knows many pods and claims by name, their sidecars, and the
//! operator that keeps the pool. Writes are refused or get no answer when a test says so.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use dexorder_crds::{UserWorkspace, WarmPool, WorkspaceTier, keys};
use dexorder_protocol::control::{ASSIGN_PATH, Assignment, DRAIN_PATH, REPORT_PATH, Report};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, Pod},
    jiff::Timestamp,
};
use kube::{
    Client, ResourceExt,
    client::Body,
    runtime::reflector::{
        ObjectRef,
        store::{Writer, store},
    },
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tower::{service_fn, util::BoxCloneSyncService};

use super::{
    cluster::{Fate, merge},
    looks::key,
    operator::{Turns, context, show_all},
};
use crate::{
    build::Settings,
    clock::Clock,
    context::{Context, Stores},
    plan::tests::fixtures::{START, quiet_report, scene, tier},
    pool::Keeper,
    reconcile::reconcile,
    sidecar::{Answer, Sidecars},
    watch::{trim_claim, trim_pod},
};

/// All that is, as the API server has it.
#[derive(Default)]
pub(super) struct World {
    /// By kind and name.
    objects: BTreeMap<(String, String), Value>,
    /// The workspaces that the sidecars serve, by the pods' UIDs.
    pub(super) assigned: BTreeMap<String, String>,
    /// Whether the sidecars are silent.
    pub(super) silent: bool,
    /// What becomes of the next writes; none: they are carried out.
    pub(super) fates: VecDeque<Option<Fate>>,
    /// Each write that took effect, as `VERB kind`.
    pub(super) writes: Vec<String>,
    version: u64,
}

#[derive(Clone)]
struct Server {
    world: Arc<Mutex<World>>,
    clock: Clock,
}

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

impl World {
    fn next_version(&mut self) -> String {
        self.version += 1;
        self.version.to_string()
    }

    pub(super) fn all<K: DeserializeOwned>(&self, kind: &str) -> Vec<K> {
        let of_kind = self.objects.iter().filter(|((found, _), _)| found == kind);
        of_kind.map(|(_, value)| serde_json::from_value(value.clone()).unwrap()).collect()
    }

    pub(super) fn names(&self, kind: &str) -> Vec<String> {
        self.objects.keys().filter(|(found, _)| found == kind).map(|(_, name)| name.clone()).collect()
    }

    pub(super) fn object(&self, kind: &str, name: &str) -> Value {
        self.objects.get(&(kind.to_owned(), name.to_owned())).cloned().unwrap_or_default()
    }

    pub(super) fn put(&mut self, kind: &str, mut value: Value) {
        value["metadata"]["resourceVersion"] = json!(self.next_version());
        let name = value["metadata"]["name"].as_str().unwrap().to_owned();
        self.objects.insert((kind.to_owned(), name), value);
    }

    pub(super) fn remove(&mut self, kind: &str, name: &str) {
        self.objects.remove(&(kind.to_owned(), name.to_owned()));
    }

    /// The kubelet and the volumes get on.
    pub(super) fn kubelet(&mut self) {
        for name in self.names("pods") {
            let mut pod = self.object("pods", &name);
            if pod["metadata"]["deletionTimestamp"].is_string() {
                self.remove("pods", &name);
                if self.object("persistentvolumeclaims", &name)["metadata"]["deletionTimestamp"].is_string() {
                    self.remove("persistentvolumeclaims", &name);
                }
                continue;
            }
            let uid = pod["metadata"]["uid"].as_str().unwrap().trim_start_matches("uid-").to_owned();
            let status = json!({
                "phase": "Running",
                "podIP": format!("10.0.0.{uid}"),
                "conditions": [{"type": "Ready", "status": "True"}],
            });
            if pod["status"] != status {
                pod["status"] = status;
                self.put("pods", pod);
            }
        }
        for name in self.names("persistentvolumeclaims") {
            let mut claim = self.object("persistentvolumeclaims", &name);
            if claim["status"]["phase"] != "Bound" {
                claim["status"] = json!({"phase": "Bound"});
                self.put("persistentvolumeclaims", claim);
            }
        }
    }

    fn handle(
        &mut self,
        method: &Method,
        path: &str,
        body: &Value,
        now: Timestamp,
    ) -> Result<Value, StatusCode> {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let place = parts.iter().position(|part| *part == "namespaces").unwrap();
        let (kind, name) = (parts[place + 2], parts.get(place + 3).copied().unwrap_or_default());
        let key = (kind.to_owned(), name.to_owned());
        let present = self.objects.get(&key).cloned();
        let answer = match method.as_str() {
            "GET" if name.is_empty() => return Ok(json!({"metadata": {}, "items": []})),
            "GET" => return present.ok_or(StatusCode::NOT_FOUND),
            _ if kind == "events" => Ok(body.clone()),
            "POST" => {
                let mut made = body.clone();
                let key = (kind.to_owned(), made["metadata"]["name"].as_str().unwrap().to_owned());
                if self.objects.contains_key(&key) {
                    return Err(StatusCode::CONFLICT);
                }
                made["metadata"]["uid"] = json!(format!("uid-{}", self.next_version()));
                made["metadata"]["creationTimestamp"] = json!(now.to_string());
                self.put(kind, made);
                Ok(self.objects[&key].clone())
            }
            "PATCH" => {
                let mut value = present.ok_or(StatusCode::NOT_FOUND)?;
                guard(&value, &body["metadata"])?;
                if path.ends_with("/status") {
                    value["status"] = body["status"].clone();
                } else {
                    merge(&mut value, body);
                }
                self.put(kind, value);
                Ok(self.objects[&key].clone())
            }
            "DELETE" => {
                let mut value = present.ok_or(StatusCode::NOT_FOUND)?;
                guard(&value, &body["preconditions"])?;
                value["metadata"]["deletionTimestamp"] = json!(now.to_string());
                let used = kind == "pods" || self.objects.contains_key(&("pods".to_owned(), name.to_owned()));
                if used {
                    self.put(kind, value);
                } else {
                    self.remove(kind, name);
                }
                Ok(json!({"kind": "Status", "status": "Success"}))
            }
            _ => Err(StatusCode::METHOD_NOT_ALLOWED),
        }?;
        self.writes.push(format!("{method} {kind}"));
        Ok(answer)
    }

    fn pod_at(&self, ip: &str) -> Option<Pod> {
        let at = |pod: &Pod| pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()) == Some(ip);
        self.all::<Pod>("pods").into_iter().find(at)
    }
}

fn guard(value: &Value, wanted: &Value) -> Result<(), StatusCode> {
    let differs = |name: &str| wanted[name].is_string() && wanted[name] != value["metadata"][name];
    if differs("uid") || differs("resourceVersion") { Err(StatusCode::CONFLICT) } else { Ok(()) }
}

impl Server {
    /// What becomes of the request, and whether anybody hears of it.
    fn carry_out(&self, parts: &http::request::Parts, body: &Value) -> (Result<Value, StatusCode>, bool) {
        let mut world = lock(&self.world);
        let fate = if parts.method == Method::GET { None } else { world.fates.pop_front().flatten() };
        let answer = match fate.and_then(Fate::refusal) {
            Some(status) => Err(status),
            None => world.handle(&parts.method, parts.uri.path(), body, self.clock.now()),
        };
        (answer, fate.is_none_or(Fate::is_heard))
    }

    async fn serve(self, request: Request<Body>) -> Result<Response<Full<bytes::Bytes>>, kube::Error> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let (answer, heard) = self.carry_out(&parts, &body);
        if !heard {
            return std::future::pending().await;
        }
        let (status, body) = match answer {
            Ok(body) => (StatusCode::OK, body),
            Err(status) => {
                let text = status.canonical_reason();
                (
                    status,
                    json!({"kind": "Status", "status": "Failure", "code": status.as_u16(), "reason": text, "message": text}),
                )
            }
        };
        Ok(Response::builder()
            .status(status)
            .body(Full::new(serde_json::to_vec(&body).unwrap().into()))
            .unwrap())
    }

    async fn answer(self, request: Request<Full<bytes::Bytes>>) -> Result<Answer, tower::BoxError> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let now = self.clock.now();
        let mut world = lock(&self.world);
        let pod =
            world.pod_at(parts.uri.host().unwrap()).filter(|_| !world.silent).ok_or("connection refused")?;
        let uid = pod.uid().unwrap();
        let pooled = keys::member_of(&pod.name_any()).is_some();
        let status = match parts.uri.path() {
            ASSIGN_PATH => {
                let assignment: Assignment = serde_json::from_slice(&body)?;
                let workspace = assignment.workspace_uid;
                if *world.assigned.entry(uid.clone()).or_insert_with(|| workspace.clone()) == workspace {
                    StatusCode::OK
                } else {
                    StatusCode::CONFLICT
                }
            }
            REPORT_PATH if pooled && !world.assigned.contains_key(&uid) => StatusCode::UNAUTHORIZED,
            DRAIN_PATH => {
                let outcome = json!({"drained": true, "clean": true, "savedCommit": "c0ffee"});
                return Ok(Answer {
                    status: StatusCode::OK,
                    date: Some(now),
                    body: outcome.to_string().into(),
                });
            }
            _ => StatusCode::OK,
        };
        let report = Report {
            agent_ready_time: Some(now),
            workspace_uid: world.assigned.get(&uid).cloned(),
            ..quiet_report(now, now)
        };
        Ok(Answer { status, date: Some(now), body: serde_json::to_vec(&report)?.into() })
    }
}

fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
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
        let world = lock(&self.world);
        let tier = self.size.map(|size| {
            let mut tier = tier();
            tier.spec.warm_pool = Some(WarmPool { size });
            tier
        });
        show_all(&mut self.tiers, tier.into_iter().collect());
        show_all(&mut self.workspaces, world.all("userworkspaces"));
        let mut pods: Vec<Pod> = world.all("pods");
        pods.iter_mut().for_each(trim_pod);
        show_all(&mut self.pods, pods);
        let mut claims: Vec<PersistentVolumeClaim> = world.all("persistentvolumeclaims");
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
