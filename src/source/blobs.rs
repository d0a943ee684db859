//! Bytes of a snapshot's files, read once. Small ones stay in memory, so a thousand stages cost one inflation each file.

use std::collections::HashMap;
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
        let opened = match inner.repository.take() {
            Some(repository) => repository,
            None => Repository::open_bare(mirror).map_err(|error| damaged(mirror, &error))?,
        };
        let repository = inner.repository.insert(opened);
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
}

impl std::fmt::Debug for Blobs {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Blobs")
    }
}
