//! What lies in the store, for `store ls`.

use std::collections::BTreeMap;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::bucket::Listed;
use super::names::{Name, QUARANTINE, Shelf};
use super::{Shared, WIDE};
use crate::digest::{Digest, Key};
use crate::store::{Record, RecordLine, StoreError, Summary, artifact};

impl Shared {
    pub(super) async fn summary(&self) -> Result<Summary, StoreError> {
        let mut summary = Summary::default();
        let mut indexes = Vec::new();
        for shelf in [Shelf::Record, Shelf::Tree, Shelf::Blob, Shelf::Pack, Shelf::Packed] {
            let mut look = |Listed { name, size, .. }: Listed| {
                let Some(digest) = Name::digest_of(shelf, &name) else { return };
                match shelf {
                    Shelf::Record => summary.records += 1,
                    Shelf::Tree => summary.artifacts += 1,
                    Shelf::Blob => {
                        summary.files += 1;
                        summary.bytes += size;
                    }
                    Shelf::Pack => summary.bytes += size,
                    Shelf::Packed => indexes.push((Name::new(shelf, digest), size)),
                }
            };
            self.bucket.list(shelf.prefix(), &mut look).await?;
        }
        self.bucket.list(QUARANTINE, &mut |_| summary.quarantined += 1).await?;
        let heads =
            indexes.into_iter().map(|(name, size)| async move { self.head_of(&name, size).await });
        let mut heads = stream::iter(heads).buffer_unordered(WIDE);
        while let Some(head) = heads.try_next().await? {
            // A file that lies in the packs of two trees counts twice.
            summary.files += head.map_or(0, |head| head.files);
        }
        Ok(summary)
    }

    pub(super) async fn records(&self) -> Result<Vec<RecordLine>, StoreError> {
        let mut keys: Vec<Key> = Vec::new();
        let mut look = |listed: Listed| keys.extend(Name::digest_of(Shelf::Record, &listed.name));
        self.bucket.list(Shelf::Record.prefix(), &mut look).await?;
        let line = |key: Key| async move {
            match self.read(&key).await? {
                Some(record) => self.line(record).await.map(Some),
                None => Ok(None),
            }
        };
        let lines: Vec<Option<RecordLine>> =
            stream::iter(keys.into_iter().map(line)).buffer_unordered(WIDE).try_collect().await?;
        let mut lines: Vec<RecordLine> = lines.into_iter().flatten().collect();
        lines.sort_by_key(|line| std::cmp::Reverse((line.record.made_at, line.record.key)));
        Ok(lines)
    }

    async fn line(&self, record: Record) -> Result<RecordLine, StoreError> {
        let mut bytes = BTreeMap::new();
        for (name, digest) in &record.outputs {
            let size = match self.manifest(digest).await {
                Ok(entries) => Some(artifact::bytes(&entries)),
                Err(StoreError::Damaged { .. }) => None,
                Err(error) => return Err(error),
            };
            bytes.insert(name.clone(), size);
        }
        Ok(RecordLine { record, bytes })
    }

    pub(super) async fn find_artifacts(
        &self,
        digits: &str,
        most: usize,
    ) -> Result<Vec<Digest>, StoreError> {
        let digits = digits.strip_prefix("b3:").unwrap_or(digits);
        let folder = digits.get(..2).map(|first| format!("{first}/")).unwrap_or_default();
        let prefix = format!("{}{folder}{digits}", Shelf::Tree.prefix());
        let mut found = Vec::new();
        let mut look = |listed: Listed| {
            let digest = Name::digest_of(Shelf::Tree, &listed.name);
            if found.len() < most {
                found.extend(digest.filter(|digest| digest.hex().starts_with(digits)));
            }
        };
        self.bucket.list(&prefix, &mut look).await?;
        Ok(found)
    }
}
