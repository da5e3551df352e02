//! An API server for `UserWorkspace` resources: list with a field selector, watch from a version, get, create, merge
//! patch. What the gateway uses of Kubernetes, over real HTTP.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures::stream;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::NAMESPACE;

const KIND: (&str, &str) = ("dexorder.io/v1alpha1", "UserWorkspace");

/// The server and what it holds.
pub(crate) struct ApiServer {
    address: std::net::SocketAddr,
    state: Mutex<Stored>,
    /// Grows with each event, so that watches go on.
    events: watch::Sender<usize>,
    /// Grows when all watches are to break.
    breaks: watch::Sender<usize>,
}

#[derive(Default)]
struct Stored {
    version: u64,
    objects: BTreeMap<String, Value>,
    events: Vec<(u64, Value)>,
    creates: usize,
    touches: HashMap<String, usize>,
    /// Answers to calls other than watches from now on, if they are to fail.
    failure: Option<StatusCode>,
    watches_fail: bool,
}

type Reply = Result<Json<Value>, Refused>;

/// A call that is refused.
#[derive(Debug)]
struct Refused {
    code: StatusCode,
    reason: &'static str,
    message: &'static str,
}

impl ApiServer {
    pub(crate) async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Arc::new(Self {
            address: listener.local_addr().unwrap(),
            state: Mutex::default(),
            events: watch::Sender::new(0),
            breaks: watch::Sender::new(0),
        });
        let all = format!("/apis/dexorder.io/v1alpha1/namespaces/{NAMESPACE}/userworkspaces");
        let router = Router::new()
            .route(&all, get(list_or_watch).post(create))
            .route(&format!("{all}/{{name}}"), get(read).patch(patch))
            .with_state(Arc::clone(&server));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        server
    }

    pub(crate) fn client(&self) -> kube::Client {
        let uri = format!("http://{}", self.address).parse().unwrap();
        kube::Client::try_from(kube::Config::new(uri)).unwrap()
    }

    /// What `kubectl apply` does. Returns the UID.
    pub(crate) fn apply(&self, name: &str, user: &str) -> String {
        self.apply_in_mode(name, user, "Gateway")
    }

    /// The same, of an auth mode.
    pub(crate) fn apply_in_mode(&self, name: &str, user: &str, mode: &str) -> String {
        let manifest = json!({
            "metadata": {"name": name},
            "spec": {"userId": user, "tier": "standard", "auth": {"mode": mode}},
        });
        self.insert(manifest).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned()
    }

    /// Changes a workspace and tells the watches.
    pub(crate) fn change(&self, name: &str, change: impl FnOnce(&mut Value)) -> Value {
        let mut state = self.lock();
        let mut object = state.objects[name].clone();
        change(&mut object);
        self.store(&mut state, "MODIFIED", object)
    }

    /// What the operator does.
    pub(crate) fn set_status(&self, name: &str, status: Value) {
        self.change(name, |object| object["status"] = status);
    }

    pub(crate) fn delete(&self, name: &str) {
        let mut state = self.lock();
        let object = state.objects[name].clone();
        self.store(&mut state, "DELETED", object);
        state.objects.remove(name);
    }

    pub(crate) fn get(&self, name: &str) -> Option<Value> {
        self.lock().objects.get(name).cloned()
    }

    /// The workspace of a user.
    pub(crate) fn of_user(&self, user: &str) -> Option<Value> {
        self.lock().objects.values().find(|object| object["spec"]["userId"] == user).cloned()
    }

    /// The workspaces of anonymous visitors.
    pub(crate) fn of_visitors(&self) -> Vec<Value> {
        let of_visitor = |object: &&Value| {
            object["spec"]["userId"].as_str().is_some_and(|user| user.starts_with("anonymous:"))
        };
        self.lock().objects.values().filter(of_visitor).cloned().collect()
    }

    pub(crate) fn touched_at(&self, name: &str) -> Option<String> {
        self.get(name)?["metadata"]["annotations"]["dexorder.io/touched-at"].as_str().map(str::to_owned)
    }

    pub(crate) fn version(&self) -> u64 {
        self.lock().version
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().objects.len()
    }

    /// How many workspaces clients have created.
    pub(crate) fn creates(&self) -> usize {
        self.lock().creates
    }

    /// How often clients have patched a workspace.
    pub(crate) fn touches(&self, name: &str) -> usize {
        self.lock().touches.get(name).copied().unwrap_or_default()
    }

    /// Lets calls fail, or work again.
    pub(crate) fn fail(&self, failure: Option<StatusCode>) {
        self.lock().failure = failure;
    }

    /// Tells all watches that they are too old; with `stay` new lists and watches fail.
    pub(crate) fn break_watches(&self, stay: bool) {
        self.lock().watches_fail = stay;
        self.breaks.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Stored> {
        self.state.lock().unwrap()
    }

    fn insert(&self, mut object: Value) -> Result<Value, Refused> {
        let mut state = self.lock();
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        if state.objects.contains_key(&name) {
            return Err(refusal(StatusCode::CONFLICT, "AlreadyExists", "it exists already"));
        }
        let number = state.version + 1;
        let metadata = &mut object["metadata"];
        metadata["namespace"] = json!(NAMESPACE);
        metadata["uid"] = json!(format!("uid-{number}"));
        metadata["generation"] = json!(1);
        metadata["creationTimestamp"] = json!("2026-11-24T00:00:00Z");
        Ok(self.store(&mut state, "ADDED", object))
    }

    fn store(&self, state: &mut Stored, event: &str, mut object: Value) -> Value {
        state.version += 1;
        object["apiVersion"] = json!(KIND.0);
        object["kind"] = json!(KIND.1);
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        state.objects.insert(name, object.clone());
        state.events.push((state.version, json!({"type": event, "object": object})));
        self.events.send_replace(state.events.len());
        object
    }

    fn ok(&self) -> Result<(), Refused> {
        match self.lock().failure {
            Some(status) => Err(refusal(status, "InternalError", "the API server fails")),
            None => Ok(()),
        }
    }
}

