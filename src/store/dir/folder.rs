//! Where everything lies in the store's folder, and how a new file gets there whole.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::hash::BuildHasher;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use fs_err::File;
use fs_err::os::unix::fs::OpenOptionsExt;
use rustix::fs::{CWD, RenameFlags};

use super::object::{Known, Stamp};
use super::place::Way;
use super::sync::Synced;
use crate::digest::{Digest, Key};
use crate::store::PinOwner;

/// How the names of unfinished files start, so that gc finds what a crash left.
pub(super) const UNFINISHED: &str = "store-";

/// Where Linux tells one boot from another.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// The store's folder, with what this process remembers of it. All of it may be lost at any time.
pub(super) struct Folder {
    root: PathBuf,
    tmp: PathBuf,
    /// Tells this opening of the store from others by the same or an earlier process.
    random: u64,
    /// The number of this boot, as stamps hold it.
    boot: u64,
    serial: AtomicU64,
    started: OnceLock<(i64, Instant)>,
    /// Manifests that were read.
    pub(super) known: Mutex<HashMap<Digest, Known>>,
    /// What placing found out, by device of the target.
    pub(super) ways: Mutex<HashMap<u64, Way>>,
    /// What each pin holds.
    pub(super) pinned: Mutex<HashMap<PinOwner, BTreeSet<Digest>>>,
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
pub(super) enum ObjectKind {
    /// Bytes of one file.
    Blob,
    /// Manifests.
    Tree,
    /// Records.
    Record,
}

impl ObjectKind {
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
        let random = std::hash::RandomState::new().hash_one(0);
        // Where the system tells no boots apart, each opening counts as one: then more is verified than need be.
        let boot = fs_err::read(BOOT).unwrap_or_else(|_| random.to_le_bytes().to_vec());
        Ok(Self {
            root: root.to_owned(),
            tmp,
            random,
            boot: Stamp::boot_number(&boot),
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

    pub(super) fn boot(&self) -> u64 {
        self.boot
    }

    pub(super) fn tmp(&self) -> &Path {
        &self.tmp
    }

    pub(super) fn object(&self, kind: ObjectKind, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        let mut path = self.root.join(kind.name());
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

    pub(super) fn pin_path(&self, owner: PinOwner) -> PathBuf {
        self.pins().join(owner.to_string())
    }

    pub(super) fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    /// The objects of one of the 256 parts of a shelf, with their paths. Names that are no digest are left alone.
    pub(super) fn part(&self, kind: ObjectKind, part: u8) -> io::Result<Vec<(Digest, PathBuf)>> {
        let folder = self.root.join(kind.name()).join(format!("{part:02x}"));
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
        self.tmp.join(format!("{UNFINISHED}{}-{}-{serial}", std::process::id(), self.random))
    }

    /// Writes a new file under a temporary name.
    pub(super) fn write_unfinished(&self, bytes: &[u8]) -> io::Result<PathBuf> {
        self.make_unfinished(bytes).map(|(path, _)| path)
    }

    /// The same, and leaves the file open.
    pub(super) fn make_unfinished(&self, bytes: &[u8]) -> io::Result<(PathBuf, File)> {
        loop {
            let path = self.unfinished();
            match File::options().write(true).create_new(true).mode(0o444).open(&path) {
                Ok(mut file) => {
                    if let Err(error) = file.write_all(bytes) {
                        // The disk is full: do not leave the half file as well.
                        fs_err::remove_file(&path).ok();
                        return Err(error);
                    }
                    return Ok((path, file));
                }
                // Another process had this pid before and crashed.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Now, in nanoseconds since 1970, on the clock of the filesystem: the one that ages of objects are measured with.
    pub(super) fn now(&self) -> io::Result<i64> {
        let path = self.write_unfinished(b"")?;
        let now = changed_at(&fs_err::symlink_metadata(&path)?);
        fs_err::remove_file(&path)?;
        Ok(now)
    }

    /// About now: asks the filesystem once, then counts on.
    pub(super) fn about_now(&self) -> io::Result<i64> {
        let (then, since) = if let Some(started) = self.started.get() {
            *started
        } else {
            let now = self.now()?;
            *self.started.get_or_init(|| (now, Instant::now()))
        };
        Ok(then.saturating_add(nanoseconds(since.elapsed())))
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

/// When a file was made, linked or renewed last, nanoseconds since 1970.
pub(super) fn changed_at(metadata: &std::fs::Metadata) -> i64 {
    metadata.ctime().saturating_mul(1_000_000_000).saturating_add(metadata.ctime_nsec())
}

/// A duration as such times count.
pub(super) fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Entry, EntryKind, StoreError, artifact};

    fn store() -> (tempfile::TempDir, Folder) {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(&place.path().join("store"), place.path()).unwrap();
        (place, folder)
    }

    /// The same store, two days later.
    fn two_days_later(folder: &Folder) -> Folder {
        let later = folder.now().unwrap() + nanoseconds(Duration::from_hours(48));
        let folder = Folder::open(folder.root(), folder.tmp()).unwrap();
        folder.started.set((later, Instant::now())).unwrap();
        folder
    }

    fn age(folder: &Folder, kind: ObjectKind, digest: &Digest) -> i64 {
        changed_at(&fs_err::symlink_metadata(folder.object(kind, digest)).unwrap())
    }

    #[test]
    fn a_new_store_is_private_and_keeps_unfinished_files_on_its_own_filesystem() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("deep/store");
        let folder = Folder::open(&root, Path::new("/proc")).unwrap();
        assert_eq!(fs_err::metadata(&root).unwrap().mode() & 0o777, 0o700);
        assert_eq!(folder.tmp(), root.join("tmp"));
        assert!(folder.unfinished().starts_with(root.join("tmp")));
    }

    #[test]
    fn what_is_reused_after_a_day_is_young_again() {
        let (place, folder) = store();
        let output = place.path().join("output");
        fs_err::create_dir(&output).unwrap();
        fs_err::write(output.join("file"), "bytes").unwrap();
        let artifact = folder.take_in(&output).unwrap().unwrap();
        let blob = Digest::of(b"bytes");
        let made =
            [age(&folder, ObjectKind::Tree, &artifact), age(&folder, ObjectKind::Blob, &blob)];
        assert!(folder.missing_of(&artifact).unwrap().is_empty());
        let folder = two_days_later(&folder);
        assert!(folder.missing_of(&artifact).unwrap().is_empty());
        let renewed =
            [age(&folder, ObjectKind::Tree, &artifact), age(&folder, ObjectKind::Blob, &blob)];
        assert!(renewed[0] > made[0] && renewed[1] > made[1]);
        assert!(folder.manifest(&artifact).is_ok());
        assert_eq!(folder.take_in(&output).unwrap().unwrap(), artifact);
        assert!(age(&folder, ObjectKind::Tree, &artifact) > renewed[0]);
        assert!(age(&folder, ObjectKind::Blob, &blob) > renewed[1]);
    }

    #[test]
    fn names_are_never_replaced() {
        let (place, folder) = store();
        let to = place.path().join("new folder/name");
        let first = folder.write_unfinished(b"first").unwrap();
        let second = folder.write_unfinished(b"second").unwrap();
        assert!(name_new(&first, &to).unwrap());
        assert!(!name_new(&second, &to).unwrap());
        assert_eq!(fs_err::read(&to).unwrap(), b"first");
        assert!(second.exists() && !first.exists());
    }

    #[test]
    fn a_damaged_manifest_is_put_away_and_taken_in_again() {
        let (place, folder) = store();
        let output = place.path().join("output");
        fs_err::write(&output, "bytes").unwrap();
        let artifact = folder.take_in(&output).unwrap().unwrap();
        let manifest = folder.object(ObjectKind::Tree, &artifact);
        fs_err::remove_file(&manifest).unwrap();
        // Whole JSON that says something else, as a bad disk or hand might leave it.
        let other = Entry { path: "../out".to_owned(), kind: EntryKind::Folder };
        fs_err::write(&manifest, artifact::encode(&[other]).unwrap()).unwrap();
        folder.forget(&artifact);
        assert!(matches!(
            folder.manifest(&artifact),
            Err(StoreError::Damaged { what: "damaged", .. })
        ));
        assert_eq!(folder.missing_of(&artifact).unwrap(), [artifact]);
        assert_eq!(names_in(&folder.quarantine()).unwrap().len(), 1);
        fs_err::write(&manifest, "").unwrap();
        assert_eq!(folder.take_in(&output).unwrap().unwrap(), artifact);
        assert!(folder.missing_of(&artifact).unwrap().is_empty());
    }

    #[test]
    fn an_error_names_its_path_and_keeps_its_cause() {
        let cause = io::Error::from_raw_os_error(28);
        let error = named("write", Path::new("/a/b"), cause);
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(error.to_string().starts_with("failed to write `/a/b`: "), "{error}");
        let source = error.get_ref().and_then(std::error::Error::source).unwrap();
        assert_eq!(source.downcast_ref::<io::Error>().unwrap().raw_os_error(), Some(28));
    }

    fn stamp(folder: &Folder, bytes: &[u8]) -> Stamp {
        let path = folder.object(ObjectKind::Blob, &Digest::of(bytes));
        Stamp::of(&fs_err::symlink_metadata(path).unwrap(), bytes.len() as u64)
    }

    /// What a loss of power may leave: other bytes, the right size and mtime.
    fn tear(folder: &Folder, bytes: &[u8]) {
        let path = folder.object(ObjectKind::Blob, &Digest::of(bytes));
        let mtime = fs_err::metadata(&path).unwrap().modified().unwrap();
        fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        fs_err::write(&path, vec![0; bytes.len()]).unwrap();
        File::options().write(true).open(path).unwrap().set_modified(mtime).unwrap();
    }

    fn after_a_boot(folder: &Folder) -> Folder {
        let mut next = Folder::open(folder.root(), folder.tmp()).unwrap();
        next.boot = folder.boot % 1000 + 1;
        next
    }

    #[test]
    fn what_was_not_durable_when_the_power_went_is_read_before_it_is_used() {
        let (place, folder) = store();
        let output = place.path().join("output");
        fs_err::create_dir(&output).unwrap();
        for bytes in ["whole", "torn"] {
            // A name elsewhere, so that the bytes here stay what they are.
            fs_err::write(place.path().join(bytes), bytes).unwrap();
            fs_err::hard_link(place.path().join(bytes), output.join(bytes)).unwrap();
        }
        let artifact = folder.take_in(&output).unwrap().unwrap();
        assert_eq!(stamp(&folder, b"whole"), Stamp::MadeIn(folder.boot));
        tear(&folder, b"torn");
        let next = after_a_boot(&folder);
        assert_eq!(next.missing_of(&artifact).unwrap(), [Digest::of(b"torn")]);
        assert_eq!(stamp(&next, b"whole"), Stamp::MadeIn(next.boot));
        // Nor is a torn one taken for the same bytes that come in again.
        assert_eq!(next.take_in(&output).unwrap().unwrap(), artifact);
        tear(&next, b"torn");
        let last = after_a_boot(&next);
        assert_eq!(last.take_in(&output).unwrap().unwrap(), artifact);
        assert!(last.missing_of(&artifact).unwrap().is_empty());
        let blob = last.object(ObjectKind::Blob, &Digest::of(b"torn"));
        assert_eq!(fs_err::read(blob).unwrap(), b"torn");
    }

    #[test]
    fn what_is_durable_is_not_read_again() {
        let (place, folder) = store();
        let output = place.path().join("output");
        fs_err::write(&output, "bytes").unwrap();
        folder.take_in(&output).unwrap().unwrap();
        folder.sync().unwrap();
        assert_eq!(stamp(&folder, b"bytes"), Stamp::Sealed);
        tear(&folder, b"bytes");
        let found = after_a_boot(&folder).blob(&Digest::of(b"bytes"), 5).unwrap();
        assert!(matches!(found, super::super::object::Blob::Good { .. }));
    }

    #[test]
    fn sealing_hides_no_write() {
        let (place, folder) = store();
        let output = place.path().join("output");
        fs_err::write(&output, "bytes").unwrap();
        folder.take_in(&output).unwrap().unwrap();
        fs_err::set_permissions(&output, std::fs::Permissions::from_mode(0o644)).unwrap();
        fs_err::write(&output, "BYTES").unwrap();
        folder.sync().unwrap();
        assert_eq!(stamp(&folder, b"bytes"), Stamp::Changed);
    }

    #[test]
    fn a_new_age_is_no_new_stamp() {
        let (place, folder) = store();
        let output = place.path().join("output");
        fs_err::write(&output, "bytes").unwrap();
        let artifact = folder.take_in(&output).unwrap().unwrap();
        assert!(two_days_later(&folder).missing_of(&artifact).unwrap().is_empty());
        assert_eq!(stamp(&folder, b"bytes"), Stamp::MadeIn(folder.boot));
    }
}
