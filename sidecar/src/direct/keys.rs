//! The workspace's own keys: one that clients seal to, one that signs its tokens. They are in a folder that only the
//! sidecar mounts, survive restarts, and are changed together on request; the ones before stay good for a while.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use dexorder_protocol::SigningKey;
use dexorder_protocol::control::RotateKeyOutcome;
use dexorder_protocol::direct::{Curve, Jwk, PrivateKey};
use serde::{Deserialize, Serialize};

use super::files;
use super::token::TokenKey;

const FILE: &str = "keys.json";
/// How long the keys before a rotation stay good, in seconds.
const OVERLAP_SECONDS: i64 = 600;

/// Why the workspace's keys can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFolderError {
    /// A file can't be read or written.
    #[error("failed to {what} {}: {source}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file holds no keys.
    #[error("{} holds no keys of a workspace: restore it, or remove it for new keys, which clients must pin anew", .0.display())]
    Malformed(PathBuf),
    /// No key can be made.
    #[error("failed to make a key")]
    Generate,
}

/// The keys as they are kept.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    current: StoredPair,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<StoredPair>,
    /// When the previous ones end, in seconds since the epoch.
    #[serde(default)]
    previous_until: i64,
    /// The last request for a rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rotation: Option<String>,
}

#[derive(Clone, Serialize, Deserialize)]
struct StoredPair {
    /// X25519: 32 bytes in base64url.
    agreement: String,
    /// Ed25519: PKCS#8 PEM.
    signing: String,
}

/// A pair that can be used.
pub(super) struct Pair {
    stored: StoredPair,
    agreement: PrivateKey,
    token: TokenKey,
}

/// The keys that are good now.
pub(crate) struct Ring {
    current: Pair,
    previous: Option<(Pair, i64)>,
    rotation: Option<String>,
}

/// The folder and its keys.
pub(super) struct DirectKeys {
    folder: PathBuf,
    ring: RwLock<Arc<Ring>>,
    rotating: Mutex<()>,
}

impl DirectKeys {
    /// Reads the keys, or makes them if there are none.
    pub(super) fn open(folder: &Path, now: i64) -> Result<Self, KeyFolderError> {
        let path = folder.join(FILE);
        let ring = if let Some(text) = files::read(&path)? {
            Ring::restore(&text).ok_or(KeyFolderError::Malformed(path))?
        } else {
            let ring = Ring { current: Pair::generate()?, previous: None, rotation: None };
            ring.keep(folder)?;
            tracing::info!(thumbprint = ring.current.public().thumbprint(), "made the workspace's keys");
            ring
        };
        let ring = ring.without_ended(now);
        Ok(Self { folder: folder.to_owned(), ring: RwLock::new(Arc::new(ring)), rotating: Mutex::default() })
    }

