//! The store in a folder.
//!
//! One file per blob, 0444, with an mtime that says whether it is durable (`object.rs`): size and mtime verify it at use, its digest in `check`. Everything appears whole, by
//! a link or a rename to a fresh name, and in the order blobs, manifest, record; so a crash leaves at most objects that nothing names,
//! which gc removes. Several processes use one folder at once; there is no daemon and no index.

mod cache;
mod check;
mod claim;
mod folder;
mod gc;
mod listing;
mod object;
mod pin;
mod place;
mod record;
mod sync;
mod take_in;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use self::folder::Folder;
use super::{
    CheckReport, Claim, Entry, Lookup, PinLine, PinOwner, Placed, Record, RecordLine, Refused,
    Store, StoreError, Summary, Swept, Traffic, artifact,
};
use crate::digest::{Digest, Key};

/// More than this is done away from the threads that run the engine.
const MANY_ENTRIES: usize = 32;
/// The same, in bytes.
const MANY_BYTES: u64 = 1 << 20;

/// A store in a folder. Cheap to clone; clones share what they remember.
#[derive(Debug, Clone)]
pub struct DirStore {
    folder: Arc<Folder>,
}

impl DirStore {
    /// Opens the store at `folder`, which is made (0700) when it is not there. What is written first lies in `tmp` when
    /// that is on the same filesystem, else in `<folder>/tmp`.
    pub fn open(folder: &Path, tmp: &Path) -> Result<Self, StoreError> {
        Ok(Self { folder: Arc::new(Folder::open(folder, tmp)?) })
    }

    /// Runs `work` on a thread that may wait for the disk.
    async fn away<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Folder) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let folder = Arc::clone(&self.folder);
        tokio::task::spawn_blocking(move || work(&folder))
            .await
            .map_err(|error| StoreError::Io(std::io::Error::other(error)))?
    }
}

#[async_trait]
impl Store for DirStore {
    fn place_name(&self) -> String {
        self.folder.root().display().to_string()
    }

    async fn look_up(&self, key: &Key) -> Result<Lookup, StoreError> {
        self.folder.look_up(key)
    }

    async fn put_record(&self, record: Record, replace: bool) -> Result<Record, StoreError> {
        self.folder.put_record(record, replace)
    }

    async fn take_in(
        &self,
        path: &Path,
        _: &Traffic,
    ) -> Result<Result<Digest, Refused>, StoreError> {
        let small = fs_err::symlink_metadata(path)
            .is_ok_and(|metadata| metadata.is_file() && metadata.len() <= MANY_BYTES);
        if small {
            return self.folder.take_in(path);
        }
        let path: PathBuf = path.to_owned();
        self.away(move |folder| folder.take_in(&path)).await
    }

    async fn sync(&self) -> Result<(), StoreError> {
        self.folder.synced.take_error()?;
        if self.folder.synced.is_due() {
            let folder = Arc::clone(&self.folder);
            // A plain thread: nobody waits for it, and the end of the process may cut it off.
            std::thread::Builder::new()
                .name("store-sync".to_owned())
                .spawn(move || folder.sync_aside())?;
        }
        Ok(())
    }

    async fn place(
        &self,
        artifact: &Digest,
        target: &Path,
        own: bool,
        _: &Traffic,
    ) -> Result<Vec<Placed>, StoreError> {
        let entries = self.folder.manifest(artifact)?;
        if entries.len() <= MANY_ENTRIES && artifact::bytes(&entries) <= MANY_BYTES {
            return self.folder.place(artifact, target, own);
        }
        let (artifact, target) = (*artifact, target.to_owned());
        self.away(move |folder| folder.place(&artifact, &target, own)).await
    }

    async fn changed(&self, placed: &[Placed]) -> Result<Vec<Placed>, StoreError> {
        if placed.len() <= MANY_ENTRIES {
            return self.folder.changed(placed);
        }
        let placed = placed.to_vec();
        self.away(move |folder| folder.changed(&placed)).await
    }

    async fn entries(&self, artifact: &Digest) -> Result<Vec<Entry>, StoreError> {
        Ok(self.folder.manifest(artifact)?.to_vec())
    }

    async fn pin(&self, owner: PinOwner, artifacts: &[Digest]) -> Result<(), StoreError> {
        if let PinOwner::Run(_) = owner {
            return self.folder.pin(owner, artifacts);
        }
        let artifacts = artifacts.to_vec();
        self.away(move |folder| {
            folder.pin(owner, &artifacts)?;
            folder.sync_everything()
        })
        .await
    }

    async fn unpin(&self, owner: PinOwner) -> Result<(), StoreError> {
        self.folder.unpin(owner)
    }

    async fn claim(&self, key: &Key, holder: &str) -> Result<Result<Claim, String>, StoreError> {
        self.folder.claim(key, holder)
    }

    async fn collect_garbage(
        &self,
        keep_records: Duration,
        grace: Duration,
        dry_run: bool,
    ) -> Result<Swept, StoreError> {
        self.away(move |folder| folder.collect_garbage(keep_records, grace, dry_run)).await
    }

    async fn check(
        &self,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<CheckReport, StoreError> {
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        let reading = self.away(move |folder| {
            folder.check(&|bytes| {
                // Nobody listens any more: the check goes on all the same.
                let _gone = sender.send(bytes);
            })
        });
        let listening = async {
            while let Some(bytes) = receiver.recv().await {
                progress(bytes);
            }
        };
        let (report, ()) = tokio::join!(reading, listening);
        report
    }
    async fn summary(&self) -> Result<Summary, StoreError> {
        self.away(Folder::summary).await
    }

    async fn records(&self) -> Result<Vec<RecordLine>, StoreError> {
        self.away(Folder::records).await
    }

    async fn pins(&self) -> Result<Vec<PinLine>, StoreError> {
        self.away(Folder::pin_lines).await
    }

    async fn find_artifacts(&self, digits: &str, most: usize) -> Result<Vec<Digest>, StoreError> {
        let digits = digits.strip_prefix("b3:").unwrap_or(digits).to_owned();
        self.away(move |folder| folder.find_artifacts(&digits, most)).await
    }

    async fn export(
        &self,
        artifact: &Digest,
        target: &Path,
        _: &Traffic,
    ) -> Result<(), StoreError> {
        let (artifact, target) = (*artifact, target.to_owned());
        self.away(move |folder| folder.export(&artifact, &target)).await
    }
}
