//! Why an MCP request is not answered by the agent, and the response that says so.

use axum::Json;
use axum::response::{IntoResponse, Response};
use dexorder_protocol::direct::{EnvelopeError, ProofError};
use dexorder_protocol::identity::IdentityError;
use dexorder_protocol::jsonrpc::{INTERNAL_ERROR, INVALID_REQUEST, Reason, error_body};
use dexorder_protocol::{MCP_PATH, headers};
use http::header::{ALLOW, RETRY_AFTER};
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::Value;

/// A refusal. The texts are for the user's client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{0}")]
    Identity(#[from] IdentityError),
    #[error("this workspace belongs to another user")]
    WrongUser,
    #[error("nothing is served at this path: MCP is at {MCP_PATH}")]
    NotFound,
    #[error("this method is not served here: use {0}")]
    Method(&'static str),
    #[error("the body is over {0} bytes")]
    TooLarge(usize),
    #[error("the body is no request that can be read: {0}")]
    Malformed(&'static str),
    #[error("the session has ended or is of another workspace: leave {} out for a new one", headers::SESSION)]
    Session,
    #[error("there is no such session: initialize without {} for a new one", crate::headers::SESSION_ID)]
    UnknownSession,
    #[error("{0}")]
    NotForVisitors(NotForVisitors),
    #[error("too many requests: try again in {seconds} s")]
    TooMany { seconds: u32 },
    #[error("{0}")]
    Credential(CredentialError),
    #[error("the workspace has no such key, or no longer: fetch its key, compare it, and seal again")]
    UnknownKey,
    #[error("this was used before: {0}")]
    Replayed(&'static str),
    #[error("{0}: try again")]
    Unavailable(&'static str),
    #[error("the pod has no workspace yet: send the request again")]
    Unassigned,
    #[error("the workspace is stopping and did not begin this request: send it again")]
    Draining,
    #[error("the workspace's agent did not come up in time and this request was not begun: send it again")]
    AgentStarting,
    #[error("the workspace's agent ended before it answered: the request may have been carried out in part")]
    AgentUnavailable,
    #[error("the workspace is stopping and cut this request off: it may have been carried out in part")]
    CutOff,
}

/// What an anonymous visitor may not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotForVisitors {
    #[error(
        "anonymous visitors may read resources and prompts and call read-only tools: this method is neither"
    )]
    Method,
    #[error("anonymous visitors may call tools that are marked read-only: this one is not, or is not known")]
    Tool,
}

/// Why a credential, a token or a proof of mode Direct does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CredentialError {
    #[error("no token of this workspace was sent: get one with a sealed credential")]
    NoToken,
    #[error(
        "the token is not of this workspace, or its key was changed: get another with a sealed credential"
    )]
    Token,
    #[error("the token has expired: get another with a sealed credential")]
    TokenExpired,
    #[error("no proof was sent in {}", headers::PROOF)]
    NoProof,
    #[error("{0}")]
    Proof(ProofError),
    #[error("the proof is for another body")]
    Body,
    #[error("{0}")]
    Envelope(EnvelopeError),
    #[error("the credential does not hold")]
    Refused,
}

impl Refusal {
    pub(crate) const fn reason(self) -> Reason {
        match self {
            Self::Identity(_) => Reason::Unauthenticated,
            Self::WrongUser => Reason::WrongUser,
            Self::NotFound | Self::Method(_) | Self::UnknownSession => Reason::NotFound,
            Self::TooLarge(_) => Reason::RequestTooLarge,
            Self::Malformed(_) => Reason::InvalidRequest,
            Self::Session | Self::Credential(_) => Reason::CredentialRefused,
            Self::NotForVisitors(_) => Reason::NotForVisitors,
            Self::TooMany { .. } => Reason::TooManyRequests,
            Self::UnknownKey => Reason::UnknownKey,
            Self::Replayed(_) => Reason::Replayed,
            Self::Unavailable(_) => Reason::Unavailable,
            Self::Draining => Reason::Draining,
            Self::Unassigned | Self::AgentStarting => Reason::AgentStarting,
            Self::AgentUnavailable | Self::CutOff => Reason::AgentUnavailable,
        }
    }

    const fn status(self) -> StatusCode {
        match self {
            Self::Malformed(_) | Self::Credential(CredentialError::Envelope(EnvelopeError::Malformed)) => {
                StatusCode::BAD_REQUEST
            }
            Self::Identity(_)
            | Self::Session
            | Self::Credential(_)
            | Self::UnknownKey
            | Self::Replayed(_) => StatusCode::UNAUTHORIZED,
            Self::WrongUser | Self::NotForVisitors(_) => StatusCode::FORBIDDEN,
            Self::NotFound | Self::UnknownSession => StatusCode::NOT_FOUND,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable(_) | Self::Unassigned | Self::Draining | Self::AgentStarting => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::AgentUnavailable | Self::CutOff => StatusCode::BAD_GATEWAY,
        }
    }

    fn code(self) -> i32 {
        if self.status().is_client_error() { INVALID_REQUEST } else { INTERNAL_ERROR }
    }

    /// The JSON-RPC error, with the id of the request if it could be read.
    pub(crate) fn body(self, id: Option<Value>) -> Value {
        error_body(id, self.code(), self.reason(), &self.to_string())
    }

    /// The response, with the same.
    pub(crate) fn response(self, id: Option<Value>) -> Response {
        self.response_with(id, None)
    }

    /// The same, with the workspace's run of now, which a client of mode Direct needs for its next proof.
    pub(crate) fn response_with(self, id: Option<Value>, run: Option<&str>) -> Response {
        let reason = self.reason();
        let mut body = self.body(id);
        if let Some(run) = run {
            body["error"]["data"]["run"] = Value::from(run);
        }
        let mut response = (self.status(), Json(body)).into_response();
        let map = response.headers_mut();
        map.insert(HeaderName::from_static(headers::REASON), HeaderValue::from_static(reason.as_str()));
        match self {
            Self::TooMany { seconds } => {
                map.insert(RETRY_AFTER, HeaderValue::from(seconds));
            }
            Self::Method(allowed) => {
                map.insert(ALLOW, HeaderValue::from_static(allowed));
            }
            _ if self.status() == StatusCode::SERVICE_UNAVAILABLE => {
                map.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_begun_may_be_sent_again_and_nothing_else() {
        for (refusal, again) in [
            (Refusal::Identity(IdentityError::Missing), false),
            (Refusal::WrongUser, false),
            (Refusal::NotFound, false),
            (Refusal::Method("GET"), false),
            (Refusal::TooLarge(1), false),
            (Refusal::Malformed("no object"), false),
            (Refusal::Session, false),
            (Refusal::UnknownSession, false),
            (Refusal::NotForVisitors(NotForVisitors::Tool), false),
            (Refusal::TooMany { seconds: 7 }, true),
            (Refusal::Credential(CredentialError::Refused), false),
            (Refusal::UnknownKey, false),
            (Refusal::Replayed("proof"), false),
            (Refusal::Unavailable("the issuer does not answer"), true),
            (Refusal::Unassigned, true),
            (Refusal::Draining, true),
            (Refusal::AgentStarting, true),
            (Refusal::AgentUnavailable, false),
            (Refusal::CutOff, false),
        ] {
            let response = refusal.response(None);
            assert_eq!(response.headers().contains_key(RETRY_AFTER), again, "{refusal:?}");
            assert_eq!(response.headers()[headers::REASON], refusal.reason().as_str());
        }
    }
}
