//! The JSON-RPC form of a refusal, so that an MCP client can always read why.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

/// JSON-RPC: the request is no valid JSON.
pub const PARSE_ERROR: i32 = -32_700;
/// JSON-RPC: the JSON is no valid request.
pub const INVALID_REQUEST: i32 = -32_600;
/// JSON-RPC: the server failed.
pub const INTERNAL_ERROR: i32 = -32_603;

/// Why a request was refused, for machines. Sent in `error.data.reason` and in the header
/// [`crate::headers::REASON`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// No credential, or one that does not hold.
    Unauthenticated,
    /// A credential, session or proof that the client gave to the workspace itself does not hold.
    CredentialRefused,
    /// The credential holds for another user.
    WrongUser,
    /// Anonymous visitors may not do this.
    NotForVisitors,
    /// The request is not well formed.
    InvalidRequest,
    /// The request comes from a web page that is not allowed here.
    ForbiddenOrigin,
    /// The body is over the limit.
    RequestTooLarge,
    /// Nothing is served at this path or with this method.
    NotFound,
    /// The auth mode is not offered.
    AuthModeNotOffered,
    /// More requests than are allowed in a while.
    TooManyRequests,
    /// What was sent was sealed to a key that the workspace does not have, or no longer.
    UnknownKey,
    /// What may be used once has been used.
    Replayed,
    /// The workspace's pod belongs to nobody yet.
    Unassigned,
    /// The workspace is stopping and the request was not begun.
    Draining,
    /// The agent did not come up in time.
    AgentStarting,
    /// The agent ended or broke off.
    AgentUnavailable,
    /// The workspace did not come up in time.
    WorkspaceStarting,
    /// The workspace can't start until someone changes something.
    WorkspaceRefused,
    /// Something that this service needs does not answer.
    Unavailable,
}

impl Reason {
    /// The text on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unauthenticated => "Unauthenticated",
            Self::CredentialRefused => "CredentialRefused",
            Self::WrongUser => "WrongUser",
            Self::NotForVisitors => "NotForVisitors",
            Self::InvalidRequest => "InvalidRequest",
            Self::ForbiddenOrigin => "ForbiddenOrigin",
            Self::RequestTooLarge => "RequestTooLarge",
            Self::NotFound => "NotFound",
            Self::AuthModeNotOffered => "AuthModeNotOffered",
            Self::TooManyRequests => "TooManyRequests",
            Self::UnknownKey => "UnknownKey",
            Self::Replayed => "Replayed",
            Self::Unassigned => "Unassigned",
            Self::Draining => "Draining",
            Self::AgentStarting => "AgentStarting",
            Self::AgentUnavailable => "AgentUnavailable",
            Self::WorkspaceStarting => "WorkspaceStarting",
            Self::WorkspaceRefused => "WorkspaceRefused",
            Self::Unavailable => "Unavailable",
        }
    }
}

/// The body of a refusal. `id` is the request's own where it could be read, `null` otherwise.
pub fn error_body(id: Option<Value>, code: i32, reason: Reason, message: &str) -> Value {
    json!({
        "jsonrpc": "2.0",
        "id": id.unwrap_or(Value::Null),
        "error": {"code": code, "message": message, "data": {"reason": reason.as_str()}},
    })
}

/// The `id` of a JSON-RPC request, if the body is one and its id is a string or a number.
pub fn request_id(body: &[u8]) -> Option<Value> {
    #[derive(Deserialize)]
    struct Head {
        id: Option<Value>,
    }
    let head: Head = serde_json::from_slice(body).ok()?;
    head.id.filter(|id| id.is_string() || id.is_number())
}

/// Tells a member that is `null` from one that is missing: for serde's `deserialize_with`, beside `default`.
pub fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_read_from_a_request_and_from_nothing_else() {
        assert_eq!(request_id(br#"{"id": 7, "method": "x"}"#), Some(json!(7)));
        assert_eq!(request_id(br#"{"id": "a", "method": "x"}"#), Some(json!("a")));
        for body in [&b"{}"[..], b"[]", b"{\"id\": {}}", b"not json", b""] {
            assert_eq!(request_id(body), None);
        }
    }
}
