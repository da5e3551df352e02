//! The whole gateway on loopback: real HTTP on both sides, signed tokens and identities, and an API server that keeps
//! workspaces as Kubernetes does (list, watch, create, merge patch). The tests play the operator.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

mod forwarding;
mod lifecycle;
mod refusals;
mod sessions;
mod support;
mod waking;
