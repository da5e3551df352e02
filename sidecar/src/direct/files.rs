//! Files that are there whole or not at all, for their owner alone.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::keys::KeyFolderError;

/// The text of a file, if there is one.
pub(super) fn read(path: &Path) -> Result<Option<String>, KeyFolderError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(KeyFolderError::File { what: "read", path: path.to_owned(), source }),
    }
}

/// Writes a file beside its place, syncs it, and puts it there.
pub(super) fn write(path: &Path, text: &[u8]) -> Result<(), KeyFolderError> {
    let fail = |what| move |source| KeyFolderError::File { what, path: path.to_owned(), source };
    let new = path.with_extension("json.new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(fail("make place for")(error)),
        _ => {}
    }
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    };
    write().map_err(fail("write"))
}
