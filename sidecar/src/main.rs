//! Entry point: reads the environment, then serves until it is told to stop.

use std::process::ExitCode;

use dexorder_sidecar::{config::Config, server};

/// The environment can't be used (`EX_USAGE` of sysexits).
const BAD_CONFIGURATION: u8 = 64;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let config = match Config::from_env() {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    server::start_log(&config);
    match server::run(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the sidecar can't run");
            ExitCode::from(if error.is_configuration() { BAD_CONFIGURATION } else { 1 })
        }
    }
}
