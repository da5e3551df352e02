//! Seals what clients keep for the gateway: identifiers of sessions, and visitors. The keys are derived from the signing
//! keys, which all replicas share. The one that signs seals; the others that are trusted open too, so that nothing ends
//! when the signing key is replaced.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Longer ones are none of ours.
const MOST_CHARACTERS: usize = 1536;
/// Parts the keys of this form from those of a later one.
const FORM: u8 = 1;

/// A key is of no use, or the randomness that sealing takes is missing.
#[derive(Debug, thiserror::Error)]
#[error("nothing can be sealed for clients")]
pub(crate) struct SealError;

/// What is sealed. Each has keys of its own, so that one can't stand for another.
#[derive(Clone, Copy, Debug)]
enum Purpose {
    Session,
    Visitor,
}

/// The keys of one purpose, the one that seals first.
pub(crate) struct Ring(Vec<RandomizedNonceKey>);

/// The keys of all purposes.
pub(crate) struct Seals {
    pub(crate) sessions: Ring,
    pub(crate) visitors: Ring,
}

impl Purpose {
    const fn salt(self) -> &'static [u8] {
        match self {
            Self::Session => b"dexorder gateway session identifiers",
            Self::Visitor => b"dexorder gateway visitors",
        }
    }
}

impl Seals {
    /// The keys that belong to signing keys, the one that signs first.
    pub(crate) fn derive(signing_keys: &[&str]) -> Result<Self, SealError> {
        let ring = |purpose| {
            let keys = signing_keys.iter().map(|pem| derive(pem.trim().as_bytes(), purpose));
            keys.collect::<Result<Vec<_>, _>>().map(Ring)
        };
        Ok(Self { sessions: ring(Purpose::Session)?, visitors: ring(Purpose::Visitor)? })
    }
}

fn derive(signing_key: &[u8], purpose: Purpose) -> Result<RandomizedNonceKey, SealError> {
    let mut key = [0; 32];
    Salt::new(HKDF_SHA256, purpose.salt())
        .extract(signing_key)
        .expand(&[&[FORM]], HKDF_SHA256)
        .and_then(|material| material.fill(&mut key))
        .and_then(|()| RandomizedNonceKey::new(&AES_256_GCM, &key))
        .map_err(|_| SealError)
}

impl Ring {
    /// Seals a text. It opens for whoever names the same `bound_to`.
    pub(crate) fn seal(&self, mut text: Vec<u8>, bound_to: &[u8]) -> Result<String, SealError> {
        let key = self.0.first().ok_or(SealError)?;
        let nonce = key.seal_in_place_append_tag(Aad::from(bound_to), &mut text).map_err(|_| SealError)?;
        let sealed = URL_SAFE_NO_PAD.encode([&nonce.as_ref()[..], &text].concat());
        if sealed.len() > MOST_CHARACTERS { Err(SealError) } else { Ok(sealed) }
    }

    /// The text, if it was sealed by a gateway of this install and bound to this.
    pub(crate) fn open(&self, sealed: &[u8], bound_to: &[u8]) -> Option<Vec<u8>> {
        if sealed.len() > MOST_CHARACTERS {
            return None;
        }
        let sealed = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN)?;
        self.0.iter().find_map(|key| {
            let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
            let mut text = text.to_vec();
            let opened = key.open_in_place(nonce, Aad::from(bound_to), &mut text).ok()?;
            Some(opened.to_vec())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_under_any_trusted_key_opens_and_nothing_else_does() {
        let old = Seals::derive(&["old"]).unwrap();
        let sealed = old.sessions.seal(b"text".to_vec(), b"user").unwrap();
        let rotated = Seals::derive(&["new", "old"]).unwrap();
        assert_eq!(rotated.sessions.open(sealed.as_bytes(), b"user").as_deref(), Some(&b"text"[..]));
        let renewed = rotated.sessions.seal(b"text".to_vec(), b"user").unwrap();
        assert!(Seals::derive(&["new"]).unwrap().sessions.open(renewed.as_bytes(), b"user").is_some());
        for (ring, bound_to) in [
            (&rotated.sessions, &b"another"[..]),
            (&rotated.visitors, b"user"),
            (&Seals::derive(&["new"]).unwrap().sessions, b"user"),
        ] {
            assert!(ring.open(sealed.as_bytes(), bound_to).is_none());
        }
    }

    #[test]
    fn what_is_too_long_to_come_back_is_not_given_out() {
        let seals = Seals::derive(&["key"]).unwrap();
        assert!(seals.visitors.seal(vec![0; 1200], b"").is_err());
        let longest = seals.visitors.seal(vec![0; 1100], b"").unwrap();
        assert!(longest.len() <= MOST_CHARACTERS && seals.visitors.open(longest.as_bytes(), b"").is_some());
    }
}
