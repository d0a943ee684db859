//! The store in a bucket of an S3-compatible server, with a folder of this machine as the cache in front.
//!
//! Everything is taken in by the cache first and placed from it; in between this module sees to it that what one side lacks is brought
//! from the other. Objects appear whole and in the order blobs and packs, index of the packs, manifest, record, so a kill at any instant
//! leaves at most objects that nothing names. Objects are content-addressed but for records, claims, pins and indexes of packs.
//! No types of the AWS crates outside `bucket`.

mod ahead;
pub mod bucket;
mod check;
mod claim;
mod clock;
mod fetch;
mod gc;
mod known;
mod listing;
mod names;
mod pack;
mod pin;
mod record;
mod send;
mod survey;
mod sweeping;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Semaphore;

use self::ahead::Ahead;
use self::bucket::{Bucket, BucketPlace};
use self::claim::Claims;
use self::known::Known;
use self::sweeping::Sweepers;
use super::dir::DirStore;
use super::{
    CheckReport, Claim, Entry, Lookup, PinLine, PinOwner, Placed, Record, RecordLine, Refused,
    Store, StoreError, Summary, Swept, Traffic,
};
use crate::digest::{Digest, Key};
use crate::weather::Weather;

/// Bytes of packs in memory at once, in [`UNIT`]s.
const MEMORY: u64 = 128 << 20;
/// What [`MEMORY`] is counted in.
const UNIT: u64 = 1 << 10;
/// Small requests under way at once for one purpose.
const WIDE: usize = 64;
/// Files or packs on their way at once.
const NARROW: usize = 8;

/// A store in a bucket. Cheap to clone; clones share what they know.
#[derive(Clone)]
pub struct S3Store {
    shared: Arc<Shared>,
}

struct Shared {
    bucket: Bucket,
    cache: DirStore,
    /// Nothing in the bucket is written, not even an age.
    read_only: bool,
    known: Known,
    ahead: Ahead,
    claims: Claims,
    pins: pin::Written,
    sweepers: Sweepers,
    /// Memory for packs, in [`UNIT`]s.
    memory: Semaphore,
    /// Held while an artifact is fetched, so that two stages that need it do not both fetch it.
    fetching: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
}

impl S3Store {
    /// The store at `place`, with `cache` in front. Asks the server nothing yet.
    pub fn open(place: &BucketPlace, cache: DirStore) -> Self {
        Self::with(place, cache, false)
    }

    /// The same for reading alone: nothing in the bucket is stored, renewed, moved or removed.
    pub fn open_read_only(place: &BucketPlace, cache: DirStore) -> Self {
        Self::with(place, cache, true)
    }

    fn with(place: &BucketPlace, cache: DirStore, read_only: bool) -> Self {
        Self::of(Bucket::new(place.clone()), cache, read_only)
    }

    fn of(bucket: Bucket, cache: DirStore, read_only: bool) -> Self {
        let memory = usize::try_from(MEMORY / UNIT).unwrap_or(Semaphore::MAX_PERMITS);
        let shared = Shared {
            ahead: Ahead::new(cache.root(), &bucket.place_name()),
            bucket,
            claims: Claims::new(cache.root()),
            pins: pin::Written::default(),
            sweepers: Sweepers::default(),
            cache,
            read_only,
            known: Known::default(),
            memory: Semaphore::new(memory),
            fetching: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The bucket, to ask it how it does.
    pub fn bucket(&self) -> &Bucket {
        &self.shared.bucket
    }
}

impl Shared {
    fn damaged(&self, digest: &Digest, what: &'static str) -> StoreError {
        StoreError::Damaged { digest: *digest, what, place: self.bucket.place_name() }
    }

    fn may_write(&self) -> Result<(), StoreError> {
        if !self.read_only {
            return Ok(());
        }
        let why =
            format!("the store at `{}` is opened for reading alone", self.bucket.place_name());
        Err(std::io::Error::new(std::io::ErrorKind::PermissionDenied, why).into())
    }

    /// Waits for memory for so many bytes.
    async fn memory(&self, bytes: u64) -> Result<tokio::sync::SemaphorePermit<'_>, StoreError> {
        let units = u32::try_from(bytes.min(MEMORY).div_ceil(UNIT)).unwrap_or(u32::MAX);
        self.memory
            .acquire_many(units)
            .await
            .map_err(|error| StoreError::Io(std::io::Error::other(error)))
    }
}

/// Locks; a thread that panicked while it held the lock left nothing half done, since these maps are only caches.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Store for S3Store {
    fn weather(&self) -> Weather {
        self.shared.bucket.weather().clone()
    }

