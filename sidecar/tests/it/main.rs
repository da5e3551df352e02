//! The running sidecar between a real HTTP client and a real HTTP server at the agent's socket.

// The lints' own exception for tests does not reach their fixtures.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod agent;
mod client;
mod sidecar;

mod announcing;
mod assigning;
mod direct;
mod draining;
mod identity;
mod legacy;
mod process;
mod proxying;
mod visitors;
