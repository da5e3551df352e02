//! A cluster in memory: an API server with its rules for versions and preconditions, one workspace's pod and sidecar, and
//! calls that are refused, conflict or get no answer when a test says so.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use dexorder_crds::{UserWorkspace, UserWorkspaceStatus};
use dexorder_protocol::control::{DRAIN_PATH, REPORT_PATH};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, Pod, PodCondition, PodStatus},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use kube::client::Body;
use serde_json::{Value, json};

use super::{
    api_server::{self, Objects},
    fate::Fate,
    objects::{found, patch, read},
    sidecar::Sidecar,
};
use crate::{clock::Clock, sidecar::Answer};

/// All that is.
#[derive(Default)]
pub(super) struct World {
    pub(super) workspace: Option<UserWorkspace>,
    pub(super) pod: Option<Pod>,
    pub(super) claim: Option<PersistentVolumeClaim>,
    pub(super) sidecar: Sidecar,
    /// What becomes of the next writes; none: they are carried out.
    pub(super) fates: VecDeque<Option<Fate>>,
    /// Each write that took effect, as `VERB kind`.
    pub(super) writes: Vec<String>,
    /// Rules that were broken.
    pub(super) violations: Vec<String>,
    version: u64,
    pods_made: u32,
}

/// The cluster, shared by the API server, the sidecar and the test.
#[derive(Clone)]
pub(super) struct Cluster {
    world: Arc<Mutex<World>>,
    clock: Clock,
}

impl Cluster {
    pub(super) fn new(clock: Clock, workspace: UserWorkspace) -> Self {
        let cluster = Self { world: Arc::default(), clock };
        cluster.world().put_workspace(workspace);
        cluster
    }

    // A test that panicked has failed anyway.
    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The API server.
    pub(super) async fn serve(
        self,
        request: Request<Body>,
    ) -> Result<Response<Full<bytes::Bytes>>, kube::Error> {
        api_server::serve(&self.world, self.clock.now(), request).await
    }

    /// The sidecar.
    pub(super) async fn answer(
        self,
        request: Request<Full<bytes::Bytes>>,
    ) -> Result<Answer, tower::BoxError> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let mut world = self.world();
        // The sidecar lives by its own clock.
        let now = self.clock.now() + world.sidecar.ahead;
        if world.sidecar.silent || !world.has_address() {
            return Err("connection refused".into());
        }
        let (status, answer) = match parts.uri.path() {
            _ if !world.sidecar.trusts(&parts.headers, now) => (StatusCode::UNAUTHORIZED, Value::Null),
            REPORT_PATH => (StatusCode::OK, json!(world.sidecar.report(now))),
            DRAIN_PATH => {
                let outcome = world.sidecar.drain(&serde_json::from_slice(&body)?, now);
                let status = if outcome.drained { StatusCode::OK } else { StatusCode::CONFLICT };
                (status, json!(outcome))
            }
            _ if world.sidecar.old => (StatusCode::NOT_FOUND, Value::Null),
            _ => (StatusCode::OK, json!({"streams": 1})),
        };
        Ok(Answer { status, date: Some(now), body: serde_json::to_vec(&answer)?.into() })
    }
}

impl Objects for World {
    fn fates(&mut self) -> &mut VecDeque<Option<Fate>> {
        &mut self.fates
    }

    fn handle(
        &mut self,
        method: &Method,
        path: &str,
        body: &Value,
        now: Timestamp,
    ) -> Result<Value, StatusCode> {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let place = parts.iter().position(|part| *part == "namespaces").ok_or(StatusCode::NOT_FOUND)?;
        let kind = parts[place + 2];
        let answer = match (method.as_str(), kind) {
            ("GET", "pods") => return found(self.pod.as_ref()),
            ("GET", "persistentvolumeclaims") => return found(self.claim.as_ref()),
            ("GET", _) => return Ok(json!({"metadata": {}, "items": []})),
            ("POST", "pods") => self.create_pod(body, now),
            ("POST", "persistentvolumeclaims") => self.create_claim(body),
            ("PATCH", "persistentvolumeclaims") => patch(self.claim.as_mut(), body),
            ("PATCH", "pods") => patch(self.pod.as_mut(), body),
            ("PATCH", "userworkspaces") => self.write_status(body),
            ("DELETE", "pods") => self.delete_pod(body, now),
            (_, "events") => Ok(body.clone()),
            _ => {
                self.violate(format!("{method} {path}"));
                Err(StatusCode::METHOD_NOT_ALLOWED)
            }
        }?;
        self.writes.push(format!("{method} {kind}"));
        Ok(answer)
    }
}

impl World {
    pub(super) fn put_workspace(&mut self, mut workspace: UserWorkspace) {
        workspace.metadata.resource_version = Some(self.next_version());
        self.workspace = Some(workspace);
    }

    pub(super) fn change_workspace(&mut self, change: impl FnOnce(&mut UserWorkspace)) {
        if let Some(mut workspace) = self.workspace.clone() {
            change(&mut workspace);
            self.put_workspace(workspace);
        }
    }

