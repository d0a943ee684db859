//! What stays: found from the roots.

use std::collections::HashSet;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::is_old;
use crate::digest::{Digest, Key};
use crate::store::s3::bucket::Listed;
use crate::store::s3::names::{Name, Shelf};
use crate::store::s3::pack::Files;
use crate::store::s3::record::read_record;
use crate::store::s3::{Shared, WIDE};
use crate::store::{Record, StoreError};

/// What stays.
#[derive(Default)]
pub(super) struct Marked {
    pub(super) trees: HashSet<Digest>,
    pub(super) blobs: HashSet<Digest>,
    pub(super) packs: HashSet<Digest>,
    pub(super) old_records: Old,
}

/// Records that are not young enough to be roots, with their sizes.
#[derive(Default)]
pub(super) struct Old {
    pub(super) old: Vec<(Key, u64)>,
    /// How many are young.
    pub(super) kept: u64,
}

impl Shared {
    /// Times are Unix milliseconds on the server's clock.
    pub(super) async fn mark(&self, records_before: u64, young: u64) -> Result<Marked, StoreError> {
        let mut marked = Marked { trees: self.all_pinned().await?, ..Marked::default() };
        let mut roots = Vec::new();
        let mut look =
            |Listed { name, size, modified }: Listed| match Name::digest_of(Shelf::Record, &name) {
                Some(key) if !is_old(modified, records_before) => roots.push(key),
                Some(key) => marked.old_records.old.push((key, size)),
                None => {}
            };
        self.bucket.list(Shelf::Record.prefix(), &mut look).await?;
        marked.old_records.kept = roots.len() as u64;
        let records: Vec<Option<Record>> =
            stream::iter(roots.into_iter().map(|key| async move { self.read(&key).await }))
                .buffer_unordered(WIDE)
                .try_collect()
                .await?;
        for record in records.into_iter().flatten() {
            marked.trees.extend(record.outputs.values());
        }
        let mut look = |Listed { name, modified, .. }: Listed| {
            if !is_old(modified, young) {
                marked.trees.extend(Name::digest_of(Shelf::Tree, &name));
            }
        };
        self.bucket.list(Shelf::Tree.prefix(), &mut look).await?;

        let trees: Vec<Digest> = marked.trees.iter().copied().collect();
        let needs = trees.into_iter().map(|tree| async move { self.needs(&tree).await });
        let mut needs = stream::iter(needs).buffer_unordered(WIDE);
        while let Some((blobs, packs)) = needs.try_next().await? {
            marked.blobs.extend(blobs);
            marked.packs.extend(packs);
        }
        Ok(marked)
    }

    /// The blobs and packs of an artifact; none where it is gone or damaged: `check` tells, and here there is nothing to keep.
    async fn needs(&self, tree: &Digest) -> Result<(Vec<Digest>, Vec<Digest>), StoreError> {
        let entries = match self.manifest(tree).await {
            Ok(entries) => entries,
            Err(StoreError::Damaged { .. }) => return Ok((Vec::new(), Vec::new())),
            Err(error) => return Err(error),
        };
        let files = Files::of(&entries);
        let blobs = files.loose.iter().map(|(digest, _)| *digest).collect();
        if files.small.is_empty() {
            return Ok((blobs, Vec::new()));
        }
        let name = Name::new(Shelf::Packed, *tree);
        let Some(meta) = self.bucket.head(&name.text()).await? else {
            return Ok((blobs, Vec::new()));
        };
        let head = self.head_of(&name, meta.size).await?;
        let packs = head.map(|head| head.packs.iter().map(|(digest, _)| *digest).collect());
        Ok((blobs, packs.unwrap_or_default()))
    }

    /// The record of a key; none where there is none that can be read.
    pub(in crate::store::s3) async fn read(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        let object = self.bucket.get(&Name::new(Shelf::Record, *key).text()).await?;
        Ok(object.and_then(|object| read_record(&object.bytes, key)))
    }
}
