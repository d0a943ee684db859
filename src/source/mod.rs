//! A commit, a work tree, a folder or a URL → a pinned snapshot in flowrun's own bare mirror.
//! Knows nothing of pipelines. Never writes into a user's repo. (git2's one home.)

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::event::SnapshotId;

/// Where code is to be taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The work tree (or plain folder) that holds this folder, with uncommitted changes.
    Folder(PathBuf),
    /// A remote or local repo, at a branch, tag or commit (none: its default branch).
    Git {
        /// https, ssh, `git@host:path`, file, local path.
        url: String,
        /// Branch, tag or commit.
        reference: Option<String>,
    },
}

/// What the source reads from settings.
#[derive(Debug, Clone)]
pub struct SourceSettings {
    /// `mirror/` of the home: one bare repo per origin lies in it.
    pub mirrors: PathBuf,
    /// Variables for the `git` program (the caller's, filtered).
    pub env: Vec<(String, String)>,
}

/// One file of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// From the root of the repo, `/`-separated.
    pub path: String,
    /// What it is.
    pub mode: Mode,
    /// Git blob id, 40 hex digits.
    pub blob: String,
}

/// What a file of a snapshot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// 100644
    File,
    /// 100755
    Executable,
    /// 120000
    Link,
}

/// A pinned tree. Cheap to clone; reading it needs neither the remote nor the user's repo.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Its identity, as journalled.
    pub id: SnapshotId,
    /// The bare repo it lies in.
    pub mirror: PathBuf,
    /// Every file, sorted by path (the whole repo, not only the base).
    pub files: Arc<Vec<SourceFile>>,
    /// Things worth a line: the folder is no git repo and what that costs; the tree is dirty.
    pub remarks: Vec<String>,
}

/// Why no snapshot could be made (exit 5), with what to do.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct SourceError {
    /// A lower-case fragment.
    pub message: String,
    /// One imperative sentence.
    pub help: Option<String>,
}

/// Takes a snapshot. For a folder the base is that folder; for git the root, or `base` below it.
pub fn take(
    settings: &SourceSettings,
    origin: &Origin,
    base: Option<&str>,
) -> Result<Snapshot, SourceError> {
    let _ = (settings, origin, base);
    todo!()
}

/// Opens a snapshot taken earlier (resume, debug).
pub fn open(settings: &SourceSettings, id: &SnapshotId) -> Result<Snapshot, SourceError> {
    let _ = (settings, id);
    todo!()
}

impl Snapshot {
    /// The bytes of one file (path from the root); for the pipeline file of `apply URL` and requirements files.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>, SourceError> {
        let _ = path;
        todo!()
    }

    /// Writes these files below `folder` (which exists), as copies with their modes. Never follows a link that is already there.
    pub fn write_files(&self, files: &[&SourceFile], folder: &Path) -> Result<(), SourceError> {
        let _ = (files, folder);
        todo!()
    }

    /// Keeps the tree from git's garbage collection for a run; `unpin` lets it go.
    pub fn pin(&self, name: &str) -> Result<(), SourceError> {
        let _ = name;
        todo!()
    }
}
