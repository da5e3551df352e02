//! The keeper of the pools: sees to it that each tier has as many free members as it asks for. [client]

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use dexorder_crds::{WorkspaceTier, keys};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, PostParams, Preconditions},
    runtime::reflector::ObjectRef,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::Instant;

use super::{
    member::free,
    plan::{Action, Observed, Plan, Target, Wanted, plan},
};
use crate::{build, context::Context, execute::ExecuteError};

/// How often the pools are looked at though nothing has changed.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// Changes that come within this time lead to one look.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// What was made is seen by the watches within this time.
const FRESH: Duration = Duration::from_mins(1);
/// The longest rest after failures.
const LONGEST_REST: Duration = Duration::from_mins(2);
/// The longest name of a tier that a workspace can name.
const LONGEST_NAME: usize = 63;

/// Keeps the pools.
pub struct Keeper {
    context: Arc<Context>,
    /// When members were made, by namespace, tier and number.
    made: HashMap<(String, String, u32), Instant>,
    /// Failures in a row, and until when a pool is left alone.
    resting: HashMap<(String, String), (u32, Instant)>,
    /// The tiers whose pools were there at the last look.
    known: HashSet<String>,
}

/// The objects that have names of one pool.
#[derive(Default)]
struct Found {
    pods: Vec<Arc<Pod>>,
    claims: Vec<Arc<PersistentVolumeClaim>>,
}

