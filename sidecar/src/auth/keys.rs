//! The public keys of gateway and operator, from a file that is read again when it changes, so that keys rotate
//! without a restart.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use dexorder_protocol::{KeyError, TrustedKeys};
use tokio::time::{MissedTickBehavior, interval};

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why the file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysFileError {
    /// It can't be read.
    #[error("failed to read the identity keys from {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// It holds no keys.
    #[error("the identity keys in {path} can't be used")]
    Keys {
        /// The file.
        path: PathBuf,
        /// What is wrong with them.
        #[source]
        source: KeyError,
    },
}

/// The keys that are trusted now.
pub(crate) struct Trusted {
    pub(crate) keys: TrustedKeys,
    /// Another number for every content of the file.
    pub(crate) generation: u64,
}

/// The file and its keys.
pub(crate) struct IdentityKeys {
    path: PathBuf,
    trusted: RwLock<Arc<Trusted>>,
    version: Mutex<Option<Version>>,
}

/// What tells one version of the file from the next. The kubelet swaps a symbolic link, so the file behind it is new.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Version {
    device: u64,
    inode: u64,
    modified: (i64, i64),
    length: u64,
}

impl IdentityKeys {
    /// Reads the file for the first time.
    pub(crate) fn read(path: PathBuf) -> Result<Self, KeysFileError> {
        // The version is taken first: a change while the content is read is then seen at the next look.
        let version = version(&path);
        let keys = load(&path)?;
        let trusted = RwLock::new(Arc::new(Trusted { keys, generation: 0 }));
        Ok(Self { path, trusted, version: Mutex::new(version) })
    }

    pub(crate) fn current(&self) -> Arc<Trusted> {
        Arc::clone(&self.trusted.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks at the file every second, for ever.
    pub(crate) async fn watch(&self) {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.reload();
        }
    }

    /// Reads the file again if it has changed. One that can't be used leaves the known keys in place.
    pub(crate) fn reload(&self) {
        let found = version(&self.path);
        let mut known = self.version.lock().unwrap_or_else(PoisonError::into_inner);
        if found == *known {
            return;
        }
        *known = found;
        match load(&self.path) {
            Ok(keys) => {
                let mut trusted = self.trusted.write().unwrap_or_else(PoisonError::into_inner);
                *trusted = Arc::new(Trusted { keys, generation: trusted.generation + 1 });
                tracing::info!("the identity keys were read again");
            }
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the identity keys changed and can't be used: the keys from before stay"
            ),
        }
    }
}

fn version(path: &PathBuf) -> Option<Version> {
    let metadata = fs::metadata(path).ok()?;
    Some(Version {
        device: metadata.dev(),
        inode: metadata.ino(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        length: metadata.size(),
    })
}

fn load(path: &PathBuf) -> Result<TrustedKeys, KeysFileError> {
    let json =
        fs::read_to_string(path).map_err(|source| KeysFileError::Read { path: path.clone(), source })?;
    TrustedKeys::from_json(&json).map_err(|source| KeysFileError::Keys { path: path.clone(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use dexorder_protocol::{Issuer, KeySet, SigningKey};
    use tempfile::TempDir;

    use super::*;

    fn json() -> String {
        let key = SigningKey::from_pem(&SigningKey::generate_pem().unwrap()).unwrap();
        KeySet::default().with(Issuer::Gateway, &key).to_json().unwrap()
    }

    #[test]
    fn a_swapped_link_is_noticed() {
        let folder = TempDir::new().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["one", "two"] {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("identity-keys"), json()).unwrap();
        }
        symlink("one", at("data")).unwrap();
        symlink("data/identity-keys", at("identity-keys")).unwrap();
        let keys = IdentityKeys::read(at("identity-keys")).unwrap();
        keys.reload();
        assert_eq!(keys.current().generation, 0);
        symlink("two", at("data-new")).unwrap();
        fs::rename(at("data-new"), at("data")).unwrap();
        keys.reload();
        assert_eq!(keys.current().generation, 1);
    }

    #[test]
    fn a_file_that_can_not_be_used_is_refused_at_first_and_ignored_later() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("identity-keys");
        let missing = IdentityKeys::read(path.clone()).err().unwrap();
        assert!(missing.to_string().contains("identity-keys"), "{missing}");
        fs::write(&path, "{").unwrap();
        assert!(matches!(IdentityKeys::read(path.clone()), Err(KeysFileError::Keys { .. })));
        fs::write(&path, json()).unwrap();
        let keys = IdentityKeys::read(path.clone()).unwrap();
        fs::write(&path, "not json at all").unwrap();
        keys.reload();
        assert_eq!(keys.current().generation, 0);
        fs::write(&path, json()).unwrap();
        keys.reload();
        assert_eq!(keys.current().generation, 1);
    }
}