fn refusal(code: StatusCode, reason: &'static str, message: &'static str) -> Refused {
    Refused { code, reason, message }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "reason": self.reason, "message": self.message, "code": self.code.as_u16(),
        });
        (self.code, Json(body)).into_response()
    }
}

async fn list_or_watch(
    State(server): State<Arc<ApiServer>>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let watches = query.get("watch").is_some_and(|value| value == "true" || value == "1");
    if watches { watch(server, &query) } else { list(&server, &query).into_response() }
}

fn list(server: &ApiServer, query: &HashMap<String, String>) -> Reply {
    server.ok()?;
    let state = server.lock();
    if state.watches_fail && !query.contains_key("fieldSelector") {
        return Err(refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "no lists now"));
    }
    let user = query.get("fieldSelector").and_then(|selector| selector.strip_prefix("spec.userId="));
    let items: Vec<&Value> = state
        .objects
        .values()
        .filter(|object| user.is_none_or(|user| object["spec"]["userId"] == user))
        .collect();
    Ok(Json(json!({
        "apiVersion": KIND.0, "kind": "UserWorkspaceList",
        "metadata": {"resourceVersion": state.version.to_string()}, "items": items,
    })))
}

fn watch(server: Arc<ApiServer>, query: &HashMap<String, String>) -> Response {
    if server.lock().watches_fail {
        return refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "no watches now").into_response();
    }
    let from: u64 = query.get("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or_default();
    let next = server.lock().events.iter().take_while(|(version, _)| *version <= from).count();
    let (events, mut breaks) = (server.events.subscribe(), server.breaks.subscribe());
    breaks.mark_unchanged();
    let lines =
        stream::unfold((server, events, breaks, next), |(server, mut events, mut breaks, next)| async move {
            loop {
                events.mark_unchanged();
                let event = server.lock().events.get(next).map(|(_, event)| format!("{event}\n"));
                if let Some(line) = event {
                    return Some((Ok(line), (server, events, breaks, next + 1)));
                }
                tokio::select! {
                        _ = events.changed() => {}
                        _ = breaks.changed() => {
                        let status = json!({
                            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                            "reason": "Expired", "message": "too old resource version", "code": 410,
                        });
                        let line = format!("{}\n", json!({"type": "ERROR", "object": status}));
                        return Some((Ok::<_, std::io::Error>(line), (server, events, breaks, usize::MAX)));
                    }
                }
            }
        });
    Response::new(Body::from_stream(lines))
}

async fn create(State(server): State<Arc<ApiServer>>, Json(manifest): Json<Value>) -> Reply {
    server.ok()?;
    let object = server.insert(manifest)?;
    server.lock().creates += 1;
    Ok(Json(object))
}

async fn read(State(server): State<Arc<ApiServer>>, Path(name): Path<String>) -> Reply {
    server.ok()?;
    server.get(&name).map(Json).ok_or_else(|| refusal(StatusCode::NOT_FOUND, "NotFound", "no such workspace"))
}

async fn patch(State(server): State<Arc<ApiServer>>, Path(name): Path<String>, body: String) -> Reply {
    server.ok()?;
    if server.get(&name).is_none() {
        return Err(refusal(StatusCode::NOT_FOUND, "NotFound", "no such workspace"));
    }
    *server.lock().touches.entry(name.clone()).or_default() += 1;
    let patch: Value = serde_json::from_str(&body).unwrap();
    Ok(Json(server.change(&name, |object| merge(object, &patch))))
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(members) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in members {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(name);
        } else {
            merge(&mut target[name], value);
        }
    }
}
