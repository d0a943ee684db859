//! Garbage collection: mark from pins and young records, sweep what is unmarked and old. Ages are counted on the server's clock.
//!
//! Safe beside runs on other machines: whatever they made or found is young (who reuses an object older than a day gives it a new age
//! first), and the age of each object is asked for again just before it is removed. What is marked is never removed, nor is anything
//! younger than `grace`. Two collections at once remove the same things.

mod mark;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};

use self::mark::{Marked, Old};
use super::bucket::{Condition, Listed, Removed};
use super::names::{self, CLAIMS, Name, QUARANTINE, SWEPT, Shelf};
use super::sweeping::Sweeping;
use super::{Shared, WIDE, clock};
use crate::digest::Digest;
use crate::store::{Store, StoreError, Swept};

/// Objects removed with one request.
const BATCH: usize = 500;
/// How often a batch is tried again when its removal fails and may go well another time.
const MOST_FAILURES: u32 = 20;
/// After the first failure; then so much longer each time.
const PAUSE: Duration = Duration::from_millis(300);
/// A claim that was not written for so long is nobody's.
const DEAD_CLAIM: u64 = 24 * 3600 * 1000;

/// An object that may go.
#[derive(Debug, Clone)]
struct Candidate {
    name: String,
    size: u64,
}

/// What is swept, and how.
struct Sweep {
    /// What was made or renewed until then is old, Unix milliseconds.
    before: u64,
    dry_run: bool,
    swept: Swept,
    sweeping: Sweeping,
}

impl Shared {
    /// Plan: mark the artifacts of pins and of records that are young enough, and those that are young themselves; mark their blobs and
    /// packs. Sweep records first, then manifests, indexes, packs and blobs, so that a crash leaves nothing that names what is gone.
    /// What the cache drops is not counted: it is a copy.
    pub(super) async fn collect_garbage(
        &self,
        keep_records: Duration,
        grace: Duration,
        dry_run: bool,
    ) -> Result<Swept, StoreError> {
        let now = self.server_now(dry_run).await?;
        let before =
            |age: Duration| now.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        let records_before = before(keep_records.max(grace));
        let mut sweep = Sweep {
            before: before(grace),
            dry_run,
            swept: Swept::default(),
            sweeping: Sweeping::new(),
        };
        let Marked { trees, blobs, packs, old_records } =
            self.mark(records_before, sweep.before).await?;

        sweep.swept.kept += old_records.kept;
        let records = self.done_with(old_records, &trees, &mut sweep.swept).await?;
        self.sweep(records, &mut sweep, records_before).await?;
        for (kind, marked) in [
            (Shelf::Tree, &trees),
            (Shelf::Packed, &trees),
            (Shelf::Pack, &packs),
            (Shelf::Blob, &blobs),
        ] {
            let candidates = self.unmarked(kind, marked, &mut sweep).await?;
            let old = sweep.before;
            self.sweep(candidates, &mut sweep, old).await?;
        }
        self.sweep_leftovers(&mut sweep, now).await?;
        self.end_sweep(sweep.sweeping).boxed().await?;
        if !dry_run {
            let older_than = grace.max(Duration::from_hours(24));
            self.bucket.sweep_uploads(older_than, &names::is_of_a_store, dry_run).await?;
        }
        self.cache.collect_garbage(keep_records, grace, dry_run).await?;
        if !dry_run {
            self.known.forget();
        }
        Ok(sweep.swept)
    }

    /// Now on the server's clock, rounded up: it counts in seconds. A dry run writes nothing, so it believes the clock of this machine.
    async fn server_now(&self, dry_run: bool) -> Result<u64, StoreError> {
        const SECOND: u64 = 1000;
        if dry_run || self.read_only {
            return Ok(clock::now() + SECOND);
        }
        let text = format!("flowrun gc, {} on the clock of its machine\n", clock::now());
        self.bucket.put(SWEPT, text.into(), Condition::Always).await?;
        let meta = self.bucket.head(SWEPT).await?;
        Ok(meta.map_or_else(clock::now, |meta| meta.modified) + SECOND - 1)
    }

    /// The old records that can go: they cannot be read, or produced no artifact, or one that goes.
    async fn done_with(
        &self,
        records: Old,
        trees: &HashSet<Digest>,
        swept: &mut Swept,
    ) -> Result<Vec<Candidate>, StoreError> {
        let look = |(key, size): (Digest, u64)| async move {
            let name = Name::new(Shelf::Record, key).text();
            let record = self.read(&key).await?;
            let done = record.is_none_or(|record| {
                record.outputs.is_empty()
                    || record.outputs.values().any(|artifact| !trees.contains(artifact))
            });
            Ok::<_, StoreError>(done.then_some(Candidate { name, size }))
        };
        let looked: Vec<Option<Candidate>> = stream::iter(records.old.into_iter().map(look))
            .buffer_unordered(WIDE)
            .try_collect()
            .await?;
        let done: Vec<Candidate> = looked.iter().flatten().cloned().collect();
        swept.kept += (looked.len() - done.len()) as u64;
        Ok(done)
    }

