//! `store check`: reads everything, names what is wrong with its path and the mend, and puts damaged objects out of reach.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use fs_err::File;

use super::folder::{Folder, ObjectKind, locked};
use super::object::Stamp;
use super::record::read_record;
use crate::digest::{Digest, Key};
use crate::store::hash::hash_file;
use crate::store::{CheckReport, StoreError, artifact};

/// What mends everything that only lost its content: nothing else depends on where it came from.
const RUNS_AGAIN: &str = "the stage that makes it runs again at the next `apply`";

impl Folder {
    /// Blobs first, so that artifacts and records are compared with the blobs that are sound.
    pub(super) fn check(&self, progress: &dyn Fn(u64)) -> Result<CheckReport, StoreError> {
        let mut report = CheckReport::default();
        locked(&self.known).clear();
        let mut blobs = HashMap::new();
        for part in 0..=u8::MAX {
            for (digest, path) in self.part(ObjectKind::Blob, part)? {
                if let Some(size) = self.check_blob(&digest, &path, &mut report)? {
                    blobs.insert(digest, size);
                    progress(size);
                }
            }
        }
        for part in 0..=u8::MAX {
            for (digest, path) in self.part(ObjectKind::Tree, part)? {
                self.check_manifest(&digest, &path, &blobs, &mut report)?;
            }
        }
        for part in 0..=u8::MAX {
            for (key, path) in self.part(ObjectKind::Record, part)? {
                self.check_record(&key, &path, &mut report)?;
            }
        }
        Ok(report)
    }

    /// The size of a sound blob.
    fn check_blob(
        &self,
        digest: &Digest,
        path: &Path,
        report: &mut CheckReport,
    ) -> io::Result<Option<u64>> {
        let Some(file) = present(File::open(path))? else { return Ok(None) };
        let metadata = file.metadata()?;
        let size = metadata.len();
        report.objects += 1;
        report.bytes += size;
        let what = match hash_file(&file, size) {
            Ok(found) if found == *digest && Stamp::of(&metadata, size) != Stamp::Changed => {
                return Ok(Some(size));
            }
            Ok(found) if found == *digest => "was touched",
            Ok(_) => "does not hold what its name says",
            Err(error) if error.kind() == io::ErrorKind::InvalidData => "is being written into",
            Err(error) => {
                // A bad place of the disk: name it and go on with the others.
                report.broken.push(format!("{error}: check the disk; then remove the file"));
                return Ok(None);
            }
        };
        self.put_away_and_tell(path, what, report)?;
        Ok(None)
    }

    fn check_manifest(
        &self,
        digest: &Digest,
        path: &Path,
        blobs: &HashMap<Digest, u64>,
        report: &mut CheckReport,
    ) -> io::Result<()> {
        let Some(bytes) = present(fs_err::read(path))? else { return Ok(()) };
        report.objects += 1;
        report.bytes += bytes.len() as u64;
        let entries = match artifact::decode(&bytes) {
            Ok(entries) if Digest::of(&bytes) == *digest => entries,
            _ => return self.put_away_and_tell(path, "does not hold what its name says", report),
        };
        let lacking = artifact::files(&entries)
            .filter(|(digest, size)| blobs.get(digest) != Some(size))
            .map(|(digest, _)| self.object(ObjectKind::Blob, &digest).display().to_string());
        for blob in lacking {
            report.broken.push(format!(
                "`{blob}`, which the artifact `{digest}` needs, is not there: {RUNS_AGAIN}"
            ));
        }
        Ok(())
    }

    fn check_record(&self, key: &Key, path: &Path, report: &mut CheckReport) -> io::Result<()> {
        report.objects += 1;
        let Some(record) = read_record(path, key)? else {
            return self.put_away_and_tell(path, "is no record that this version can read", report);
        };
        if record.parts.key() != *key {
            return self.put_away_and_tell(path, "does not hold the parts of its key", report);
        }
        for (output, artifact) in &record.outputs {
            if fs_err::symlink_metadata(self.object(ObjectKind::Tree, artifact)).is_err() {
                report.broken.push(format!(
                    "`{}` names the artifact `{artifact}` as output `{output}`, which is not there: {RUNS_AGAIN}",
                    path.display()
                ));
            }
        }
        Ok(())
    }

    fn put_away_and_tell(
        &self,
        path: &Path,
        what: &str,
        report: &mut CheckReport,
    ) -> io::Result<()> {
        self.put_away(path)?;
        let (path, quarantine) = (path.display(), self.quarantine());
        report
            .broken
            .push(format!("`{path}` {what}: moved to `{}`; {RUNS_AGAIN}", quarantine.display()));
        Ok(())
    }
}

/// What gc removed meanwhile is nothing to tell.
fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
