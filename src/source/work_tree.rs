//! What lies in a work tree now → a tree in the mirror. Reads the user's repo through libgit2 with nothing that writes:
//! no index refresh, no lock, no object.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use fs_err as fs;
use git2::{
    AttrCheckFlags, AttrValue, Delta, Diff, DiffOptions, ErrorCode, FileMode, Index, Oid,
    Repository,
};

use super::edits::Edits;
use super::mirror::Mirror;
use super::stamps::Stamps;
use super::{Mode, SourceError, large};

const MIB: u64 = 1 << 20;
/// A larger untracked file is more likely forgotten than meant.
const UNTRACKED: u64 = 50 * MIB;
/// A larger folder without git is more likely a home or a data disk than code.
const TOTAL: u64 = 1024 * MIB;
/// Larger files are read in pieces.
const IN_MEMORY: u64 = 8 * MIB;
/// Git's mode of a submodule in the index.
const GITLINK: u32 = 0o160_000;
/// Git's flag of an entry that a sparse checkout leaves out.
const SKIP_WORKTREE: u16 = 1 << 14;

/// What bounds a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    /// In a git repo: no untracked file over 50 MiB.
    EachUntracked,
    /// Without git: no more than 1 GiB in all.
    Total,
}

/// Records work trees below one root.
pub(super) struct Recorder<'a> {
    mirror: &'a Mirror,
    root: &'a Path,
    home: Option<&'a Path>,
    limit: Limit,
    stamps: RefCell<Option<Stamps>>,
    total: RefCell<u64>,
    remarks: RefCell<Vec<String>>,
}

/// A recorded work tree.
pub(super) struct Recorded {
    pub(super) tree: Oid,
    pub(super) commit: Option<Oid>,
    pub(super) dirty: bool,
}

/// How a path differs from the commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Gone,
    Tracked,
    Untracked,
}

#[derive(Default)]
struct Changes {
    files: BTreeMap<String, Change>,
    nested: BTreeSet<String>,
    links: bool,
}

impl<'a> Recorder<'a> {
    pub(super) fn new(
        mirror: &'a Mirror,
        root: &'a Path,
        home: Option<&'a Path>,
        limit: Limit,
    ) -> Self {
        let (stamps, total, remarks) = (RefCell::default(), RefCell::default(), RefCell::default());
        Self { mirror, root, home, limit, stamps, total, remarks }
    }

    /// Writes the cache; gives the remarks.
    pub(super) fn close(self) -> Result<Vec<String>, SourceError> {
        if let Some(stamps) = self.stamps.into_inner() {
            stamps.close()?;
        }
        Ok(self.remarks.into_inner())
    }

