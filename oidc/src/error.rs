//! Why a token does not hold.

/// A refusal of a token. The texts are for the client: they hold nothing of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TokenError {
    /// It is no JWT that can be read.
    #[error("the token is malformed")]
    Malformed,
    /// Its `iss` is none of the known ones.
    #[error("the token comes from an issuer that is not trusted here")]
    UnknownIssuer,
    /// Its `alg` is none of its issuer's.
    #[error("the token is signed with an algorithm that is not allowed for its issuer")]
    Algorithm,
    /// Its `kid` is none of its issuer's.
    #[error("the token is signed with a key that its issuer does not publish")]
    UnknownKey,
    /// Its signature is of another key, or of another text.
    #[error("the signature of the token does not match")]
    Signature,
    /// Its `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// It has no `exp`.
    #[error("the token has no expiry")]
    NoExpiry,
    /// Its `nbf` is still to come.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// Its `aud` is another.
    #[error("the token is meant for another audience")]
    Audience,
    /// The claim of the user ID is missing or can't be one.
    #[error("the token has no usable user ID")]
    User,
    /// Nothing is known of the token: its issuer can't be asked.
    #[error("the keys of the token's issuer can't be fetched now: try again")]
    KeysUnavailable,
}

impl TokenError {
    /// The value of a metric's label.
    pub const fn label(self) -> &'static str {
        match self {
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
