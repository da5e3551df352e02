//! Vouches for users towards their workspaces: short-lived signed identities, and the key that signs them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use dexorder_oidc::Expiring;
use dexorder_protocol::identity::{self, IdentityError};
use dexorder_protocol::{Issuer, KeyError, SigningKey};
use http::HeaderValue;

use crate::clock;
use crate::seal::Seals;

/// How long an identity is used again: half its life, so that it never arrives about to end.
const REUSE_SECONDS: i64 = identity::LIFETIME_SECONDS / 2;
/// How many identities are kept.
const KEPT: usize = 10_000;
/// How often the key files are looked at.
const REREAD: Duration = Duration::from_secs(5);
/// More keys than these beside the one that signs are not taken.
const MOST_TRUSTED: usize = 8;

/// Why no identity can be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// The file can't be read.
    #[error("can't read the signing key {}: {source}", path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file holds no key.
    #[error("{}: {source}", path.display())]
    Key {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong.
        source: KeyError,
    },
    /// The key gives no key for what clients keep.
    #[error("{}: no key for sessions and visitors can be derived from it", path.display())]
    Derive {
        /// Path of the file.
        path: PathBuf,
    },
}

/// Signs identities with the key in a file, and follows the file. What other `.pem` files in its folder hold does not
/// sign: it opens what a gateway sealed with it before the keys were rotated, or will have sealed.
pub(crate) struct Signer {
    path: PathBuf,
    current: RwLock<Arc<Key>>,
}

struct Key {
    signing: SigningKey,
    /// The texts of all keys, the one that signs first.
    pems: Vec<String>,
    seals: Arc<Seals>,
    /// Identities by workspace UID and user. They go with their key.
    signed: Expiring<(String, String), HeaderValue>,
}

impl Signer {
    pub(crate) async fn new(path: PathBuf) -> Result<Self, SignerError> {
        let key = read(&path).await?;
        tracing::info!(kid = key.signing.kid(), "signing key read");
        Ok(Self { path, current: RwLock::new(Arc::new(key)) })
    }

    /// An identity of a user that is good for one workspace, as a header's value.
    pub(crate) fn identity(&self, workspace_uid: &str, user: &str) -> Result<HeaderValue, IdentityError> {
        let now = clock::seconds();
        let current = Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner));
        let whom = (workspace_uid.to_owned(), user.to_owned());
        if let Some(value) = current.signed.get(&whom, now) {
            return Ok(value);
        }
        let token = identity::sign(&current.signing, Issuer::Gateway, workspace_uid, user, now)?;
        let mut value = HeaderValue::from_str(&token).map_err(|_| IdentityError::Sign)?;
        value.set_sensitive(true);
        current.signed.put(whom, value.clone(), now + REUSE_SECONDS, now);
        Ok(value)
    }

    /// The keys of what clients keep for the gateway.
    pub(crate) fn seals(&self) -> Arc<Seals> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).seals)
    }

    /// Follows the file, for ever. A key that can't be read leaves the one before in use.
    pub(crate) async fn follow(&self) {
        loop {
            tokio::time::sleep(REREAD).await;
            self.reread().await;
        }
    }

    async fn reread(&self) {
        match read(&self.path).await {
            Ok(key) => {
                let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
                if current.pems != key.pems {
                    let trusted = key.pems.len();
                    tracing::info!(kid = key.signing.kid(), trusted, "signing keys changed");
                    *current = Arc::new(key);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the signing key can't be reread; the known one stays in use");
            }
        }
    }
}

async fn read(path: &PathBuf) -> Result<Key, SignerError> {
    let pem = tokio::fs::read_to_string(path)
        .await
        .map_err(|source| SignerError::Read { path: path.clone(), source })?;
    let signing =
        SigningKey::from_pem(&pem).map_err(|source| SignerError::Key { path: path.clone(), source })?;
    let mut pems = vec![pem];
    pems.extend(trusted(path).await);
    let texts: Vec<&str> = pems.iter().map(String::as_str).collect();
    let seals = Seals::derive(&texts).map_err(|_| SignerError::Derive { path: path.clone() })?;
    Ok(Key { signing, pems, seals: Arc::new(seals), signed: Expiring::new(KEPT) })
}

