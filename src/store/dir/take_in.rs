//! Taking a file or folder in, so that a crash at any instant leaves the path whole and a second call gives the same artifact.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use fs_err::File;
use fs_err::os::unix::fs::OpenOptionsExt;
use rustix::fs::OFlags;

use super::folder::{Folder, ObjectKind, name_new, with_parent};
use super::object::{Blob, made_in};
use crate::digest::Digest;
use crate::store::hash::hash_file;
use crate::store::inspect::{FoundKind, inspect};
use crate::store::{Entry, EntryKind, Refused, StoreError, artifact};

/// How many names each file with several has inside the output.
type Names = HashMap<(u64, u64), u64>;

impl Folder {
    /// Plan: look at everything; then for each file hash it where it lies, make it a blob by one more name for it (no byte is
    /// copied); last the manifest. Nothing is removed.
    pub(super) fn take_in(&self, path: &Path) -> Result<Result<Digest, Refused>, StoreError> {
        let inspected = match inspect(path)? {
            Ok(inspected) => inspected,
            Err(refused) => return Ok(Err(refused)),
        };
        let mut entries = Vec::with_capacity(inspected.found.len());
        for found in inspected.found {
            let kind = match found.kind {
                FoundKind::Folder => EntryKind::Folder,
                FoundKind::Link { target } => EntryKind::Link { target },
                FoundKind::File(metadata) => {
                    let place = if found.path.is_empty() {
                        path.to_owned()
                    } else {
                        path.join(&found.path)
                    };
                    let (digest, size) = self.take_file(&place, &inspected.names)?;
                    EntryKind::File { digest, size, exec: is_executable(&metadata) }
                }
            };
            entries.push(Entry { path: found.path, kind });
        }
        let manifest = artifact::encode(&entries).map_err(io::Error::from)?;
        self.put_manifest(&manifest).map(Ok)
    }

    fn take_file(&self, path: &Path, names: &Names) -> io::Result<(Digest, u64)> {
        let file = open_regular(path)?;
        let metadata = file.metadata()?;
        let size = metadata.len();
        let digest = hash_file(&file, size)?;
        if self.has_blob(&digest, size)? {
            return Ok((digest, size));
        }
        // A name outside the output could be written through later, so such a file is copied. So is an executable one: as a
        // blob it would lose that bit, and a second call would see another artifact.
        let names_here = names.get(&(metadata.dev(), metadata.ino())).copied().unwrap_or(1);
        let own = metadata.nlink() == names_here && !is_executable(&metadata);
        if !(own && self.link_in(&file, path, &digest)?) {
            self.copy_in(path, &digest, size)?;
        }
        self.synced.made(digest);
        Ok((digest, size))
    }

    /// Whether a whole blob with this content is there; a damaged one is put away, an old one gets a new age.
    fn has_blob(&self, digest: &Digest, size: u64) -> io::Result<bool> {
        match self.blob(digest, size)? {
            Blob::Good { old: false } => Ok(true),
            Blob::Good { old: true } => {
                let path = self.object(ObjectKind::Blob, digest);
                Ok(self.renew(vec![(*digest, path)])?.is_empty())
            }
            Blob::Missing | Blob::Changed => Ok(false),
        }
    }

    /// Makes the file itself the blob. `false`: it cannot be (another filesystem, another owner, too many links).
    fn link_in(&self, file: &File, path: &Path, digest: &Digest) -> io::Result<bool> {
        let blob = self.object(ObjectKind::Blob, digest);
        let linked = file
            .set_permissions(std::fs::Permissions::from_mode(0o444))
            .and_then(|()| file.set_modified(made_in(self.boot())))
            .and_then(|()| with_parent(&blob, || fs_err::hard_link(path, &blob)));
        match linked {
            Ok(()) => Ok(true),
            // Another process was first, with the same bytes.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(true),
            Err(error) if cannot_link(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes a copy of the file the blob. The copy is hashed again, since somebody may have written in between.
    fn copy_in(&self, path: &Path, digest: &Digest, size: u64) -> io::Result<()> {
        let copy = self.unfinished();
        let result = self.copy_file(path, &copy, 0o444, made_in(self.boot())).and_then(|()| {
            if hash_file(&open_regular(&copy)?, size)? != *digest {
                let path = path.display();
                let why = format!("`{path}` changed while it was stored");
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
            name_new(&copy, &self.object(ObjectKind::Blob, digest))
        });
        if !matches!(result, Ok(true)) {
            fs_err::remove_file(&copy).ok();
        }
        result.map(|_| ())
    }

    pub(super) fn put_manifest(&self, manifest: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(manifest);
        let path = self.object(ObjectKind::Tree, &digest);
        match fs_err::symlink_metadata(&path) {
            Ok(metadata) if fs_err::read(&path)? == manifest => {
                if !self.is_old(&metadata)? || self.renew(vec![(digest, path.clone())])?.is_empty()
                {
                    return Ok(digest);
                }
            }
            Ok(_) => {
                self.put_away(&path)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        let unfinished: PathBuf = self.write_unfinished(manifest)?;
        if !name_new(&unfinished, &path)? {
            fs_err::remove_file(&unfinished)?;
        }
        Ok(digest)
    }
}

/// Opens what `lstat` saw as a regular file: never through a link, never waiting for a FIFO's other end.
fn open_regular(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let open = || File::options().read(true).custom_flags(flags).open(path);
    match open() {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            // A file that its owner cannot read: the stage took the right away, the caller has it.
            fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o400))?;
            open()
        }
        opened => opened,
    }
}

fn is_executable(metadata: &std::fs::Metadata) -> bool {
    metadata.mode() & 0o100 != 0
}

/// Whether an error says that this file cannot get one more name there, so that a copy is the way.
pub(super) fn cannot_link(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::CrossesDevices
            | io::ErrorKind::TooManyLinks
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::Unsupported
    )
}
