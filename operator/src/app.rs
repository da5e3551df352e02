//! From the command line to a running controller. [client]

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use kube::{Client, Config};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    build::Settings,
    cli::Cli,
    controller::{self, Parts},
    ending::Ending,
    identity::{self, IdentityKeysError},
    lease::{Election, LeaseError},
    metrics::Metrics,
    pool::Scope,
    server::{self, Health},
    sidecar::Sidecars,
};

/// Why the operator ended.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// Neither a kubeconfig nor the environment of a pod.
    #[error("failed to find the cluster: run in a pod with a service account, or set KUBECONFIG")]
    Config(#[from] kube::config::InferConfigError),
    /// The client could not be made.
    #[error("failed to make a client for the API server")]
    Client(#[source] Box<kube::Error>),
    /// The signing keys can't be had.
    #[error(transparent)]
    Identity(#[from] IdentityKeysError),
    /// The lease was lost.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// Probes and metrics can't be served.
    #[error("failed to serve probes and metrics at {address}")]
    Serve {
        /// Where.
        address: std::net::SocketAddr,
        /// What failed.
        #[source]
        source: std::io::Error,
    },
    /// A signal can't be waited for.
    #[error("failed to wait for signals")]
    Signal(#[source] std::io::Error),
    /// A watch ended.
    #[error("a watch ended for good")]
    Watch(#[from] kube::runtime::reflector::store::WriterDropped),
}

/// Runs until a signal ends it, or until it no longer leads.
pub async fn run(cli: Cli) -> Result<(), AppError> {
    let metrics = Arc::new(Metrics::default());
    let ready = Arc::new(AtomicBool::new(false));
    let health = Health { metrics: metrics.clone(), ready: ready.clone() };
    let address = cli.listen;
    let serve = async move {
        let served = server::serve(address, health).await;
        served.map_err(|source| AppError::Serve { address, source })
    };
    let mut terminate = signal(SignalKind::terminate()).map_err(AppError::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(AppError::Signal)?;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let lead = lead(cli, metrics, ready, stopped);
    tokio::pin!(lead);
    let ended = tokio::select! {
        result = &mut lead => return result,
        result = serve => return result,
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    tracing::info!(signal = ended, "ending: the running looks come to their end");
    let _ = stop.send(true);
    tokio::time::timeout(std::time::Duration::from_secs(20), lead).await.unwrap_or(Ok(()))
}

async fn lead(
    cli: Cli,
    metrics: Arc<Metrics>,
    ready: Arc<AtomicBool>,
    mut stopped: tokio::sync::watch::Receiver<bool>,
) -> Result<(), AppError> {
    let client =
        Client::try_from(Config::infer().await?).map_err(|error| AppError::Client(Box::new(error)))?;
    let keys = identity::ensure(&client, &cli.pod_namespace).await?;
    ready.store(true, Ordering::Release);
    let mut election = Election::new(client.clone(), &cli.pod_namespace, cli.pod_name.clone());
    let mut until = stopped.clone();
    tokio::select! {
        () = election.win() => {}
        _ = until.wait_for(|stop| *stop) => return Ok(()),
    }
    tracing::info!(identity = %cli.pod_name, "this replica leads");
    metrics.leads(true);
    let parts = Parts {
        sidecars: Sidecars::new(keys.operator),
        metrics: metrics.clone(),
        settings: Settings {
            sidecar_image: cli.sidecar_image,
            image_pull_policy: cli.image_pull_policy,
            identity_keys: keys.trusted,
            sidecar_log: cli.sidecar_log,
        },
        instance: cli.pod_name,
        system_namespace: cli.pod_namespace,
        pool: Scope { namespace: cli.pool_namespace, operator: cli.operator_name.clone() },
        operator_name: cli.operator_name,
        ending: Ending::after(cli.end_after_writes),
        namespace: cli.namespace,
        most_starts: cli.max_concurrent_starts,
    };
    let stop = async move {
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    let result = tokio::select! {
        result = controller::run(client, parts, stop) => result.map_err(AppError::from),
        lost = election.keep() => Err(AppError::from(lost)),
    };
    metrics.leads(false);
    election.release().await;
    result
}
