//! API keys: long-lived credentials for programs, each of one user. What the cluster keeps of a key is its SHA-256.
//!
//! A plain hash is right here, unlike for passwords: a key is 256 random bits, so there is nothing to guess, and no salt
//! or slow function would make a search shorter or longer. A slow one would only let anybody burn the gateway's time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dexorder_protocol::hex;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::user_id;

/// What every key begins with: tells it from a token, and to whoever finds one in a file what it is.
pub(crate) const PREFIX: &str = "dxk_";
/// Hex digits of a key's name, which is also the name of its file.
const NAME_DIGITS: usize = 16;
const SECRET_BYTES: usize = 32;
/// How often the folder is looked at.
const REREAD: Duration = Duration::from_secs(5);
/// More keys than these are not read.
const MOST_KEYS: usize = 10_000;
/// An entry over this size is none.
const MOST_BYTES: u64 = 4096;

/// Why an API key does not hold. The texts are for the client: they hold nothing of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub(crate) enum ApiKeyError {
    #[error("the API key is malformed")]
    Malformed,
    #[error("the API key is unknown, or was withdrawn")]
    Unknown,
    #[error("the API key has expired")]
    Expired,
    #[error("this gateway takes no API keys")]
    NotTaken,
}

impl ApiKeyError {
    /// The value of the metric's label.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Malformed => "key_malformed",
            Self::Unknown => "key_unknown",
            Self::Expired => "key_expired",
            Self::NotTaken => "keys_not_taken",
        }
    }
}

/// Why no key can be made.
#[derive(Debug, thiserror::Error)]
pub enum NewKeyError {
    /// The user can't have one.
    #[error(
        "{0:?} is no user ID: expected 1 to 253 characters without spaces, and none that the platform keeps for itself"
    )]
    User(String),
    /// There is no randomness.
    #[error("the operating system gave no randomness")]
    Random,
}

/// What is kept of a key: the content of its file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Entry {
    /// The user that the key stands for.
    pub user: String,
    /// SHA-256 of the key's secret part, in hex.
    pub sha256: String,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire_time: Option<Timestamp>,
}

/// A key that was made.
#[derive(Debug, Serialize)]
pub struct NewKey {
    /// The key, for its user alone.
    pub key: String,
    /// Name of its entry in the Secret.
    pub name: String,
    /// The entry.
    pub entry: Entry,
}

impl NewKey {
    /// Makes a key for a user.
    pub fn make(user: &str, expire_time: Option<Timestamp>) -> Result<Self, NewKeyError> {
        if !user_id::is_free(user) {
            return Err(NewKeyError::User(user.to_owned()));
        }
        let (mut name, mut secret) = ([0; NAME_DIGITS / 2], [0; SECRET_BYTES]);
        for bytes in [&mut name[..], &mut secret[..]] {
            aws_lc_rs::rand::fill(bytes).map_err(|_| NewKeyError::Random)?;
        }
        let (name, secret) = (hex(&name), URL_SAFE_NO_PAD.encode(secret));
        let entry = Entry { user: user.to_owned(), sha256: hash(&secret), expire_time };
        Ok(Self { key: format!("{PREFIX}{name}_{secret}"), name, entry })
    }
}

fn hash(secret: &str) -> String {
    hex(&Sha256::digest(secret))
}

/// The parts of a key: the name of its entry, and its secret.
fn parts(key: &str) -> Option<(&str, &str)> {
    let (name, secret) = key.strip_prefix(PREFIX)?.split_once('_')?;
    let of_name = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    let named = name.len() == NAME_DIGITS && name.chars().all(of_name);
    let secret_fits = URL_SAFE_NO_PAD.decode(secret).is_ok_and(|bytes| bytes.len() == SECRET_BYTES);
    (named && secret_fits).then_some((name, secret))
}

type Entries = BTreeMap<String, Entry>;

/// The known keys, as they stand in a folder.
pub(crate) struct ApiKeys {
    folder: Option<PathBuf>,
    entries: RwLock<Arc<Entries>>,
}

impl ApiKeys {
    pub(crate) async fn new(folder: Option<PathBuf>) -> Self {
        let keys = Self { folder, entries: RwLock::default() };
        keys.reread().await;
        keys
    }

    /// How many keys are known.
    pub(crate) fn len(&self) -> usize {
        self.known().len()
    }

