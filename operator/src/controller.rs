//! The controller: which changes lead to a look at which workspace. [client]

use std::{sync::Arc, time::Duration};

use dexorder_crds::{UserWorkspace, WorkspaceTier, keys};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::NamespaceResourceScope,
    runtime::{
        Controller, controller,
        events::{Recorder, Reporter},
        reflector::{ObjectRef, store::WriterDropped},
        watcher,
    },
};

use crate::{
    build::Settings,
    clock::Clock,
    context::{Context, Notebook, Shared, Stores},
    ending::Ending,
    line::Line,
    metrics::Metrics,
    pool::{Desk, Keeper, Scope},
    reconcile::{after_error, reconcile},
    sidecar::Sidecars,
    watch::{of_operator, of_workspaces, trim, trim_claim, trim_pod, watch},
};

/// How many workspaces are looked at at once.
const CONCURRENCY: u16 = 64;
/// Changes that come within this time lead to one look.
const DEBOUNCE: Duration = Duration::from_millis(5);
/// How many whose turn has come may wait to be looked at. Whoever finds no room looks by itself within a minute.
const MOST_TURNS: usize = 1024;
/// How often what is remembered of deleted workspaces is thrown away.
const TIDY: Duration = Duration::from_mins(5);
/// How often deleted workspaces are taken out of the line of starts.
const TIDY_LINE: Duration = Duration::from_secs(5);

/// What a controller needs besides a client.
pub struct Parts {
    /// For the sidecars' control API.
    pub sidecars: Sidecars,
    /// For Prometheus.
    pub metrics: Arc<Metrics>,
    /// What every pod is built with.
    pub settings: Settings,
    /// Name of this replica, for events.
    pub instance: String,
    /// Namespace of the operator's own Secrets.
    pub system_namespace: String,
    /// The only namespace whose workspaces are served, if not all are.
    pub namespace: Option<String>,
    /// Serves the workspaces that are labelled with this, or those without a label.
    pub operator_name: Option<String>,
    /// Which members of the warm pools it keeps.
    pub pool: Scope,
    /// Most starts at once.
    pub most_starts: usize,
    /// When the process ends, in a test.
    pub ending: Ending,
}

