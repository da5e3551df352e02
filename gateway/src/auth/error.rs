//! Why a request is not its user's.

use dexorder_oidc::TokenError;

use super::ApiKeyError;
use crate::visitors::VisitorError;

/// A refusal of a request's credential. The texts are for the client: they hold nothing of the credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub(crate) enum AuthError {
    #[error("no bearer token was sent")]
    Missing,
    #[error("the request must have one Authorization header, with one bearer token")]
    Header,
    #[error("{0}")]
    Token(#[from] TokenError),
    #[error("{0}")]
    Key(#[from] ApiKeyError),
    #[error("{0}")]
    Visitor(#[from] VisitorError),
    #[error("the credential stands for a user ID that the platform keeps for itself")]
    Reserved,
}

impl AuthError {
    /// The value of the metric's label.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Header => "header",
            Self::Token(error) => error.label(),
            Self::Key(error) => error.label(),
            Self::Visitor(error) => error.label(),
            Self::Reserved => "reserved",
        }
    }
}
