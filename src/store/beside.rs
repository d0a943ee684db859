//! A store that is read and never written, with a folder of this machine beside it for what is new: `store.access = read-only`.
//!
//! What the store lacks is computed and kept here, so that a job with no right to write can run everything and changes nothing for
//! others. An artifact lies whole on one of the two sides. Knows nothing of why the store is not written.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::dir::DirStore;
use super::{
    CheckReport, Claim, Entry, Lookup, PinLine, PinOwner, Placed, Record, RecordLine, Refused,
    Store, StoreError, Summary, Swept, Traffic, artifact,
};
use crate::digest::{Digest, Key};
use crate::weather::Weather;

/// The store of others, and the folder for what is made here. Cheap to clone; clones share what they remember.
#[derive(Clone)]
pub struct BesideStore {
    theirs: Arc<dyn Store>,
    own: DirStore,
}

impl BesideStore {
    /// Reads `theirs`, of which nothing is written, and keeps in `own` what it lacks.
    pub fn new(theirs: Arc<dyn Store>, own: DirStore) -> Self {
        Self { theirs, own }
    }

    /// The side that has an artifact: ours when all of it is here, or when they do not have it either.
    async fn side(&self, artifact: &Digest) -> Result<&dyn Store, StoreError> {
        let Some(entries) = self.own.manifest(artifact)? else { return Ok(&*self.theirs) };
        let files: HashMap<Digest, u64> = artifact::files(&entries).collect();
        if self.own.lacking(files.into_iter().collect()).await?.is_empty() {
            return Ok(&self.own);
        }
        match self.theirs.entries(artifact).await {
            Ok(_) => Ok(&*self.theirs),
            Err(StoreError::Damaged { .. }) => Ok(&self.own),
            Err(error) => Err(error),
        }
    }

    fn is_own(&self, artifact: &Digest) -> Result<bool, StoreError> {
        Ok(self.own.manifest(artifact)?.is_some())
    }

    /// Copies what only the other side has, so that it stays when they remove it there.
    async fn keep(&self, artifacts: &[Digest]) -> Result<(), StoreError> {
        for artifact in artifacts {
            if self.is_own(artifact)? {
                continue;
            }
            let copy = self.own.unfinished();
            let kept = self.copy(artifact, &copy).await;
            remove(&copy)?;
            kept?;
        }
        Ok(())
    }

    async fn copy(&self, artifact: &Digest, copy: &Path) -> Result<(), StoreError> {
        let traffic = Traffic::default();
        self.theirs.export(artifact, copy, &traffic).await?;
        match self.own.take_in(copy, &traffic).await? {
            Ok(_) => Ok(()),
            Err(refused) => Err(StoreError::Io(std::io::Error::other(refused))),
        }
    }
}

/// Removes a file or a folder that may be there.
fn remove(path: &Path) -> Result<(), StoreError> {
    match fs_err::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(fs_err::remove_dir_all(path)?),
        Ok(_) => Ok(fs_err::remove_file(path)?),
        Err(_) => Ok(()),
    }
}

#[async_trait]
impl Store for BesideStore {
    fn place_name(&self) -> String {
        self.theirs.place_name()
    }

    fn weather(&self) -> Weather {
        self.theirs.weather()
    }

    async fn look_up(&self, key: &Key) -> Result<Lookup, StoreError> {
        // What was made here holds here, so that what was forced is not forgotten.
        let own = self.own.look_up(key).await?;
        if matches!(own, Lookup::Hit(_)) {
            return Ok(own);
        }
        match (self.theirs.look_up(key).await?, own) {
            (Lookup::Miss, Lookup::Broken { missing }) => Ok(Lookup::Broken { missing }),
            (theirs, _) => Ok(theirs),
        }
    }

    async fn put_record(&self, record: Record, replace: bool) -> Result<Record, StoreError> {
        self.keep(&record.outputs.values().copied().collect::<Vec<_>>()).await?;
        self.own.put_record(record, replace).await
    }

    async fn take_in(
        &self,
        path: &Path,
        traffic: &Traffic,
    ) -> Result<Result<Digest, Refused>, StoreError> {
        self.own.take_in(path, traffic).await
    }

