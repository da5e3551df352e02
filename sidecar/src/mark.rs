//! Remembers a drain for a sidecar that is started anew in the same pod: what was drained is deleted next, and must not
//! serve for a moment in between.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Name of the mark, beside the agent's socket: in memory, on a volume that ends with the pod.
const NAME: &str = "drained";

/// The mark of one pod.
pub(crate) struct Mark(PathBuf);

impl Mark {
    /// The mark of the pod that has the agent's socket there.
    pub(crate) fn beside(agent_socket: &Path) -> Self {
        Self(agent_socket.with_file_name(NAME))
    }

    /// Whether the pod was drained. The agent may write here too: a link is as good as a file, and is not followed.
    pub(crate) fn is_set(&self) -> bool {
        self.0.symlink_metadata().is_ok()
    }

    /// Sets it for as long as there is the pod.
    pub(crate) fn set(&self) {
        match OpenOptions::new().write(true).create_new(true).open(&self.0) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            // The operator drains once more if it does not end the pod at once.
            Err(error) => tracing::warn!(%error, path = %self.0.display(), "the drain was not marked"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_set_once_and_follows_no_link() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key");
        std::fs::write(&key, "secret").unwrap();
        let mark = Mark::beside(&folder.path().join("agent.sock"));
        assert!(!mark.is_set());
        std::os::unix::fs::symlink(&key, folder.path().join(NAME)).unwrap();
        mark.set();
        assert!(mark.is_set());
        assert_eq!(std::fs::read_to_string(&key).unwrap(), "secret");
        std::fs::remove_file(folder.path().join(NAME)).unwrap();
        mark.set();
        mark.set();
        assert!(mark.is_set());
    }
}
