//! What a user proves themselves with: a token of an OpenID issuer, or a password whose argon2id hash is in a file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use argon2::password_hash::PasswordVerifier;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params};
use dexorder_oidc::{ALGORITHMS, FetchError, IssuerConfig, KeySource, TokenError, Verifier};
use dexorder_protocol::direct::{Credential, CredentialKind};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::config::{CredentialsConfig, OidcConfig};
use crate::refusal::{CredentialError, Refusal};

/// The most memory that a hash may ask for, in KiB: the sidecar has 64 MiB in all.
const MOST_MEMORY: u32 = 32 * 1024;
const MOST_PASSES: u32 = 10;
const MOST_LANES: u32 = 4;
/// A hash of this length is not looked at.
const MAX_HASH_BYTES: u64 = 4 * 1024;
/// The longest password.
const MAX_PASSWORD_BYTES: usize = 1024;
/// How long an attempt waits for those before it.
const TURN: Duration = Duration::from_secs(5);
const REMEMBERED: usize = 64;
/// What is computed for an entry that does not exist, so that its absence can't be told by the time.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// How credentials are checked.
pub(super) enum Credentials {
    /// Against the issuer's keys.
    Oidc(Verifier),
    /// Against hashes.
    Hashes(Hashes),
}

/// A folder of argon2id hashes: the mounted Secret.
pub(super) struct Hashes {
    folder: PathBuf,
    /// One hash is computed at a time, for its memory.
    turn: Semaphore,
}

impl Credentials {
    pub(super) async fn new(config: &CredentialsConfig) -> Result<Self, FetchError> {
        match config {
            CredentialsConfig::Hashes(folder) => {
                Ok(Self::Hashes(Hashes { folder: folder.clone(), turn: Semaphore::new(1) }))
            }
            CredentialsConfig::Oidc(oidc) => {
                Ok(Self::Oidc(Verifier::new(&[issuer(oidc)], REMEMBERED).await?))
            }
        }
    }

    /// Checks that a credential is the user's, and says when it ends if it does.
    pub(super) async fn check(
        &self,
        credential: &Credential,
        user: &str,
        now: i64,
    ) -> Result<Option<i64>, Refusal> {
        match (self, credential.kind) {
            (Self::Oidc(verifier), CredentialKind::Token) => {
                let found = verifier.verify(&credential.value, now).await.map_err(|error| {
                    tracing::info!(%error, "a token was refused");
                    match error {
                        TokenError::KeysUnavailable => {
                            Refusal::Unavailable("the issuer's keys can't be fetched")
                        }
                        _ => Refusal::Credential(CredentialError::Refused),
                    }
                })?;
                if found.user == user {
                    Ok(Some(found.expires))
                } else {
                    tracing::info!("a token of another user was refused");
                    Err(Refusal::Credential(CredentialError::Refused))
                }
            }
            (Self::Hashes(hashes), CredentialKind::Password) => {
                let entry = credential.id.as_deref().unwrap_or(user);
                hashes.check(entry, &credential.value).await.map(|()| None)
            }
            (Self::Oidc(_), CredentialKind::Password) | (Self::Hashes(_), CredentialKind::Token) => {
                Err(Refusal::Credential(CredentialError::Refused))
            }
        }
    }

    pub(super) async fn keep_fresh(&self) {
        if let Self::Oidc(verifier) = self {
            verifier.keep_keys_fresh().await;
        }
    }
}

impl Hashes {
    async fn check(&self, entry: &str, password: &str) -> Result<(), Refusal> {
        let refused = Refusal::Credential(CredentialError::Refused);
        if password.is_empty() || password.len() > MAX_PASSWORD_BYTES {
            return Err(refused);
        }
        let Ok(Ok(_turn)) = timeout(TURN, self.turn.acquire()).await else {
            return Err(Refusal::TooMany { seconds: 5 });
        };
        let (folder, entry, password) = (self.folder.clone(), entry.to_owned(), password.to_owned());
        let holds = tokio::task::spawn_blocking(move || {
            let hash = read(&folder, &entry);
            let known = hash.is_some();
            let hash = hash.unwrap_or_else(|| NOBODY.to_owned());
            known & Argon2::default().verify_password(password.as_bytes(), hash.as_str()).is_ok()
        });
        match holds.await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(refused),
        }
    }
}

