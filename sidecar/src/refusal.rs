//! Why an MCP request is not answered by the agent, and the response that says so.

use axum::Json;
use axum::response::{IntoResponse, Response};
use dexorder_protocol::identity::IdentityError;
use dexorder_protocol::jsonrpc::{INTERNAL_ERROR, INVALID_REQUEST, Reason, error_body};
use dexorder_protocol::{MCP_PATH, headers};
use http::header::{ALLOW, RETRY_AFTER};
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::Value;

use crate::config::AuthMode;

/// A refusal. The texts are for the user's client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{0}")]
    Identity(#[from] IdentityError),
    #[error("this workspace belongs to another user")]
    WrongUser,
    #[error("auth mode {0} is not offered by this release: set spec.auth.mode of the workspace to Gateway")]
    ModeNotOffered(AuthMode),
    #[error("nothing is served at this path: MCP is at {MCP_PATH}")]
    NotFound,
    #[error("this method is not served here: use POST, GET or DELETE")]
    Method,
    #[error("the workspace is stopping and did not begin this request: send it again")]
    Draining,
    #[error("the workspace's agent did not come up in time and this request was not begun: send it again")]
    AgentStarting,
    #[error("the workspace's agent ended before it answered: the request may have been carried out in part")]
    AgentUnavailable,
    #[error("the workspace is stopping and cut this request off: it may have been carried out in part")]
    CutOff,
}

impl Refusal {
    pub(crate) const fn reason(self) -> Reason {
        match self {
            Self::Identity(_) => Reason::Unauthenticated,
            Self::WrongUser => Reason::WrongUser,
            Self::ModeNotOffered(_) => Reason::AuthModeNotOffered,
            Self::NotFound | Self::Method => Reason::NotFound,
            Self::Draining => Reason::Draining,
            Self::AgentStarting => Reason::AgentStarting,
            Self::AgentUnavailable | Self::CutOff => Reason::AgentUnavailable,
        }
    }

    const fn status(self) -> StatusCode {
        match self {
            Self::Identity(_) => StatusCode::UNAUTHORIZED,
            Self::WrongUser => StatusCode::FORBIDDEN,
            Self::ModeNotOffered(_) => StatusCode::NOT_IMPLEMENTED,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Draining | Self::AgentStarting => StatusCode::SERVICE_UNAVAILABLE,
            Self::AgentUnavailable | Self::CutOff => StatusCode::BAD_GATEWAY,
        }
    }

    const fn code(self) -> i32 {
        match self {
            Self::Identity(_) | Self::WrongUser | Self::NotFound | Self::Method => INVALID_REQUEST,
            Self::ModeNotOffered(_)
            | Self::Draining
            | Self::AgentStarting
            | Self::AgentUnavailable
            | Self::CutOff => INTERNAL_ERROR,
        }
    }

    /// The response, with the id of the request if it could be read.
    pub(crate) fn response(self, id: Option<Value>) -> Response {
        let reason = self.reason();
        let body = error_body(id, self.code(), reason, &self.to_string());
        let mut response = (self.status(), Json(body)).into_response();
        let map = response.headers_mut();
        map.insert(HeaderName::from_static(headers::REASON), HeaderValue::from_static(reason.as_str()));
        if self.status() == StatusCode::SERVICE_UNAVAILABLE {
            map.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self == Self::Method {
            map.insert(ALLOW, HeaderValue::from_static("POST, GET, DELETE"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_begun_may_be_sent_again_and_nothing_else() {
        for refusal in [
            Refusal::Identity(IdentityError::Missing),
            Refusal::WrongUser,
            Refusal::ModeNotOffered(AuthMode::Public),
            Refusal::NotFound,
            Refusal::Method,
            Refusal::Draining,
            Refusal::AgentStarting,
            Refusal::AgentUnavailable,
            Refusal::CutOff,
        ] {
            let not_begun = matches!(refusal, Refusal::Draining | Refusal::AgentStarting);
            let response = refusal.response(None);
            assert_eq!(response.headers().contains_key(RETRY_AFTER), not_begun, "{refusal:?}");
            assert_eq!(response.headers()[headers::REASON], refusal.reason().as_str());
        }
    }
}
