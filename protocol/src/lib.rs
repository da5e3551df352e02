//! What the programs say to one another: signed identity, the sidecar's control API, names of MCP, header names, ports,
//! and the JSON-RPC form of an error. Neither operator, gateway nor sidecar depends on another; they depend on this.

pub mod control;
pub mod direct;
pub mod headers;
mod hex;
pub mod identity;
pub mod jsonrpc;
mod keys;
pub mod mcp;
#[cfg(test)]
mod mutation;

pub use hex::hex;
pub use keys::{Issuer, KeyError, KeySet, SigningKey, TrustedKeys};

/// Port of the sidecar where MCP is spoken.
pub const MCP_PORT: u16 = 8080;
/// Port of the sidecar for probes, metrics and the operator's control calls.
pub const CONTROL_PORT: u16 = 8081;
/// Path of the MCP endpoint, at the gateway, the sidecar and the agent alike.
pub const MCP_PATH: &str = "/mcp";
/// Largest body of an anonymous visitor's request.
pub const PUBLIC_BODY_BYTES: usize = 256 * 1024;
/// Path at the sidecar where a workspace of mode Direct shows its public key.
pub const DIRECT_KEY_PATH: &str = "/direct/key";
/// Path at the sidecar where a workspace of mode Direct takes a sealed credential.
pub const DIRECT_SESSION_PATH: &str = "/direct/session";