    pub(super) fn change_pod(&mut self, change: impl FnOnce(&mut Pod)) {
        let version = self.next_version();
        if let Some(pod) = &mut self.pod {
            change(pod);
            pod.metadata.resource_version = Some(version);
        }
    }

    fn next_version(&mut self) -> String {
        self.version += 1;
        self.version.to_string()
    }

    pub(super) fn has_address(&self) -> bool {
        self.pod.as_ref().and_then(|pod| pod.status.as_ref()?.pod_ip.as_ref()).is_some()
    }

    pub(super) fn is_ready(&self) -> bool {
        let conditions = self.pod.as_ref().and_then(|pod| pod.status.as_ref()?.conditions.as_ref());
        conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"))
    }

    pub(super) fn terminates(&self) -> bool {
        self.pod.as_ref().is_some_and(|pod| pod.metadata.deletion_timestamp.is_some())
    }

    pub(super) fn serves(&self) -> bool {
        self.is_ready() && !self.terminates() && !self.sidecar.draining && !self.sidecar.silent
    }

    /// The kubelet gets on with the pod.
    pub(super) fn kubelet(&mut self) {
        let phase = self.pod.as_ref().and_then(|pod| pod.status.as_ref()?.phase.clone());
        if self.terminates() {
            self.pod = None;
            self.sidecar = self.sidecar.fresh(Timestamp::UNIX_EPOCH);
        } else if phase.as_deref() != Some("Failed") {
            let ready = self.has_address() && !self.sidecar.draining;
            let condition = PodCondition {
                type_: "Ready".to_owned(),
                status: if ready { "True" } else { "False" }.to_owned(),
                ..PodCondition::default()
            };
            self.change_pod(|pod| {
                pod.status = Some(PodStatus {
                    phase: Some("Running".to_owned()),
                    pod_ip: Some("10.0.0.1".to_owned()),
                    conditions: Some(vec![condition]),
                    ..PodStatus::default()
                });
            });
        }
    }

    fn violate(&mut self, what: impl Into<String>) {
        self.violations.push(what.into());
    }

    fn create_claim(&mut self, body: &Value) -> Result<Value, StatusCode> {
        if self.claim.is_some() {
            return Err(StatusCode::CONFLICT);
        }
        let mut claim: PersistentVolumeClaim = read(body);
        claim.metadata.uid = Some("claim-1".to_owned());
        self.claim = Some(claim.clone());
        Ok(json!(claim))
    }

    fn create_pod(&mut self, body: &Value, now: Timestamp) -> Result<Value, StatusCode> {
        if self.claim.is_none() {
            self.violate("a pod before its claim");
        }
        if self.pod.is_some() {
            return Err(StatusCode::CONFLICT);
        }
        self.pods_made += 1;
        let mut pod: Pod = read(body);
        pod.metadata.uid = Some(format!("pod-{}", self.pods_made));
        pod.metadata.creation_timestamp = Some(Time(now));
        pod.metadata.resource_version = Some(self.next_version());
        self.pod = Some(pod.clone());
        self.sidecar = self.sidecar.fresh(now);
        Ok(json!(pod))
    }

    fn delete_pod(&mut self, body: &Value, now: Timestamp) -> Result<Value, StatusCode> {
        let wanted = |name: &str| body["preconditions"][name].as_str().map(str::to_owned);
        let Some(uid) = wanted("uid") else {
            self.violate("a pod was deleted by name alone");
            return Err(StatusCode::BAD_REQUEST);
        };
        let metadata = self.pod.as_ref().map(|pod| pod.metadata.clone()).ok_or(StatusCode::NOT_FOUND)?;
        let changed =
            wanted("resourceVersion").is_some_and(|version| metadata.resource_version != Some(version));
        if metadata.uid != Some(uid) || changed {
            return Err(StatusCode::CONFLICT);
        }
        if self.serves() {
            self.violate("a pod that serves was deleted");
        }
        self.change_pod(|pod| pod.metadata.deletion_timestamp = Some(Time(now)));
        Ok(json!({"kind": "Status", "status": "Success"}))
    }

    fn write_status(&mut self, body: &Value) -> Result<Value, StatusCode> {
        let Some(mut workspace) = self.workspace.clone() else {
            return Err(StatusCode::NOT_FOUND);
        };
        let Some(version) = body["metadata"]["resourceVersion"].as_str() else {
            self.violate("a status was written on whatever was there");
            return Err(StatusCode::BAD_REQUEST);
        };
        if workspace.metadata.resource_version.as_deref() != Some(version) {
            return Err(StatusCode::CONFLICT);
        }
        let status: UserWorkspaceStatus = serde_json::from_value(body["status"].clone()).unwrap();
        if workspace.status.as_ref() == Some(&status) {
            self.violate("a write that changes nothing");
        }
        workspace.status = Some(status);
        self.put_workspace(workspace);
        Ok(json!(self.workspace))
    }
}
