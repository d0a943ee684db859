//! What lies at a path, by `lstat` only: nothing is opened but folders, so no FIFO blocks and no link is followed.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::artifact::leaving_link;
use super::{Entry, EntryKind, Refused};
use crate::digest::Digest;

/// Why something cannot become an artifact that the caller may not read: it may belong to the user of an image.
pub const UNREADABLE: &str = "cannot be read by you: let the stage make it readable, or leave out `container: {user: image}`";

/// What could become an artifact.
#[derive(Debug)]
pub struct Inspected {
    /// Sorted by path.
    pub found: Vec<Found>,
    /// How often each file (device, inode) has a name in here, for those with several.
    pub names: HashMap<(u64, u64), u64>,
}

/// One thing below the path.
#[derive(Debug)]
pub struct Found {
    /// Below the artifact, `/`-separated; empty when the artifact is one file.
    pub path: String,
    /// What it is.
    pub kind: FoundKind,
}

/// What something below the path is.
#[derive(Debug)]
pub enum FoundKind {
    /// A regular file, as `lstat` saw it.
    File(std::fs::Metadata),
    /// A folder.
    Folder,
    /// A symbolic link that stays inside.
    Link {
        /// As written.
        target: String,
    },
}

/// Looks at everything at `root` without changing anything, except that folders without the right to list them get it.
pub fn inspect(root: &Path) -> io::Result<Result<Inspected, Refused>> {
    let metadata = match fs_err::symlink_metadata(root) {
        Ok(metadata) => metadata,
        Err(error) if is_absent(&error) => return Ok(Err(Refused::Missing)),
        Err(error) => return Err(error),
    };
    if metadata.is_symlink() {
        let why = "is a symbolic link; write the file or folder itself";
        return Ok(Err(refused(".", why)));
    }
    let mut walk = Walk { found: Vec::new(), names: HashMap::new(), folders: Vec::new() };
    if metadata.is_dir() {
        walk.folders.push((String::new(), root.to_owned()));
    } else if let Err(refused) = walk.see(String::new(), root, metadata)? {
        return Ok(Err(refused));
    }
    while let Some((path, folder)) = walk.folders.pop() {
        let items = match list(&folder) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let shown = if path.is_empty() { "." } else { &path };
                return Ok(Err(refused(shown, UNREADABLE)));
            }
            items => items?,
        };
        for item in items {
            let item = item?;
            let Ok(name) = item.file_name().into_string() else {
                let shown = Path::new(&path).join(item.file_name());
                let why = "has a name that is not UTF-8; rename it";
                return Ok(Err(refused(&shown.to_string_lossy(), why)));
            };
            let path = if path.is_empty() { name } else { format!("{path}/{name}") };
            if let Err(refused) = walk.see(path, &item.path(), item.metadata()?)? {
                return Ok(Err(refused));
            }
        }
    }
    walk.found.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(links_inside(&walk.found).map(|()| Inspected { found: walk.found, names: walk.names }))
}

struct Walk {
    found: Vec<Found>,
    names: HashMap<(u64, u64), u64>,
    folders: Vec<(String, PathBuf)>,
}

impl Walk {
    fn see(
        &mut self,
        path: String,
        place: &Path,
        metadata: std::fs::Metadata,
    ) -> io::Result<Result<(), Refused>> {
        let file_type = metadata.file_type();
        let why = if file_type.is_fifo() {
            "is a FIFO"
        } else if file_type.is_socket() {
            "is a socket"
        } else if file_type.is_block_device() || file_type.is_char_device() {
            "is a device"
        } else {
            ""
        };
        if !why.is_empty() {
            let shown = if path.is_empty() { "." } else { &path };
            return Ok(Err(refused(
                shown,
                &format!("{why}; only files, folders and links can be stored"),
            )));
        }
        let kind = if file_type.is_symlink() {
            match fs_err::read_link(place)?.into_os_string().into_string() {
                Ok(target) => FoundKind::Link { target },
                Err(_) => {
                    return Ok(Err(refused(&path, "is a link to a name that is not UTF-8")));
                }
            }
        } else if file_type.is_dir() {
            self.folders.push((path.clone(), place.to_owned()));
            FoundKind::Folder
        } else {
            if rustix::fs::access(place, rustix::fs::Access::READ_OK).is_err() {
                let shown = if path.is_empty() { "." } else { &path };
                return Ok(Err(refused(shown, UNREADABLE)));
            }
            if metadata.nlink() > 1 {
                *self.names.entry((metadata.dev(), metadata.ino())).or_default() += 1;
            }
            FoundKind::File(metadata)
        };
        self.found.push(Found { path, kind });
        Ok(Ok(()))
    }
}

fn refused(path: &str, why: &str) -> Refused {
    Refused::Kind { path: path.to_owned(), why: why.to_owned() }
}

fn list(folder: &Path) -> io::Result<fs_err::ReadDir> {
    match fs_err::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            // A stage may well leave a folder that nobody can list; it is the caller's own.
            fs_err::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
            fs_err::read_dir(folder)
        }
        listed => listed,
    }
}

fn links_inside(found: &[Found]) -> Result<(), Refused> {
    if !found.iter().any(|found| matches!(found.kind, FoundKind::Link { .. })) {
        return Ok(());
    }
    let entries: Vec<Entry> = found
        .iter()
        .map(|found| Entry {
            path: found.path.clone(),
            kind: match &found.kind {
                FoundKind::File(metadata) => {
                    // Only its place counts here; its bytes were not read.
                    EntryKind::File {
                        digest: Digest::from_bytes([0; 32]),
                        size: metadata.len(),
                        exec: false,
                    }
                }
                FoundKind::Folder => EntryKind::Folder,
                FoundKind::Link { target } => EntryKind::Link { target: target.clone() },
            },
        })
        .collect();
    match leaving_link(&entries) {
        Some((path, why)) => Err(Refused::Kind { path: path.to_owned(), why }),
        None => Ok(()),
    }
}

/// Whether an error of `lstat` says that nothing is there (also: that a parent is no folder).
pub(crate) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