    /// The user that a key stands for. `now`: seconds since the epoch.
    pub(crate) fn verify(&self, key: &str, now: i64) -> Result<String, ApiKeyError> {
        if self.folder.is_none() {
            return Err(ApiKeyError::NotTaken);
        }
        let (name, secret) = parts(key).ok_or(ApiKeyError::Malformed)?;
        let known = self.known();
        let entry = known.get(name).ok_or(ApiKeyError::Unknown)?;
        verify_slices_are_equal(hash(secret).as_bytes(), entry.sha256.as_bytes())
            .map_err(|_| ApiKeyError::Unknown)?;
        match entry.expire_time {
            Some(end) if end.as_second() <= now => Err(ApiKeyError::Expired),
            _ => Ok(entry.user.clone()),
        }
    }

    /// Follows the folder, for ever.
    pub(crate) async fn follow(&self) {
        loop {
            tokio::time::sleep(REREAD).await;
            self.reread().await;
        }
    }

    pub(crate) async fn reread(&self) {
        let Some(folder) = &self.folder else {
            return;
        };
        match read(folder).await {
            Ok(entries) => {
                let mut known = self.entries.write().unwrap_or_else(PoisonError::into_inner);
                if **known != entries {
                    tracing::info!(keys = entries.len(), "API keys changed");
                    *known = Arc::new(entries);
                }
            }
            Err(error) => {
                tracing::warn!(%error, folder = %folder.display(), "the API keys can't be reread; the known ones stay");
            }
        }
    }

    fn known(&self) -> Arc<Entries> {
        Arc::clone(&self.entries.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// All entries. One that can't be used is passed over; a folder that is missing holds none.
async fn read(folder: &Path) -> std::io::Result<Entries> {
    let mut files = match tokio::fs::read_dir(folder).await {
        Ok(files) => files,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Entries::new()),
        Err(error) => return Err(error),
    };
    let mut entries = Entries::new();
    while let Some(file) = files.next_entry().await? {
        let Ok(name) = file.file_name().into_string() else {
            continue;
        };
        // Kubernetes keeps its own links beside the files.
        if name.starts_with('.') {
            continue;
        }
        if entries.len() >= MOST_KEYS {
            tracing::warn!(most = MOST_KEYS, "there are more API keys than are read");
            break;
        }
        match entry(&file.path()).await {
            Ok(entry) => drop(entries.insert(name, entry)),
            // The text says what is wrong with the form and shows nothing of the content.
            Err(problem) => tracing::warn!(name, problem, "an API key can't be used and is passed over"),
        }
    }
    Ok(entries)
}

async fn entry(path: &Path) -> Result<Entry, String> {
    let size = tokio::fs::metadata(path).await.map_err(|error| error.to_string())?.len();
    if size > MOST_BYTES {
        return Err(format!("it has {size} bytes: expected an entry of at most {MOST_BYTES}"));
    }
    let text = tokio::fs::read_to_string(path).await.map_err(|error| error.to_string())?;
    parse(&text)
}

fn parse(text: &str) -> Result<Entry, String> {
    let form = "expected {\"user\": ..., \"sha256\": ...}, as `dexorder-gateway new-api-key` prints it";
    let entry: Entry = serde_json::from_str(text).map_err(|_| form.to_owned())?;
    let hashed = entry.sha256.len() == 64
        && entry.sha256.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c));
    if !hashed {
        return Err("sha256 is no SHA-256: expected 64 hex digits in lower case".to_owned());
    }
    if !user_id::is_free(&entry.user) {
        return Err("user is no user ID, or one that the platform keeps for itself".to_owned());
    }
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mutation::{CASES, change};

    const NOW: i64 = 1_800_000_000;

    struct World {
        folder: tempfile::TempDir,
        keys: ApiKeys,
    }

    async fn world() -> World {
        let folder = tempfile::tempdir().unwrap();
        let keys = ApiKeys::new(Some(folder.path().to_owned())).await;
        World { folder, keys }
    }

    impl World {
        async fn add(&self, user: &str, end: Option<i64>) -> NewKey {
            let end = end.map(|second| Timestamp::from_second(second).unwrap());
            let new = NewKey::make(user, end).unwrap();
            self.write(&new.name, &serde_json::to_string(&new.entry).unwrap()).await;
            new
        }

        async fn write(&self, name: &str, text: &str) {
            std::fs::write(self.folder.path().join(name), text).unwrap();
            self.keys.reread().await;
        }

        fn user(&self, key: &str) -> Result<String, ApiKeyError> {
            self.keys.verify(key, NOW)
        }
    }

