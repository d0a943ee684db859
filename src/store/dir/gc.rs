//! Garbage collection: mark from pins and young records, sweep what is unmarked and old.
//!
//! Safe beside running runs of other processes: whatever they made or found is young (who reuses an object older than a day gives it
//! a new age first), and an object's age is looked at under the lock under which it is renewed.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::folder::{Folder, ObjectKind, UNFINISHED, changed_at, locked, names_in, nanoseconds};
use super::record::read_record;
use crate::digest::{Digest, Key};
use crate::store::inspect::is_absent;
use crate::store::{StoreError, Swept, artifact};

/// What stays.
#[derive(Default)]
struct Marked {
    trees: HashSet<Digest>,
    blobs: HashSet<Digest>,
}

impl Folder {
    /// Plan: mark the artifacts of pins and of records that are young enough, and those that are young themselves; mark their blobs.
    /// Sweep records first, then manifests, then blobs, so that a crash leaves nothing that names what is gone.
    pub(super) fn collect_garbage(
        &self,
        keep_records: Duration,
        grace: Duration,
        dry_run: bool,
    ) -> Result<Swept, StoreError> {
        let now = self.now()?;
        let before = |age: Duration| now.saturating_sub(nanoseconds(age));
        let sweep = Sweep { folder: self, before: before(grace), dry_run };
        let records_before = before(keep_records.max(grace));
        let marked = self.mark(records_before, sweep.before)?;
        let mut swept = Swept::default();
        for part in 0..=u8::MAX {
            let records = self.part(ObjectKind::Record, part)?;
            let gone = |key: &Key, path: &Path| Self::is_done_with(key, path, &marked);
            sweep.each(records, records_before, gone, &mut swept)?;
        }
        for part in 0..=u8::MAX {
            let trees = self.part(ObjectKind::Tree, part)?;
            let gone = |digest: &Digest, _: &Path| Ok(!marked.trees.contains(digest));
            sweep.each(trees, sweep.before, gone, &mut swept)?;
        }
        for part in 0..=u8::MAX {
            let blobs = self.part(ObjectKind::Blob, part)?;
            let gone = |digest: &Digest, _: &Path| Ok(!marked.blobs.contains(digest));
            sweep.each(blobs, sweep.before, gone, &mut swept)?;
        }
        self.sweep_leftovers(&sweep, &mut swept)?;
        if !dry_run {
            self.remove_dead_claims()?;
            locked(&self.known).clear();
        }
        Ok(swept)
    }

    fn mark(&self, records_before: i64, young: i64) -> Result<Marked, StoreError> {
        let mut marked = Marked { trees: self.all_pinned()?, blobs: HashSet::new() };
        for part in 0..=u8::MAX {
            for (key, path) in self.part(ObjectKind::Record, part)? {
                if age_of(&path)?.is_some_and(|at| at > records_before)
                    && let Some(record) = read_record(&path, &key)?
                {
                    marked.trees.extend(record.outputs.values());
                }
            }
            for (digest, path) in self.part(ObjectKind::Tree, part)? {
                if age_of(&path)?.is_some_and(|at| at > young) {
                    marked.trees.insert(digest);
                }
            }
        }
        for tree in &marked.trees {
            match self.manifest(tree) {
                Ok(entries) => {
                    marked.blobs.extend(artifact::files(&entries).map(|(digest, _)| digest));
                }
                // `check` tells; here there is nothing to keep.
                Err(StoreError::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(marked)
    }

    /// Whether an old record can go: it cannot be read, or produced no artifact, or one that goes.
    fn is_done_with(key: &Key, path: &Path, marked: &Marked) -> io::Result<bool> {
        let record = read_record(path, key)?;
        Ok(record.is_none_or(|record| {
            record.outputs.is_empty()
                || record.outputs.values().any(|artifact| !marked.trees.contains(artifact))
        }))
    }

    /// What crashes left in the temporary folder, and what lies in quarantine.
    fn sweep_leftovers(&self, sweep: &Sweep<'_>, swept: &mut Swept) -> io::Result<()> {
        let unfinished = names_in(self.tmp())?
            .into_iter()
            .filter(|name| name.starts_with(UNFINISHED))
            .map(|name| self.tmp().join(name));
        let quarantined =
            names_in(&self.quarantine())?.into_iter().map(|name| self.quarantine().join(name));
        for path in unfinished.chain(quarantined) {
            sweep.one(&path, sweep.before, swept)?;
        }
        Ok(())
    }
}

struct Sweep<'a> {
    folder: &'a Folder,
    /// What was made or renewed until then is old; as [`changed_at`] counts.
    before: i64,
    dry_run: bool,
}

impl Sweep<'_> {
    fn each(
        &self,
        objects: Vec<(Digest, PathBuf)>,
        before: i64,
        is_garbage: impl Fn(&Digest, &Path) -> io::Result<bool>,
        swept: &mut Swept,
    ) -> io::Result<()> {
        if objects.is_empty() {
            return Ok(());
        }
        let _lock = self.folder.lock_alone()?;
        for (digest, path) in objects {
            if is_garbage(&digest, &path)? {
                self.one(&path, before, swept)?;
            } else {
                swept.kept += 1;
            }
        }
        Ok(())
    }

    fn one(&self, path: &Path, before: i64, swept: &mut Swept) -> io::Result<()> {
        let metadata = match fs_err::symlink_metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if is_absent(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        if changed_at(&metadata) > before {
            swept.kept += 1;
            return Ok(());
        }
        if !self.dry_run {
            fs_err::remove_file(path)?;
        }
        swept.removed += 1;
        swept.bytes += metadata.len();
        Ok(())
    }
}

fn age_of(path: &Path) -> io::Result<Option<i64>> {
    match fs_err::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(changed_at(&metadata))),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}
