//! Reads and writes of workspaces at the API server: find, create, touch. Each has a time limit.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use dexorder_crds::{Auth, AuthMode, OperatingMode, UserWorkspace, UserWorkspaceSpec, keys};
use dexorder_protocol::identity::VISITOR_PREFIX;
use jiff::Timestamp;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::core::DeserializeGuard;
use kube::{Api, Client};
use serde_json::json;

use super::index::{Index, Subscription, Target};
use super::name;
use super::places::{Place, Places};
use super::record::Workspace;
use super::watcher::{self, Health};
use crate::clock;
use crate::config::{Defaults, VisitorsConfig};

const TIMEOUT: Duration = Duration::from_secs(5);
const MANAGED_BY: &str = "dexorder-gateway";

/// Why the API server did not do what it was asked for.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// It may do it later.
    #[error("the cluster does not answer: {0}")]
    Unavailable(String),
    /// It won't.
    #[error("the cluster refuses: {0}")]
    Refused(String),
    /// Another user's workspace has the name.
    #[error("a workspace of another user has the name {0}: an operator must remove it")]
    NameTaken(String),
}

/// The workspaces of the one namespace.
pub(crate) struct Workspaces {
    api: Api<UserWorkspace>,
    guarded: Api<DeserializeGuard<UserWorkspace>>,
    defaults: Defaults,
    visitors: Option<VisitorsConfig>,
    places: Places,
    index: Arc<Index>,
    health: Arc<Health>,
}

impl Workspaces {
    pub(crate) fn new(
        client: Client,
        namespace: &str,
        defaults: Defaults,
        visitors: Option<VisitorsConfig>,
    ) -> Self {
        Self {
            api: Api::namespaced(client.clone(), namespace),
            guarded: Api::namespaced(client, namespace),
            defaults,
            visitors,
            places: Places::default(),
            index: Arc::default(),
            health: Arc::new(Health::new()),
        }
    }

    /// Follows the cluster, for ever.
    pub(crate) fn follow(&self) -> impl Future<Output = ()> + use<> {
        watcher::follow(self.guarded.clone(), Arc::clone(&self.index), Arc::clone(&self.health))
    }

    pub(crate) fn health(&self) -> &Health {
        &self.health
    }

    pub(crate) fn current(&self, target: &Target) -> Option<Arc<Workspace>> {
        self.index.current(target)
    }

    /// The workspace of a user.
    pub(crate) fn of_user(&self, user: &str) -> Option<Arc<Workspace>> {
        self.index.current(&Target::User(user.to_owned()))
    }

    pub(crate) fn subscribe(&self, target: &Target) -> Subscription {
        self.index.subscribe(target)
    }

    /// How many workspaces of anonymous visitors are known.
    pub(crate) fn anonymous(&self) -> usize {
        self.index.anonymous()
    }

    pub(crate) fn count(&self) -> usize {
        self.index.len()
    }

    /// A place for one more workspace of a visitor, if there is one. Each replica counts what it is making itself.
    pub(crate) fn place_for_visitor(&self) -> Option<Place> {
        let most = self.visitors.as_ref().map_or(0, |visitors| visitors.most);
        self.places.take(self.index.anonymous(), most)
    }

