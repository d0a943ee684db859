//! The file with the key of a home: made once, for its owner alone.

use std::io::{ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use age::secrecy::ExposeSecret;
use age::x25519::Identity;

use super::VaultError;

/// Reads the key; none when the file is not there.
pub(super) fn read(file: &Path) -> Result<Option<Identity>, VaultError> {
    let metadata = match fs_err::metadata(file) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let others = metadata.mode() & 0o077 != 0;
    if others || metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(VaultError::NotPrivate { file: file.to_owned() });
    }
    let damaged = || VaultError::NoKey { place: format!("`{}`", file.display()) };
    let text = fs_err::read_to_string(file).map_err(|error| match error.kind() {
        ErrorKind::InvalidData => damaged(),
        _ => VaultError::Io(error),
    })?;
    // The form of `age-keygen`: remarks, and one line with the key.
    let mut lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let line = lines.find(|line| !line.is_empty()).ok_or_else(damaged)?;
    line.parse().map(Some).map_err(|_| damaged())
}

/// Makes the file with a fresh key unless it is there. Of two processes at once one makes it, and both go on with that key. A crash
/// leaves no key or a whole one.
pub(super) fn make(file: &Path) -> Result<(), VaultError> {
    let folder = file.parent().unwrap_or(Path::new("."));
    // 0600 from its first moment.
    let mut fresh = tempfile::Builder::new().prefix(".key-").tempfile_in(folder)?;
    let key = Identity::generate();
    writeln!(fresh, "# The key of the secrets of this flowrun home. Without it they are lost.")?;
    writeln!(fresh, "{}", key.to_string().expose_secret())?;
    fresh.as_file().sync_all()?;
    match fresh.persist_noclobber(file) {
        Ok(_) => Ok(fs_err::File::open(folder)?.sync_all()?),
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error.error.into()),
    }
}
