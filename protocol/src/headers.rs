//! HTTP headers of the hops inside the platform. Whatever a client sends under the prefix `dexorder-` is dropped.

/// Carries the signed identity from the gateway or the operator to the sidecar.
pub const IDENTITY: &str = "dexorder-identity";
/// Tells the agent which user the sidecar verified.
pub const USER: &str = "dexorder-user";
/// On a refusal by the sidecar: the machine-readable reason, one of [`crate::jsonrpc::Reason`].
pub const REASON: &str = "dexorder-reason";
/// Prefix of every header above.
pub const PREFIX: &str = "dexorder-";