    async fn sync(&self) -> Result<(), StoreError> {
        self.own.sync().await
    }

    async fn place(
        &self,
        artifact: &Digest,
        target: &Path,
        own: bool,
        traffic: &Traffic,
    ) -> Result<Vec<Placed>, StoreError> {
        self.side(artifact).await?.place(artifact, target, own, traffic).await
    }

    async fn changed(&self, placed: &[Placed]) -> Result<Vec<Placed>, StoreError> {
        // A blob may lie on both sides, and either may have been placed.
        let mut changed = self.theirs.changed(placed).await?;
        for one in self.own.changed(placed).await? {
            if !changed.contains(&one) {
                changed.push(one);
            }
        }
        Ok(changed)
    }

    async fn entries(&self, artifact: &Digest) -> Result<Vec<Entry>, StoreError> {
        self.side(artifact).await?.entries(artifact).await
    }

    async fn pin(&self, owner: PinOwner, artifacts: &[Digest]) -> Result<(), StoreError> {
        let mut own = Vec::new();
        match owner {
            // Theirs may be removed there at any time: a run makes them again.
            PinOwner::Run(_) => {
                for artifact in artifacts {
                    if self.is_own(artifact)? {
                        own.push(*artifact);
                    }
                }
            }
            // What is live may not lose its artifacts, and no pin over there protects them.
            PinOwner::Release(_) => {
                self.keep(artifacts).await?;
                own.extend(artifacts);
            }
        }
        self.own.pin(owner, &own).await
    }

    async fn unpin(&self, owner: PinOwner) -> Result<(), StoreError> {
        self.own.unpin(owner).await
    }

    async fn claim(&self, key: &Key, holder: &str) -> Result<Result<Claim, String>, StoreError> {
        self.own.claim(key, holder).await
    }

    async fn collect_garbage(
        &self,
        keep_records: Duration,
        grace: Duration,
        dry_run: bool,
    ) -> Result<Swept, StoreError> {
        self.own.collect_garbage(keep_records, grace, dry_run).await
    }

    async fn check(
        &self,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<CheckReport, StoreError> {
        let theirs = self.theirs.check(progress).await?;
        let own = self.own.check(progress).await?;
        Ok(CheckReport {
            objects: theirs.objects + own.objects,
            bytes: theirs.bytes + own.bytes,
            broken: [theirs.broken, own.broken].concat(),
        })
    }

    async fn summary(&self) -> Result<Summary, StoreError> {
        let (theirs, own) = (self.theirs.summary().await?, self.own.summary().await?);
        Ok(Summary {
            records: theirs.records + own.records,
            artifacts: theirs.artifacts + own.artifacts,
            files: theirs.files + own.files,
            bytes: theirs.bytes + own.bytes,
            quarantined: theirs.quarantined + own.quarantined,
        })
    }

    async fn records(&self) -> Result<Vec<RecordLine>, StoreError> {
        let mut lines = self.own.records().await?;
        let own: HashSet<Key> = lines.iter().map(|line| line.record.key).collect();
        let theirs = self.theirs.records().await?;
        lines.extend(theirs.into_iter().filter(|line| !own.contains(&line.record.key)));
        lines.sort_by_key(|line| std::cmp::Reverse(line.record.made_at));
        Ok(lines)
    }

    async fn pins(&self) -> Result<Vec<PinLine>, StoreError> {
        Ok([self.theirs.pins().await?, self.own.pins().await?].concat())
    }

    async fn find_artifacts(&self, digits: &str, most: usize) -> Result<Vec<Digest>, StoreError> {
        let mut found = self.own.find_artifacts(digits, most).await?;
        for artifact in self.theirs.find_artifacts(digits, most).await? {
            if found.len() < most && !found.contains(&artifact) {
                found.push(artifact);
            }
        }
        Ok(found)
    }

    async fn export(
        &self,
        artifact: &Digest,
        target: &Path,
        traffic: &Traffic,
    ) -> Result<(), StoreError> {
        self.side(artifact).await?.export(artifact, target, traffic).await
    }
}
