//! What the gateway vouches for with a signed identity: a user, or that a request comes by way of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use dexorder_protocol::Issuer;
use dexorder_protocol::identity::{LEEWAY_SECONDS, verify};
use http::HeaderMap;
use sha2::{Digest, Sha256};

use super::{IdentityKeys, token};
use crate::refusal::Refusal;

/// How many tokens are remembered: one subject's, of a minute.
const REMEMBERED: usize = 128;

/// Checks the gateway's signed identities for one subject at one workspace.
pub(crate) struct Vouched {
    keys: Arc<IdentityKeys>,
    workspace_uid: String,
    subject: String,
    verified: Mutex<Verified>,
}

/// Tokens that held, by their hash: the signature of a token that comes again is not checked again.
#[derive(Default)]
struct Verified {
    /// The keys that the tokens were checked with.
    generation: u64,
    /// When each token ends.
    ends: HashMap<[u8; 32], i64>,
}

impl Vouched {
    pub(crate) fn new(keys: Arc<IdentityKeys>, workspace_uid: String, subject: String) -> Self {
        Self { keys, workspace_uid, subject, verified: Mutex::default() }
    }

    pub(crate) fn check(&self, headers: &HeaderMap, now: i64) -> Result<(), Refusal> {
        let token = token(headers)?;
        let hash: [u8; 32] = Sha256::digest(token).into();
        let trusted = self.keys.current();
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if !verified.holds(&hash, trusted.generation, now) {
            let claims = verify(token, &trusted.keys, Issuer::Gateway, &self.workspace_uid, now)?;
            if claims.sub != self.subject {
                return Err(Refusal::WrongUser);
            }
            verified.remember(hash, claims.exp.saturating_add(LEEWAY_SECONDS), now);
        }
        Ok(())
    }
}

impl Verified {
    /// Whether a token has held, with the keys that are trusted now, and has not ended.
    fn holds(&mut self, hash: &[u8; 32], generation: u64, now: i64) -> bool {
        if self.generation != generation {
            self.generation = generation;
            self.ends.clear();
        }
        self.ends.get(hash).is_some_and(|end| now < *end)
    }

    fn remember(&mut self, hash: [u8; 32], end: i64, now: i64) {
        if self.ends.len() >= REMEMBERED {
            self.ends.retain(|_, end| now < *end);
        }
        if self.ends.len() >= REMEMBERED {
            self.ends.clear();
        }
        self.ends.insert(hash, end);
    }
}

#[cfg(test)]
mod tests {
    use dexorder_protocol::identity::{IdentityError, LIFETIME_SECONDS, sign};
    use dexorder_protocol::{KeySet, SigningKey, headers};
    use tempfile::TempDir;

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn key() -> SigningKey {
        SigningKey::from_pem(&SigningKey::generate_pem().unwrap()).unwrap()
    }

    fn write(folder: &TempDir, key: &SigningKey) {
        let json = KeySet::default().with(Issuer::Gateway, key).to_json().unwrap();
        std::fs::write(folder.path().join("keys"), json).unwrap();
    }

    fn mode(folder: &TempDir) -> Vouched {
        let keys = Arc::new(IdentityKeys::read(folder.path().join("keys")).unwrap());
        Vouched::new(keys, "uid-1".to_owned(), "trader1".to_owned())
    }

    fn headers_with(key: &SigningKey, user: &str) -> HeaderMap {
        let token = sign(key, Issuer::Gateway, "uid-1", user, NOW).unwrap();
        HeaderMap::from_iter([(headers::IDENTITY.parse().unwrap(), token.parse().unwrap())])
    }

    #[test]
    fn a_remembered_token_ends_when_it_says() {
        let (folder, key) = (TempDir::new().unwrap(), key());
        write(&folder, &key);
        let (mode, headers) = (mode(&folder), headers_with(&key, "trader1"));
        assert!(mode.check(&headers, NOW).is_ok());
        let end = NOW + LIFETIME_SECONDS + LEEWAY_SECONDS;
        assert!(mode.check(&headers, end - 1).is_ok());
        assert_eq!(mode.check(&headers, end).err(), Some(IdentityError::Expired.into()));
    }

    #[test]
    fn a_remembered_token_ends_with_the_key_that_signed_it() {
        let (folder, key, next) = (TempDir::new().unwrap(), key(), key());
        write(&folder, &key);
        let (mode, headers) = (mode(&folder), headers_with(&key, "trader1"));
        assert!(mode.check(&headers, NOW).is_ok());
        write(&folder, &next);
        mode.keys.reload();
        assert_eq!(mode.check(&headers, NOW).err(), Some(IdentityError::UnknownKey.into()));
        assert!(mode.check(&headers_with(&next, "trader1"), NOW).is_ok());
    }

    #[test]
    fn another_user_stays_out_however_often_it_tries() {
        let (folder, key) = (TempDir::new().unwrap(), key());
        write(&folder, &key);
        let (mode, headers) = (mode(&folder), headers_with(&key, "trader2"));
        for _ in 0..2 {
            assert_eq!(mode.check(&headers, NOW).err(), Some(Refusal::WrongUser));
        }
    }

    #[test]
    fn memory_of_tokens_is_bounded() {
        let mut verified = Verified::default();
        for number in 0..REMEMBERED * 3 {
            let hash: [u8; 32] = Sha256::digest(number.to_le_bytes()).into();
            verified.remember(hash, NOW + 60, NOW);
            assert!(verified.holds(&hash, 0, NOW));
            assert!(verified.ends.len() <= REMEMBERED);
        }
    }
}
