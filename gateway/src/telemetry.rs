//! The log: JSON lines on standard output, filtered by `RUST_LOG`.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// Starts the log. Its first line says what runs.
pub fn start(filter: &str) -> Result<(), ParseError> {
    let filter = EnvFilter::try_new(filter)?;
    tracing_subscriber::fmt().json().flatten_event(true).with_env_filter(filter).init();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        architecture = std::env::consts::ARCH,
        debug = cfg!(debug_assertions),
        "dexorder-gateway"
    );
    Ok(())
}