/// Runs until `stop` is done, then lets the running looks end.
pub async fn run(
    client: Client,
    parts: Parts,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) -> Result<(), WriterDropped> {
    let namespace = parts.namespace.as_deref();
    let workspaces =
        watch(api::<UserWorkspace>(&client, namespace), of_operator(parts.operator_name.as_deref()), trim);
    let tiers = watch(Api::<WorkspaceTier>::all(client.clone()), watcher::Config::default(), trim);
    let pods = watch(api::<Pod>(&client, namespace), of_workspaces(), trim_pod);
    let claims = watch(api::<PersistentVolumeClaim>(&client, namespace), of_workspaces(), trim_claim);
    let (turns, mut turn_has_come) = tokio::sync::mpsc::channel(MOST_TURNS);
    let turn_has_come = futures::stream::poll_fn(move |context| turn_has_come.poll_recv(context));

    let reporter = Reporter { controller: keys::MANAGED_BY.to_owned(), instance: Some(parts.instance) };
    let context = Arc::new(Context {
        recorder: Recorder::new(client.clone(), reporter),
        client,
        sidecars: parts.sidecars,
        metrics: parts.metrics,
        settings: Shared::new(parts.settings),
        stores: Stores {
            workspaces: workspaces.store.clone(),
            tiers: tiers.store,
            pods: pods.store,
            claims: claims.store,
        },
        notebook: Notebook::default(),
        desk: Desk::new(parts.pool),
        line: Line::new(parts.most_starts),
        clock: Clock::default(),
        ending: parts.ending,
        turns,
    });

    let of_tier = workspaces.store.clone();
    let (of_pods, of_claims, of_tiers) = (context.clone(), context.clone(), context.clone());
    let seeded = Arc::new(std::sync::Once::new());
    let (in_step, wait_in_step) = tokio::sync::watch::channel(false);
    let wait_for_lists = wait_in_step.clone();
    let run = Controller::for_stream(workspaces.changes, workspaces.store)
        .watches_stream(pods.changes, move |pod: Pod| {
            of_pods.wake_keeper(&pod);
            of_pods.workspace_of_pod(&pod)
        })
        .watches_stream(claims.changes, move |claim: PersistentVolumeClaim| {
            of_claims.wake_keeper(&claim);
            workspace_of(&claim)
        })
        .watches_stream(tiers.changes, move |tier: WorkspaceTier| {
            of_tiers.desk.wake.notify_one();
            let name = tier.name_any();
            let those = of_tier.state_filter(|workspace| workspace.spec.tier == name);
            those.into_iter().map(|workspace| ObjectRef::from_obj(workspace.as_ref())).collect::<Vec<_>>()
        })
        .reconcile_on(turn_has_come)
        .with_config(controller::Config::default().concurrency(CONCURRENCY).debounce(DEBOUNCE))
        .graceful_shutdown_on(stop)
        .run(
            move |workspace, context: Arc<Context>| {
                let (mut in_step, seeded) = (wait_in_step.clone(), seeded.clone());
                async move {
                    // A plan that was made before the first lists arrived would take every pod for absent.
                    if in_step.wait_for(|in_step| *in_step).await.is_err() {
                        return Ok(controller::Action::await_change());
                    }
                    // By now the store of workspaces is filled too: no look comes before.
                    seeded.call_once(|| context.seed_line());
                    reconcile(workspace, context).await
                }
            },
            after_error,
            context.clone(),
        )
        .for_each(|result| async {
            if let Err(error) = result {
                tracing::debug!(%error, "a look did not come about");
            }
        });
    let announce = async {
        wait_for_children(&context.stores).await?;
        Keeper::new(context.clone()).survey();
        in_step.send_replace(true);
        tracing::info!(pods = context.stores.pods.len(), "all watches are in step");
        Ok::<(), WriterDropped>(())
    };
    let keep_pools = async {
        // A look before the first lists would make what is there already.
        let mut in_step = wait_for_lists;
        if in_step.wait_for(|in_step| *in_step).await.is_ok() {
            Keeper::new(context.clone()).keep().await;
        }
    };
    tokio::select! {
        () = run => Ok(()),
        () = keep_pools => Ok(()),
        () = context.follow_keys(&parts.system_namespace) => Ok(()),
        result = async { tokio::try_join!(announce, tidy(&context), tidy_line(&context)) } => result.map(|_| ()),
    }
}

/// A store wakes only the last one that waits for it, so each is waited for in one place: the workspaces in the
/// controller itself, the others here.
async fn wait_for_children(stores: &Stores) -> Result<(), WriterDropped> {
    stores.tiers.wait_until_ready().await?;
    stores.pods.wait_until_ready().await?;
    stores.claims.wait_until_ready().await
}

async fn tidy(context: &Context) -> Result<(), WriterDropped> {
    loop {
        tokio::time::sleep(TIDY).await;
        let present: std::collections::HashSet<String> =
            context.stores.workspaces.state().iter().filter_map(|workspace| workspace.uid()).collect();
        context.notebook.retain(|uid| present.contains(uid));
        context.sidecars.retain(|uid| present.contains(uid));
    }
}

async fn tidy_line(context: &Context) -> Result<(), WriterDropped> {
    loop {
        tokio::time::sleep(TIDY_LINE).await;
        context.tidy_line();
    }
}

/// Objects of one namespace, or of all.
fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

impl Context {
    /// A change of something that has the name of a member is the keeper's business, too.
    fn wake_keeper<K: Resource>(&self, object: &K) {
        if keys::member_of(&object.name_any()).is_some() {
            self.desk.wake.notify_one();
        }
    }

    /// The workspace that a pod belongs to, or whose claim it is on.
    fn workspace_of_pod(&self, pod: &Pod) -> Option<ObjectRef<UserWorkspace>> {
        if let Some(workspace) = workspace_of(pod) {
            return Some(workspace);
        }
        let claim = ObjectRef::new(&pod.name_any()).within(&pod.namespace()?);
        workspace_of(self.stores.claims.get(&claim)?.as_ref())
    }
}

/// The workspace that a pod or a claim belongs to, told by its label.
fn workspace_of<K: Resource>(object: &K) -> Option<ObjectRef<UserWorkspace>> {
    let name = object.labels().get(keys::WORKSPACE_LABEL)?;
    Some(ObjectRef::new(name).within(&object.namespace()?))
}