impl Keeper {
    /// A keeper that has made nothing yet.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context, made: HashMap::new(), resting: HashMap::new(), known: HashSet::new() }
    }

    /// Notes which members are ready, so that whoever comes first after a start gets one. Makes and deletes nothing.
    pub fn survey(&self) {
        for ((namespace, tier), found) in self.pools() {
            if self.is_own(&namespace) {
                self.context.desk.set_ready(&tier, self.plan(&namespace, &tier, &found).ready);
            }
        }
    }

    /// Keeps the pools for as long as the operator leads.
    pub async fn keep(mut self) {
        let context = self.context.clone();
        loop {
            self.look().await;
            let _ = tokio::time::timeout(LOOK_AGAIN, context.desk.wake.notified()).await;
            tokio::time::sleep(DEBOUNCE).await;
        }
    }

    /// Looks at all pools once.
    pub async fn look(&mut self) {
        let now = Instant::now();
        self.made.retain(|_, at| now.duration_since(*at) < FRESH);
        self.resting.retain(|_, (_, until)| *until + LONGEST_REST > now);
        self.context.desk.tidy();
        let pools = self.pools();
        let known: HashSet<String> = pools.keys().map(|(_, tier)| tier.clone()).collect();
        for gone in self.known.difference(&known) {
            self.context.metrics.pool(gone, 0, 0, 0);
            self.context.desk.set_ready(gone, Vec::new());
        }
        self.known = known;
        for ((namespace, tier), found) in pools {
            if let Err(error) = self.tend(&namespace, &tier, &found).await {
                let (failures, _) =
                    self.resting.get(&(namespace.clone(), tier.clone())).copied().unwrap_or((0, now));
                let rest = Duration::from_secs(1 << failures.min(7)).min(LONGEST_REST);
                tracing::warn!(namespace, tier, failures, %error, "the warm pool is not as it should be: it is tried again");
                self.resting.insert((namespace, tier), (failures + 1, Instant::now() + rest));
            }
        }
    }

    /// Each pool that is asked for, or of which something is left.
    fn pools(&self) -> BTreeMap<(String, String), Found> {
        let stores = &self.context.stores;
        let mut pools: BTreeMap<(String, String), Found> = BTreeMap::new();
        for pod in stores.pods.state() {
            if let Some(pool) = pool_of(pod.as_ref()) {
                pools.entry(pool).or_default().pods.push(pod);
            }
        }
        for claim in stores.claims.state() {
            if let Some(pool) = pool_of(claim.as_ref()) {
                pools.entry(pool).or_default().claims.push(claim);
            }
        }
        let mut asked = HashSet::new();
        if let Some(namespace) = &self.context.desk.scope.namespace {
            for tier in stores.tiers.state().into_iter().filter(|tier| size(tier) > 0) {
                let pool = (namespace.clone(), tier.name_any());
                pools.entry(pool.clone()).or_default();
                asked.insert(pool);
            }
        }
        // Of most pools that nobody asks for there is nothing left but what was given away.
        pools.retain(|pool, found| {
            asked.contains(pool)
                || found.pods.iter().any(|pod| free(pod.as_ref()))
                || found.claims.iter().any(|claim| free(claim.as_ref()))
        });
        pools
    }

    /// Whether members of that namespace are given away.
    fn is_own(&self, namespace: &str) -> bool {
        self.context.desk.scope.namespace.as_deref() == Some(namespace)
    }

    fn plan(&self, namespace: &str, name: &str, found: &Found) -> Plan {
        let context = &self.context;
        let own = self.is_own(namespace);
        let tier = context.stores.tiers.get(&ObjectRef::new(name)).filter(|_| own);
        let terms = tier.as_ref().and_then(|tier| build::member_terms(&tier.spec));
        let wanted = tier.as_ref().zip(terms.as_ref()).map(|(tier, (mode, terms))| Wanted {
            size: size(tier),
            tier,
            mode: *mode,
            terms,
        });
        let limit = tier.as_ref().and_then(|tier| usize::try_from(tier.spec.max_concurrent_starts?).ok());
        let fresh: HashSet<u32> = self
            .made
            .keys()
            .filter(|(made_in, of, _)| made_in == namespace && of == name)
            .map(|(_, _, number)| *number)
            .collect();
        let takes = |workspace: &str, member: &str| {
            let workspace = context.stores.workspaces.get(&ObjectRef::new(workspace).within(namespace));
            workspace.is_some_and(|workspace| {
                let claim = workspace.status.as_ref().and_then(|status| status.claim_name.clone());
                claim.is_none_or(|claim| claim == member)
            })
        };
        let settings = context.settings.get();
        plan(&Observed {
            namespace,
            tier: name,
            operator: context.desk.scope.operator.as_deref(),
            wanted,
            settings: &settings,
            pods: &found.pods,
            claims: &found.claims,
            fresh: &fresh,
            room: context.line.room(name, limit),
            takes: &takes,
        })
    }

    async fn tend(&mut self, namespace: &str, name: &str, found: &Found) -> Result<(), ExecuteError> {
        let context = self.context.clone();
        let plan = self.plan(namespace, name, found);
        if self.is_own(namespace) {
            context.metrics.pool(name, plan.wanted, plan.ready.len(), plan.coming);
            let ready = plan.ready.len();
            context.desk.set_ready(name, plan.ready);
            context.call_up_for_members(name, ready);
        }
        let pool = (namespace.to_owned(), name.to_owned());
        if self.resting.get(&pool).is_some_and(|(_, until)| *until > Instant::now()) {
            return Ok(());
        }
        let busy = !plan.actions.is_empty();
        for action in plan.actions {
            self.perform(namespace, name, action).await?;
        }
        if busy {
            self.resting.remove(&pool);
        }
        Ok(())
    }

    async fn perform(&mut self, namespace: &str, tier: &str, action: Action) -> Result<(), ExecuteError> {
        match action {
            Action::Create { number, claim, pod } => {
                // What has the name already is a member that was not seen yet, or somebody's volume: no pod for it.
                if self.create(namespace, claim.as_ref()).await? {
                    self.made.insert((namespace.to_owned(), tier.to_owned(), number), Instant::now());
                    self.create(namespace, pod.as_ref()).await?;
                }
            }
            Action::Delete { claim, pod } => {
                if let Some(claim) = claim
                    && !self.delete::<PersistentVolumeClaim>(namespace, &claim).await?
                {
                    return Ok(());
                }
                if let Some(pod) = pod {
                    self.delete::<Pod>(namespace, &pod).await?;
                }
            }
        }
        Ok(())
    }

    /// Whether it was made: false if something has its name.
    async fn create<K>(&self, namespace: &str, object: &K) -> Result<bool, ExecuteError>
    where
        K: Member,
    {
        let api: Api<K> = Api::namespaced(self.context.client.clone(), namespace);
        let params =
            PostParams { field_manager: Some(keys::FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let name = format!("{namespace}/{}", object.name_any());
        match self.context.call("create", K::KIND, name, api.create(&params, object)).await {
            Err(error) if error.is_conflict() => Ok(false),
            other => other.map(|_| true),
        }
    }

    /// Deletes the object as it was observed. Tells whether it is gone, or goes: false if it has changed.
    async fn delete<K>(&self, namespace: &str, target: &Target) -> Result<bool, ExecuteError>
    where
        K: Member,
    {
        let api: Api<K> = Api::namespaced(self.context.client.clone(), namespace);
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(target.uid.clone()),
                resource_version: Some(target.version.clone()),
            }),
            ..DeleteParams::default()
        };
        let name = format!("{namespace}/{}", target.name);
        match self.context.call("delete", K::KIND, name, api.delete(&target.name, &params)).await {
            Err(error) if error.code() == Some(404) => Ok(true),
            Err(error) if error.is_conflict() => Ok(false),
            other => other.map(|_| true),
        }
    }
}

/// What a member consists of.
trait Member:
    Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
    + Clone
    + Serialize
    + DeserializeOwned
    + std::fmt::Debug
{
    const KIND: &'static str;
}

impl Member for Pod {
    const KIND: &'static str = "Pod";
}

impl Member for PersistentVolumeClaim {
    const KIND: &'static str = "PersistentVolumeClaim";
}

/// Namespace and tier of the pool that the object has a name of.
fn pool_of<K: Resource>(object: &K) -> Option<(String, String)> {
    let (tier, _) = keys::member_of(object.meta().name.as_deref()?)?;
    Some((object.namespace()?, tier.to_owned()))
}

/// How many members the tier asks for. A tier that no workspace can name has no pool.
fn size(tier: &WorkspaceTier) -> usize {
    let name = tier.name_any();
    let usable =
        name.len() <= LONGEST_NAME && !name.contains('.') && tier.metadata.deletion_timestamp.is_none();
    let size = tier.spec.warm_pool.as_ref().filter(|_| usable).map_or(0, |pool| pool.size);
    usize::try_from(size).unwrap_or(0)
}
