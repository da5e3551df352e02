//! What the programs say to one another: signed identity, the sidecar's control API, header names, ports, and the
//! JSON-RPC form of an error. Neither operator, gateway nor sidecar depends on another; they depend on this.

pub mod control;
pub mod headers;
pub mod identity;
pub mod jsonrpc;
mod keys;

pub use keys::{Issuer, KeyError, KeySet, SigningKey, TrustedKeys};

/// Port of the sidecar where MCP is spoken.
pub const MCP_PORT: u16 = 8080;
/// Port of the sidecar for probes, metrics and the operator's control calls.
pub const CONTROL_PORT: u16 = 8081;
/// Path of the MCP endpoint, at the gateway, the sidecar and the agent alike.
pub const MCP_PATH: &str = "/mcp";
