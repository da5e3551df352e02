//! The chat on loopback: the whole gateway, a workspace that speaks MCP, and a model provider that says what the test
//! has written, in both wire formats.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

mod apis;
mod context;
mod conversation;
mod failures;
mod loops;
mod platform;
mod provider;
mod repeats;
mod server;
#[path = "../gateway/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the other tests of the gateway use the rest")]
mod support;
mod visitors;
mod workspace;
mod world;
