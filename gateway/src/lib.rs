//! The gateway of Dexorder Workspaces: authenticates users, wakes their workspaces, passes MCP on,
//! and holds conversations in which a language model uses the workspace's tools.
//!
//! It reads workspaces from a watch and writes nothing but the `UserWorkspace`: it creates one, and touches it.

mod app;
mod auth;
mod chat;
mod clock;
pub mod config;
mod identity;
mod limits;
mod management;
mod mcp;
mod metadata;
mod metrics;
#[cfg(test)]
#[path = "../../protocol/src/mutation.rs"]
mod mutation;
mod refusal;
pub mod run;
mod seal;
pub mod server;
pub mod telemetry;
mod tls;
mod visitors;
mod wake;
mod workspaces;

pub use auth::{Entry, NewKey, NewKeyError};
pub use chat::WebError;
pub use dexorder_oidc::FetchError;
pub use identity::SignerError;
pub use limits::{Range, RangeError};
pub use tls::TlsError;
