//! Why a chat request has no answer, and the response that says so in the form of OpenAI's API.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::llm::LlmError;
use super::wire::McpError;
use crate::refusal::Refusal;

/// A failure. The texts are for the user's client.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ChatError {
    #[error("{0}")]
    Refusal(#[from] Refusal),
    #[error("{message}")]
    Request { message: String, param: Option<&'static str> },
    #[error("there is no model {0:?} here: GET /v1/models lists those that there are")]
    Model(String),
    #[error("there is no conversation {0:?} in this workspace")]
    Conversation(String),
    #[error("too many turns of this user run at once: wait until one has ended")]
    TooManyTurns,
    #[error("this very turn runs already: ask again for what comes of it")]
    TurnRunning,
    #[error("the Idempotency-Key was used for another message: give each message a key of its own")]
    KeyReused,
    #[error("{0}")]
    Llm(#[from] LlmError),
    #[error("the workspace could not {what}: {error}")]
    Workspace { what: &'static str, error: String },
    #[error("the turn took longer than {0} s")]
    TooLong(u64),
    #[error("the gateway is shutting down: send the message again")]
    ShuttingDown,
}

impl ChatError {
    pub(crate) fn request(param: &'static str, message: impl Into<String>) -> Self {
        Self::Request { message: message.into(), param: Some(param) }
    }

    /// A failure of a call to the workspace. A refusal keeps its meaning.
    pub(crate) fn workspace(what: &'static str, error: McpError) -> Self {
        match error {
            McpError::Refused(refusal) => Self::Refusal(refusal),
            error => Self::Workspace { what, error: error.to_string() },
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Refusal(refusal) => refusal.status(),
            Self::Request { .. } => StatusCode::BAD_REQUEST,
            Self::Model(_) | Self::Conversation(_) => StatusCode::NOT_FOUND,
            Self::TooManyTurns => StatusCode::TOO_MANY_REQUESTS,
            Self::TurnRunning => StatusCode::CONFLICT,
            Self::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Llm(LlmError::Busy { .. }) | Self::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
            Self::Llm(_) | Self::Workspace { .. } => StatusCode::BAD_GATEWAY,
            Self::TooLong(_) => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// A word for machines.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Refusal(refusal) => refusal.reason().as_str(),
            Self::Request { .. } => "invalid_request",
            Self::Model(_) => "model_not_found",
            Self::Conversation(_) => "conversation_not_found",
            Self::TooManyTurns => "too_many_turns",
            Self::TurnRunning => "turn_running",
            Self::KeyReused => "idempotency_key_reused",
            Self::Llm(LlmError::Busy { .. }) => "model_busy",
            Self::Llm(LlmError::Refused { .. }) => "model_refused",
            Self::Llm(_) => "model_unavailable",
            Self::Workspace { .. } => "workspace_error",
            Self::TooLong(_) => "turn_timeout",
            Self::ShuttingDown => "shutting_down",
        }
    }

    /// The body of a response, and the last event of a stream.
    pub(crate) fn body(&self) -> Value {
        let kind = match self.status() {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::FORBIDDEN => "permission_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_client_error() => "invalid_request_error",
            _ => "server_error",
        };
        let param = match self {
            Self::Request { param, .. } => *param,
            _ => None,
        };
        json!({"error": {"message": self.to_string(), "type": kind, "param": param, "code": self.code()}})
    }

    /// The response. `metadata`: URL of the protected-resource metadata.
    pub(crate) fn response(&self, metadata: &str) -> Response {
        let mut response = (self.status(), Json(self.body())).into_response();
        let headers = response.headers_mut();
        if let Self::Refusal(refusal) = self {
            let told = refusal.response(None, metadata);
            for name in [WWW_AUTHENTICATE, RETRY_AFTER] {
                if let Some(value) = told.headers().get(&name) {
                    headers.insert(name, value.clone());
                }
            }
        }
        if matches!(self, Self::TooManyTurns | Self::TurnRunning | Self::ShuttingDown) {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("2"));
        }
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}
