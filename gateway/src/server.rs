//! Starts the gateway, serves its two ports, and stops it without cutting off what runs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use dexorder_oidc::FetchError;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use kube::Client;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower::util::MapRequest;

use crate::app::{self, App};
use crate::chat::WebError;
use crate::config::Config;
use crate::identity::SignerError;
use crate::limits::Peer;
use crate::management;
use crate::tls::{Tls, TlsError};

/// A client that sends no complete request head within this time is left. Longer than load balancers keep unused
/// connections, so that it's not the gateway that closes one just when it is used again.
const HEAD_TIMEOUT: Duration = Duration::from_mins(2);
/// Of a head that is not whole, nothing more is read when so much is there. With the read that comes to it, a connection
/// costs less than twice as much memory before its head is whole.
const MOST_HEAD: usize = 64 * 1024;
/// Pause after a failed accept: most often too many files are open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why the gateway can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The keys of an issuer can't be used.
    #[error(transparent)]
    Keys(#[from] FetchError),
    /// The signing key can't be used.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// The chat's model or a server of its tools can't be used.
    #[error(transparent)]
    Web(#[from] WebError),
    /// TLS can't be spoken.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A port can't be opened.
    #[error("can't listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
}

/// A gateway that runs.
pub struct Running {
    /// Where clients are served.
    pub address: SocketAddr,
    /// Where metrics and probes are served.
    pub management_address: SocketAddr,
    shutdown: CancellationToken,
    served: JoinHandle<()>,
    managed: JoinHandle<()>,
    background: JoinHandle<()>,
    turns: JoinHandle<()>,
}

impl Running {
    /// Stops accepting, lets running requests end within the configured time, and returns.
    pub async fn stop(self) {
        let Self { address: _, management_address: _, shutdown, served, managed, background, turns } = self;
        shutdown.cancel();
        if served.await.is_err() {
            tracing::error!("the server of the clients' port ended badly");
        }
        // A turn whose client has left is still being saved.
        if turns.await.is_err() {
            tracing::error!("the end of the chat's turns was not seen");
        }
        // Metrics stay readable until the last request has ended.
        managed.abort();
        background.abort();
    }
}

/// Opens the ports and begins to serve.
pub async fn start(config: Config, client: Client) -> Result<Running, StartError> {
    let shutdown = CancellationToken::new();
    let (listen, management_listen) = (config.listen, config.management_listen);
    let grace = config.shutdown_timeout;
    let tls = match config.tls_folder.clone() {
        Some(folder) => Some(Tls::new(folder).await?),
        None => None,
    };
    let app = Arc::new(App::new(config, client, shutdown.clone()).await?);
    let (listener, address) = open(listen).await?;
    let (management, management_address) = open(management_listen).await?;
    tracing::info!(%address, %management_address, "serving");
    let background = tokio::spawn({
        let (app, tls) = (Arc::clone(&app), tls.clone());
        async move {
            let follow_certificate = async {
                if let Some(tls) = &tls {
                    tls.follow().await;
                }
            };
            tokio::join!(app.background(), follow_certificate);
        }
    });
    let managed = tokio::spawn(serve(
        management,
        management::router(Arc::clone(&app)),
        None,
        CancellationToken::new(),
        grace,
    ));
    let turns = tokio::spawn({
        let (app, shutdown) = (Arc::clone(&app), shutdown.clone());
        async move {
            shutdown.cancelled().await;
            app.chat.stop(grace).await;
        }
    });
    let served = tokio::spawn(serve(listener, app::router(app), tls, shutdown.clone(), grace));
    Ok(Running { address, management_address, shutdown, served, managed, background, turns })
}

async fn open(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// Serves until the token is cancelled and what ran then has ended, or the grace is over.
async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<Tls>,
    stop: CancellationToken,
    grace: Duration,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MOST_HEAD);
    let connections = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok((stream, address)) => (stream, Peer(address.ip())),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if stream.set_nodelay(true).is_err() {
            // The client has left already.
            continue;
        }
        let (http, router, tls) = (http.clone(), router.clone(), tls.clone());
        // It counts as open before the handshake, so that a shutdown waits for what it brings.
        let watcher = connections.watcher();
        tokio::spawn(async move {
            let Some(tls) = tls else {
                return hold(&http, stream, router, peer, watcher).await;
            };
            match tls.accept(stream).await {
                Ok(stream) => hold(&http, stream, router, peer, watcher).await,
                Err(error) => tracing::debug!(%error, "a client spoke no TLS that can be understood"),
            }
        });
    }
    drop(listener);
    let running = connections.count();
    if tokio::time::timeout(grace, connections.shutdown()).await.is_err() {
        tracing::warn!(running, "requests were cut off at the end of the shutdown");
    }
}

/// Serves one connection to its end.
async fn hold(
    http: &http1::Builder,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    router: Router,
    peer: Peer,
    watcher: Watcher,
) {
    let service = TowerToHyperService::new(MapRequest::new(router, move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        request
    }));
    if let Err(error) = watcher.watch(http.serve_connection(TokioIo::new(stream), service)).await {
        tracing::debug!(%error, "a connection ended early");
    }
}
