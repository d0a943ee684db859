//! An unfinished download: its bytes, and what tells whether they can be gone on with.
//!
//! ```text
//! tmp/fetch-<digits>.lock      held by the process that fetches this address
//! tmp/fetch-<digits>.part      the bytes that are here
//! tmp/fetch-<digits>.version   which version of the source they are of, and during which boot they were written
//! tmp/fetch-<digits>.whole     all of it, on its way into the store
//! ```
//!
//! Bytes of an earlier boot are not trusted, since the power may have taken some of them.

use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err::File;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::Version;
use super::hashing::{Hashes, Hashing};
use super::progress::Progress;
use crate::digest::Digest;

/// How the names of all these files start, so that gc finds what a crash left.
pub const UNFINISHED: &str = "fetch-";

/// How often a lock that another process holds is tried.
const TRY_AGAIN: Duration = Duration::from_millis(300);

/// Where Linux tells one boot from another.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

const BUFFER: usize = 1 << 20;

/// The bytes of one address that are here.
pub(super) struct Part {
    stem: PathBuf,
    file: Option<File>,
    /// Bytes that are here.
    pub(super) here: u64,
    /// Bytes of the whole.
    pub(super) total: Option<u64>,
    version: Version,
    hashing: Hashing,
    wants_b3: bool,
    /// Freed when dropped.
    _lock: File,
}

#[derive(Serialize, Deserialize)]
struct Note {
    version: Version,
    total: Option<u64>,
    boot: String,
}

impl Part {
    /// Takes the address for this process, waiting for whoever has it, and finds what an earlier one left.
    pub(super) async fn open(
        folder: &Path,
        id: &Digest,
        wants_b3: bool,
        progress: &mut Progress<'_>,
    ) -> io::Result<Self> {
        let stem = stem(folder, id);
        let lock = File::create(stem.with_extension("lock"))?;
        let mut told = false;
        while let Err(errno) = rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            if errno != Errno::WOULDBLOCK {
                return Err(errno.into());
            }
            if !std::mem::replace(&mut told, true) {
                progress.waits("it is being fetched already, waiting for that");
            }
            tokio::time::sleep(TRY_AGAIN).await;
        }
        let mut part = Self {
            stem,
            file: None,
            here: 0,
            total: None,
            version: Version::default(),
            hashing: Hashing::new(wants_b3),
            wants_b3,
            _lock: lock,
        };
        remove(&part.whole())?;
        if part.take_up().await?.is_none() {
            part.forget()?;
        }
        Ok(part)
    }

    /// Reads what an earlier process left; none when it cannot be gone on with.
    async fn take_up(&mut self) -> io::Result<Option<()>> {
        let note = match fs_err::read(self.note()) {
            Ok(bytes) => serde_json::from_slice::<Note>(&bytes).ok(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let Some(note) = note.filter(|note| !note.boot.is_empty() && note.boot == boot()) else {
            return Ok(None);
        };
        let path = self.part();
        let Ok(found) = fs_err::symlink_metadata(&path) else { return Ok(None) };
        // A second name means that the store took it already: nobody may write into it any more.
        if !found.is_file() || found.nlink() != 1 {
            return Ok(None);
        }
        // The last byte is asked for again, so that a server always has something to answer with.
        let whole = note.total.is_some_and(|total| found.len() >= total);
        let keep = if whole { note.total.unwrap_or(0).saturating_sub(1) } else { found.len() };
        let mut file = File::options().read(true).write(true).open(&path)?;
        file.set_len(keep)?;
        let mut buffer = vec![0; BUFFER];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                count => self.hashing.update(&buffer[..count]),
            }
            // Others shall have their turn while much is read.
            tokio::task::yield_now().await;
        }
        (self.file, self.here) = (Some(file), keep);
        (self.total, self.version) = (note.total, note.version);
        Ok(Some(()))
    }

    /// From where a server can be asked for the rest, and what it must still be. Weak entity tags do not promise equal bytes.
    pub(super) fn goes_on(&self) -> Option<(u64, &str)> {
        let strong = self.version.etag.as_deref().filter(|etag| !etag.starts_with("W/"));
        let unnamed = || self.version.modified.as_deref().filter(|_| self.version.etag.is_none());
        let validator = strong.or_else(unnamed)?;
        (self.here > 0).then_some((self.here, validator))
    }

    /// Which version the bytes that are here are of.
    pub(super) fn version(&self) -> &Version {
        &self.version
    }

    /// Begins again at nothing, with this version of the source.
    pub(super) fn restart(&mut self, version: Version, total: Option<u64>) -> io::Result<()> {
        self.forget()?;
        let note = Note { version: version.clone(), total, boot: boot() };
        fs_err::write(self.note(), serde_json::to_vec(&note).map_err(io::Error::from)?)?;
        self.file = Some(File::create_new(self.part())?);
        (self.version, self.total) = (version, total);
        Ok(())
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return Err(io::Error::other("the download was not begun"));
        };
        file.write_all(bytes)?;
        self.hashing.update(bytes);
        self.here += bytes.len() as u64;
        Ok(())
    }

    /// All of it is here: where it lies now, and its digests.
    pub(super) fn finish(&mut self) -> io::Result<(PathBuf, Hashes)> {
        let (hashes, whole) = (self.hashing.end(), self.whole());
        self.file = None;
        fs_err::rename(self.part(), &whole)?;
        self.forget()?;
        Ok((whole, hashes))
    }

    /// Forgets what is here.
    pub(super) fn forget(&mut self) -> io::Result<()> {
        self.file = None;
        remove(&self.part())?;
        remove(&self.note())?;
        self.hashing = Hashing::new(self.wants_b3);
        (self.here, self.total, self.version) = (0, None, Version::default());
        Ok(())
    }

    /// Where the whole lies on its way into the store.
    pub(super) fn whole(&self) -> PathBuf {
        self.stem.with_extension("whole")
    }

    /// An empty sum for bytes that come another way.
    pub(super) fn hashing(&self) -> Hashing {
        Hashing::new(self.wants_b3)
    }

    /// Where the bytes of an address lie.
    #[cfg(test)]
    pub(super) fn path_of(folder: &Path, id: &Digest) -> PathBuf {
        stem(folder, id).with_extension("part")
    }

    fn part(&self) -> PathBuf {
        self.stem.with_extension("part")
    }

    fn note(&self) -> PathBuf {
        self.stem.with_extension("version")
    }
}

