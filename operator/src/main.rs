//! Entry point of the operator.

use std::process::ExitCode;

use clap::Parser;
use dexorder_operator::{app, cli::Cli};
use tracing_subscriber::EnvFilter;

/// Exit code of a wrong command line or environment (`EX_USAGE`).
const USAGE: u8 = 64;

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = match EnvFilter::try_new(&cli.log) {
        Ok(filter) => filter,
        Err(error) => {
            eprintln!("--log {:?} is no log filter: {error}", cli.log);
            return ExitCode::from(USAGE);
        }
    };
    tracing_subscriber::fmt().json().flatten_event(true).with_env_filter(filter).init();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "dexorder-operator");
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        tracing::warn!("another crypto provider was installed before");
    }
    match Box::pin(app::run(cli)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the operator ends");
            ExitCode::FAILURE
        }
    }
}
