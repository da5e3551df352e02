//! The gateway's parts, put together, and the routes that clients see.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{any, get};
use dexorder_protocol::MCP_PATH;
use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::auth::Authenticator;
use crate::chat::{self, Chat};
use crate::config::Config;
use crate::identity::Signer;
use crate::limits::Limits;
use crate::mcp::{self, Upstream};
use crate::metadata;
use crate::metrics::Metrics;
use crate::refusal::Refusal;
use crate::server::StartError;
use crate::visitors::{self, Visitors};
use crate::wake::Connector;
use crate::workspaces::Workspaces;

/// Everything that requests need.
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) auth: Authenticator,
    pub(crate) signer: Signer,
    pub(crate) limits: Arc<Limits>,
    /// None: there are to be no visitors.
    pub(crate) visitors: Option<Visitors>,
    pub(crate) workspaces: Arc<Workspaces>,
    pub(crate) connector: Connector,
    pub(crate) upstream: Upstream,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) chat: Chat,
    pub(crate) metadata_url: String,
    /// Cancelled when the gateway begins to shut down.
    pub(crate) shutdown: CancellationToken,
    run: u32,
    requests: AtomicU64,
}

impl App {
    pub(crate) async fn new(
        mut config: Config,
        client: Client,
        shutdown: CancellationToken,
    ) -> Result<Self, StartError> {
        // Browsers name it on calls of a page to its own host too.
        config.allowed_origins.insert(config.public_url.to_ascii_lowercase());
        let metrics = Arc::new(Metrics::new());
        let workspaces = Arc::new(Workspaces::new(
            client,
            &config.workspace_namespace,
            config.defaults.clone(),
            config.visitors.clone(),
        ));
        let limits = Arc::new(Limits::new(&config.limits));
        let visit = config.visitors.as_ref().map(|visitors| visitors.lifetime).unwrap_or_default();
        Ok(Self {
            auth: Authenticator::new(&config.issuers, config.api_keys_folder.clone()).await?,
            signer: Signer::new(config.signing_key_file.clone()).await?,
            connector: Connector::new(Arc::clone(&workspaces), Arc::clone(&limits), Arc::clone(&metrics)),
            upstream: Upstream::new(),
            chat: Chat::new(&config.chat, visit, metrics.chat())?,
            metadata_url: metadata::url(&config),
            visitors: config.visitors.as_ref().map(|visitors| Visitors::new(visitors, &config.public_url)),
            limits,
            workspaces,
            metrics,
            shutdown,
            config,
            run: run_number(),
            requests: AtomicU64::new(0),
        })
    }

    /// Names a request in the log and towards the client.
    pub(crate) fn next_request_id(&self) -> String {
        format!("{:08x}-{:x}", self.run, self.requests.fetch_add(1, Ordering::Relaxed))
    }

    /// What runs beside the requests, for ever: the watch of the workspaces, and keys that change.
    pub(crate) async fn background(&self) {
        tokio::join!(self.workspaces.follow(), self.auth.keep_keys_fresh(), self.signer.follow());
    }
}

/// Tells the request numbers of one run from those of another.
fn run_number() -> u32 {
    let number = RandomState::new().build_hasher().finish();
    u32::try_from(number >> 32).unwrap_or_default()
}

/// The routes that clients see.
pub(crate) fn router(app: Arc<App>) -> Router {
    let metadata = get(metadata::serve);
    let direct = |path: &str| format!("/workspaces/{{name}}{path}");
    let mut router = Router::new()
        .route(MCP_PATH, any(mcp::serve))
        .route(&direct(MCP_PATH), any(mcp::serve_named))
        .route(&direct("/direct/key"), any(mcp::serve_direct_key))
        .route(&direct("/direct/session"), any(mcp::serve_direct_session))
        .route(metadata::PATH, metadata.clone())
        .route(&format!("{}{MCP_PATH}", metadata::PATH), metadata)
        .route(&format!("{}{}", metadata::PATH, direct(MCP_PATH)), get(metadata::serve_named))
        .route("/healthz", get(|| async { "ok\n" }))
        .merge(chat::routes(&app));
    if app.visitors.is_some() {
        router = router
            .route(&format!("{}{MCP_PATH}", visitors::PATH), any(mcp::serve_visitor))
            .route(&format!("{}/visitors", visitors::PATH), any(mcp::serve_new_visitor));
    }
    router.fallback(not_found).with_state(app)
}

async fn not_found(State(app): State<Arc<App>>) -> Response {
    Refusal::NotFound.response(None, &app.metadata_url)
}
