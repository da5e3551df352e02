//! From the command line to a gateway that serves until it is told to stop.

use std::path::PathBuf;

use clap::Parser;
use kube::Client;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{Config, ConfigError};
use crate::server::{self, StartError};

/// The configuration can't be used (`EX_USAGE` of sysexits).
const BAD_CONFIGURATION: u8 = 64;

/// Gateway of Dexorder Workspaces.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Arguments {
    /// The configuration file.
    #[arg(long, env = "GATEWAY_CONFIG", default_value = "/etc/dexorder/gateway.yaml")]
    pub config: PathBuf,
    /// What is logged: a level, or levels by module.
    #[arg(long, env = "RUST_LOG", default_value = "info")]
    pub log: String,
}

/// Why the gateway ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration can't be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The log filter can't be used.
    #[error("RUST_LOG can't be used: {0}")]
    Log(#[from] tracing_subscriber::filter::ParseError),
    /// The gateway can't start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// No way to the cluster is configured.
    #[error("no way to a Kubernetes cluster: {0}")]
    Cluster(#[from] Box<kube::Error>),
    /// Signals can't be received.
    #[error("can't receive signals: {0}")]
    Signals(#[from] std::io::Error),
}

impl RunError {
    /// The exit code of the program.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_)
            | Self::Log(_)
            | Self::Start(StartError::Keys(_) | StartError::Signer(_) | StartError::Web(_)) => {
                BAD_CONFIGURATION
            }
            Self::Start(StartError::Listen { .. }) | Self::Cluster(_) | Self::Signals(_) => 1,
        }
    }
}

/// Serves until SIGTERM or SIGINT.
pub async fn run(arguments: Arguments) -> Result<(), RunError> {
    let config = Config::load(&arguments.config)?;
    crate::telemetry::start(&arguments.log)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let client = Client::try_default().await.map_err(Box::new)?;
    let gateway = server::start(config, client).await?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("shutting down");
    gateway.stop().await;
    Ok(())
}