/// The other keys in the folder, in the order of their names. One that can't be used does not hinder the rest.
async fn trusted(path: &Path) -> Vec<String> {
    let Some(mut folder) = path.parent().map(Path::to_owned) else {
        return Vec::new();
    };
    if folder.as_os_str().is_empty() {
        folder.push(".");
    }
    let mut paths = Vec::new();
    match tokio::fs::read_dir(&folder).await {
        Ok(mut entries) => {
            while let Ok(Some(entry)) = entries.next_entry().await {
                let other = entry.path();
                if other != *path && other.extension().is_some_and(|extension| extension == "pem") {
                    paths.push(other);
                }
            }
        }
        Err(error) => tracing::warn!(%error, folder = %folder.display(), "no other keys can be looked for"),
    }
    paths.sort();
    paths.truncate(MOST_TRUSTED);
    let mut pems = Vec::new();
    for path in paths {
        match tokio::fs::read_to_string(&path).await {
            Ok(pem) if SigningKey::from_pem(&pem).is_ok() => pems.push(pem),
            Ok(_) => tracing::warn!(file = %path.display(), "this is no signing key and is passed over"),
            Err(error) => tracing::warn!(%error, file = %path.display(), "a key can't be read"),
        }
    }
    pems
}

#[cfg(test)]
mod tests {
    use dexorder_protocol::{KeySet, TrustedKeys};

    use super::*;

    fn trusted(pem: &str) -> TrustedKeys {
        let key = SigningKey::from_pem(pem).unwrap();
        TrustedKeys::from_json(&KeySet::default().with(Issuer::Gateway, &key).to_json().unwrap()).unwrap()
    }

    fn holds(value: &HeaderValue, keys: &TrustedKeys, uid: &str) -> bool {
        identity::verify(value.to_str().unwrap(), keys, Issuer::Gateway, uid, clock::seconds()).is_ok()
    }

    #[tokio::test]
    async fn an_identity_is_good_for_its_workspace_and_is_used_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        let pem = SigningKey::generate_pem().unwrap();
        std::fs::write(&path, &pem).unwrap();
        let signer = Signer::new(path).await.unwrap();
        let first = signer.identity("uid-1", "trader1").unwrap();
        assert!(holds(&first, &trusted(&pem), "uid-1"));
        assert!(!holds(&first, &trusted(&pem), "uid-2"));
        assert_eq!(signer.identity("uid-1", "trader1").unwrap(), first);
        assert_ne!(signer.identity("uid-1", "trader2").unwrap(), first);
    }

    #[tokio::test]
    async fn a_changed_key_is_taken_and_a_broken_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        std::fs::write(&path, SigningKey::generate_pem().unwrap()).unwrap();
        let signer = Signer::new(path.clone()).await.unwrap();
        let old = signer.identity("uid", "user").unwrap();
        std::fs::write(&path, "no key").unwrap();
        signer.reread().await;
        assert_eq!(signer.identity("uid", "user").unwrap(), old);
        let pem = SigningKey::generate_pem().unwrap();
        std::fs::write(&path, &pem).unwrap();
        signer.reread().await;
        let new = signer.identity("uid", "user").unwrap();
        assert!(holds(&new, &trusted(&pem), "uid"));
        assert_ne!(new, old);
    }

    #[tokio::test]
    async fn other_keys_of_the_folder_open_and_do_not_sign() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let (old, new) = (SigningKey::generate_pem().unwrap(), SigningKey::generate_pem().unwrap());
        std::fs::write(at("key.pem"), &old).unwrap();
        std::fs::write(at("next.pem"), &new).unwrap();
        std::fs::write(at("broken.pem"), "no key").unwrap();
        let signer = Signer::new(at("key.pem")).await.unwrap();
        assert!(holds(&signer.identity("uid", "user").unwrap(), &trusted(&old), "uid"));
        let seal = |seals: &Seals| seals.visitors.seal(b"x".to_vec(), b"").unwrap();
        let opens = |sealed: &str| signer.seals().visitors.open(sealed.as_bytes(), b"").is_some();
        // Another replica has swapped them already.
        assert!(opens(&seal(&Seals::derive(&[&new]).unwrap())));
        let before = seal(&signer.seals());
        std::fs::write(at("previous.pem"), &old).unwrap();
        std::fs::write(at("key.pem"), &new).unwrap();
        std::fs::remove_file(at("next.pem")).unwrap();
        signer.reread().await;
        assert!(holds(&signer.identity("uid", "user").unwrap(), &trusted(&new), "uid"));
        assert!(opens(&before));
        std::fs::remove_file(at("previous.pem")).unwrap();
        signer.reread().await;
        assert!(!opens(&before));
    }
}
