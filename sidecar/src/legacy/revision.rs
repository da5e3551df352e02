//! The revisions that begin with `initialize`: "legacy" in the words of 2026-07-28 (basic/versioning, Terminology).

use http::HeaderMap;

use crate::auth::{Ambiguous, one};
use crate::headers::PROTOCOL_VERSION;

/// One of them, the oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Revision {
    V2024_11_05,
    V2025_03_26,
    V2025_06_18,
    V2025_11_25,
}

const ALL: [Revision; 4] =
    [Revision::V2024_11_05, Revision::V2025_03_26, Revision::V2025_06_18, Revision::V2025_11_25];
/// Of a request that names none (2025-11-25, basic/transports, Protocol Version Header).
const UNNAMED: Revision = Revision::V2025_03_26;

impl Revision {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::V2024_11_05 => "2024-11-05",
            Self::V2025_03_26 => "2025-03-26",
            Self::V2025_06_18 => "2025-06-18",
            Self::V2025_11_25 => "2025-11-25",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        ALL.into_iter().find(|revision| revision.as_str() == text)
    }

    /// What a client gets that asks for a revision: that one, or else the newest of them (2025-11-25, basic/lifecycle,
    /// Version Negotiation).
    pub(super) fn negotiate(asked: &str) -> Self {
        Self::parse(asked).unwrap_or(Self::V2025_11_25)
    }

    /// The revision of a request, if it is one of these. Any other goes to the agent, which knows best what to say to it.
    pub(crate) fn of_request(headers: &HeaderMap) -> Result<Option<Self>, Ambiguous> {
        Ok(one(headers, PROTOCOL_VERSION)?.map_or(Some(UNNAMED), Self::parse))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_client_gets_the_revision_that_it_asks_for_or_the_newest_with_sessions() {
        for revision in ALL {
            assert_eq!(Revision::negotiate(revision.as_str()), revision);
        }
        for unknown in ["2026-07-28", "2099-01-01", "1.0", ""] {
            assert_eq!(Revision::negotiate(unknown), Revision::V2025_11_25, "{unknown}");
        }
    }

    #[test]
    fn a_request_is_of_an_old_revision_if_it_names_one_or_none() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(PROTOCOL_VERSION, HeaderValue::from_static(value));
            }
            Revision::of_request(&headers)
        };
        assert_eq!(of(&[]).unwrap(), Some(Revision::V2025_03_26));
        assert_eq!(of(&["2025-11-25"]).unwrap(), Some(Revision::V2025_11_25));
        for other in ["2026-07-28", "2099-01-01", "", "2025-11-26"] {
            assert_eq!(of(&[other]).unwrap(), None, "{other}");
        }
        assert!(of(&["2025-11-25", "2026-07-28"]).is_err(), "two readers could each take another");
    }
}