    pub(super) fn ring(&self) -> Arc<Ring> {
        Arc::clone(&self.ring.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes other keys, unless this request was carried out before. They are in use once they are kept.
    pub(super) fn rotate(&self, request: &str, now: i64) -> Result<RotateKeyOutcome, KeyFolderError> {
        let _one_at_a_time = self.rotating.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.ring();
        if before.rotation.as_deref() == Some(request) {
            return Ok(RotateKeyOutcome { public_key: before.current.public().thumbprint(), rotated: false });
        }
        let previous = Pair::restore(before.current.stored.clone()).ok_or(KeyFolderError::Generate)?;
        let next = Ring {
            current: Pair::generate()?,
            previous: Some((previous, now.saturating_add(OVERLAP_SECONDS))),
            rotation: Some(request.to_owned()),
        };
        next.keep(&self.folder)?;
        let public_key = next.current.public().thumbprint();
        tracing::info!(thumbprint = public_key, "the workspace's keys were changed");
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        Ok(RotateKeyOutcome { public_key, rotated: true })
    }
}

impl Ring {
    /// The pair to use.
    pub(super) fn current(&self) -> &Pair {
        &self.current
    }

    pub(super) fn rotation(&self) -> Option<&str> {
        self.rotation.as_deref()
    }

    /// The pairs that are good at a time, the one to use first.
    pub(super) fn good(&self, now: i64) -> impl Iterator<Item = &Pair> {
        let previous = self.previous.iter().filter(move |(_, until)| now < *until).map(|(pair, _)| pair);
        std::iter::once(&self.current).chain(previous)
    }

    /// The pair with this thumbprint, if it is good at a time.
    pub(super) fn find(&self, thumbprint: &str, now: i64) -> Option<&Pair> {
        self.good(now).find(|pair| pair.public().thumbprint() == thumbprint)
    }

    fn restore(text: &str) -> Option<Self> {
        let stored: Stored = serde_json::from_str(text).ok()?;
        let previous = match stored.previous {
            Some(pair) => Some((Pair::restore(pair)?, stored.previous_until)),
            None => None,
        };
        Some(Self { current: Pair::restore(stored.current)?, previous, rotation: stored.rotation })
    }

    fn without_ended(self, now: i64) -> Self {
        let previous = self.previous.filter(|(_, until)| now < *until);
        Self { previous, ..self }
    }

    fn keep(&self, folder: &Path) -> Result<(), KeyFolderError> {
        let stored = Stored {
            current: self.current.stored.clone(),
            previous: self.previous.as_ref().map(|(pair, _)| pair.stored.clone()),
            previous_until: self.previous.as_ref().map_or(0, |(_, until)| *until),
            rotation: self.rotation.clone(),
        };
        let text = serde_json::to_vec(&stored).map_err(|_| KeyFolderError::Generate)?;
        files::write(&folder.join(FILE), &text)
    }
}

impl Pair {
    fn generate() -> Result<Self, KeyFolderError> {
        let agreement = PrivateKey::generate().and_then(|key| key.to_bytes());
        let stored = StoredPair {
            agreement: URL_SAFE_NO_PAD.encode(agreement.map_err(|_| KeyFolderError::Generate)?),
            signing: SigningKey::generate_pem().map_err(|_| KeyFolderError::Generate)?,
        };
        Self::restore(stored).ok_or(KeyFolderError::Generate)
    }

    fn restore(stored: StoredPair) -> Option<Self> {
        let agreement = PrivateKey::from_bytes(&URL_SAFE_NO_PAD.decode(&stored.agreement).ok()?).ok()?;
        let token = TokenKey::from_pem(&stored.signing)?;
        Some(Self { stored, agreement, token })
    }

    pub(super) const fn agreement(&self) -> &PrivateKey {
        &self.agreement
    }

    pub(super) const fn token(&self) -> &TokenKey {
        &self.token
    }

    /// What clients seal to.
    pub(super) fn public(&self) -> Jwk {
        Jwk::new(Curve::X25519, self.agreement.public())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn thumbprint(keys: &DirectKeys) -> String {
        keys.ring().current().public().thumbprint()
    }

    #[test]
    fn keys_are_made_once_and_kept_for_the_sidecar_alone() {
        let folder = TempDir::new().unwrap();
        let made = thumbprint(&DirectKeys::open(folder.path(), NOW).unwrap());
        assert_eq!(thumbprint(&DirectKeys::open(folder.path(), NOW).unwrap()), made);
        let rights = std::fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(rights & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left over");
    }

    #[test]
    fn a_request_changes_the_keys_once_and_the_old_ones_stay_good_for_a_while() {
        let folder = TempDir::new().unwrap();
        let keys = DirectKeys::open(folder.path(), NOW).unwrap();
        let old = thumbprint(&keys);
        let first = keys.rotate("1", NOW).unwrap();
        assert!(first.rotated && first.public_key != old);
        let again = keys.rotate("1", NOW).unwrap();
        assert_eq!(again, RotateKeyOutcome { public_key: first.public_key.clone(), rotated: false });
        // Also after a restart.
        let keys = DirectKeys::open(folder.path(), NOW + 1).unwrap();
        assert_eq!(keys.ring().rotation(), Some("1"));
        assert!(!keys.rotate("1", NOW + 1).unwrap().rotated);
        assert!(keys.ring().find(&old, NOW + OVERLAP_SECONDS - 1).is_some());
        assert!(keys.ring().find(&old, NOW + OVERLAP_SECONDS).is_none());
        assert!(keys.ring().find(&first.public_key, NOW + OVERLAP_SECONDS).is_some());
        assert!(keys.rotate("2", NOW + 2).unwrap().rotated);
        assert!(keys.ring().find(&old, NOW + 3).is_none(), "two rotations end it");
    }

    #[test]
    fn what_is_no_key_is_never_replaced() {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join(FILE), "{\"current\"").unwrap();
        let error = DirectKeys::open(folder.path(), NOW).err().unwrap();
        assert!(matches!(error, KeyFolderError::Malformed(_)), "{error}");
        assert_eq!(std::fs::read_to_string(folder.path().join(FILE)).unwrap(), "{\"current\"");
    }

    #[test]
    fn what_a_crash_left_of_a_write_is_no_obstacle() {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("keys.json.new"), "half").unwrap();
        let made = thumbprint(&DirectKeys::open(folder.path(), NOW).unwrap());
        assert_eq!(thumbprint(&DirectKeys::open(folder.path(), NOW).unwrap()), made);
    }
}
