//! The running sidecar: its parts put together, its two ports, and its end at SIGTERM.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::agent::Agent;
use crate::announce::Announcer;
use crate::auth::{IdentityKeys, KeysFileError, Users};
use crate::config::Config;
use crate::drain::Drain;
use crate::gate::Gate;
use crate::legacy::Legacy;
use crate::mark::Mark;
use crate::metrics::Metrics;
use crate::tenancy::{AssignError, Tenancy};
use crate::{control, proxy};

/// How long connections may take to close once everything has ended.
const CLOSE_TIME: Duration = Duration::from_secs(1);

/// What the handlers of both ports share.
pub(crate) struct App {
    pub(crate) hold_timeout: Duration,
    pub(crate) input_timeout: Duration,
    pub(crate) legacy: Legacy,
    pub(crate) keys: Arc<IdentityKeys>,
    pub(crate) tenancy: Tenancy,
    pub(crate) announcer: Arc<Announcer>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) agent: Arc<Agent>,
    pub(crate) drain: Arc<Drain>,
    pub(crate) metrics: Arc<Metrics>,
}

/// Why the sidecar can't run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The identity keys can't be used.
    #[error("{error}: {source}", error = .0, source = source_of(.0))]
    Keys(#[source] KeysFileError),
    /// The workspace can't be served.
    #[error("the workspace can't be served: {0}")]
    Workspace(#[from] AssignError),
    /// An address is not free or not there.
    #[error("failed to listen on {addr}: {source}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// Signals can't be received.
    #[error("failed to watch for signals: {0}")]
    Signal(#[source] io::Error),
}

impl ServerError {
    /// Whether another configuration would help.
    pub const fn is_configuration(&self) -> bool {
        matches!(self, Self::Keys(_))
    }
}

/// A sidecar that serves.
pub struct Server {
    app: Arc<App>,
    mcp_addr: SocketAddr,
    control_addr: SocketAddr,
    close: CancellationToken,
    serving: JoinSet<io::Result<()>>,
    /// Ends the watches when it is dropped.
    _watches: JoinSet<()>,
}

impl Server {
    /// Puts the parts together and begins to serve.
    pub async fn start(config: Config) -> Result<Self, ServerError> {
        let (mcp_addr, control_addr) = (config.mcp_addr, config.control_addr);
        let app = app(config).await?;
        let (mcp, control) = (listen(mcp_addr).await?, listen(control_addr).await?);
        let close = CancellationToken::new();
        let mut serving = JoinSet::new();
        serving.spawn(serve(mcp.0, proxy::router(Arc::clone(&app)), close.clone()));
        serving.spawn(serve(control.0, control::router(Arc::clone(&app)), close.clone()));
        let mut watches = JoinSet::new();
        let (agent, keys) = (Arc::clone(&app.agent), Arc::clone(&app.keys));
        watches.spawn(async move { agent.watch().await });
        watches.spawn(async move { keys.watch().await });
        let of = Arc::clone(&app);
        watches.spawn(async move { of.tenancy.watch().await });
        let of = Arc::clone(&app);
        watches.spawn(async move {
            if let Some(Users::Direct(mode)) = of.tenancy.tenant().map(|tenant| &tenant.users) {
                mode.keep_fresh().await;
            }
        });
        Ok(Self { app, mcp_addr: mcp.1, control_addr: control.1, close, serving, _watches: watches })
    }

    /// Address of the MCP port.
    pub const fn mcp_addr(&self) -> SocketAddr {
        self.mcp_addr
    }

    /// Address of the control port.
    pub const fn control_addr(&self) -> SocketAddr {
        self.control_addr
    }

    /// Drains, saves if the agent is still there, and closes both ports.
    pub async fn stop(mut self) {
        self.app.drain.end().await;
        self.app.gate.cut_streams();
        self.close.cancel();
        let closed = async { while self.serving.join_next().await.is_some() {} };
        if timeout(CLOSE_TIME, closed).await.is_err() {
            tracing::warn!("some connections were still open at the end");
        }
    }
}

/// Serves until SIGTERM or SIGINT, then stops in good order.
pub async fn run(config: Config) -> Result<(), ServerError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(ServerError::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServerError::Signal)?;
    let server = Server::start(config).await?;
    let workspace = server.app.tenancy.tenant().map(|tenant| &tenant.workspace);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        workspace = workspace.map(|workspace| &workspace.workspace),
        namespace = workspace.map(|workspace| &workspace.namespace),
        auth_mode = workspace.map(|workspace| format!("{:?}", workspace.auth_mode)),
        access = workspace.map(|workspace| format!("{:?}", workspace.access)),
        mcp = %server.mcp_addr(),
        control = %server.control_addr(),
        "serving"
    );
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: draining"),
        _ = interrupt.recv() => tracing::info!("SIGINT: draining"),
    }
    server.stop().await;
    tracing::info!("stopped");
    Ok(())
}

/// Begins to log, one JSON object a line.
pub fn start_log(config: &Config) {
    let lines = tracing_subscriber::fmt::layer().json().flatten_event(true);
    tracing_subscriber::registry().with(config.log.clone()).with(lines).init();
}

async fn app(config: Config) -> Result<Arc<App>, ServerError> {
    let keys = Arc::new(IdentityKeys::read(config.identity_keys_file.clone()).map_err(ServerError::Keys)?);
    let (gate, metrics) = (Gate::new(), Arc::new(Metrics::new()));
    let tenancy = Tenancy::new(&config, Arc::clone(&keys), Arc::clone(&gate)).await?;
    tenancy.read_assignment();
    let mark = Mark::beside(&config.agent_socket);
    let agent = Arc::new(Agent::new(config.agent_socket));
    let drain = Arc::new(Drain::new(
        Arc::clone(&gate),
        Arc::clone(&agent),
        Arc::clone(&metrics),
        config.drain_timeout,
        mark,
    ));
    Ok(Arc::new(App {
        hold_timeout: config.hold_timeout,
        input_timeout: config.input_timeout,
        legacy: Legacy::new(),
        keys,
        tenancy,
        announcer: Arc::default(),
        gate,
        agent,
        drain,
        metrics,
    }))
}

async fn listen(addr: SocketAddr) -> Result<(TcpListener, SocketAddr), ServerError> {
    let fail = |source| ServerError::Listen { addr, source };
    let listener = TcpListener::bind(addr).await.map_err(fail)?;
    let bound = listener.local_addr().map_err(fail)?;
    Ok((listener, bound))
}

async fn serve(listener: TcpListener, router: Router, close: CancellationToken) -> io::Result<()> {
    let listener = listener.tap_io(|stream| {
        // Small events must not wait for one another.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "failed to set TCP_NODELAY");
        }
    });
    axum::serve(listener, router).with_graceful_shutdown(async move { close.cancelled().await }).await
}

fn source_of(error: &KeysFileError) -> String {
    std::error::Error::source(error).map(ToString::to_string).unwrap_or_default()
}
