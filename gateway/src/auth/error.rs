//! Why a token does not hold.

/// A refusal of a token. The texts are for the client: they hold nothing of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub(crate) enum AuthError {
    #[error("no bearer token was sent")]
    Missing,
    #[error("the Authorization header is no single bearer token")]
    Header,
    #[error("the token is malformed")]
    Malformed,
    #[error("the token comes from an issuer that is not trusted here")]
    UnknownIssuer,
    #[error("the token is signed with an algorithm that is not allowed for its issuer")]
    Algorithm,
    #[error("the token is signed with a key that its issuer does not publish")]
    UnknownKey,
    #[error("the signature of the token does not match")]
    Signature,
    #[error("the token has expired")]
    Expired,
    #[error("the token has no expiry")]
    NoExpiry,
    #[error("the token is not valid yet")]
    NotYetValid,
    #[error("the token is meant for another audience")]
    Audience,
    #[error("the token has no usable user ID")]
    User,
    #[error("the keys of the token's issuer can't be fetched now: try again")]
    KeysUnavailable,
}

impl AuthError {
    /// The value of the metric's label.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Header => "header",
            Self::Malformed => "malformed",
            Self::UnknownIssuer => "unknown_issuer",
            Self::Algorithm => "algorithm",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::Expired => "expired",
            Self::NoExpiry => "no_expiry",
            Self::NotYetValid => "not_yet_valid",
            Self::Audience => "audience",
            Self::User => "user",
            Self::KeysUnavailable => "keys_unavailable",
        }
    }
}
