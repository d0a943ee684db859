//! A store that is not written: `store.access = read-only`.

use std::io::{Error, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::digest::{Digest, Key};
use crate::names::RunId;
use crate::store::{
    CheckReport, Claim, Entry, Lookup, Placed, Record, Refused, Store, StoreError, Swept,
};

/// Reads go through, writes are refused; pins are left out, as they keep nothing from this side.
pub(crate) struct ReadOnlyStore {
    inner: Arc<dyn Store>,
}

impl ReadOnlyStore {
    /// Closes a store for writing.
    pub(crate) fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner }
    }
}

fn refused<T>() -> Result<T, StoreError> {
    Err(StoreError::Io(Error::new(
        ErrorKind::PermissionDenied,
        "the store is read-only here (setting `store.access`), so nothing new can be kept",
    )))
}

#[async_trait]
impl Store for ReadOnlyStore {
    async fn look_up(&self, key: &Key) -> Result<Lookup, StoreError> {
        self.inner.look_up(key).await
    }

    async fn put_record(&self, _: Record, _: bool) -> Result<Record, StoreError> {
        refused()
    }

    async fn take_in(&self, _: &Path) -> Result<Result<Digest, Refused>, StoreError> {
        refused()
    }

    async fn sync(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn place(
        &self,
        artifact: &Digest,
        target: &Path,
        own: bool,
    ) -> Result<Vec<Placed>, StoreError> {
        self.inner.place(artifact, target, own).await
    }

    async fn changed(&self, placed: &[Placed]) -> Result<Vec<Placed>, StoreError> {
        self.inner.changed(placed).await
    }

    async fn entries(&self, artifact: &Digest) -> Result<Vec<Entry>, StoreError> {
        self.inner.entries(artifact).await
    }

    async fn pin(&self, _: RunId, _: &[Digest]) -> Result<(), StoreError> {
        Ok(())
    }

    async fn unpin(&self, _: RunId) -> Result<(), StoreError> {
        Ok(())
    }

    async fn claim(&self, _: &Key, _: &str) -> Result<Result<Claim, String>, StoreError> {
        // A miss cannot be computed here, since its result could not be kept: said before any work is done.
        refused()
    }

    async fn collect_garbage(
        &self,
        keep_records: Duration,
        grace: Duration,
        dry_run: bool,
    ) -> Result<Swept, StoreError> {
        if dry_run {
            self.inner.collect_garbage(keep_records, grace, true).await
        } else {
            refused()
        }
    }

    async fn check(
        &self,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<CheckReport, StoreError> {
        self.inner.check(progress).await
    }
}
