//! What is in the yard: an API server that knows many objects by name, and their sidecars. Writes are refused or get no
//! answer when a test says so.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use dexorder_crds::keys;
use dexorder_protocol::control::{ASSIGN_PATH, Assignment, DRAIN_PATH, REPORT_PATH, Report};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::{ResourceExt, client::Body};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::super::{
    api_server::{self, Objects},
    fate::Fate,
    objects::merge,
};
use crate::{clock::Clock, plan::tests::fixtures::quiet_report, sidecar::Answer};

/// All that is, as the API server has it.
#[derive(Default)]
pub(in crate::tests) struct World {
    /// By kind and name.
    objects: BTreeMap<(String, String), Value>,
    /// The workspaces that the sidecars serve, by the pods' UIDs.
    pub(in crate::tests) assigned: BTreeMap<String, String>,
    /// Whether the sidecars are silent.
    pub(in crate::tests) silent: bool,
    /// What becomes of the next writes; none: they are carried out.
    pub(in crate::tests) fates: VecDeque<Option<Fate>>,
    /// Each write that took effect, as `VERB kind`.
    pub(in crate::tests) writes: Vec<String>,
    version: u64,
}

#[derive(Clone)]
pub(super) struct Server {
    pub(super) world: Arc<Mutex<World>>,
    pub(super) clock: Clock,
}

impl World {
    pub(super) fn next_version(&mut self) -> String {
        self.version += 1;
        self.version.to_string()
    }

    pub(in crate::tests) fn all<K: DeserializeOwned>(&self, kind: &str) -> Vec<K> {
        let of_kind = self.objects.iter().filter(|((found, _), _)| found == kind);
        of_kind.map(|(_, value)| serde_json::from_value(value.clone()).unwrap()).collect()
    }

    pub(in crate::tests) fn names(&self, kind: &str) -> Vec<String> {
        self.objects.keys().filter(|(found, _)| found == kind).map(|(_, name)| name.clone()).collect()
    }

    pub(in crate::tests) fn object(&self, kind: &str, name: &str) -> Value {
        self.objects.get(&(kind.to_owned(), name.to_owned())).cloned().unwrap_or_default()
    }

    pub(in crate::tests) fn put(&mut self, kind: &str, mut value: Value) {
        value["metadata"]["resourceVersion"] = json!(self.next_version());
        let name = value["metadata"]["name"].as_str().unwrap().to_owned();
        self.objects.insert((kind.to_owned(), name), value);
    }

    pub(in crate::tests) fn remove(&mut self, kind: &str, name: &str) {
        self.objects.remove(&(kind.to_owned(), name.to_owned()));
    }

    /// The kubelet and the volumes get on.
    pub(in crate::tests) fn kubelet(&mut self) {
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

    fn pod_at(&self, ip: &str) -> Option<Pod> {
        let at = |pod: &Pod| pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()) == Some(ip);
        self.all::<Pod>("pods").into_iter().find(at)
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
}

fn guard(value: &Value, wanted: &Value) -> Result<(), StatusCode> {
    let differs = |name: &str| wanted[name].is_string() && wanted[name] != value["metadata"][name];
    if differs("uid") || differs("resourceVersion") { Err(StatusCode::CONFLICT) } else { Ok(()) }
}

impl Server {
    pub(super) async fn serve(
        self,
        request: Request<Body>,
    ) -> Result<Response<Full<bytes::Bytes>>, kube::Error> {
        api_server::serve(&self.world, self.clock.now(), request).await
    }

    pub(super) async fn answer(
        self,
        request: Request<Full<bytes::Bytes>>,
    ) -> Result<Answer, tower::BoxError> {
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

pub(super) fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}
