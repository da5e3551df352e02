//! The operator of Dexorder Workspaces: makes pods and claims of `UserWorkspace` resources, drains and deletes them.
//!
//! Observe, plan, apply, report: [`plan`] decides from what was observed and touches nothing, [`reconcile`] does what
//! it says.

pub mod app;
pub mod build;
mod calls;
mod children;
pub mod cli;
pub mod clock;
pub mod context;
pub mod controller;
pub mod ending;
pub mod execute;
pub mod identity;
mod keyring;
pub mod lease;
pub mod line;
pub mod metrics;
pub mod plan;
pub mod pool;
pub mod reconcile;
pub mod server;
pub mod sidecar;
mod skew;
mod take;
#[cfg(test)]
mod tests;
mod turns;
pub mod watch;
