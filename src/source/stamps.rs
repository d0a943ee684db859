//! Which blob a file of a work tree was, by its size, times and inode: a file that did not change is not hashed again.
//! Only a cache: removing it costs time, nothing else.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fs_err as fs;
use git2::Oid;

use super::SourceError;
use crate::digest::Digest;

/// A file this young may change once more without its times showing it, so it is hashed again next time.
const YOUNG: i64 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    inode: u64,
}

impl From<&std::fs::Metadata> for Stamp {
    fn from(metadata: &std::fs::Metadata) -> Self {
        Self {
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
        }
    }
}

/// The stamps of one work tree.
pub(super) struct Stamps {
    place: PathBuf,
    /// Fresh and empty; its time of change is "now" by the clock of the filesystem.
    next: tempfile::NamedTempFile,
    now: i64,
    known: BTreeMap<String, (Stamp, Oid)>,
    seen: BTreeMap<String, (Stamp, Oid)>,
}

impl Stamps {
    /// The stamps of the work tree at `root`, kept in `mirror`. An unreadable file counts as none.
    pub(super) fn open(mirror: &Path, root: &Path) -> Result<Self, SourceError> {
        let name = Digest::of(root.as_os_str().as_encoded_bytes()).hex();
        let place = mirror.join(format!("stamps-{}", &name[..16]));
        let next = tempfile::Builder::new().prefix("stamps-new-").tempfile_in(mirror)?;
        let now = next.as_file().metadata()?.ctime();
        let known = fs::read_to_string(&place).ok().as_deref().and_then(parse).unwrap_or_default();
        Ok(Self { place, next, now, known, seen: BTreeMap::new() })
    }

    /// The blob of the file at `path`, if it is unchanged since it was hashed.
    pub(super) fn blob(&mut self, path: &str, metadata: &std::fs::Metadata) -> Option<Oid> {
        let (stamp, blob) = *self.known.get(path)?;
        if stamp != Stamp::from(metadata) {
            return None;
        }
        self.seen.insert(path.to_owned(), (stamp, blob));
        Some(blob)
    }

    /// Remembers what was hashed; `metadata` was read before the bytes were.
    pub(super) fn remember(&mut self, path: &str, metadata: &std::fs::Metadata, blob: Oid) {
        let stamp = Stamp::from(metadata);
        if stamp.changed.0.max(stamp.modified.0) + YOUNG < self.now {
            self.seen.insert(path.to_owned(), (stamp, blob));
        }
    }

    /// Writes what was seen, if it differs from what was there.
    pub(super) fn close(mut self) -> Result<(), SourceError> {
        if self.seen == self.known {
            return Ok(());
        }
        let mut next = std::io::BufWriter::new(self.next.as_file_mut());
        for (path, (stamp, blob)) in &self.seen {
            let Stamp { size, modified, changed, inode } = stamp;
            write!(
                next,
                "{blob} {size} {} {} {} {} {inode} {path}\0",
                modified.0, modified.1, changed.0, changed.1
            )?;
        }
        next.flush()?;
        drop(next);
        self.next.persist(&self.place).map_err(|error| error.error)?;
        Ok(())
    }
}

fn parse(text: &str) -> Option<BTreeMap<String, (Stamp, Oid)>> {
    text.split_terminator('\0')
        .map(|line| {
            let mut words = line.splitn(8, ' ');
            let blob = Oid::from_str(words.next()?).ok()?;
            let size = words.next()?.parse().ok()?;
            let modified = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            let changed = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            let inode = words.next()?.parse().ok()?;
            Some((words.next()?.to_owned(), (Stamp { size, modified, changed, inode }, blob)))
        })
        .collect()
}
