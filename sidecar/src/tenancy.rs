//! Whom the sidecar serves: one workspace from the start, or, in a pool, the one that it is given, for good.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use dexorder_protocol::control::{Assignment, AuthMode};
use dexorder_protocol::identity::{ANONYMOUS_SUBJECT, GATEWAY_SUBJECT, VISITOR_PREFIX};
use http::HeaderValue;
use tokio::time::{MissedTickBehavior, interval};

use crate::auth::{IdentityKeys, PublicMode, SessionKeyError, Users, Vouched};
use crate::config::{Config, PublicConfig};
use crate::direct::{DirectError, DirectMode};
use crate::gate::Gate;

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A workspace and how its users are checked.
pub(crate) struct Tenant {
    pub(crate) workspace: Assignment,
    pub(crate) users: Users,
}

/// The workspace, or the wait for one.
pub(crate) struct Tenancy {
    tenant: OnceLock<Tenant>,
    pool: Option<Pool>,
    keys: Arc<IdentityKeys>,
    gate: Arc<Gate>,
    public: PublicConfig,
}

struct Pool {
    pod_uid: String,
    assignment_file: PathBuf,
}

/// Why a pod does not become a workspace's, or a workspace can't be served.
#[derive(Debug, thiserror::Error)]
pub enum AssignError {
    /// It is another's.
    #[error("the pod belongs to the workspace with UID {0} and will never be another's")]
    Taken(String),
    /// It is no pod of a pool.
    #[error("the pod was made for one workspace and takes no other")]
    NoPool,
    /// A pool's pod has no volume for a key.
    #[error("a pod of a pool has no key of its own: only modes Public and Gateway can be assigned")]
    Direct,
    /// The user ID can't be told to the agent.
    #[error("the user ID can't stand in a header")]
    User,
    /// A field is empty.
    #[error("the assignment lacks {0}")]
    Missing(&'static str),
    /// Sessions can't be made.
    #[error(transparent)]
    Session(#[from] SessionKeyError),
    /// Mode Direct can't be offered.
    #[error(transparent)]
    DirectMode(#[from] DirectError),
}

impl Tenancy {
    /// The workspace that the configuration names, or a wait for one.
    pub(crate) async fn new(
        config: &Config,
        keys: Arc<IdentityKeys>,
        gate: Arc<Gate>,
    ) -> Result<Self, AssignError> {
        use crate::config::Tenancy as Given;
        let (pool, workspace) = match config.tenancy.clone() {
            Given::Workspace(workspace) => (None, Some(workspace)),
            Given::Pool { pod_uid, assignment_file } => (Some(Pool { pod_uid, assignment_file }), None),
        };
        let tenancy = Self { tenant: OnceLock::new(), pool, keys, gate, public: config.public };
        if let Some(workspace) = workspace {
            let users = match &config.direct {
                Some(direct) => {
                    let vouched = tenancy.vouched(&workspace, GATEWAY_SUBJECT);
                    Users::Direct(Box::new(DirectMode::start(direct, vouched, &workspace).await?))
                }
                None => tenancy.users(&workspace)?,
            };
            let _ = tenancy.tenant.set(Tenant { workspace, users });
        }
        Ok(tenancy)
    }

    /// The workspace, if there is one.
    pub(crate) fn tenant(&self) -> Option<&Tenant> {
        self.tenant.get()
    }

    /// The audience of the operator's calls.
    pub(crate) fn audience(&self) -> &str {
        match (self.tenant.get(), &self.pool) {
            (Some(tenant), _) => &tenant.workspace.workspace_uid,
            (None, Some(pool)) => &pool.pod_uid,
            // Either is set when this is made.
            (None, None) => "",
        }
    }

    /// The audience of an assignment, however often it comes.
    pub(crate) fn pod_uid(&self) -> Option<&str> {
        self.pool.as_ref().map(|pool| pool.pod_uid.as_str())
    }

    /// Makes the pod a workspace's. The same workspace again changes nothing.
    pub(crate) fn assign(&self, workspace: &Assignment) -> Result<(), AssignError> {
        if self.pool.is_none() {
            return Err(AssignError::NoPool);
        }
        if self.tenant.get().is_none() {
            let users = self.users(workspace)?;
            tracing::info!(
                workspace = workspace.workspace,
                namespace = workspace.namespace,
                auth_mode = ?workspace.auth_mode,
                access = ?workspace.access,
                "the pod was assigned to a workspace"
            );
            // Its time begins now, not when it came into the pool.
            self.gate.touch();
            // Whoever comes second is told so below.
            let _ = self.tenant.set(Tenant { workspace: workspace.clone(), users });
        }
        match self.tenant.get() {
            Some(tenant) if tenant.workspace.workspace_uid == workspace.workspace_uid => Ok(()),
            Some(tenant) => Err(AssignError::Taken(tenant.workspace.workspace_uid.clone())),
            None => Err(AssignError::NoPool),
        }
    }

    /// Reads the assignment that stands in the pod's annotation, if there is one.
    pub(crate) fn read_assignment(&self) {
        let Some(pool) = &self.pool else { return };
        if self.tenant.get().is_some() {
            return;
        }
        let path = &pool.assignment_file;
        let text = match fs::read_to_string(path) {
            Ok(text) if text.trim().is_empty() => return,
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "the assignment can't be read");
                return;
            }
        };
        match serde_json::from_str::<Assignment>(&text) {
            Ok(workspace) => {
                if let Err(error) = self.assign(&workspace) {
                    tracing::error!(%error, path = %path.display(), "the assignment can't be used");
                }
            }
            Err(error) => tracing::error!(%error, path = %path.display(), "the assignment is malformed"),
        }
    }

    /// Looks for an assignment every second, until there is one.
    pub(crate) async fn watch(&self) {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.tenant.get().is_none() {
            ticks.tick().await;
            self.read_assignment();
        }
    }

    fn users(&self, workspace: &Assignment) -> Result<Users, AssignError> {
        for (name, value) in [
            ("workspaceUid", &workspace.workspace_uid),
            ("workspace", &workspace.workspace),
            ("namespace", &workspace.namespace),
            ("userId", &workspace.user_id),
        ] {
            if value.is_empty() {
                return Err(AssignError::Missing(name));
            }
        }
        let own = workspace.user_id.as_str();
        let header = |user: &str| HeaderValue::from_bytes(user.as_bytes()).map_err(|_| AssignError::User);
        match workspace.auth_mode {
            AuthMode::Gateway => {
                Ok(Users::Gateway { vouched: self.vouched(workspace, own), user: header(own)? })
            }
            AuthMode::Public => {
                // A visitor's own workspace is that visitor's alone; any other is for all.
                let subject = if own.starts_with(VISITOR_PREFIX) { own } else { ANONYMOUS_SUBJECT };
                let vouched = self.vouched(workspace, subject);
                let mode = PublicMode::new(vouched, header(subject)?, &self.public)?;
                Ok(Users::Public(Box::new(mode)))
            }
            AuthMode::Direct => Err(AssignError::Direct),
        }
    }

    fn vouched(&self, workspace: &Assignment, subject: &str) -> Vouched {
        Vouched::new(Arc::clone(&self.keys), workspace.workspace_uid.clone(), subject.to_owned())
    }
}
