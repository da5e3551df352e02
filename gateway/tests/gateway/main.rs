//! The whole gateway on loopback: real HTTP on both sides, signed tokens and identities, and an API server that keeps
//! workspaces as Kubernetes does (list, watch, create, merge patch). The tests play the operator.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

mod api_keys;
mod forwarding;
mod lifecycle;
mod limits;
mod names;
mod refusals;
mod rotation;
mod sessions;
mod support;
mod tls;
mod visitors;
mod waking;
mod wire;
