//! Objects at use: whether they are whole, their age, their manifests, and where damaged ones go.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::folder::{Folder, ObjectKind, changed_at, locked, name_new, nanoseconds};
use crate::digest::Digest;
use crate::store::hash::hash_file;
use crate::store::inspect::is_absent;
use crate::store::{Entry, StoreError, artifact};

/// The mtime of blobs that are known to be durable, seconds: the start of the year 2000. Not of 1970, which zip files cannot hold,
/// and a stage may well pack its inputs into one.
const SEALED: i64 = 946_684_800;
/// Blobs that are not known to be durable yet have one of the mtimes up to so many seconds later, by the boot they were made in.
const BOOTS: u64 = 1 << 29;
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
    /// The right bytes, as far as can be told without reading them.
    Good {
        /// Due for a new age.
        old: bool,
    },
    /// Nothing.
    Missing,
    /// Something else; it was moved to quarantine.
    Changed,
}

/// What a file's size and mtime tell of the blob it should be. A write by anybody else gives it the time of today.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stamp {
    /// As it was made, and durable.
    Sealed,
    /// As it was made, in the boot with this number (from 1).
    MadeIn(u64),
    /// Somebody wrote into it.
    Changed,
}

impl Stamp {
    /// Reads the stamp of a blob of this size.
    pub(super) fn of(metadata: &std::fs::Metadata, size: u64) -> Self {
        let as_made = metadata.is_file() && metadata.len() == size && metadata.mtime_nsec() == 0;
        match u64::try_from(metadata.mtime() - SEALED) {
            Ok(0) if as_made => Self::Sealed,
            Ok(boot @ 1..=BOOTS) if as_made => Self::MadeIn(boot),
            _ => Self::Changed,
        }
    }

    /// The number of a boot, from anything that differs from boot to boot.
    pub(super) fn boot_number(of: &[u8]) -> u64 {
        let mut start = [0; 8];
        start.copy_from_slice(&blake3::hash(of).as_bytes()[..8]);
        u64::from_le_bytes(start) % BOOTS + 1
    }
}

/// The mtime of a durable blob, and of every copy that is placed.
pub(super) fn sealed_mtime() -> SystemTime {
    made_in(0)
}

/// The mtime of a blob made in this boot.
pub(super) fn made_in(boot: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(SEALED.unsigned_abs() + boot)
}

impl Folder {
    /// Looks at a blob. It is read only when it was made in an earlier boot and never became durable: the power may have gone off
    /// while its bytes were on their way, which leaves any bytes under the right size.
    pub(super) fn blob(&self, digest: &Digest, size: u64) -> io::Result<Blob> {
        let path = self.object(ObjectKind::Blob, digest);
        let metadata = match fs_err::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if is_absent(&error) => return Ok(Blob::Missing),
            Err(error) => return Err(error),
        };
        let good = match Stamp::of(&metadata, size) {
            Stamp::Sealed => true,
            Stamp::MadeIn(boot) if boot == self.boot() => true,
            Stamp::MadeIn(_) => self.has_survived(digest, &path, size)?,
            Stamp::Changed => false,
        };
        if good {
            return Ok(Blob::Good { old: self.is_old(&metadata)? });
        }
        self.put_away(&path)?;
        Ok(Blob::Changed)
    }

    fn has_survived(&self, digest: &Digest, path: &Path, size: u64) -> io::Result<bool> {
        let file = fs_err::File::open(path)?;
        if hash_file(&file, size)? != *digest {
            return Ok(false);
        }
        file.set_modified(made_in(self.boot()))?;
        self.synced.made(*digest);
        Ok(true)
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
            match touch(&path) {
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

/// Gives a file a new age and keeps its mtime, which is its stamp.
fn touch(path: &Path) -> io::Result<()> {
    let file = fs_err::File::open(path)?;
    file.set_modified(file.metadata()?.modified()?)
}