    /// Finds the user's workspace at the API server or creates it. The outcome is in the index then.
    ///
    /// The server is asked first because the watch may be behind: a workspace that was applied a moment ago, under
    /// whatever name, is not doubled.
    pub(crate) async fn find_or_create(&self, user: &str) -> Result<Created, ApiError> {
        let selector = ListParams::default().fields(&format!("spec.userId={}", escape(user)));
        let found = limited(self.guarded.list(&selector)).await?;
        let mut any = false;
        for resource in found.items.into_iter().filter_map(|guard| guard.0.ok()) {
            any |= resource.spec.user_id == user;
            self.keep(resource);
        }
        if any {
            return Ok(Created::Found);
        }
        let name = name::for_user(user);
        match limited(self.api.create(&PostParams::default(), &self.manifest(&name, user))).await {
            Ok(resource) => {
                tracing::info!(workspace = name, "workspace created");
                self.keep(resource);
                Ok(Created::New)
            }
            Err(error) if error.code == Some(409) => {
                let resource = limited(self.api.get(&name)).await?;
                if resource.spec.user_id != user {
                    return Err(ApiError::NameTaken(name));
                }
                self.keep(resource);
                Ok(Created::Found)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Reads a workspace anew. The outcome is in the index then.
    pub(crate) async fn refresh(&self, name: &str) -> Result<(), ApiError> {
        match limited(self.api.get(name)).await {
            Ok(resource) => self.keep(resource),
            Err(error) if error.code == Some(404) => self.index.delete(name),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Wakes a workspace: any new value of the annotation counts.
    pub(crate) async fn touch(&self, name: &str) -> Result<(), ApiError> {
        let patch = json!({"metadata": {"annotations": {keys::TOUCHED_AT: clock::rfc3339()}}});
        match limited(self.api.patch(name, &PatchParams::default(), &Patch::Merge(patch))).await {
            Ok(resource) => self.keep(resource),
            Err(error) if error.code == Some(404) => self.index.delete(name),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Keeps a workspace from being stopped for idleness until then; returns until when it is. A later time that is
    /// there already stays.
    pub(crate) async fn keep_awake(&self, name: &str, until: Timestamp) -> Result<Timestamp, ApiError> {
        let known = limited(self.api.get(name)).await?.metadata.annotations.unwrap_or_default();
        let known = known.get(keys::KEEP_AWAKE_UNTIL).and_then(|text| text.parse::<Timestamp>().ok());
        if let Some(known) = known.filter(|known| *known >= until) {
            return Ok(known);
        }
        let text = format!("{until:.0}");
        let patch = json!({"metadata": {"annotations": {keys::KEEP_AWAKE_UNTIL: text}}});
        let resource = limited(self.api.patch(name, &PatchParams::default(), &Patch::Merge(patch))).await?;
        self.keep(resource);
        Ok(until)
    }

    fn keep(&self, resource: UserWorkspace) {
        if let Some(workspace) = Workspace::of(resource) {
            self.index.apply_answer(workspace);
        }
    }

    fn manifest(&self, name: &str, user: &str) -> UserWorkspace {
        let visitors = self.visitors.as_ref().filter(|_| user.starts_with(VISITOR_PREFIX));
        let (tier, mode) = match visitors {
            Some(visitors) => (&visitors.tier, AuthMode::Public),
            None => (&self.defaults.tier, self.defaults.auth_mode),
        };
        let mut workspace = UserWorkspace::new(
            name,
            UserWorkspaceSpec {
                user_id: user.to_owned(),
                tier: tier.clone(),
                auth: Auth { mode, direct: None },
                idle_timeout: None,
                operating_mode: OperatingMode::default(),
                wake_schedules: Vec::new(),
                storage: None,
                repository: None,
                template: None,
            },
        );
        let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut labels = vec![label("app.kubernetes.io/managed-by", MANAGED_BY)];
        labels.extend(visitors.map(|_| label(keys::ANONYMOUS_LABEL, "true")));
        workspace.metadata.labels = Some(labels.into_iter().collect());
        workspace.metadata.annotations = Some([(keys::TOUCHED_AT.to_owned(), clock::rfc3339())].into());
        workspace
    }
}

/// How a user came to a workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Created {
    New,
    Found,
}

/// A failed call, with the HTTP status if the server answered.
struct CallError {
    code: Option<u16>,
    text: String,
}

impl From<CallError> for ApiError {
    fn from(error: CallError) -> Self {
        match error.code {
            None | Some(408 | 409 | 429 | 500..) => Self::Unavailable(error.text),
            Some(_) => Self::Refused(error.text),
        }
    }
}

async fn limited<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, CallError> {
    match tokio::time::timeout(TIMEOUT, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(kube::Error::Api(status))) => {
            Err(CallError { code: Some(status.code), text: status.message.clone() })
        }
        Ok(Err(error)) => Err(CallError { code: None, text: error.to_string() }),
        Err(_) => Err(CallError { code: None, text: format!("no answer within {} s", TIMEOUT.as_secs()) }),
    }
}

/// Escapes a value of a field selector.
fn escape(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for c in value.chars() {
        if matches!(c, '\\' | ',' | '=') {
            text.push('\\');
        }
        text.push(c);
    }
    text
}
