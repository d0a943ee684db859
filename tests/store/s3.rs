//! The store in a bucket, on real servers: how it is opened, and the tricks that are played on it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use flowrun::store::Store;
use flowrun::store::dir::DirStore;
use flowrun::store::s3::S3Store;
use flowrun::store::s3::bucket::{Bucket, Condition};

use crate::fixture::Tricks;

/// What a machine may do with a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    ReadWrite,
    ReadOnly,
}

/// The store at a URL, seen by the machine whose cache lies below this folder.
pub(crate) fn open(url: &str, machine: &Path, access: Access) -> S3Store {
    fs_err::create_dir_all(machine).unwrap();
    let cache = DirStore::open(&machine.join("store"), machine).unwrap();
    let place = url.parse().unwrap();
    match access {
        Access::ReadWrite => S3Store::open(&place, cache),
        Access::ReadOnly => S3Store::open_read_only(&place, cache),
    }
}

/// A store in a bucket and the machines that use it.
pub(crate) struct S3Tricks {
    /// As the stores see it, perhaps through a proxy.
    url: String,
    /// The objects, without a proxy.
    bucket: Bucket,
    folder: PathBuf,
    machines: AtomicU32,
}

impl S3Tricks {
    /// At `url`, and at `direct` when that goes through a proxy; below `folder` the machines have their caches.
    pub(crate) fn new(url: String, direct: &str, folder: &Path) -> Self {
        let bucket = Bucket::new(direct.parse().unwrap());
        Self { url, bucket, folder: folder.to_owned(), machines: AtomicU32::new(1) }
    }

    /// What the bucket holds below the store's prefix.
    pub(crate) async fn names(&self) -> Vec<String> {
        names_below(&self.bucket, "").await
    }

    /// Names of objects that hold these bytes somewhere, with what they hold.
    async fn holding(&self, bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut found = Vec::new();
        for name in self.names().await {
            let Some(object) = self.bucket.get(&name).await.unwrap() else { continue };
            if position(&object.bytes, bytes).is_some() {
                found.push((name, object.bytes.to_vec()));
            }
        }
        assert!(!found.is_empty(), "no object holds these bytes");
        found
    }
}

#[async_trait]
impl Tricks for S3Tricks {
    fn again(&self) -> Box<dyn Store> {
        Box::new(open(&self.url, &self.folder.join("machine-0"), Access::ReadWrite))
    }

    fn elsewhere(&self) -> Box<dyn Store> {
        let number = self.machines.fetch_add(1, Ordering::Relaxed);
        let machine = self.folder.join(format!("machine-{number}"));
        Box::new(open(&self.url, &machine, Access::ReadWrite))
    }

    async fn damage(&self, bytes: &[u8]) {
        for (name, mut object) in self.holding(bytes).await {
            while let Some(at) = position(&object, bytes) {
                object[at..at + bytes.len()].fill(b'?');
            }
            self.bucket.put(&name, object.into(), Condition::Always).await.unwrap();
        }
    }

    async fn lose(&self, bytes: &[u8]) {
        let names: Vec<String> =
            self.holding(bytes).await.into_iter().map(|(name, _)| name).collect();
        self.bucket.remove(&names).await.unwrap();
    }

    async fn remember(&self, name: &str, bytes: &[u8]) {
        self.bucket.put(name, bytes.to_vec().into(), Condition::Always).await.unwrap();
    }
}

/// The objects below a prefix of the store.
pub(crate) async fn names_below(bucket: &Bucket, prefix: &str) -> Vec<String> {
    let mut names = Vec::new();
    bucket.list(prefix, &mut |listed| names.push(listed.name)).await.unwrap();
    names
}

fn position(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    // Few places have the first byte, and long needles would be compared again and again by `windows`.
    let first = *wanted.first()?;
    let last = bytes.len().checked_sub(wanted.len())?;
    (0..=last).find(|&at| bytes[at] == first && bytes[at..].starts_with(wanted))
}
