//! Where everything lies in the store's folder, and how a new file gets there whole.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use fs_err::File;
use fs_err::os::unix::fs::OpenOptionsExt;
use rustix::fs::{CWD, RenameFlags};

use super::object::Known;
use super::place::Way;
use super::sync::Synced;
use crate::digest::{Digest, Key};
use crate::names::RunId;

/// How the names of unfinished files start, so that gc finds what a crash left.
pub(super) const UNFINISHED: &str = "store-";

/// The store's folder, with what this process remembers of it. All of it may be lost at any time.
pub(super) struct Folder {
    root: PathBuf,
    tmp: PathBuf,
    serial: AtomicU64,
    started: OnceLock<(i64, Instant)>,
    /// Manifests that were read.
    pub(super) known: Mutex<HashMap<Digest, Known>>,
    /// What placing found out, by device of the target.
    pub(super) ways: Mutex<HashMap<u64, Way>>,
    /// What each run's pin holds.
    pub(super) pinned: Mutex<HashMap<RunId, BTreeSet<Digest>>>,
    /// What is durable.
    pub(super) synced: Synced,
}

impl fmt::Debug for Folder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Folder").field("root", &self.root).finish_non_exhaustive()
    }
}

/// The kinds of objects that are kept by digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shelf {
    /// Bytes of one file.
    Blob,
    /// Manifests.
    Tree,
    /// Records.
    Record,
}

impl Shelf {
    fn name(self) -> &'static str {
        match self {
            Self::Blob => "blob",
            Self::Tree => "tree",
            Self::Record => "record",
        }
    }
}

impl Folder {
    pub(super) fn open(root: &Path, tmp: &Path) -> io::Result<Self> {
        let device = match fs_err::metadata(root) {
            Ok(metadata) => metadata.dev(),
            Err(_) => make_private(root)?,
        };
        let same = fs_err::metadata(tmp).is_ok_and(|metadata| metadata.dev() == device);
        let tmp = if same { tmp.to_owned() } else { root.join("tmp") };
        if !same && fs_err::symlink_metadata(&tmp).is_err() {
            make_private(&tmp)?;
        }
        Ok(Self {
            root: root.to_owned(),
            tmp,
            serial: AtomicU64::new(0),
            started: OnceLock::new(),
            known: Mutex::default(),
            ways: Mutex::default(),
            pinned: Mutex::default(),
            synced: Synced::default(),
        })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn tmp(&self) -> &Path {
        &self.tmp
    }

    pub(super) fn object(&self, shelf: Shelf, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        let mut path = self.root.join(shelf.name());
        path.push(&hex[..2]);
        path.push(hex);
        path
    }

    pub(super) fn claim_path(&self, key: &Key) -> PathBuf {
        self.root.join("claim").join(key.hex())
    }

    pub(super) fn pins(&self) -> PathBuf {
        self.root.join("pin")
    }

    pub(super) fn pin_path(&self, run: RunId) -> PathBuf {
        self.pins().join("run").join(run.to_string())
    }

    pub(super) fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    /// The objects of one of the 256 parts of a shelf, with their paths. Names that are no digest are left alone.
    pub(super) fn part(&self, shelf: Shelf, part: u8) -> io::Result<Vec<(Digest, PathBuf)>> {
        let folder = self.root.join(shelf.name()).join(format!("{part:02x}"));
        let mut objects: Vec<(Digest, PathBuf)> = names_in(&folder)?
            .into_iter()
            .filter_map(|name| Some((format!("b3:{name}").parse().ok()?, folder.join(name))))
            .collect();
        objects.sort_unstable();
        Ok(objects)
    }

    /// A name in the temporary folder that nobody else uses.
    pub(super) fn unfinished(&self) -> PathBuf {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let started = self.started.get().map_or(0, |(seconds, _)| *seconds);
        self.tmp.join(format!("{UNFINISHED}{}-{started}-{serial}", std::process::id()))
    }

    /// Writes a new file under a temporary name.
    pub(super) fn write_unfinished(&self, bytes: &[u8]) -> io::Result<PathBuf> {
        loop {
            let path = self.unfinished();
            match File::options().write(true).create_new(true).mode(0o444).open(&path) {
                Ok(mut file) => {
                    if let Err(error) = file.write_all(bytes) {
                        // The disk is full: do not leave the half file as well.
                        fs_err::remove_file(&path).ok();
                        return Err(error);
                    }
                    return Ok(path);
                }
                // Another process had this pid before and crashed.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Now, in seconds, on the clock of the filesystem: the one that ages of objects are measured with.
    pub(super) fn now(&self) -> io::Result<i64> {
        if let Some((seconds, since)) = self.started.get() {
            return Ok(*seconds + i64::try_from(since.elapsed().as_secs()).unwrap_or(i64::MAX / 2));
        }
        let path = self.write_unfinished(b"")?;
        let seconds = fs_err::symlink_metadata(&path)?.ctime();
        fs_err::remove_file(&path)?;
        Ok(self.started.get_or_init(|| (seconds, Instant::now())).0)
    }

    /// Held while the ages of objects are renewed, so that gc does not remove what it just found to be old.
    pub(super) fn lock_shared(&self) -> io::Result<File> {
        let root = File::open(&self.root)?;
        root.lock_shared()?;
        Ok(root)
    }

    /// Held while old objects are removed or a broken record is replaced; never for long.
    pub(super) fn lock_alone(&self) -> io::Result<File> {
        let root = File::open(&self.root)?;
        root.lock()?;
        Ok(root)
    }
}

/// Locks; a thread that panicked while it held the lock left nothing half done, since these maps are only caches.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives the file `from` the name `to`, unless something has that name: then `false`, and `from` stays.
pub(super) fn name_new(from: &Path, to: &Path) -> io::Result<bool> {
    let result = with_parent(to, || {
        rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)
            .map_err(|error| named("move a file to", to, error.into()))
    });
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        // A filesystem without that flag (NFS): a link does not replace either.
        Err(error)
            if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) =>
        {
            match fs_err::hard_link(from, to) {
                Ok(()) => fs_err::remove_file(from).map(|()| true),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
                Err(error) => Err(error),
            }
        }
        Err(error) => Err(error),
    }
}

/// Does `work` that makes the file `path`, and makes the folder of `path` when that turns out to be missing.
pub(super) fn with_parent<T>(path: &Path, work: impl Fn() -> io::Result<T>) -> io::Result<T> {
    match (work(), path.parent()) {
        (Err(error), Some(parent)) if error.kind() == io::ErrorKind::NotFound => {
            fs_err::create_dir_all(parent)?;
            work()
        }
        (result, _) => result,
    }
}

/// The names in a folder; none when it is not there.
pub(super) fn names_in(folder: &Path) -> io::Result<Vec<String>> {
    match fs_err::read_dir(folder) {
        Ok(items) => items
            .map(|item| item.map(|item| item.file_name().to_string_lossy().into_owned()))
            .collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// An error that names what was tried with which path, and keeps its cause.
pub(super) fn named(action: &'static str, path: &Path, source: io::Error) -> io::Error {
    #[derive(Debug, thiserror::Error)]
    #[error("failed to {action} `{path}`: {source}")]
    struct Named {
        action: &'static str,
        path: String,
        source: io::Error,
    }
    let path = path.display().to_string();
    io::Error::new(source.kind(), Named { action, path, source })
}

fn make_private(folder: &Path) -> io::Result<u64> {
    fs_err::create_dir_all(folder)?;
    fs_err::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
    fs_err::metadata(folder).map(|metadata| metadata.dev())
}
