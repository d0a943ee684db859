//! Placing an artifact: reflinks where the filesystem has them, else read-only links, else copies.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::SystemTime;

use fs_err::File;
use fs_err::os::unix::fs::OpenOptionsExt;

use super::folder::{Folder, ObjectKind, locked, named};
use super::object::{Blob, Stamp, sealed_mtime};
use super::take_in::cannot_link;
use crate::digest::Digest;
use crate::store::{EntryKind, Placed, StoreError, artifact};

/// What works between the store and another device; none: not tried yet. Found out once, not with every file.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Way {
    reflink: Option<bool>,
    link: Option<bool>,
}

impl Folder {
    /// Verifies each blob by size and mtime while it is placed. On an error part of `target` may be there.
    pub(super) fn place(
        &self,
        artifact: &Digest,
        target: &Path,
        own: bool,
    ) -> Result<Vec<Placed>, StoreError> {
        let entries = self.manifest(artifact)?;
        if !artifact::is_file(&entries) {
            fs_err::create_dir(target)?;
        }
        let device = fs_err::metadata(target.parent().unwrap_or(target))?.dev();
        let mut placed = Vec::new();
        for entry in entries.iter() {
            let path =
                if entry.path.is_empty() { target.to_owned() } else { target.join(&entry.path) };
            match &entry.kind {
                EntryKind::Folder => fs_err::create_dir(&path)?,
                EntryKind::Link { target } => fs_err::os::unix::fs::symlink(target, &path)?,
                EntryKind::File { digest, size, exec } => {
                    self.require(artifact, digest, *size)?;
                    let file = Placing { digest, size: *size, exec: *exec, path: &path, device };
                    if self.place_file(&file, own)? {
                        placed.push(Placed { digest: *digest, size: *size, path });
                    }
                }
            }
        }
        Ok(placed)
    }

    fn require(&self, artifact: &Digest, digest: &Digest, size: u64) -> Result<(), StoreError> {
        let what = match self.blob(digest, size)? {
            Blob::Good { .. } => return Ok(()),
            Blob::Missing => "missing",
            Blob::Changed => "damaged (moved to quarantine)",
        };
        self.forget(artifact);
        Err(self.damaged(digest, what))
    }

    /// Places one file; `true` when it is a hard link.
    fn place_file(&self, file: &Placing<'_>, own: bool) -> io::Result<bool> {
        let mode = match (own, file.exec) {
            (true, true) => 0o755,
            (true, false) => 0o644,
            (false, true) => 0o555,
            (false, false) => 0o444,
        };
        let blob = self.object(ObjectKind::Blob, file.digest);
        if file.size == 0 {
            // All empty files share one blob, which would soon have as many links as a file may have.
            let empty = File::options().write(true).create_new(true).mode(mode).open(file.path)?;
            if !own {
                empty.set_modified(sealed_mtime())?;
            }
            return Ok(false);
        }
        let mut way = locked(&self.ways).get(&file.device).copied().unwrap_or_default();
        let before = way;
        let result = place_by(&mut way, &blob, file, mode, own);
        if (before.reflink, before.link) != (way.reflink, way.link) {
            locked(&self.ways).insert(file.device, way);
        }
        result
    }

    /// Copies a file of the store or of a work folder, by reflink where that works, to a new file with this mode.
    pub(super) fn copy_file(
        &self,
        from: &Path,
        to: &Path,
        mode: u32,
        mtime: SystemTime,
    ) -> io::Result<()> {
        let device = fs_err::metadata(to.parent().unwrap_or(to))?.dev();
        let mut way = locked(&self.ways).get(&device).copied().unwrap_or_default();
        if !reflink(&mut way, from, to, mode, Some(mtime))? {
            copy(from, to, mode, Some(mtime))?;
        }
        Ok(())
    }