    fn place_name(&self) -> String {
        self.shared.bucket.place_name()
    }

    async fn look_up(&self, key: &Key) -> Result<Lookup, StoreError> {
        Shared::look_up(&self.shared, key).await
    }

    async fn put_record(&self, record: Record, replace: bool) -> Result<Record, StoreError> {
        self.shared.may_write()?;
        self.shared.put_record(record, replace).await
    }

    async fn take_in(
        &self,
        path: &Path,
        traffic: &Traffic,
    ) -> Result<Result<Digest, Refused>, StoreError> {
        self.shared.may_write()?;
        match self.shared.cache.take_in(path, traffic).await? {
            Ok(artifact) => {
                self.shared.send(&artifact, traffic).await?;
                Ok(Ok(artifact))
            }
            Err(refused) => Ok(Err(refused)),
        }
    }

    async fn sync(&self) -> Result<(), StoreError> {
        self.shared.cache.sync().await
    }

    async fn place(
        &self,
        artifact: &Digest,
        target: &Path,
        own: bool,
        traffic: &Traffic,
    ) -> Result<Vec<Placed>, StoreError> {
        self.shared.fetch(artifact, traffic).await?;
        self.shared.cache.place(artifact, target, own, traffic).await
    }

    async fn changed(&self, placed: &[Placed]) -> Result<Vec<Placed>, StoreError> {
        self.shared.cache.changed(placed).await
    }

    async fn entries(&self, artifact: &Digest) -> Result<Vec<Entry>, StoreError> {
        Ok(self.shared.manifest(artifact).await?.to_vec())
    }

    async fn pin(&self, owner: PinOwner, artifacts: &[Digest]) -> Result<(), StoreError> {
        self.shared.may_write()?;
        self.shared.cache.pin(owner, artifacts).await?;
        self.shared.pin(owner, artifacts).await
    }

    async fn unpin(&self, owner: PinOwner) -> Result<(), StoreError> {
        self.shared.may_write()?;
        self.shared.cache.unpin(owner).await?;
        self.shared.unpin(owner).await
    }

    async fn claim(&self, key: &Key, holder: &str) -> Result<Result<Claim, String>, StoreError> {
        Shared::claim(&self.shared, key, holder).await
    }

    async fn collect_garbage(
        &self,
        keep_records: Duration,
        grace: Duration,
        dry_run: bool,
    ) -> Result<Swept, StoreError> {
        if !dry_run {
            self.shared.may_write()?;
        }
        self.shared.collect_garbage(keep_records, grace, dry_run).await
    }

    async fn check(
        &self,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<CheckReport, StoreError> {
        self.shared.check(progress).await
    }

    async fn summary(&self) -> Result<Summary, StoreError> {
        self.shared.summary().await
    }

    async fn records(&self) -> Result<Vec<RecordLine>, StoreError> {
        self.shared.records().await
    }

    async fn pins(&self) -> Result<Vec<PinLine>, StoreError> {
        self.shared.pins().await
    }

    async fn find_artifacts(&self, digits: &str, most: usize) -> Result<Vec<Digest>, StoreError> {
        self.shared.find_artifacts(digits, most).await
    }

    async fn export(
        &self,
        artifact: &Digest,
        target: &Path,
        traffic: &Traffic,
    ) -> Result<(), StoreError> {
        self.shared.fetch(artifact, traffic).await?;
        self.shared.cache.export(artifact, target, traffic).await
    }
}
