//! A tree from files that lie in a folder: how another machine gets the code of a run without its remote.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use fs_err as fs;
use walkdir::WalkDir;

use super::edits::Edits;
use super::mirror::Mirror;
use super::trees::write_trees;
use super::{Mode, Snapshot, SourceError, SourceSettings};
use crate::event::SnapshotId;

/// Puts the files of `folder` into the mirror of their origin as the tree that `id` names; another tree is an error. `trees`: what
/// [`Snapshot::odd_trees`] gave.
/// A crash midway leaves objects that the next call uses.
pub(super) fn adopt(
    settings: &SourceSettings,
    id: &SnapshotId,
    folder: &Path,
    trees: Option<&[u8]>,
) -> Result<Snapshot, SourceError> {
    let mirror = Mirror::open_or_create(settings, &id.origin)?;
    let mut edits = Edits::default();
    for item in WalkDir::new(folder).min_depth(1) {
        let item = item.map_err(|error| SourceError::new(error.to_string()))?;
        let place = item.path();
        let kind = item.file_type();
        let entry = if kind.is_symlink() {
            let target = fs::read_link(place)?;
            (mirror.repository.blob(target.as_os_str().as_bytes())?, Mode::Link)
        } else if kind.is_file() {
            let bits = fs::symlink_metadata(place)?.permissions().mode();
            let mode = if bits & 0o100 == 0 { Mode::File } else { Mode::Executable };
            (mirror.write_file(place)?, mode)
        } else {
            // A folder without files is none for git.
            continue;
        };
        let path = place.strip_prefix(folder).ok().and_then(Path::to_str).ok_or_else(|| {
            SourceError::new(format!("the file name `{}` is not UTF-8", place.display()))
        })?;
        edits.put(path, entry.0, entry.1);
    }
    let tree = match edits.apply(&mirror.repository, None)? {
        Some(tree) => tree,
        None => mirror.repository.treebuilder(None)?.write()?,
    };
    if let Some(trees) = trees {
        write_trees(&mirror, trees)?;
    } else if tree.to_string() != id.tree {
        return Err(SourceError::new(format!(
            "the files that are kept for tree {} of `{}` make the tree {tree}",
            id.tree, id.origin
        ))
        .help("start a new run with `flowrun apply`"));
    }
    Snapshot::open(settings, id.clone())
}
