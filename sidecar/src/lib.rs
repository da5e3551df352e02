//! The sidecar of a workspace's agent: the only way in, and the keeper of the pod's life.
//!
//! It checks who calls, passes MCP on to the agent over a unix socket without buffering, knows what runs, and drains
//! and saves before the pod stops.

mod activity;
mod agent;
mod announce;
mod auth;
pub mod config;
mod control;
mod direct;
mod drain;
mod gate;
mod headers;
mod legacy;
mod mark;
mod metrics;
mod proxy;
mod rate;
mod refusal;
mod relay;
pub mod server;
mod tenancy;