    /// Of what was hard-linked, the blobs that were written into; they are moved to quarantine.
    ///
    /// A blob that somebody else moved there meanwhile is told by the link, which is the same file.
    pub(super) fn changed(&self, placed: &[Placed]) -> Result<Vec<Placed>, StoreError> {
        let mut changed = Vec::new();
        for file in placed {
            let is_changed = match self.blob(&file.digest, file.size)? {
                Blob::Good { .. } => false,
                Blob::Changed => true,
                Blob::Missing => fs_err::symlink_metadata(&file.path)
                    .is_ok_and(|metadata| Stamp::of(&metadata, file.size) == Stamp::Changed),
            };
            if is_changed {
                changed.push(file.clone());
            }
        }
        Ok(changed)
    }

    /// Copies an artifact out; it appears at `target` whole or not at all.
    pub(super) fn export(&self, artifact: &Digest, target: &Path) -> Result<(), StoreError> {
        let already = || {
            let why = io::Error::from(io::ErrorKind::AlreadyExists);
            StoreError::Io(named("write", target, why))
        };
        if fs_err::symlink_metadata(target).is_ok() {
            return Err(already());
        }
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let partial = target.with_file_name(format!(".{name}.{}.part", std::process::id()));
        let result = self.place(artifact, &partial, true).and_then(|_| {
            if super::folder::name_new(&partial, target)? { Ok(()) } else { Err(already()) }
        });
        if result.is_err() {
            // The first error is the one to tell.
            fs_err::remove_dir_all(&partial).or_else(|_| fs_err::remove_file(&partial)).ok();
        }
        result
    }
}

struct Placing<'a> {
    digest: &'a Digest,
    size: u64,
    exec: bool,
    path: &'a Path,
    device: u64,
}

fn place_by(
    way: &mut Way,
    blob: &Path,
    file: &Placing<'_>,
    mode: u32,
    own: bool,
) -> io::Result<bool> {
    let mtime = (!own).then(sealed_mtime);
    if reflink(way, blob, file.path, mode, mtime)? {
        return Ok(false);
    }
    if !own && !file.exec && way.link != Some(false) {
        match fs_err::hard_link(blob, file.path) {
            Ok(()) => {
                way.link = Some(true);
                return Ok(true);
            }
            Err(error) if cannot_link(&error) => {
                // One blob may have all the links it can have; the next one not.
                if error.kind() != io::ErrorKind::TooManyLinks {
                    way.link = Some(false);
                }
            }
            Err(error) => return Err(error),
        }
    }
    copy(blob, file.path, mode, mtime)?;
    Ok(false)
}

/// Tries a reflink, unless it is known not to work. `false`: nothing was made.
fn reflink(
    way: &mut Way,
    from: &Path,
    to: &Path,
    mode: u32,
    mtime: Option<SystemTime>,
) -> io::Result<bool> {
    if way.reflink == Some(false) {
        return Ok(false);
    }
    match reflink_copy::reflink(from, to) {
        Ok(()) => {}
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::AlreadyExists
                    | io::ErrorKind::NotFound
                    | io::ErrorKind::StorageFull
                    | io::ErrorKind::QuotaExceeded
                    | io::ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            return Err(named("copy a file to", to, error));
        }
        Err(_) => {
            way.reflink = Some(false);
            return Ok(false);
        }
    }
    way.reflink = Some(true);
    if let Some(mtime) = mtime {
        File::open(to)?.set_modified(mtime)?;
    }
    fs_err::set_permissions(to, std::fs::Permissions::from_mode(mode))?;
    Ok(true)
}

fn copy(from: &Path, to: &Path, mode: u32, mtime: Option<SystemTime>) -> io::Result<()> {
    let source = File::open(from)?;
    let target = File::options().write(true).create_new(true).mode(mode).open(to)?;
    let copied = io::copy(&mut source.file(), &mut target.file());
    copied.map_err(|error| named("copy a file to", to, error))?;
    if let Some(mtime) = mtime {
        target.set_modified(mtime)?;
    }
    Ok(())
}
