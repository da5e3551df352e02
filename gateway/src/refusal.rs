//! Why a request is not answered by a workspace, and the response that says so: an HTTP status with a JSON-RPC body.

use axum::Json;
use axum::response::{IntoResponse, Response};
use dexorder_oidc::TokenError;
use dexorder_protocol::headers;
use dexorder_protocol::jsonrpc::{INTERNAL_ERROR, INVALID_REQUEST, PARSE_ERROR, Reason, error_body};
use http::header::{ALLOW, CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::Value;

use crate::auth::AuthError;
use crate::limits::Limit;
use crate::wake::Obstacle;
use crate::workspaces::ApiError;

/// Methods of the MCP endpoint.
pub(crate) const METHODS: &str = "POST, GET, DELETE";

/// A refusal. The texts are for the user's client.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{0}")]
    Auth(AuthError),
    #[error("{}: try again in {seconds} s", .limit.what())]
    TooMany { limit: Limit, seconds: u16 },
    #[error("web pages of this origin may not call this gateway: an operator can add it to allowedOrigins")]
    Origin,
    #[error("nothing is served at this path: MCP is at {}", dexorder_protocol::MCP_PATH)]
    NotFound,
    #[error("this method is not served here: use {0}")]
    Method(&'static str),
    #[error("there is no workspace of this name")]
    NoWorkspace,
    #[error("this workspace belongs to another user")]
    NotYours,
    #[error(
        "this workspace is of auth mode {mode}: reach it at /workspaces/{name}{}",
        dexorder_protocol::MCP_PATH
    )]
    OtherWay { mode: &'static str, name: String },
    #[error("this workspace is of auth mode {mode}: it has no sessions of mode Direct")]
    NotDirect { mode: &'static str },
    #[error("as many visitors are here as there is room for: try again later")]
    VisitorsFull,
    #[error(
        "no visitor was named: begin with a request such as initialize or server/discover, or POST to /public/visitors"
    )]
    NoVisitor,
    #[error("the body is over the limit of {0} bytes")]
    TooLarge(usize),
    #[error("the body did not arrive within {0} s")]
    BodyTimeout(u64),
    #[error("the body broke off")]
    BodyBroken,
    #[error("the Content-Type of a POST must be application/json")]
    ContentType,
    #[error("the client must accept {0}")]
    NotAcceptable(&'static str),
    #[error("the header {0} was sent more than once")]
    DoubledHeader(&'static str),
    #[error("the body is no JSON: {0}")]
    NoJson(String),
    #[error("the body is no JSON-RPC message: {0}")]
    NoMessage(&'static str),
    #[error("{}", obstacle_text(.0))]
    Obstacle(Obstacle),
    #[error("the workspace is stopped: a request wakes it, listening does not")]
    NotAwake,
    #[error("the workspace did not come up in time and this request was not begun: {state}: {message}")]
    Late { state: String, message: String, seconds: u16 },
    #[error("{0}")]
    Api(ApiError),
    #[error("the workspace does not accept this gateway's word for its user yet: try again")]
    IdentityRefused,
    #[error("this session is unknown or has ended: initialize a new one")]
    NoSession,
    #[error("sessions end by themselves here and need no DELETE")]
    SessionStays,
    #[error("this gateway can't vouch for its users now: try again")]
    Signing,
    #[error("the workspace broke off before it answered: the request may have been carried out in part")]
    BrokeOff,
}

fn obstacle_text(obstacle: &Obstacle) -> String {
    match obstacle {
        Obstacle::KeptStopped => {
            "an operator keeps this workspace stopped (operatingMode Suspended)".to_owned()
        }
        Obstacle::Refused { reason, message, .. } => format!("the workspace can't run: {reason}: {message}"),
    }
}

impl Refusal {
    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Self::Auth(AuthError::Token(TokenError::KeysUnavailable)) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Auth(AuthError::Header)
            | Self::BodyBroken
            | Self::DoubledHeader(_)
            | Self::NoJson(_)
            | Self::NoMessage(_)
            | Self::NoVisitor => StatusCode::BAD_REQUEST,
            Self::Auth(_) => StatusCode::UNAUTHORIZED,
            Self::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Origin
            | Self::NotYours
            | Self::OtherWay { .. }
            | Self::NotDirect { .. }
            | Self::Obstacle(Obstacle::Refused { forbidden: true, .. }) => StatusCode::FORBIDDEN,
            Self::NotFound | Self::NoSession | Self::NoWorkspace => StatusCode::NOT_FOUND,
            Self::Method(_) | Self::SessionStays => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTimeout(_) => StatusCode::REQUEST_TIMEOUT,
            Self::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::NotAcceptable(_) => StatusCode::NOT_ACCEPTABLE,
            Self::Api(ApiError::NameTaken(_)) => StatusCode::CONFLICT,
            Self::Obstacle(_)
            | Self::NotAwake
            | Self::Late { .. }
            | Self::Api(_)
            | Self::IdentityRefused
            | Self::VisitorsFull
            | Self::Signing => StatusCode::SERVICE_UNAVAILABLE,
            Self::BrokeOff => StatusCode::BAD_GATEWAY,
        }
    }

    pub(crate) const fn reason(&self) -> Reason {
        match self {
            Self::Auth(AuthError::Token(TokenError::KeysUnavailable))
            | Self::Api(ApiError::Unavailable(_))
            | Self::IdentityRefused
            | Self::Signing => Reason::Unavailable,
            Self::Auth(AuthError::Header)
            | Self::BodyTimeout(_)
            | Self::BodyBroken
            | Self::ContentType
            | Self::NotAcceptable(_)
            | Self::DoubledHeader(_)
            | Self::NoJson(_)
            | Self::NoMessage(_)
            | Self::NoVisitor => Reason::InvalidRequest,
            Self::Auth(_) => Reason::Unauthenticated,
            Self::TooMany { .. } | Self::VisitorsFull => Reason::TooManyRequests,
            Self::Origin => Reason::ForbiddenOrigin,
            Self::NotYours => Reason::WrongUser,
            Self::OtherWay { .. } | Self::NotDirect { .. } => Reason::AuthModeNotOffered,
            Self::NotFound | Self::Method(_) | Self::NoSession | Self::NoWorkspace | Self::SessionStays => {
                Reason::NotFound
            }
            Self::TooLarge(_) => Reason::RequestTooLarge,
            Self::Obstacle(_) | Self::NotAwake | Self::Api(_) => Reason::WorkspaceRefused,
            Self::Late { .. } => Reason::WorkspaceStarting,
            Self::BrokeOff => Reason::AgentUnavailable,
        }
    }

    const fn code(&self) -> i32 {
        match self {
            Self::NoJson(_) => PARSE_ERROR,
            _ if self.status().as_u16() < 500 => INVALID_REQUEST,
            _ => INTERNAL_ERROR,
        }
    }

    /// Seconds after which it may be worth a new try, if time alone can help.
    const fn retry_after(&self) -> Option<u16> {
        match self {
            Self::TooMany { seconds, .. } | Self::Late { seconds, .. } => Some(*seconds),
            Self::Auth(AuthError::Token(TokenError::KeysUnavailable))
            | Self::Api(ApiError::Unavailable(_)) => Some(2),
            Self::IdentityRefused | Self::Signing => Some(1),
            Self::NotAwake | Self::VisitorsFull => Some(30),
            _ => None,
        }
    }

    /// What the workspace is doing, for machines.
    fn state(&self) -> Option<&str> {
        match self {
            Self::Late { state, .. } => Some(state),
            Self::Obstacle(Obstacle::Refused { reason, .. }) => Some(reason),
            Self::Obstacle(Obstacle::KeptStopped) | Self::NotAwake => Some("Suspended"),
            _ => None,
        }
    }

    /// The response. `id`: the request's own, if it could be read. `metadata`: URL of the protected-resource metadata.
    pub(crate) fn response(&self, id: Option<Value>, metadata: &str) -> Response {
        let reason = self.reason();
        let mut body = error_body(id, self.code(), reason, &self.to_string());
        if let Some(state) = self.state() {
            body["error"]["data"]["state"] = Value::from(state);
        }
        let mut response = (self.status(), Json(body)).into_response();
        let map = response.headers_mut();
        map.insert(HeaderName::from_static(headers::REASON), HeaderValue::from_static(reason.as_str()));
        map.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after() {
            map.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Self::Auth(error) = self
            && let Some(challenge) = challenge(*error, metadata)
        {
            map.insert(WWW_AUTHENTICATE, challenge);
        }
        match self {
            Self::Method(methods) => drop(map.insert(ALLOW, HeaderValue::from_static(methods))),
            Self::SessionStays => drop(map.insert(ALLOW, HeaderValue::from_static("POST, GET"))),
            _ => {}
        }
        response
    }
}

/// RFC 6750, section 3, and RFC 9728, section 5.1. A request without a token is told no error, and what is no request
/// for a resource at all, as with two tokens, is told so with 400.
fn challenge(error: AuthError, metadata: &str) -> Option<HeaderValue> {
    let text = match error {
        AuthError::Token(TokenError::KeysUnavailable) => return None,
        // Nothing that a login could help with.
        AuthError::Visitor(_) => "Visitor".to_owned(),
        AuthError::Missing => format!("Bearer resource_metadata=\"{metadata}\""),
        error => {
            let code = if error == AuthError::Header { "invalid_request" } else { "invalid_token" };
            format!(
                "Bearer error=\"{code}\", error_description=\"{error}\", resource_metadata=\"{metadata}\""
            )
        }
    };
    HeaderValue::from_str(&text).ok()
}
