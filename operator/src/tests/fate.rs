//! What becomes of a write when a test says so.

use http::StatusCode;
use proptest::prelude::*;

/// What becomes of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is refused for good.
    Refused,
    /// Somebody else wrote first.
    Conflict,
    /// The server fails.
    Fails,
    /// It never arrives.
    Lost,
    /// It takes effect, and its answer never arrives.
    Unanswered,
}

impl Fate {
    /// Any of them.
    pub(super) fn any() -> impl Strategy<Value = Self> {
        prop_oneof![
            Just(Self::Refused),
            Just(Self::Conflict),
            Just(Self::Fails),
            Just(Self::Lost),
            Just(Self::Unanswered)
        ]
    }

    /// What the server answers in place of carrying the write out; none: it is carried out.
    pub(super) const fn refusal(self) -> Option<StatusCode> {
        match self {
            Self::Unanswered => None,
            Self::Refused => Some(StatusCode::FORBIDDEN),
            Self::Conflict => Some(StatusCode::CONFLICT),
            Self::Fails => Some(StatusCode::INTERNAL_SERVER_ERROR),
            Self::Lost => Some(StatusCode::REQUEST_TIMEOUT),
        }
    }

    /// Whether anybody hears what the server answers.
    pub(super) const fn is_heard(self) -> bool {
        !matches!(self, Self::Lost | Self::Unanswered)
    }
}