    /// Records the work tree of `repository`, which lies at `prefix` (empty, or ending in `/`) below the root.
    pub(super) fn record(
        &self,
        repository: &Repository,
        prefix: &str,
    ) -> Result<Recorded, SourceError> {
        let commit = match repository.head() {
            Ok(head) => Some(head.peel_to_commit()?),
            Err(error) if matches!(error.code(), ErrorCode::UnbornBranch | ErrorCode::NotFound) => {
                None
            }
            Err(error) => return Err(error.into()),
        };
        let there = commit.as_ref().map(git2::Commit::tree).transpose()?;
        if let Some(tree) = &there {
            self.mirror.copy_tree(repository, tree.id())?;
        }
        let own = &self.mirror.repository;
        let base = there.as_ref().map(|tree| own.find_tree(tree.id())).transpose()?;
        let index = repository.index()?;
        self.hide_home(repository, prefix)?;
        let changes = self.changes(repository, there.as_ref(), &index, prefix)?;

        let mut edits = Edits::default();
        for (path, change) in &changes.files {
            match change {
                Change::Gone => edits.remove(path),
                _ => match self.entry(repository, &index, prefix, path)? {
                    Some((blob, mode)) => edits.put(path, blob, mode),
                    None => edits.remove(path),
                },
            }
        }
        let tree = match (edits.is_empty(), &base) {
            (true, Some(base)) => Some(base.id()),
            _ => edits.apply(own, base.as_ref())?,
        };
        let mut dirty = changes.links || tree != base.as_ref().map(git2::Tree::id);

        // What follows is content that the commit only names: submodules, and files behind a filter such as Git LFS.
        let mut more = Edits::default();
        let links = index.iter().filter(|entry| entry.mode == GITLINK);
        let links = links.map(|entry| text(&entry.path, prefix)).collect::<Result<Vec<_>, _>>()?;
        for path in links {
            let below = format!("{prefix}{path}");
            let module = Repository::open(self.root.join(&below)).map_err(|error| {
                if error.code() != ErrorCode::NotFound {
                    return error.into();
                }
                SourceError::new(format!("the submodule `{below}` is not checked out"))
                    .help("check it out with `git submodule update --init --recursive`")
            })?;
            let recorded = self.record(&module, &format!("{below}/"))?;
            let named = base.as_ref().and_then(|tree| tree.get_path(Path::new(&path)).ok());
            dirty |= recorded.dirty || named.map(|entry| entry.id()) != recorded.commit;
            more.put_tree(&path, recorded.tree);
        }
        for path in &changes.nested {
            let Ok(nested) = Repository::open(self.root.join(format!("{prefix}{path}"))) else {
                continue;
            };
            // Another work tree of the same repo is no part of this one.
            if nested.commondir() == repository.commondir() || nested.is_bare() {
                continue;
            }
            let recorded = self.record(&nested, &format!("{prefix}{path}/"))?;
            more.put_tree(path, recorded.tree);
            dirty = true;
        }
        self.filtered(repository, &index, prefix, &mut more)?;
        let tree = match (tree, more.is_empty()) {
            (Some(tree), true) => tree,
            (None, true) => own.treebuilder(None)?.write()?,
            (tree, false) => {
                let base = tree.map(|tree| own.find_tree(tree)).transpose()?;
                match more.apply(own, base.as_ref())? {
                    Some(tree) => tree,
                    None => own.treebuilder(None)?.write()?,
                }
            }
        };
        Ok(Recorded { tree, commit: commit.map(|commit| commit.id()), dirty })
    }

    /// Keeps libgit2 from walking through the flowrun home, when it lies in this work tree. In memory only.
    fn hide_home(&self, repository: &Repository, prefix: &str) -> Result<(), SourceError> {
        let here = self.root.join(prefix);
        if let Some(home) = self.home
            && let Ok(below) = home.strip_prefix(&here)
            && let Some(below) = below.to_str()
            && !below.is_empty()
        {
            let mut rule = String::from("/");
            for c in below.chars() {
                if matches!(c, '\\' | '*' | '?' | '[' | ' ') {
                    rule.push('\\');
                }
                rule.push(c);
            }
            repository.add_ignore_rule(&rule)?;
        }
        Ok(())
    }

    fn changes(
        &self,
        repository: &Repository,
        tree: Option<&git2::Tree<'_>>,
        index: &Index,
        prefix: &str,
    ) -> Result<Changes, SourceError> {
        let mut options = DiffOptions::new();
        options.ignore_submodules(true).skip_binary_check(true);
        let staged = repository.diff_tree_to_index(tree, Some(index), Some(&mut options))?;
        options.include_untracked(true).recurse_untracked_dirs(true);
        let on_disk = repository.diff_index_to_workdir(Some(index), Some(&mut options))?;

        let mut changes = Changes::default();
        for delta in staged.deltas() {
            let path = text(path_of(&delta), prefix)?;
            let link =
                [delta.old_file().mode(), delta.new_file().mode()].contains(&FileMode::Commit);
            changes.links |= link;
            match delta.status() {
                Delta::Deleted => changes.files.insert(path, Change::Gone),
                _ if delta.new_file().mode() == FileMode::Commit => None,
                _ => changes.files.insert(path, Change::Tracked),
            };
        }
        // A file whose kind changed is reported as deleted and as untracked: what is on disk wins.
        for delta in on_disk.deltas().filter(|delta| delta.status() == Delta::Deleted) {
            let path = text(path_of(&delta), prefix)?;
            let sparse = index
                .get_path(Path::new(&path), 0)
                .is_some_and(|entry| entry.flags_extended & SKIP_WORKTREE != 0);
            if !sparse && delta.old_file().mode() != FileMode::Commit {
                changes.files.insert(path, Change::Gone);
            }
        }
        self.add_present(&on_disk, prefix, &mut changes)?;
        if let Some(home) = self.home {
            let here = self.root.join(prefix);
            changes.files.retain(|path, change| {
                *change != Change::Untracked || !here.join(path).starts_with(home)
            });
        }
        self.check_sizes(&changes, prefix)?;
        Ok(changes)
    }

