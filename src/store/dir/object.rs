//! Objects at use: whether they are whole, their age, their manifests, and where damaged ones go.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::folder::{Folder, ObjectKind, changed_at, locked, name_new, nanoseconds};
use crate::digest::Digest;
use crate::store::inspect::is_absent;
use crate::store::{Entry, StoreError, artifact};

/// The mtime of every blob, seconds: the start of the year 2000. Not of 1970, which zip files cannot hold, and a stage may
/// well pack its inputs into one.
const MTIME: i64 = 946_684_800;
/// An object that is used and older than this gets a new age. Well below the least sensible grace of gc.
const OLD: Duration = Duration::from_hours(24);
/// What was found whole so recently is believed to be whole still; placing looks at each blob anyway.
const BELIEVED: Duration = Duration::from_mins(1);
/// Entries of manifests that are remembered at most (about 100 bytes each).
const MOST_REMEMBERED: usize = 200_000;

/// An artifact whose manifest was read.
#[derive(Debug)]
pub(in crate::store) struct Known {
    entries: Arc<[Entry]>,
    whole_at: Option<Instant>,
}

/// What lies where a blob should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blob {
    /// The right size and mtime.
    Good {
        /// Due for a new age.
        old: bool,
    },
    /// Nothing.
    Missing,
    /// Something else; it was moved to quarantine.
    Changed,
}

/// The mtime that blobs have.
pub(super) fn blob_mtime() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(MTIME.unsigned_abs())
}

/// Whether a file's size and mtime are those of the blob it should be.
pub(super) fn is_untouched(metadata: &std::fs::Metadata, size: u64) -> bool {
    metadata.is_file()
        && metadata.len() == size
        && metadata.mtime() == MTIME
        && metadata.mtime_nsec() == 0
}

impl Folder {
    /// Looks at a blob, without reading it.
    pub(super) fn blob(&self, digest: &Digest, size: u64) -> io::Result<Blob> {
        let path = self.object(ObjectKind::Blob, digest);
        match fs_err::symlink_metadata(&path) {
            Ok(metadata) if is_untouched(&metadata, size) => {
                Ok(Blob::Good { old: self.is_old(&metadata)? })
            }
            Ok(_) => self.put_away(&path).map(|_| Blob::Changed),
            Err(error) if is_absent(&error) => Ok(Blob::Missing),
            Err(error) => Err(error),
        }
    }

    pub(super) fn is_old(&self, metadata: &std::fs::Metadata) -> io::Result<bool> {
        Ok(changed_at(metadata) < self.about_now()?.saturating_sub(nanoseconds(OLD)))
    }

    /// Gives objects a new age, so that gc leaves them alone while they are used. Returns those that are gone.
    pub(super) fn renew(&self, objects: Vec<(Digest, PathBuf)>) -> io::Result<Vec<Digest>> {
        if objects.is_empty() {
            return Ok(Vec::new());
        }
        let _lock = self.lock_shared()?;
        let mut gone = Vec::new();
        for (digest, path) in objects {
            match fs_err::File::open(&path).and_then(|file| file.set_modified(blob_mtime())) {
                Ok(()) => {}
                Err(error) if is_absent(&error) => gone.push(digest),
                Err(error) => return Err(error),
            }
        }
        Ok(gone)
    }

    /// Moves a damaged object out of the way, so that it is never used and can be looked at. `false`: it was gone already.
    pub(super) fn put_away(&self, path: &Path) -> io::Result<bool> {
        locked(&self.known).clear();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let mut number = 0;
        loop {
            match name_new(path, &self.quarantine().join(format!("{name}.{number}"))) {
                Ok(true) => return Ok(true),
                Ok(false) => number += 1,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    /// The manifest of an artifact; its bytes were compared with its digest.
    pub(super) fn manifest(&self, digest: &Digest) -> Result<Arc<[Entry]>, StoreError> {
        if let Some(known) = locked(&self.known).get(digest) {
            return Ok(Arc::clone(&known.entries));
        }
        let path = self.object(ObjectKind::Tree, digest);
        let bytes = match fs_err::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if is_absent(&error) => return Err(self.damaged(digest, "missing")),
            Err(error) => return Err(error.into()),
        };
        let entries = match artifact::decode(&bytes) {
            Ok(entries) if Digest::of(&bytes) == *digest => Arc::from(entries),
            _ => {
                self.put_away(&path)?;
                return Err(self.damaged(digest, "damaged"));
            }
        };
        let mut known = locked(&self.known);
        if known.values().map(|known| known.entries.len()).sum::<usize>() > MOST_REMEMBERED {
            known.clear();
        }
        known.insert(*digest, Known { entries: Arc::clone(&entries), whole_at: None });
        Ok(entries)
    }

    pub(super) fn damaged(&self, digest: &Digest, what: &'static str) -> StoreError {
        StoreError::Damaged { digest: *digest, what, place: self.root().display().to_string() }
    }

    /// What of an artifact is missing or changed: nothing, its manifest (named by the artifact's own digest), or blobs.
    /// What is there and old gets a new age.
    pub(super) fn missing_of(&self, artifact: &Digest) -> Result<Vec<Digest>, StoreError> {
        let believed = locked(&self.known)
            .get(artifact)
            .and_then(|known| known.whole_at)
            .is_some_and(|at| at.elapsed() < BELIEVED);
        if believed {
            return Ok(Vec::new());
        }
        let path = self.object(ObjectKind::Tree, artifact);
        let metadata = match fs_err::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if is_absent(&error) => return Ok(vec![*artifact]),
            Err(error) => return Err(error.into()),
        };
        let entries = match self.manifest(artifact) {
            Ok(entries) => entries,
            Err(StoreError::Damaged { .. }) => return Ok(vec![*artifact]),
            Err(error) => return Err(error),
        };
        let mut missing = Vec::new();
        let mut old = Vec::new();
        if self.is_old(&metadata)? {
            old.push((*artifact, path));
        }
        for (digest, size) in artifact::files(&entries) {
            match self.blob(&digest, size)? {
                Blob::Good { old: false } => {}
                Blob::Good { old: true } => {
                    old.push((digest, self.object(ObjectKind::Blob, &digest)));
                }
                Blob::Missing | Blob::Changed => missing.push(digest),
            }
        }
        missing.extend(self.renew(old)?);
        if missing.is_empty() {
            if let Some(known) = locked(&self.known).get_mut(artifact) {
                known.whole_at = Some(Instant::now());
            }
        } else {
            self.forget(artifact);
        }
        Ok(missing)
    }

    /// Forgets what was known of an artifact that turned out not to be whole.
    pub(super) fn forget(&self, artifact: &Digest) {
        locked(&self.known).remove(artifact);
    }
}