fn stem(folder: &Path, id: &Digest) -> PathBuf {
    folder.join(format!("{UNFINISHED}{}", &id.hex()[..32]))
}

/// Removes a file or folder, if it is there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs_err::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs_err::remove_dir_all(path),
        Ok(_) => fs_err::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// This boot; empty where the system does not tell, and then nothing is gone on with.
fn boot() -> String {
    fs_err::read_to_string(BOOT).map(|boot| boot.trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn open(folder: &Path) -> Part {
        let tell = |_: String| {};
        let mut progress = Progress::new("a".to_owned(), &tell);
        Part::open(folder, &Digest::of(b"a"), false, &mut progress).await.unwrap()
    }

    fn version() -> Version {
        Version { etag: Some("\"1\"".to_owned()), modified: None }
    }

    #[tokio::test]
    async fn the_next_process_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let mut part = open(folder.path()).await;
        part.restart(version(), Some(6)).unwrap();
        part.write(b"abc").unwrap();
        drop(part);
        let mut part = open(folder.path()).await;
        assert_eq!(part.goes_on(), Some((3, "\"1\"")));
        part.write(b"def").unwrap();
        let (whole, hashes) = part.finish().unwrap();
        let mut all = Hashing::new(false);
        all.update(b"abcdef");
        assert_eq!((fs_err::read(&whole).unwrap(), hashes), (b"abcdef".to_vec(), all.end()));
        drop(part);
        let part = open(folder.path()).await;
        assert_eq!((part.goes_on(), whole.exists()), (None, false));
    }

    #[tokio::test]
    async fn bytes_of_another_boot_and_of_the_store_are_not_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        let mut part = open(folder.path()).await;
        part.restart(version(), None).unwrap();
        part.write(b"abc").unwrap();
        let (path, note) = (part.part(), part.note());
        drop(part);
        let kept = fs_err::read(&note).unwrap();
        let other = Note { version: version(), total: None, boot: "another".to_owned() };
        fs_err::write(&note, serde_json::to_vec(&other).unwrap()).unwrap();
        assert_eq!(open(folder.path()).await.goes_on(), None);
        fs_err::write(&path, b"abc").unwrap();
        fs_err::write(&note, kept).unwrap();
        let blob = folder.path().join("blob");
        fs_err::hard_link(&path, &blob).unwrap();
        let mut part = open(folder.path()).await;
        assert_eq!(part.goes_on(), None);
        part.restart(version(), None).unwrap();
        part.write(b"other").unwrap();
        assert_eq!(fs_err::read(blob).unwrap(), b"abc");
    }

    #[tokio::test]
    async fn one_process_fetches_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path()).await;
        let mut second = std::pin::pin!(open(folder.path()));
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        drop(first);
        second.await;
    }

    #[test]
    fn weak_tags_are_no_promise() {
        let stem = PathBuf::new();
        let lock = File::open("/dev/null").unwrap();
        let mut part = Part {
            stem,
            file: None,
            here: 3,
            total: None,
            version: Version { etag: Some("W/\"1\"".to_owned()), modified: Some("x".to_owned()) },
            hashing: Hashing::new(false),
            wants_b3: false,
            _lock: lock,
        };
        assert_eq!(part.goes_on(), None);
        part.version.etag = None;
        assert_eq!(part.goes_on(), Some((3, "x")));
    }
}
