//! From the command line to a gateway that serves until it is told to stop.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use jiff::Timestamp;
use kube::Client;
use tokio::signal::unix::{SignalKind, signal};

use crate::auth::{NewKey, NewKeyError};
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
    /// What to do; without one the gateway serves.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What can be done besides serving.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Makes an API key and prints it, with the entry for the Secret `dexorder-api-keys`, as JSON.
    NewApiKey {
        /// The user that it stands for.
        #[arg(long)]
        user: String,
        /// After how many days it ends; left out: never.
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..=3660))]
        days: Option<u16>,
    },
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
    /// An API key can't be made.
    #[error("no API key was made: {0}")]
    NewKey(#[from] NewKeyError),
    /// An API key can't be printed.
    #[error("the API key can't be printed: {0}")]
    Print(#[from] serde_json::Error),
}

impl RunError {
    /// The exit code of the program.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_)
            | Self::Log(_)
            | Self::NewKey(NewKeyError::User(_))
            | Self::Start(
                StartError::Keys(_) | StartError::Signer(_) | StartError::Web(_) | StartError::Tls(_),
            ) => BAD_CONFIGURATION,
            Self::Start(StartError::Listen { .. })
            | Self::Cluster(_)
            | Self::Signals(_)
            | Self::NewKey(NewKeyError::Random)
            | Self::Print(_) => 1,
        }
    }
}

/// Makes an API key and prints it.
fn new_api_key(user: &str, days: Option<u16>) -> Result<(), RunError> {
    let end = days.map(|days| Timestamp::now() + Duration::from_hours(24 * u64::from(days)));
    let key = NewKey::make(user, end)?;
    println!("{}", serde_json::to_string_pretty(&key)?);
    Ok(())
}

/// Serves until SIGTERM or SIGINT, or does what the command says.
pub async fn run(arguments: Arguments) -> Result<(), RunError> {
    if let Some(Command::NewApiKey { user, days }) = arguments.command {
        return new_api_key(&user, days);
    }
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