    #[tokio::test]
    async fn a_key_names_its_user_until_its_entry_goes() {
        let world = world().await;
        let (first, second) = (world.add("trader1", None).await, world.add("trader2", Some(NOW + 1)).await);
        assert_eq!(world.user(&first.key).as_deref(), Ok("trader1"));
        assert_eq!(world.user(&second.key).as_deref(), Ok("trader2"));
        assert_eq!(world.keys.verify(&second.key, NOW + 1), Err(ApiKeyError::Expired));
        std::fs::remove_file(world.folder.path().join(&first.name)).unwrap();
        world.keys.reread().await;
        assert_eq!(world.user(&first.key), Err(ApiKeyError::Unknown));
    }

    #[tokio::test]
    async fn what_is_kept_holds_nothing_of_the_key() {
        let new = NewKey::make("trader1", None).unwrap();
        let secret = parts(&new.key).unwrap().1;
        let kept = serde_json::to_string(&new.entry).unwrap();
        assert!(!kept.contains(secret));
        assert!(kept.contains(&hex(&Sha256::digest(secret))));
        assert_ne!(new.key, NewKey::make("trader1", None).unwrap().key);
    }

    #[tokio::test]
    async fn a_key_with_another_secret_or_name_is_unknown() {
        let world = world().await;
        let (own, other) = (world.add("trader1", None).await, world.add("trader2", None).await);
        let mixed = format!("{PREFIX}{}_{}", own.name, parts(&other.key).unwrap().1);
        assert_eq!(world.user(&mixed), Err(ApiKeyError::Unknown));
        for malformed in [
            PREFIX.to_owned(),
            own.key[..own.key.len() - 1].to_owned(),
            format!("{}A", own.key),
            own.key.replacen("dxk_", "dxk_../", 1),
            own.key.to_uppercase(),
        ] {
            assert!(world.user(&malformed).is_err(), "{malformed}");
        }
        // The hash is no key.
        let hashed = format!("{PREFIX}{}_{}", own.name, own.entry.sha256);
        assert_eq!(world.user(&hashed), Err(ApiKeyError::Malformed));
    }

    #[tokio::test]
    async fn an_entry_that_can_not_be_used_does_not_hide_the_others() {
        let world = world().await;
        let good = world.add("trader1", None).await;
        let hash = "0".repeat(64);
        for (name, text) in [
            ("a", "no JSON".to_owned()),
            ("b", format!(r#"{{"user":"anonymous:x","sha256":"{hash}"}}"#)),
            ("c", format!(r#"{{"user":"a b","sha256":"{hash}"}}"#)),
            ("d", r#"{"user":"u","sha256":"short"}"#.to_owned()),
            ("e", format!(r#"{{"user":"u","sha256":"{hash}","admin":true}}"#)),
            ("f", " ".repeat(5000)),
            ("..data", format!(r#"{{"user":"u","sha256":"{hash}"}}"#)),
        ] {
            world.write(name, &text).await;
        }
        assert_eq!(world.keys.len(), 1);
        assert!(world.user(&good.key).is_ok());
    }

    #[tokio::test]
    async fn without_a_folder_no_key_is_taken() {
        let key = NewKey::make("trader1", None).unwrap().key;
        assert_eq!(ApiKeys::new(None).await.verify(&key, NOW), Err(ApiKeyError::NotTaken));
        let missing = ApiKeys::new(Some(PathBuf::from("/nonexistent/keys"))).await;
        assert_eq!(missing.verify(&key, NOW), Err(ApiKeyError::Unknown));
        assert!(matches!(NewKey::make("gateway", None), Err(NewKeyError::User(_))));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(CASES))]

        #[test]
        fn a_key_that_was_changed_anywhere_is_refused(change in change()) {
            let (own, other) = (NewKey::make("trader1", None).unwrap(), NewKey::make("trader2", None).unwrap());
            let entries = [&own, &other].map(|new| (new.name.clone(), new.entry.clone())).into();
            let keys = ApiKeys { folder: Some(PathBuf::new()), entries: RwLock::new(Arc::new(entries)) };
            prop_assert_eq!(keys.verify(&own.key, NOW), Ok("trader1".to_owned()));
            if let Some(changed) = change.another(&own.key) {
                prop_assert!(keys.verify(&changed, NOW).is_err(), "{changed}");
            }
        }

        #[test]
        fn an_entry_that_was_changed_is_one_or_is_passed_over(change in change()) {
            let end = Timestamp::from_second(NOW).unwrap();
            let text = serde_json::to_string(&NewKey::make("trader1", Some(end)).unwrap().entry).unwrap();
            if let Some(Ok(entry)) = change.another(&text).map(|changed| parse(&changed)) {
                prop_assert!(user_id::is_free(&entry.user));
                prop_assert_eq!(entry.sha256.len(), 64);
            }
        }
    }
}
