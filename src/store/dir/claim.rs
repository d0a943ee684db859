//! Claims: who is computing a key. A file lock, which the kernel frees with the process.

use std::fs::TryLockError;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use fs_err::File;

use super::folder::{Folder, with_parent};
use crate::digest::Key;
use crate::store::{Claim, StoreError};

/// Bytes of a holder's text that are read at most.
const MOST_TEXT: u64 = 4096;

impl Folder {
    pub(super) fn claim(
        &self,
        key: &Key,
        holder: &str,
    ) -> Result<Result<Claim, String>, StoreError> {
        let path = self.claim_path(key);
        loop {
            let mut file = with_parent(&path, || {
                File::options().read(true).write(true).create(true).truncate(false).open(&path)
            })?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(Err(text_of(&file)?)),
                Err(TryLockError::Error(error)) => return Err(error.into()),
            }
            // The last holder may have removed the file between opening and locking: then the lock is on nothing.
            if !is_still_named(&file, &path)? {
                continue;
            }
            if file.metadata()?.len() > 0 {
                // Left by a holder who died. Not done to a new file: ext4 writes a file out at once that was cut to nothing before (1.3 ms).
                file.set_len(0)?;
            }
            file.write_all(holder.as_bytes())?;
            return Ok(Ok(Claim { hold: Box::new(Held { path, _lock: file }) }));
        }
    }

    /// Removes the files of claims whose holders died. Nobody's claim is lost: what is locked stays.
    pub(super) fn remove_dead_claims(&self) -> io::Result<()> {
        let folder = self.root().join("claim");
        for name in super::folder::names_in(&folder)? {
            let path = folder.join(name);
            let Ok(file) = File::open(&path) else { continue };
            if file.try_lock().is_ok() && is_still_named(&file, &path)? {
                drop(Held { path, _lock: file });
            }
        }
        Ok(())
    }
}

fn is_still_named(file: &File, path: &std::path::Path) -> io::Result<bool> {
    let metadata = file.metadata()?;
    Ok(fs_err::symlink_metadata(path)
        .is_ok_and(|named| (named.dev(), named.ino()) == (metadata.dev(), metadata.ino())))
}

fn text_of(file: &File) -> io::Result<String> {
    let mut text = Vec::new();
    file.take(MOST_TEXT).read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    // Its holder has not written yet.
    Ok(if text.is_empty() { "another run".to_owned() } else { text })
}

/// A held claim. Its file goes before its lock, so that who comes next makes a new one.
struct Held {
    path: PathBuf,
    _lock: File,
}

impl Drop for Held {
    fn drop(&mut self) {
        // What cannot be removed is no claim once the lock is gone.
        fs_err::remove_file(&self.path).ok();
    }
}
