//! A folder: the work tree that holds it, or the folder itself when no git repo does.

use std::path::{Path, PathBuf};

use git2::{ErrorCode, Repository};

use super::address::Address;
use super::mirror::Mirror;
use super::remote::normal_base;
use super::work_tree::{Limit, Recorder};
use super::{Snapshot, SourceError, SourceSettings};
use crate::event::SnapshotId;

pub(super) fn take(
    settings: &SourceSettings,
    folder: &Path,
    base: Option<&str>,
) -> Result<Snapshot, SourceError> {
    let asked = folder.join(normal_base(base)?);
    let folder =
        fs_err::canonicalize(&asked).ok().filter(|path| path.is_dir()).ok_or_else(|| {
            SourceError::new(format!("there is no folder `{}`", asked.display()))
                .help("check the path")
        })?;
    // A home that does not exist yet lies in no work tree.
    let home = fs_err::canonicalize(&settings.home).ok();
    let repository = match Repository::discover(&folder) {
        Ok(repository) => repository,
        Err(error) if error.code() == ErrorCode::NotFound => {
            return plain(settings, &folder, home.as_deref());
        }
        Err(error) => return Err(error.into()),
    };
    let Some(root) = repository.workdir() else {
        return Err(SourceError::new(format!("`{}` is a bare repo", folder.display()))
            .help("give its address as `source: {git: …}`, or a work tree of it"));
    };
    let root = fs_err::canonicalize(root)?;
    let Ok(base) = folder.strip_prefix(&root) else {
        return plain(settings, &folder, home.as_deref());
    };
    let base = utf8(base)?.to_owned();
    // An ignored folder that holds no tracked file (a scratch place) is no part of the repo around it.
    if !base.is_empty()
        && repository.is_path_ignored(&base)?
        && !repository.index()?.iter().any(|entry| below(&entry.path, &base))
    {
        return plain(settings, &folder, home.as_deref());
    }
    let origin =
        remote_of(&repository, &root).map_or_else(|| utf8(&root).map(str::to_owned), Ok)?;
    let mirror = Mirror::open_or_create(settings, &origin)?;
    let reader = Recorder::new(&mirror, &root, home.as_deref(), Limit::EachUntracked);
    let recorded = reader.record(&repository, "")?;
    let mut remarks = reader.close()?;
    if recorded.dirty {
        remarks.push("the work tree has uncommitted changes; they are recorded as they are".into());
    }
    let id = SnapshotId {
        tree: recorded.tree.to_string(),
        commit: recorded.commit.map(|id| id.to_string()),
        reference: branch(&repository),
        dirty: recorded.dirty,
        base,
        origin,
    };
    Snapshot::made(&mirror, id, remarks)
}

fn plain(
    settings: &SourceSettings,
    folder: &Path,
    home: Option<&Path>,
) -> Result<Snapshot, SourceError> {
    let origin = utf8(folder)?.to_owned();
    let mirror = Mirror::open_or_create(settings, &origin)?;
    // The mirror itself, looking at the folder as its work tree: in memory only, nothing of this is written.
    let view = Repository::open_bare(&mirror.path)?;
    view.set_workdir(folder, false)?;
    let reader = Recorder::new(&mirror, folder, home, Limit::Total);
    let recorded = reader.record(&view, "")?;
    let mut remarks = reader.close()?;
    remarks.push(format!(
        "`{}` is in no git repo: no commit is recorded, so what is made here cannot be made again \
         elsewhere, and every new or changed file is hashed",
        folder.display()
    ));
    let tree = recorded.tree.to_string();
    let base = String::new();
    let id = SnapshotId { tree, commit: None, reference: None, dirty: false, base, origin };
    Snapshot::made(&mirror, id, remarks)
}

fn below(path: &[u8], folder: &str) -> bool {
    path.strip_prefix(folder.as_bytes()).is_some_and(|rest| rest.starts_with(b"/"))
}

/// The checked-out branch, also before its first commit; none on a detached head.
fn branch(repository: &Repository) -> Option<String> {
    let head = repository.find_reference("HEAD").ok()?;
    let target = head.symbolic_target().ok()??;
    target.strip_prefix("refs/heads/").map(str::to_owned)
}

/// The address of the remote `origin`, without userinfo.
fn remote_of(repository: &Repository, root: &Path) -> Option<String> {
    let remote = repository.find_remote("origin").ok()?;
    let url = remote.url().ok()?;
    if let Ok(address) = Address::parse(url)
        && !(address.local && !Path::new(url).is_absolute() && !url.contains("://"))
    {
        return Some(address.to_string());
    }
    // A relative path counts from the work tree. A remote that is not there any more says nothing.
    let path: PathBuf = root.join(url);
    fs_err::canonicalize(path).ok()?.to_str().map(str::to_owned)
}

fn utf8(path: &Path) -> Result<&str, SourceError> {
    path.to_str().ok_or_else(|| {
        SourceError::new(format!("the path `{}` is not UTF-8", path.display()))
            .help("rename the folder")
    })
}