    fn add_present(
        &self,
        on_disk: &Diff<'_>,
        prefix: &str,
        changes: &mut Changes,
    ) -> Result<(), SourceError> {
        for delta in on_disk.deltas() {
            let change = match delta.status() {
                Delta::Deleted | Delta::Unmodified | Delta::Ignored => continue,
                Delta::Untracked => Change::Untracked,
                _ => Change::Tracked,
            };
            let path = text(path_of(&delta), prefix)?;
            let folder = path.strip_suffix('/').unwrap_or(&path);
            let is_folder = || {
                fs::symlink_metadata(self.root.join(prefix).join(folder))
                    .is_ok_and(|metadata| metadata.is_dir())
            };
            if change == Change::Untracked && (path.ends_with('/') || is_folder()) {
                changes.nested.insert(folder.to_owned());
            } else if delta.new_file().mode() != FileMode::Commit {
                changes.files.insert(path, change);
            }
        }
        Ok(())
    }

    /// Before anything is hashed: refuses what is too much.
    fn check_sizes(&self, changes: &Changes, prefix: &str) -> Result<(), SourceError> {
        let mut total = self.total.borrow_mut();
        for (path, change) in &changes.files {
            if *change != Change::Untracked {
                continue;
            }
            let Ok(metadata) = fs::symlink_metadata(self.root.join(prefix).join(path)) else {
                continue;
            };
            *total += metadata.len();
            if self.limit == Limit::EachUntracked
                && metadata.is_file()
                && metadata.len() > UNTRACKED
            {
                return Err(SourceError::new(format!(
                    "the untracked file `{prefix}{path}` is {} MiB; over 50 MiB it is not taken along unasked",
                    metadata.len() / MIB
                ))
                .help("ignore it or name it: put it into `.gitignore`, or `git add` it"));
            }
        }
        if self.limit == Limit::Total && *total > TOTAL {
            return Err(SourceError::new(format!(
                "the folder `{}` is in no git repo and holds {} MiB; over 1,024 MiB it is not taken for code",
                self.root.display(),
                *total / MIB
            ))
            .help("put data and outputs into a `.gitignore`, or give the code a folder of its own"));
        }
        Ok(())
    }

