//! A pinned tree: reading it, writing its files out, keeping it, comparing it.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use git2::Oid;
use rustix::fs::{self, CWD, Mode as Bits, OFlags};
use rustix::io::Errno;

use super::blobs::Blobs;
use super::mirror::Mirror;
use super::trees::odd_trees;
use super::{Mode, Snapshot, SourceError, SourceFile, SourceSettings, links};
use crate::event::SnapshotId;

impl Snapshot {
    /// A snapshot of a tree that was just made in `mirror`. A link that leads out of it is an error.
    pub(super) fn made(
        mirror: &Mirror,
        id: SnapshotId,
        remarks: Vec<String>,
    ) -> Result<Self, SourceError> {
        let files = mirror.list(Oid::from_str(&id.tree)?)?;
        links::check(mirror, &files)?;
        Ok(Self::of(mirror, id, files, remarks))
    }

    fn of(mirror: &Mirror, id: SnapshotId, files: Vec<SourceFile>, remarks: Vec<String>) -> Self {
        let blobs = Arc::new(Blobs::default());
        Self { id, mirror: mirror.path.clone(), files: Arc::new(files), remarks, blobs }
    }

    pub(super) fn open(settings: &SourceSettings, id: SnapshotId) -> Result<Self, SourceError> {
        let gone = || {
            SourceError::new(format!("the code of `{}` at tree {} is gone", id.origin, id.tree))
                .help("start a new run with `flowrun apply`")
        };
        let mirror = Mirror::open(settings, &id.origin)?.ok_or_else(gone)?;
        let tree = Oid::from_str(&id.tree).map_err(|_| gone())?;
        if !mirror.has(tree)? {
            return Err(gone());
        }
        let files = mirror.list(tree)?;
        Ok(Self::of(&mirror, id, files, Vec::new()))
    }

    /// A file by its path from the root.
    pub fn file(&self, path: &str) -> Option<&SourceFile> {
        let at = self.files.binary_search_by(|file| file.path.as_str().cmp(path)).ok()?;
        self.files.get(at)
    }

    /// The bytes of one file (path from the root; a link's target, for a link); for the pipeline file of `apply URL` and
    /// requirements files.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>, SourceError> {
        match self.file(path) {
            Some(file) => Ok(Some(self.blobs.read(&self.mirror, &file.blob)?.to_vec())),
            None => Ok(None),
        }
    }

    /// Writes these files below `folder` (which exists), as copies with their modes. Never follows a link that is already
    /// there; a file that is already there is an error. A crash midway leaves some of the files.
    pub fn write_files(&self, files: &[&SourceFile], folder: &Path) -> Result<(), SourceError> {
        let named = |path: &str, errno: Errno| {
            let error = std::io::Error::from(errno);
            SourceError::new(format!(
                "`{}` cannot be written: {error}",
                folder.join(path).display()
            ))
        };
        let directory = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
        let root = fs::openat(CWD, folder, directory, Bits::empty()).map_err(|e| named("", e))?;
        let mut folders: HashMap<&str, OwnedFd> = HashMap::from([("", root)]);
        for file in files {
            let (parent, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
            // Every folder on the way is opened from the one above it, so no link on the way is followed.
            let mut known = parent;
            while !folders.contains_key(known) {
                known = known.rsplit_once('/').map_or("", |(above, _)| above);
            }
            while known.len() < parent.len() {
                let from = if known.is_empty() { 0 } else { known.len() + 1 };
                let to = parent[from..].find('/').map_or(parent.len(), |at| from + at);
                let above = &folders[known];
                let step = &parent[from..to];
                match fs::mkdirat(above, step, Bits::from_raw_mode(0o777)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(named(&parent[..to], error)),
                }
                let opened = fs::openat(above, step, directory | OFlags::NOFOLLOW, Bits::empty())
                    .map_err(|error| named(&parent[..to], error))?;
                known = &parent[..to];
                folders.insert(known, opened);
            }
            let parent = &folders[parent];
            let bits = match file.mode {
                Mode::Link => {
                    let target = self.blobs.read(&self.mirror, &file.blob)?;
                    fs::symlinkat(&*target, parent, name).map_err(|e| named(&file.path, e))?;
                    continue;
                }
                Mode::File => 0o666,
                Mode::Executable => 0o777,
            };
            let flags =
                OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened = fs::openat(parent, name, flags, Bits::from_raw_mode(bits))
                .map_err(|error| named(&file.path, error))?;
            self.blobs.write(&self.mirror, &file.blob, &mut opened.into()).map_err(|error| {
                let path = folder.join(&file.path);
                let message = format!("`{}` cannot be written: {error}", path.display());
                SourceError { message, help: error.help }
            })?;
        }
        Ok(())
    }

    /// Writes the whole tree below `folder`, as [`Snapshot::write_files`] does.
    pub fn write_all(&self, folder: &Path) -> Result<(), SourceError> {
        let files: Vec<&SourceFile> = self.files.iter().collect();
        self.write_files(&files, folder)
    }

    /// What the files do not tell of the tree, for [`super::adopt()`]; none when they say it all.
    pub fn odd_trees(&self) -> Result<Option<Vec<u8>>, SourceError> {
        odd_trees(&self.own_mirror()?, Oid::from_str(&self.id.tree)?)
    }

    /// Keeps the tree from git's garbage collection for a run or release, under `refs/flowrun/<name>`, until
    /// [`Snapshot::unpin`] of the same name. Pinning another tree under the same name replaces the pin.
    pub fn pin(&self, name: &str) -> Result<(), SourceError> {
        self.own_mirror()?.pin(name, Oid::from_str(&self.id.tree)?)
    }

    /// Lets go what was pinned under `name`; nothing when there is no such pin.
    pub fn unpin(&self, name: &str) -> Result<(), SourceError> {
        self.own_mirror()?.unpin(name)
    }

    fn own_mirror(&self) -> Result<Mirror, SourceError> {
        let repository = git2::Repository::open_bare(&self.mirror)
            .map_err(|error| super::mirror::damaged(&self.mirror, &error))?;
        Ok(Mirror { repository, path: self.mirror.clone() })
    }
}
