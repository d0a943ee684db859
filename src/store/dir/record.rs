//! Records: what a key produced. The first whole one per key wins.

use std::io;
use std::path::Path;

use super::folder::{Folder, ObjectKind, name_new, with_parent};
use crate::digest::{Digest, Key};
use crate::store::inspect::is_absent;
use crate::store::{Lookup, Record, StoreError};

/// The form of a record's file that this code writes and reads.
pub(super) const RECORD_FORMAT: u32 = 1;

impl Folder {
    pub(super) fn look_up(&self, key: &Key) -> Result<Lookup, StoreError> {
        let path = self.object(ObjectKind::Record, key);
        let Some(record) = read_record(&path, key)? else { return Ok(Lookup::Miss) };
        let missing = self.missing_of_record(&record)?;
        if !missing.is_empty() {
            return Ok(Lookup::Broken { missing });
        }
        // Renewed last: a record that is gone now was found all the same, and its artifacts are young.
        if self.is_old(&fs_err::symlink_metadata(&path)?)? {
            self.renew(vec![(*key, path)])?;
        }
        Ok(Lookup::Hit(Box::new(record)))
    }

    fn missing_of_record(&self, record: &Record) -> Result<Vec<Digest>, StoreError> {
        let mut missing = Vec::new();
        for artifact in record.outputs.values() {
            missing.extend(self.missing_of(artifact)?);
        }
        Ok(missing)
    }

    /// The first record that is whole stays, unless `replace`; a broken one is replaced.
    pub(super) fn put_record(&self, record: Record, replace: bool) -> Result<Record, StoreError> {
        if record.parts.key() != record.key {
            let why = format!("the record of `{}` does not hold the parts of that key", record.key);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why).into());
        }
        let path = self.object(ObjectKind::Record, &record.key);
        let text = serde_json::to_vec(&record).map_err(io::Error::from)?;
        let unfinished = self.write_unfinished(&text)?;
        let result = self.put_file(&unfinished, &path, &record.key, replace);
        if !matches!(result, Ok(None)) {
            fs_err::remove_file(&unfinished).ok();
        }
        Ok(result?.unwrap_or(record))
    }

    /// Gives the written record its name, or returns the one that has it and stays.
    fn put_file(
        &self,
        unfinished: &Path,
        path: &Path,
        key: &Key,
        replace: bool,
    ) -> Result<Option<Record>, StoreError> {
        if replace {
            with_parent(path, || fs_err::rename(unfinished, path))?;
            return Ok(None);
        }
        if name_new(unfinished, path)? {
            return Ok(None);
        }
        if let Some(whole) = self.whole_record(path, key)? {
            return Ok(Some(whole));
        }
        // Two writers may find the same broken record: the second one must see what the first one put.
        let _lock = self.lock_alone()?;
        if let Some(whole) = read_record(path, key)?
            && self.seems_whole(&whole)
        {
            return Ok(Some(whole));
        }
        fs_err::rename(unfinished, path)?;
        Ok(None)
    }

    fn whole_record(&self, path: &Path, key: &Key) -> Result<Option<Record>, StoreError> {
        match read_record(path, key)? {
            Some(record) if self.missing_of_record(&record)?.is_empty() => Ok(Some(record)),
            _ => Ok(None),
        }
    }

    /// As `missing_of_record`, but renews nothing and so takes no lock.
    fn seems_whole(&self, record: &Record) -> bool {
        record.outputs.values().all(|artifact| {
            self.manifest(artifact).is_ok_and(|entries| {
                crate::store::artifact::files(&entries).all(|(digest, size)| {
                    matches!(self.blob(&digest, size), Ok(super::object::Blob::Good { .. }))
                }) && fs_err::symlink_metadata(self.object(ObjectKind::Tree, artifact)).is_ok()
            })
        })
    }
}

/// Reads a record. None: it is not there, or not readable (the power went off while it was written, or a later version
/// wrote it), so that the stage simply runs again.
pub(super) fn read_record(path: &Path, key: &Key) -> io::Result<Option<Record>> {
    let text = match fs_err::read(path) {
        Ok(text) => text,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let record: Option<Record> = serde_json::from_slice(&text).ok();
    Ok(record.filter(|record| record.format == RECORD_FORMAT && record.key == *key))
}
