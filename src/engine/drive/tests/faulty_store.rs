//! A store that fails when it is told to.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use crate::digest::{Digest, Key};
use crate::store::dir::DirStore;
use crate::store::{
    CheckReport, Claim, Entry, Lookup, PinLine, PinOwner, Placed, Record, RecordLine, Refused,
    Store, StoreError, Summary, Swept, Traffic,
};

/// A folder store that can be told to refuse records, or pins.
pub(super) struct FaultyStore {
    inner: DirStore,
    pub(super) broken: AtomicBool,
    pub(super) pins_nothing: AtomicBool,
    /// So many look-ups find nobody.
    pub(super) away: AtomicU32,
}

impl FaultyStore {
    pub(super) fn new(inner: DirStore) -> Self {
        Self {
            inner,
            broken: AtomicBool::new(false),
            pins_nothing: AtomicBool::new(false),
            away: AtomicU32::new(0),
        }
    }
}

#[async_trait]
impl Store for FaultyStore {
    fn place_name(&self) -> String {
        self.inner.place_name()
    }
    async fn look_up(&self, key: &Key) -> Result<Lookup, StoreError> {
        let took = |left: u32| left.checked_sub(1);
        if self.away.fetch_update(Ordering::SeqCst, Ordering::SeqCst, took).is_ok() {
            return Err(StoreError::Unreachable {
                place: "s3://models".to_owned(),
                why: "cannot be reached".to_owned(),
                help: String::new(),
                passes: true,
            });
        }
        self.inner.look_up(key).await
    }
    async fn put_record(&self, record: Record, replace: bool) -> Result<Record, StoreError> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(io::Error::from(io::ErrorKind::PermissionDenied).into());
        }
        self.inner.put_record(record, replace).await
    }
    async fn take_in(
        &self,
        path: &Path,
        traffic: &Traffic,
    ) -> Result<Result<Digest, Refused>, StoreError> {
        self.inner.take_in(path, traffic).await
    }
    async fn sync(&self) -> Result<(), StoreError> {
        self.inner.sync().await
    }
    async fn place(
        &self,
        artifact: &Digest,
        target: &Path,
        own: bool,
        traffic: &Traffic,
    ) -> Result<Vec<Placed>, StoreError> {
        self.inner.place(artifact, target, own, traffic).await
    }
    async fn changed(&self, placed: &[Placed]) -> Result<Vec<Placed>, StoreError> {
        self.inner.changed(placed).await
    }
    async fn entries(&self, artifact: &Digest) -> Result<Vec<Entry>, StoreError> {
        self.inner.entries(artifact).await
    }
    async fn pin(&self, owner: PinOwner, artifacts: &[Digest]) -> Result<(), StoreError> {
        if self.pins_nothing.load(Ordering::SeqCst) {
            return Err(io::Error::from(io::ErrorKind::PermissionDenied).into());
        }
        self.inner.pin(owner, artifacts).await
    }
    async fn unpin(&self, owner: PinOwner) -> Result<(), StoreError> {
        self.inner.unpin(owner).await
    }
    async fn claim(&self, key: &Key, holder: &str) -> Result<Result<Claim, String>, StoreError> {
        self.inner.claim(key, holder).await
    }
    async fn collect_garbage(
        &self,
        keep_records: Duration,
        grace: Duration,
        dry_run: bool,
    ) -> Result<Swept, StoreError> {
        self.inner.collect_garbage(keep_records, grace, dry_run).await
    }
    async fn check(
        &self,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<CheckReport, StoreError> {
        self.inner.check(progress).await
    }
    async fn summary(&self) -> Result<Summary, StoreError> {
        self.inner.summary().await
    }
    async fn records(&self) -> Result<Vec<RecordLine>, StoreError> {
        self.inner.records().await
    }
    async fn pins(&self) -> Result<Vec<PinLine>, StoreError> {
        self.inner.pins().await
    }
    async fn find_artifacts(&self, digits: &str, most: usize) -> Result<Vec<Digest>, StoreError> {
        self.inner.find_artifacts(digits, most).await
    }
    async fn export(
        &self,
        artifact: &Digest,
        target: &Path,
        traffic: &Traffic,
    ) -> Result<(), StoreError> {
        self.inner.export(artifact, target, traffic).await
    }
}
