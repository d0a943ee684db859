//! Objects below a prefix of one bucket: read, written, listed and removed, whole or not at all.
//!
//! The only place that knows the AWS crates. Everything that passes by itself (a cut connection, a server that is busy) is tried
//! again in here; what comes out is final and says what to do. Knows nothing of digests, records or artifacts.

mod authorities;
mod body;
mod buffers;
mod client;
mod copy;
mod download;
mod failure;
mod limits;
mod listing;
mod login;
mod object;
mod parts;
mod place;
mod probe;
mod remove;
mod retry;
#[cfg(test)]
pub(super) mod tests;
mod upload;
mod words;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::sync::{OnceCell, Semaphore};

use self::buffers::Buffers;
use self::client::Reach;
use self::limits::Limits;
pub use self::place::BucketPlace;
use self::probe::Young;
use super::super::StoreError;
use crate::weather::Weather;

/// Objects below a prefix. Cheap to clone; clones share connections and limits.
#[derive(Clone)]
pub struct Bucket {
    inner: Arc<Inner>,
}

struct Inner {
    place: BucketPlace,
    limits: Limits,
    reach: OnceCell<Reach>,
    conditional: OnceCell<bool>,
    young: OnceCell<Young>,
    /// Requests under way at once.
    requests: Semaphore,
    /// Parts and ranges under way at once.
    bulk: Semaphore,
    /// Bytes of parts in memory, in [`limits::UNIT`]s.
    memory: Semaphore,
    /// Whether the server answers.
    weather: Weather,
    /// Where those bytes lie.
    buffers: Buffers,
    /// The server answered at least once.
    answered: AtomicBool,
    /// The bucket exists, or it cannot be found out.
    bucket_is_there: AtomicBool,
    /// The server does not know how to remove many objects with one request.
    removes_singly: AtomicBool,
}

/// What a server says of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Bytes.
    pub size: u64,
    /// Unix milliseconds on the server's clock; S3 rounds to seconds.
    pub modified: u64,
    /// Without quotes. Another one after each write of other bytes.
    pub etag: String,
}

/// A small object, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// All of it.
    pub bytes: Bytes,
    /// What the server said with them.
    pub meta: Meta,
}

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Below the store's prefix.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Unix milliseconds on the server's clock.
    pub modified: u64,
}

/// When a write may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition<'a> {
    /// In any case.
    Always,
    /// When there is no object of this name.
    Absent,
    /// When the object is the one with this etag.
    Matches(&'a str),
}

/// How a write ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Put {
    /// It is there, durably.
    Done {
        /// The new object's, without quotes.
        etag: String,
    },
    /// The condition did not hold; nothing was written.
    Lost,
}

/// How a single try to remove objects ended.
#[derive(Debug)]
pub enum Removed {
    /// They are gone.
    All,
    /// It failed in a way that may pass, and nobody knows which of them are gone.
    Unknown(StoreError),
}

impl Bucket {
    /// Asks nothing: credentials are looked for and the server is met at first use.
    pub fn new(place: BucketPlace) -> Self {
        let patience = place.patience.unwrap_or(Duration::MAX);
        Self::with(place, Limits::default().within(patience))
    }

    /// Whether the server is away, and is waited for.
    pub fn weather(&self) -> &Weather {
        &self.inner.weather
    }

    fn with(place: BucketPlace, limits: Limits) -> Self {
        let inner = Inner {
            place,
            requests: Semaphore::new(limits.requests),
            bulk: Semaphore::new(limits.bulk),
            memory: Semaphore::new(limits.units() as usize),
            buffers: Buffers::default(),
            limits,
            reach: OnceCell::new(),
            conditional: OnceCell::new(),
            young: OnceCell::new(),
            weather: Weather::default(),
            answered: AtomicBool::new(false),
            bucket_is_there: AtomicBool::new(false),
            removes_singly: AtomicBool::new(false),
        };
        Self { inner: Arc::new(inner) }
    }

    /// `s3://bucket/prefix`.
    pub fn place_name(&self) -> String {
        self.inner.place.to_string()
    }

    /// What the server says of an object; none where there is no such object.
    pub async fn head(&self, name: &str) -> Result<Option<Meta>, StoreError> {
        Box::pin(object::head(&self.inner, name)).await
    }

