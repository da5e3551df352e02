//! What a visitor has in place of a login: the sealed number of the visitor, and when it ends.

use dexorder_protocol::hex;
use dexorder_protocol::identity::VISITOR_PREFIX;

use crate::seal::{Ring, SealError};

const FORM: u8 = 1;
const ID_BYTES: usize = 16;

/// Why a credential does not hold. The texts are for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub(crate) enum VisitorError {
    #[error("this visitor is unknown here: come without a credential for a new one")]
    Unknown,
    #[error("this visitor's time is over: come without a credential for a new one")]
    Expired,
}

impl VisitorError {
    /// The value of the metric's label.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Unknown => "visitor_unknown",
            Self::Expired => "visitor_expired",
        }
    }
}

/// An anonymous visitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Visitor {
    id: [u8; ID_BYTES],
    /// When it ends, in seconds since the epoch.
    end: i64,
}

impl Visitor {
    /// A visitor whom nobody can guess.
    pub(crate) fn make(end: i64) -> Result<Self, SealError> {
        let mut id = [0; ID_BYTES];
        aws_lc_rs::rand::fill(&mut id).map_err(|_| SealError)?;
        Ok(Self { id, end })
    }

    /// The user ID of the visitor's workspace.
    pub(crate) fn user(&self) -> String {
        format!("{VISITOR_PREFIX}{}", hex(&self.id))
    }

    pub(crate) const fn end(&self) -> i64 {
        self.end
    }

    pub(crate) fn seal(&self, ring: &Ring) -> Result<String, SealError> {
        ring.seal([&[FORM][..], &self.id, &self.end.to_be_bytes()].concat(), b"")
    }

    /// The visitor of a credential, if this gateway sealed it and its time is not over.
    pub(crate) fn open(credential: &[u8], ring: &Ring, now: i64) -> Result<Self, VisitorError> {
        let text = ring.open(credential, b"").ok_or(VisitorError::Unknown)?;
        let parsed = text.split_first().and_then(|(form, rest)| {
            let (id, end) = rest.split_first_chunk::<ID_BYTES>()?;
            let end = i64::from_be_bytes(end.try_into().ok()?);
            (*form == FORM).then_some(Self { id: *id, end })
        });
        let visitor = parsed.ok_or(VisitorError::Unknown)?;
        if visitor.end <= now { Err(VisitorError::Expired) } else { Ok(visitor) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mutation::{CASES, change};
    use crate::seal::Seals;

    fn seals() -> Seals {
        Seals::derive(&["key"]).unwrap()
    }

    #[test]
    fn a_visitor_comes_back_until_the_time_is_over() {
        let visitor = Visitor::make(100).unwrap();
        let sealed = visitor.seal(&seals().visitors).unwrap();
        assert_eq!(Visitor::open(sealed.as_bytes(), &seals().visitors, 99), Ok(visitor.clone()));
        assert_eq!(Visitor::open(sealed.as_bytes(), &seals().visitors, 100), Err(VisitorError::Expired));
        assert_eq!(visitor.user().len(), "anonymous:".len() + 32);
        assert_ne!(visitor.user(), Visitor::make(100).unwrap().user());
    }

    #[test]
    fn a_session_is_no_visitor() {
        let text = Visitor::make(100).unwrap().seal(&seals().sessions).unwrap();
        assert_eq!(Visitor::open(text.as_bytes(), &seals().visitors, 0), Err(VisitorError::Unknown));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(CASES))]

        #[test]
        fn what_was_not_sealed_here_is_nobody(text: Vec<u8>, change in change()) {
            let ring = seals().visitors;
            prop_assert!(Visitor::open(&text, &ring, 0).is_err());
            let sealed = Visitor::make(100).unwrap().seal(&ring).unwrap();
            let changed = change.of(sealed.as_bytes());
            prop_assert!(changed == sealed.as_bytes() || Visitor::open(&changed, &ring, 0).is_err());
        }

        /// Whatever is sealed, it is read or refused.
        #[test]
        fn sealed_content_of_any_form_is_read_or_refused(end: i64, change in change()) {
            let ring = seals().visitors;
            let text = [&[FORM][..], &[7; ID_BYTES], &end.to_be_bytes()].concat();
            let sealed = ring.seal(change.of(&text), b"").unwrap();
            if let Ok(visitor) = Visitor::open(sealed.as_bytes(), &ring, 0) {
                prop_assert!(visitor.end > 0);
            }
        }
    }
}
