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
mod management;
mod mcp;
mod metadata;
mod metrics;
mod refusal;
pub mod run;
pub mod server;
pub mod telemetry;
mod wake;
mod workspaces;

pub use chat::WebError;
pub use dexorder_oidc::FetchError;
pub use identity::SignerError;