    /// What lies on a shelf, is not marked and seems old.
    async fn unmarked(
        &self,
        kind: Shelf,
        marked: &HashSet<Digest>,
        sweep: &mut Sweep,
    ) -> Result<Vec<Candidate>, StoreError> {
        let mut candidates = Vec::new();
        let mut look = |Listed { name, size, modified }: Listed| {
            match Name::digest_of(kind, &name) {
                Some(digest) if !marked.contains(&digest) && is_old(modified, sweep.before) => {
                    candidates.push(Candidate { name, size });
                }
                Some(_) => sweep.swept.kept += 1,
                // Not of this store.
                None => {}
            }
        };
        self.bucket.list(kind.prefix(), &mut look).await?;
        Ok(candidates)
    }

    /// Removes what is still old, a batch at a time. A removal that failed may have happened, or not: then ages are asked for again
    /// before the next try, since somebody may have stored the same again or renewed it.
    async fn sweep(
        &self,
        candidates: Vec<Candidate>,
        sweep: &mut Sweep,
        before: u64,
    ) -> Result<(), StoreError> {
        let mut rest = candidates.as_slice();
        let (mut most, mut failures) = (BATCH, 0);
        let mut tried = HashSet::new();
        while !rest.is_empty() {
            let batch = &rest[..most.min(rest.len())];
            if !sweep.dry_run {
                self.next_batch(&mut sweep.sweeping).boxed().await?;
            }
            let asked = self.ages(batch, before).await?;
            let old = asked.iter().filter(|(_, old)| *old == Some(true));
            let names: Vec<String> = old.map(|(candidate, _)| candidate.name.clone()).collect();
            if !sweep.dry_run && !names.is_empty() {
                if !sweep.sweeping.is_fresh() {
                    // The server is slow, or this machine slept.
                    most = (most / 2).max(1);
                    continue;
                }
                tried.extend(names.iter().cloned());
                if let Removed::Unknown(error) = self.bucket.remove_once(&names).await? {
                    failures += 1;
                    if failures > MOST_FAILURES {
                        return Err(error);
                    }
                    tokio::time::sleep(PAUSE * failures).await;
                    continue;
                }
            }
            for (candidate, old) in asked {
                let is_removed = match old {
                    Some(old) => old,
                    None if tried.contains(&candidate.name) => true,
                    // Another collection was faster.
                    None => continue,
                };
                if is_removed {
                    sweep.swept.removed += 1;
                    sweep.swept.bytes += candidate.size;
                } else {
                    sweep.swept.kept += 1;
                }
            }
            failures = 0;
            rest = &rest[batch.len()..];
        }
        Ok(())
    }

    /// Whether objects are old; none where one is gone.
    async fn ages(
        &self,
        batch: &[Candidate],
        before: u64,
    ) -> Result<Vec<(Candidate, Option<bool>)>, StoreError> {
        let ask = |candidate: Candidate| async move {
            let meta = self.bucket.head(&candidate.name).await?;
            Ok::<_, StoreError>((candidate, meta.map(|meta| is_old(meta.modified, before))))
        };
        stream::iter(batch.iter().cloned().map(ask)).buffer_unordered(WIDE).try_collect().await
    }

    /// What lies in quarantine, and claims that nobody holds any more.
    async fn sweep_leftovers(&self, sweep: &mut Sweep, now: u64) -> Result<(), StoreError> {
        let mut quarantined = Vec::new();
        let before = sweep.before;
        let mut look = |Listed { name, size, modified }: Listed| {
            if is_old(modified, before) && names::is_of_a_store(&name) {
                quarantined.push(Candidate { name, size });
            }
        };
        self.bucket.list(QUARANTINE, &mut look).await?;
        self.sweep(quarantined, sweep, before).await?;
        if sweep.dry_run {
            return Ok(());
        }
        let mut dead = Vec::new();
        let mut look = |Listed { name, modified, .. }: Listed| {
            if is_old(modified, now.saturating_sub(DEAD_CLAIM)) && names::is_of_a_store(&name) {
                dead.push(name);
            }
        };
        self.bucket.list(CLAIMS, &mut look).await?;
        for batch in dead.chunks(BATCH) {
            self.bucket.remove(batch).await?;
        }
        Ok(())
    }
}

/// Whether an object was made or renewed at or before a moment. Of one whose server does not say when it was, nobody knows.
fn is_old(modified: u64, before: u64) -> bool {
    modified > 0 && modified <= before
}
