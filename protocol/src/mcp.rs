//! Names of the MCP revision that all programs speak among themselves (2026-07-28, basic, Per-request protocol fields).

/// The revision.
pub const REVISION: &str = "2026-07-28";
/// Member of a request's `_meta`: the revision.
pub const VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";
/// Member of a request's `_meta`: who sends it.
pub const CLIENT_INFO_KEY: &str = "io.modelcontextprotocol/clientInfo";
/// Member of a request's `_meta`: what its sender can do.
pub const CAPABILITIES_KEY: &str = "io.modelcontextprotocol/clientCapabilities";
