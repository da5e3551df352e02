//! The value of an anonymous session: identifier, end, and a MAC over both.

use std::time::Duration;

use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign, verify};
use aws_lc_rs::rand;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

const ID_BYTES: usize = 16;
const TEXT_BYTES: usize = ID_BYTES + 8;
const MAC_BYTES: usize = 32;

/// What tells one session from another.
pub(super) type Id = [u8; ID_BYTES];

/// The system gives no randomness.
#[derive(Debug, thiserror::Error)]
#[error("failed to make the key of anonymous sessions: the system gives no randomness")]
pub struct SessionKeyError;

/// Makes and reads sessions with a key that ends with this process.
pub(super) struct Sessions {
    key: Key,
    lifetime: i64,
}

pub(super) fn new_id() -> Result<Id, SessionKeyError> {
    let mut id = Id::default();
    rand::fill(&mut id).map_err(|_| SessionKeyError)?;
    Ok(id)
}

impl Sessions {
    pub(super) fn new(lifetime: Duration) -> Result<Self, SessionKeyError> {
        let mut secret = [0_u8; 32];
        rand::fill(&mut secret).map_err(|_| SessionKeyError)?;
        let lifetime = i64::try_from(lifetime.as_secs().max(1)).unwrap_or(i64::MAX);
        Ok(Self { key: Key::new(HMAC_SHA256, &secret), lifetime })
    }

    /// When a session ends that was last used now.
    pub(super) const fn end(&self, now: i64) -> i64 {
        now.saturating_add(self.lifetime)
    }

    /// The value for the client.
    pub(super) fn seal(&self, id: Id, end: i64) -> String {
        let mut bytes = [&id[..], &end.to_be_bytes()].concat();
        let mac = sign(&self.key, &bytes);
        bytes.extend_from_slice(mac.as_ref());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The session of a value that was made here and has not ended.
    pub(super) fn open(&self, value: &str, now: i64) -> Option<Id> {
        let bytes = URL_SAFE_NO_PAD.decode(value).ok()?;
        if bytes.len() != TEXT_BYTES + MAC_BYTES {
            return None;
        }
        let (text, mac) = bytes.split_at(TEXT_BYTES);
        verify(&self.key, text, mac).ok()?;
        let (id, end) = text.split_at(ID_BYTES);
        let end = i64::from_be_bytes(end.try_into().ok()?);
        if now < end { id.try_into().ok() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn sessions() -> Sessions {
        Sessions::new(Duration::from_mins(15)).unwrap()
    }

    #[test]
    fn a_session_ends_after_its_time_and_is_good_here_alone() {
        let (here, elsewhere) = (sessions(), sessions());
        let id = new_id().unwrap();
        let value = here.seal(id, here.end(NOW));
        assert_eq!(here.open(&value, NOW + 899), Some(id));
        assert_eq!(here.open(&value, NOW + 900), None);
        assert_eq!(elsewhere.open(&value, NOW), None);
    }

    proptest! {
        #[test]
        fn whatever_was_not_made_here_is_refused(text in "[A-Za-z0-9_-]{0,90}|\\PC{0,40}") {
            prop_assert_eq!(sessions().open(&text, NOW), None);
        }

        #[test]
        fn a_changed_session_is_refused(at in any::<prop::sample::Index>(), bit in 0_u8..8) {
            let here = sessions();
            let value = here.seal(new_id().unwrap(), here.end(NOW));
            let mut bytes = URL_SAFE_NO_PAD.decode(&value).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(here.open(&URL_SAFE_NO_PAD.encode(bytes), NOW), None);
        }
    }
}