    /// What lies at `path` now, in the mirror; none when nothing that git could hold does.
    fn entry(
        &self,
        repository: &Repository,
        index: &Index,
        prefix: &str,
        path: &str,
    ) -> Result<Option<(Oid, Mode)>, SourceError> {
        let place = self.root.join(prefix).join(path);
        let metadata = match fs::symlink_metadata(&place) {
            Ok(metadata) => metadata,
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        if metadata.is_symlink() {
            let target = fs::read_link(&place)?;
            let blob = self.mirror.repository.blob(target.as_os_str().as_bytes())?;
            return Ok(Some((blob, Mode::Link)));
        }
        if metadata.is_dir() {
            return Ok(None);
        }
        if !metadata.is_file() {
            self.remarks
                .borrow_mut()
                .push(format!("`{prefix}{path}` is a pipe, socket or device and is left out"));
            return Ok(None);
        }
        let trusts_mode = repository.config()?.get_bool("core.fileMode").unwrap_or(true);
        let executable = if trusts_mode {
            metadata.permissions().mode() & 0o100 != 0
        } else {
            index.get_path(Path::new(path), 0).is_some_and(|entry| entry.mode & 0o100 != 0)
        };
        let mode = if executable { Mode::Executable } else { Mode::File };
        Ok(Some((self.hash(&format!("{prefix}{path}"))?, mode)))
    }

    /// The blob of a regular file, written into the mirror unless it is known to be there.
    fn hash(&self, path: &str) -> Result<Oid, SourceError> {
        let mut slot = self.stamps.borrow_mut();
        let opened = match slot.take() {
            Some(stamps) => stamps,
            None => Stamps::open(&self.mirror.path, self.root)?,
        };
        let stamps = slot.insert(opened);
        let place = self.root.join(path);
        let metadata = fs::symlink_metadata(&place)?;
        if let Some(blob) = stamps.blob(path, &metadata)
            && self.mirror.has(blob)?
        {
            return Ok(blob);
        }
        let blob = self.mirror.write_file(&place)?;
        stamps.remember(path, &metadata, blob);
        Ok(blob)
    }

    /// Files whose committed bytes stand for others (Git LFS, encryption): what is on disk counts.
    fn filtered(
        &self,
        repository: &Repository,
        index: &Index,
        prefix: &str,
        edits: &mut Edits,
    ) -> Result<(), SourceError> {
        let here = self.root.join(prefix);
        let mut filters = index
            .iter()
            .filter(|entry| entry.path.ends_with(b".gitattributes"))
            .filter_map(|entry| fs::read(here.join(str::from_utf8(&entry.path).ok()?)).ok())
            .chain(fs::read(repository.commondir().join("info/attributes")));
        if !filters.any(|bytes| String::from_utf8_lossy(&bytes).contains("filter=")) {
            return Ok(());
        }
        let mut unfetched = Vec::new();
        for entry in index.iter().filter(|entry| entry.mode & 0o170_000 == 0o100_000) {
            let path = text(&entry.path, prefix)?;
            let flags = AttrCheckFlags::FILE_THEN_INDEX;
            let value = repository.get_attr(Path::new(&path), "filter", flags)?;
            if !matches!(AttrValue::from_string(value), AttrValue::String(_)) {
                continue;
            }
            if let Some((blob, mode)) = self.entry(repository, index, prefix, &path)? {
                let odb = self.mirror.repository.odb()?;
                if odb.read_header(blob)?.0 <= large::POINTER_SIZE
                    && large::pointer(odb.read(blob)?.data()).is_some()
                {
                    unfetched.push(format!("{prefix}{path}"));
                }
                edits.put(&path, blob, mode);
            }
        }
        if unfetched.is_empty() {
            return Ok(());
        }
        Err(large::unfetched(&unfetched, "fetch the content with `git lfs pull`"))
    }
}

impl Mirror {
    /// The bytes of a file as they are, as a blob.
    pub(super) fn write_file(&self, place: &Path) -> Result<Oid, SourceError> {
        let mut file = fs::File::open(place)?;
        let size = file.metadata()?.len();
        let odb = self.repository.odb()?;
        if size <= IN_MEMORY {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            return Ok(odb.write(git2::ObjectType::Blob, &bytes)?);
        }
        let length = usize::try_from(size)
            .map_err(|_| SourceError::new(format!("`{}` is too large", place.display())))?;
        let mut writer = odb.writer(length, git2::ObjectType::Blob)?;
        // A file that grows meanwhile is recorded as it was at first; one that shrinks is an error of the writer.
        std::io::copy(&mut file.take(size), &mut writer)?;
        writer.flush()?;
        Ok(writer.finalize()?)
    }
}

fn path_of<'d>(delta: &git2::DiffDelta<'d>) -> &'d [u8] {
    delta.new_file().path_bytes().or_else(|| delta.old_file().path_bytes()).unwrap_or_default()
}

fn text(path: &[u8], prefix: &str) -> Result<String, SourceError> {
    String::from_utf8(path.to_vec()).map_err(|_| {
        let shown = String::from_utf8_lossy(path).into_owned();
        SourceError::new(format!("the file name `{prefix}{shown}` is not UTF-8"))
            .help("rename the file or ignore it")
    })
}
