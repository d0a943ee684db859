//! Bytes of a snapshot's files, read once. Small ones stay in memory, so a thousand stages cost one inflation each file.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use git2::{Oid, Repository};

use super::SourceError;
use super::mirror::damaged;

/// Bytes kept in memory per snapshot.
const KEPT: usize = 8 << 20;

/// The cache of one snapshot.
#[derive(Default)]
pub(crate) struct Blobs(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    repository: Option<Repository>,
    kept: HashMap<String, Arc<[u8]>>,
    size: usize,
}

impl Blobs {
    /// The bytes of the blob with these 40 hex digits.
    pub(super) fn read(&self, mirror: &Path, blob: &str) -> Result<Arc<[u8]>, SourceError> {
        // What a panicking reader left is a cache that lacks an entry, nothing worse.
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = inner.kept.get(blob) {
            return Ok(bytes.clone());
        }
        let repository = inner.repository(mirror)?;
        let bytes: Arc<[u8]> = Oid::from_str(blob)
            .and_then(|id| repository.find_blob(id))
            .map(|blob| blob.content().into())
            .map_err(|error| damaged(mirror, &error))?;
        if inner.size + bytes.len() <= KEPT {
            inner.size += bytes.len();
            inner.kept.insert(blob.to_owned(), bytes.clone());
        }
        Ok(bytes)
    }

    /// Writes the blob's bytes into `file`; a large one piece by piece where git's storage allows it.
    pub(super) fn write(
        &self,
        mirror: &Path,
        blob: &str,
        file: &mut File,
    ) -> Result<(), SourceError> {
        let large = {
            let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match inner.kept.get(blob).cloned() {
                Some(bytes) => return Ok(file.write_all(&bytes)?),
                None => stream(inner.repository(mirror)?, blob, file)?,
            }
        };
        if large { Ok(()) } else { Ok(file.write_all(&self.read(mirror, blob)?)?) }
    }
}

impl Inner {
    fn repository(&mut self, mirror: &Path) -> Result<&Repository, SourceError> {
        let opened = match self.repository.take() {
            Some(repository) => repository,
            None => Repository::open_bare(mirror).map_err(|error| damaged(mirror, &error))?,
        };
        Ok(self.repository.insert(opened))
    }
}

/// Copies a blob that is too large to keep, piece by piece. False, and nothing written: it is small, or lies in a pack.
fn stream(repository: &Repository, blob: &str, file: &mut File) -> Result<bool, SourceError> {
    let (odb, id) = (repository.odb()?, Oid::from_str(blob)?);
    if !odb.read_header(id).is_ok_and(|(size, _)| size > KEPT) {
        return Ok(false);
    }
    let Ok((mut reader, _, _)) = odb.reader(id) else { return Ok(false) };
    std::io::copy(&mut reader, file)?;
    Ok(true)
}

impl std::fmt::Debug for Blobs {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Blobs")
    }
}
