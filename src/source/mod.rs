//! A commit, a work tree, a folder or a URL → a pinned snapshot in flowrun's own bare mirror.
//! Knows nothing of pipelines. Never writes into a user's repo. (git2's one home.)

mod address;
mod adopt;
mod blobs;
mod build_context;
mod edits;
mod folder;
mod git;
mod large;
mod links;
mod mirror;
mod remote;
mod snapshot;
mod stamps;
mod trees;
mod work_tree;

use std::path::PathBuf;
use std::sync::Arc;

pub use address::redact;

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
    /// The flowrun home. What lies in it is no code, also when it lies inside a work tree.
    pub home: PathBuf,
    /// Variables for the `git` program (the caller's, filtered): `PATH`, `HOME`, `SSH_AUTH_SOCK`, proxies.
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
    /// What was read before, so that a thousand stages do not inflate the same files.
    pub(crate) blobs: Arc<blobs::Blobs>,
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

impl SourceError {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None }
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl From<git2::Error> for SourceError {
    fn from(error: git2::Error) -> Self {
        let plain = Self::new(format!("git data cannot be read: {}", error.message()));
        match error.code() {
            git2::ErrorCode::Owner => plain.help(
                "tell git that you trust the folder: `git config --global --add safe.directory FOLDER`",
            ),
            _ => plain,
        }
    }
}

impl From<std::io::Error> for SourceError {
    fn from(error: std::io::Error) -> Self {
        Self::new(error.to_string())
    }
}

/// Takes a snapshot. For a folder the base is that folder (or `base` below it); for git the root, or `base` below it.
///
/// Nothing is written outside `settings.mirrors`. A crash midway leaves objects that the next call uses.
pub fn take(
    settings: &SourceSettings,
    origin: &Origin,
    base: Option<&str>,
) -> Result<Snapshot, SourceError> {
    match origin {
        Origin::Folder(folder) => folder::take(settings, folder, base),
        Origin::Git { url, reference } => remote::take(settings, url, reference.as_deref(), base),
    }
}

/// Opens a snapshot taken earlier (resume, debug).
pub fn open(settings: &SourceSettings, id: &SnapshotId) -> Result<Snapshot, SourceError> {
    Snapshot::open(settings, id.clone())
}

/// Makes the snapshot `id` of files that lie in `folder` as [`Snapshot::write_all`] wrote them; `trees`: what [`Snapshot::odd_trees`]
/// gave there. Another tree than `id` names is an error.
///
/// A crash midway leaves objects in the mirror that the next call uses.
pub fn adopt(
    settings: &SourceSettings,
    id: &SnapshotId,
    folder: &std::path::Path,
    trees: Option<&[u8]>,
) -> Result<Snapshot, SourceError> {
    adopt::adopt(settings, id, folder, trees)
}

/// Lets go what [`Snapshot::pin`] kept under `name`; the snapshot itself need not be readable any more.
pub fn unpin(settings: &SourceSettings, id: &SnapshotId, name: &str) -> Result<(), SourceError> {
    match mirror::Mirror::open(settings, &id.origin)? {
        Some(mirror) => mirror.unpin(name),
        None => Ok(()),
    }
}

/// Lets go what is kept under `name`, whatever origin it is of.
pub fn unpin_everywhere(settings: &SourceSettings, name: &str) -> Result<(), SourceError> {
    mirror::Mirror::all(settings)?.iter().try_for_each(|mirror| mirror.unpin(name))
}

#[cfg(test)]
mod adopt_tests;
#[cfg(test)]
mod tests;
