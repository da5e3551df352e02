//! An operator for the played cluster: the real context and the real looks, with stores that a test fills.

use std::{sync::Arc, time::Duration};

use dexorder_crds::{UserWorkspace, WorkspaceTier};
use dexorder_protocol::SigningKey;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::{
    Client,
    runtime::{
        controller::Action as Requeue,
        events::{Recorder, Reporter},
        reflector::{
            ObjectRef,
            store::{Writer, store},
        },
        watcher,
    },
};
use tokio::sync::mpsc::{Receiver, channel};
use tower::{service_fn, util::BoxCloneSyncService};

use super::cluster::Cluster;
use crate::{
    build::Settings,
    clock::Clock,
    context::{Context, Notebook, Shared, Stores},
    ending::Ending,
    line::Line,
    metrics::Metrics,
    pool::{Desk, Scope},
    reconcile::{after_error, reconcile},
    sidecar::Sidecars,
    watch::{trim_claim, trim_pod},
};

/// The most looks that a change may lead to before time passes.
const MOST_LOOKS: usize = 12;
/// After these times a look is asked for whose copy was out of date.
const AT_ONCE: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(50)];

/// An operator, and the hands that fill its stores.
pub(super) struct Operator {
    pub(super) context: Arc<Context>,
    pub(super) cluster: Cluster,
    pub(super) key: Arc<SigningKey>,
    workspaces: Writer<UserWorkspace>,
    pods: Writer<Pod>,
    claims: Writer<PersistentVolumeClaim>,
    /// Kept open: nobody needs to be called up.
    _turns: Turns,
}

/// Whom the line of starts calls up.
pub(super) type Turns = Receiver<ObjectRef<UserWorkspace>>;

/// What an operator knows at its start.
pub(super) fn context(
    client: Client,
    sidecars: Sidecars,
    settings: Settings,
    stores: Stores,
    clock: Clock,
) -> (Arc<Context>, Turns) {
    let (turns, turn_has_come) = channel(10);
    let reporter = Reporter { controller: "test".to_owned(), instance: None };
    let context = Context {
        recorder: Recorder::new(client.clone(), reporter),
        client,
        sidecars,
        metrics: Arc::new(Metrics::default()),
        settings: Shared::new(settings),
        stores,
        notebook: Notebook::default(),
        desk: Desk::new(Scope { namespace: Some("dexorder".to_owned()), operator: None }),
        line: Line::new(10),
        clock,
        ending: Ending::default(),
        turns,
    };
    (Arc::new(context), turn_has_come)
}

impl Operator {
    pub(super) fn new(cluster: Cluster, clock: Clock, tier: &WorkspaceTier, key: &Arc<SigningKey>) -> Self {
        let server = cluster.clone();
        let client = Client::new(service_fn(move |request| server.clone().serve(request)), "dexorder");
        let sidecar = cluster.clone();
        let transport = BoxCloneSyncService::new(service_fn(move |request| sidecar.clone().answer(request)));
        let (tiers, mut tier_writer) = store();
        tier_writer.apply_watcher_event(&watcher::Event::Apply(tier.clone()));
        let (workspace_store, workspaces) = store();
        let (pod_store, pods) = store();
        let (claim_store, claims) = store();
        let stores = Stores { workspaces: workspace_store, tiers, pods: pod_store, claims: claim_store };
        let settings = Settings { identity_keys: "keys-1".to_owned(), ..Settings::default() };
        let sidecars = Sidecars::over(transport, key.clone(), clock);
        let (context, turns) = context(client, sidecars, settings, stores, clock);
        Self { context, cluster, key: key.clone(), workspaces, pods, claims, _turns: turns }
    }

    /// The watches show what is.
    pub(super) fn sync(&mut self) {
        let world = self.cluster.world();
        show(&mut self.workspaces, world.workspace.clone());
        show(
            &mut self.pods,
            world.pod.clone().map(|mut pod| {
                trim_pod(&mut pod);
                pod
            }),
        );
        show(
            &mut self.claims,
            world.claim.clone().map(|mut claim| {
                trim_claim(&mut claim);
                claim
            }),
        );
    }

    /// Looks until nothing is left to do at once, or something failed. Watches that do not keep up show nothing new.
    pub(super) async fn look(&mut self, keeps_up: bool) {
        for _ in 0..MOST_LOOKS {
            if keeps_up {
                self.sync();
            }
            let Some(workspace) = self.context.stores.workspaces.state().into_iter().next() else {
                return;
            };
            let before = self.cluster.world().writes.len();
            match reconcile(workspace.clone(), self.context.clone()).await {
                Ok(requeue) => {
                    let wrote = self.cluster.world().writes.len() > before;
                    let soon = AT_ONCE.into_iter().any(|wait| requeue == Requeue::requeue(wait));
                    if !(wrote || soon) || !keeps_up {
                        return;
                    }
                }
                Err(error) => {
                    let _ = after_error(workspace, &error, self.context.clone());
                    return;
                }
            }
        }
    }
}

fn show<K>(writer: &mut Writer<K>, object: Option<K>)
where
    K: kube::runtime::reflector::Lookup + Clone + 'static,
    K::DynamicType: std::hash::Hash + Eq + Clone,
{
    show_all(writer, object.into_iter().collect());
}

/// The watch shows these and nothing else.
pub(super) fn show_all<K>(writer: &mut Writer<K>, objects: Vec<K>)
where
    K: kube::runtime::reflector::Lookup + Clone + 'static,
    K::DynamicType: std::hash::Hash + Eq + Clone,
{
    writer.apply_watcher_event(&watcher::Event::Init);
    for object in objects {
        writer.apply_watcher_event(&watcher::Event::InitApply(object));
    }
    writer.apply_watcher_event(&watcher::Event::InitDone);
}