    /// A small object, whole; none where there is no such object.
    pub async fn get(&self, name: &str) -> Result<Option<Object>, StoreError> {
        Box::pin(object::get(&self.inner, name)).await
    }

    /// Bytes of an object from `range.start` until before `range.end`, all of them; none where there is no such object. One that
    /// ends before `range.end` is an error.
    pub async fn get_range(
        &self,
        name: &str,
        range: Range<u64>,
    ) -> Result<Option<Bytes>, StoreError> {
        Box::pin(object::get_range(&self.inner, name, range)).await
    }

    /// The same of the object with this etag; an error when there is another one by now.
    pub async fn get_range_of(
        &self,
        name: &str,
        etag: &str,
        range: Range<u64>,
    ) -> Result<Option<Bytes>, StoreError> {
        Box::pin(object::get_range_of(&self.inner, name, etag, range)).await
    }

    /// Writes an object, whole or not at all. With a condition, [`Put::Done`] also when an earlier try of this call was the one
    /// that wrote it.
    pub async fn put(
        &self,
        name: &str,
        bytes: Bytes,
        condition: Condition<'_>,
    ) -> Result<Put, StoreError> {
        Box::pin(object::put(&self.inner, name, bytes, condition)).await
    }

    /// Sends `size` bytes of a file, in several parts at once where it is large. Nothing is seen before all of it is there; what a
    /// failed or dropped call left is removed as far as the server can still be reached, else [`Bucket::sweep_uploads`] finds it.
    /// `moved` is told of bytes as they leave.
    pub async fn upload(
        &self,
        name: &str,
        file: &Path,
        size: u64,
        moved: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), StoreError> {
        Box::pin(upload::upload(&self.inner, name, file, size, moved)).await
    }

    /// Fetches an object of `size` bytes into `file`, which must not exist, in several ranges at once where it is large. `false`
    /// where there is no such object; one of another size, or that changes meanwhile, is an error. On an error and on `false`
    /// there is no file. `moved` is told of bytes as they come.
    pub async fn download(
        &self,
        name: &str,
        size: u64,
        file: &Path,
        moved: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<bool, StoreError> {
        Box::pin(download::download(&self.inner, name, size, file, moved)).await
    }

    /// Tells of every object whose name below the store's prefix starts with `prefix`, by name.
    pub async fn list(
        &self,
        prefix: &str,
        each: &mut (dyn FnMut(Listed) + Send),
    ) -> Result<(), StoreError> {
        Box::pin(listing::list(&self.inner, prefix, each)).await
    }

    /// Removes objects; absent ones are fine.
    pub async fn remove(&self, names: &[String]) -> Result<(), StoreError> {
        Box::pin(remove::remove(&self.inner, names)).await
    }

    /// The same with a single try.
    pub async fn remove_once(&self, names: &[String]) -> Result<Removed, StoreError> {
        Box::pin(remove::remove_once(&self.inner, names)).await
    }

    /// Makes an object as young as if it were written now, without moving its bytes where the server can do that. `false` where
    /// there is no such object.
    pub async fn touch(&self, name: &str) -> Result<bool, StoreError> {
        Box::pin(copy::touch(&self.inner, name)).await
    }

    /// Whether the server keeps its word on [`Condition::Absent`] and [`Condition::Matches`]: some take them and overwrite anyway.
    /// Tried once per bucket, with objects that are removed again; the object `probe` remembers the answer.
    pub async fn is_conditional(&self) -> Result<bool, StoreError> {
        // Without its type, which is too deep for the compiler to look through.
        probe::conditional(&self.inner).boxed().await
    }

    /// Removes what uploads that were killed left behind more than `older_than` ago, on the server's clock, where `ours` says so of
    /// the object's name: others may use the bucket too. Returns how many there were.
    pub async fn sweep_uploads(
        &self,
        older_than: Duration,
        ours: &(dyn Fn(&str) -> bool + Send + Sync),
        dry_run: bool,
    ) -> Result<u64, StoreError> {
        Box::pin(listing::sweep_uploads(&self.inner, older_than, ours, dry_run)).await
    }
}