/// The hash of an entry, if there is one that may be computed here.
fn read(folder: &Path, entry: &str) -> Option<String> {
    // What can be a key of a Secret. Names with a leading dot are the kubelet's own.
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    if entry.is_empty() || entry.len() > 253 || entry.starts_with('.') || !entry.chars().all(allowed) {
        return None;
    }
    let path = folder.join(entry);
    if std::fs::metadata(&path).ok()?.len() > MAX_HASH_BYTES {
        return None;
    }
    let text = std::fs::read_to_string(path).ok()?;
    let text = text.trim();
    match usable(text) {
        Ok(()) => Some(text.to_owned()),
        Err(problem) => {
            tracing::warn!(entry, problem, "a hash of the Secret can't be used");
            None
        }
    }
}

fn usable(text: &str) -> Result<(), &'static str> {
    let hash = PasswordHash::new(text).map_err(|_| "it is no hash in PHC form")?;
    if hash.algorithm != Algorithm::Argon2id.ident() {
        return Err("it is not of argon2id");
    }
    let params = Params::try_from(&hash).map_err(|_| "its parameters can't be read")?;
    if params.m_cost() > MOST_MEMORY || params.t_cost() > MOST_PASSES || params.p_cost() > MOST_LANES {
        return Err("it asks for too much: at most m=32768, t=10, p=4");
    }
    Ok(())
}

fn issuer(oidc: &OidcConfig) -> IssuerConfig {
    let keys = match (&oidc.jwks, &oidc.jwks_uri) {
        (Some(jwks), _) => KeySource::Inline(jwks.clone()),
        (None, Some(uri)) => KeySource::Uri(uri.clone()),
        (None, None) => KeySource::Inline(String::new()),
    };
    IssuerConfig {
        issuer: oidc.issuer.clone(),
        audience: oidc.audience.clone(),
        keys,
        user_id_claim: oidc.user_claim.clone(),
        user_id_prefix: String::new(),
        algorithms: ALGORITHMS.to_vec(),
        ca_file: None,
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// Made with `dexorder-direct hash`: m=19456, t=2, p=1.
    const HASH: &str =
        "$argon2id$v=19$m=19456,t=2,p=1$6mGIuWSBbFVuuAx2qmVyMw$eKDl/fNQeh22Z9/f7HFWKLvDm6aHAxN6qwRWgtsGkK0";

    fn hashes(entries: &[(&str, &str)]) -> (TempDir, Hashes) {
        let folder = TempDir::new().unwrap();
        for (entry, hash) in entries {
            std::fs::write(folder.path().join(entry), hash).unwrap();
        }
        let hashes = Hashes { folder: folder.path().to_owned(), turn: Semaphore::new(1) };
        (folder, hashes)
    }

    #[tokio::test]
    async fn a_password_is_checked_against_its_own_entry() {
        let line = format!("{HASH}\n");
        let (_folder, hashes) = hashes(&[("trader1", &line), ("laptop", HASH)]);
        assert_eq!(hashes.check("trader1", "correct horse").await, Ok(()));
        assert_eq!(hashes.check("laptop", "correct horse").await, Ok(()));
        let refused = Err(Refusal::Credential(CredentialError::Refused));
        for (entry, password) in [
            ("trader1", "wrong horse"),
            ("trader1", ""),
            ("nobody", "correct horse"),
            ("../trader1", "correct horse"),
            (".", "x"),
            ("", "x"),
        ] {
            assert_eq!(hashes.check(entry, password).await, refused, "{entry} {password}");
        }
    }

    #[tokio::test]
    async fn a_hash_that_can_not_be_used_lets_nobody_in() {
        let heavy = HASH.replace("m=19456", "m=1048576");
        let other = HASH.replace("argon2id", "argon2i");
        let (_folder, hashes) =
            hashes(&[("heavy", &heavy), ("other", &other), ("plain", "correct horse"), ("empty", "")]);
        for entry in ["heavy", "other", "plain", "empty"] {
            let outcome = hashes.check(entry, "correct horse").await;
            assert_eq!(outcome, Err(Refusal::Credential(CredentialError::Refused)), "{entry}");
        }
    }

    #[test]
    fn what_stands_for_nobody_costs_as_much_as_somebody() {
        assert_eq!(usable(NOBODY), Ok(()));
    }
}
