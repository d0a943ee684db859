//! What lies in the store, for `store ls`.

use std::collections::BTreeMap;

use super::folder::{Folder, ObjectKind, names_in};
use super::record::read_record;
use crate::digest::Digest;
use crate::store::{RecordLine, StoreError, Summary, artifact};

impl Folder {
    pub(super) fn summary(&self) -> Result<Summary, StoreError> {
        let mut summary = Summary::default();
        for part in 0..=u8::MAX {
            summary.records += self.part(ObjectKind::Record, part)?.len() as u64;
            summary.artifacts += self.part(ObjectKind::Tree, part)?.len() as u64;
            for (_, path) in self.part(ObjectKind::Blob, part)? {
                summary.files += 1;
                summary.bytes += fs_err::symlink_metadata(path).map_or(0, |file| file.len());
            }
        }
        summary.quarantined = names_in(&self.quarantine())?.len() as u64;
        Ok(summary)
    }

    pub(super) fn records(&self) -> Result<Vec<RecordLine>, StoreError> {
        let mut lines = Vec::new();
        for part in 0..=u8::MAX {
            for (key, path) in self.part(ObjectKind::Record, part)? {
                let Some(record) = read_record(&path, &key)? else { continue };
                let mut bytes = BTreeMap::new();
                for (name, digest) in &record.outputs {
                    let size = match self.manifest(digest) {
                        Ok(entries) => Some(artifact::bytes(&entries)),
                        Err(StoreError::Damaged { .. }) => None,
                        Err(error) => return Err(error),
                    };
                    bytes.insert(name.clone(), size);
                }
                lines.push(RecordLine { record, bytes });
            }
        }
        lines.sort_by_key(|line| std::cmp::Reverse((line.record.made_at, line.record.key)));
        Ok(lines)
    }

    pub(super) fn find_artifacts(
        &self,
        digits: &str,
        most: usize,
    ) -> Result<Vec<Digest>, StoreError> {
        let mut found = Vec::new();
        for part in 0..=u8::MAX {
            let folder = format!("{part:02x}");
            if !(folder.starts_with(digits) || digits.starts_with(&folder)) {
                continue;
            }
            let objects = self.part(ObjectKind::Tree, part)?;
            found.extend(
                objects
                    .into_iter()
                    .map(|(digest, _)| digest)
                    .filter(|digest| digest.hex().starts_with(digits)),
            );
        }
        found.truncate(most);
        Ok(found)
    }
}
