//! flowrun's own bare repo per origin: `<mirrors>/<hash of origin>.git`. Content-addressed, so several processes may write
//! objects at once; only making it and fetching into it take its lock.
//!
//! Invariant: a tree that is here has everything below it here too. Children are written before parents, and fetches
//! and copies of many objects arrive as one pack.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use fs_err as fs;
use git2::{ObjectType, OdbLookupFlags, Oid, Repository};

use super::{Mode, SourceError, SourceFile, SourceSettings};
use crate::digest::Digest;

/// From this many objects on, a copy is one pack instead of single files.
const PACK_FROM: usize = 200;

/// An open mirror.
pub(super) struct Mirror {
    pub(super) repository: Repository,
    pub(super) path: PathBuf,
}

fn place(settings: &SourceSettings, origin: &str) -> PathBuf {
    settings.mirrors.join(format!("{}.git", &Digest::of(origin.as_bytes()).hex()[..32]))
}

impl Mirror {
    /// The mirror of this origin, if there is one.
    pub(super) fn open(
        settings: &SourceSettings,
        origin: &str,
    ) -> Result<Option<Self>, SourceError> {
        let path = place(settings, origin);
        if !path.join("HEAD").is_file() {
            return Ok(None);
        }
        let repository = Repository::open_bare(&path).map_err(|error| damaged(&path, &error))?;
        Ok(Some(Self { repository, path }))
    }

    /// All that there are.
    pub(super) fn all(settings: &SourceSettings) -> Result<Vec<Self>, SourceError> {
        let mut mirrors = Vec::new();
        if !settings.mirrors.exists() {
            return Ok(mirrors);
        }
        for entry in fs::read_dir(&settings.mirrors)? {
            let path = entry?.path();
            if path.extension().is_some_and(|end| end == "git") && path.join("HEAD").is_file() {
                let opened = Repository::open_bare(&path);
                let repository = opened.map_err(|error| damaged(&path, &error))?;
                mirrors.push(Self { repository, path });
            }
        }
        Ok(mirrors)
    }

    /// The mirror of this origin, made when there is none. A crash midway leaves a folder under a fresh name.
    pub(super) fn open_or_create(
        settings: &SourceSettings,
        origin: &str,
    ) -> Result<Self, SourceError> {
        if let Some(mirror) = Self::open(settings, origin)? {
            return Ok(mirror);
        }
        fs::create_dir_all(&settings.mirrors)?;
        let path = place(settings, origin);
        let _lock = lock(&path)?;
        if !path.join("HEAD").is_file() {
            let fresh = tempfile::Builder::new().prefix(".new-").tempdir_in(&settings.mirrors)?;
            let mut options = git2::RepositoryInitOptions::new();
            Repository::init_opts(
                fresh.path(),
                options.bare(true).external_template(false).no_reinit(true),
            )?;
            // libgit2 has no setting for the window of its pack writer, but leaves objects above this size alone.
            // (It reads the threshold under the wrong name; git's own name stands beside it.)
            fs::write(
                fresh.path().join("copy.config"),
                "[core]\n\tbigFileThreshold = 1\n[pack]\n\tdeltaCacheSize = 1\n",
            )?;
            fs::rename(fresh.keep(), &path)?;
        }
        Self::open(settings, origin)?
            .ok_or_else(|| SourceError::new(format!("`{}` cannot be made", path.display())))
    }

    /// Waits until no other process fetches into this mirror. Dropping the file, or dying, lets go.
    pub(super) fn lock(&self) -> Result<std::fs::File, SourceError> {
        lock(&self.path)
    }

    pub(super) fn has(&self, id: Oid) -> Result<bool, SourceError> {
        Ok(self.repository.odb()?.exists_ext(id, OdbLookupFlags::NO_REFRESH))
    }

    /// Copies a tree and all below it from `source`, unless it is here. Submodule entries are passed over.
    pub(super) fn copy_tree(&self, source: &Repository, tree: Oid) -> Result<(), SourceError> {
        if self.has(tree)? {
            return Ok(());
        }
        let mut missing = Vec::new();
        self.missing(source, tree, &mut HashSet::new(), &mut missing)?;
        let here = self.repository.odb()?;
        if missing.len() < PACK_FROM {
            let there = source.odb()?;
            for id in missing {
                let object = there.read(id)?;
                here.write(object.kind(), object.data())?;
            }
            return Ok(());
        }
        // A second handle: the settings of the copy are not the user's.
        let source = Repository::open(source.path())?;
        source.set_config(&git2::Config::open(&self.path.join("copy.config"))?)?;
        let mut pack = source.packbuilder()?;
        for id in missing {
            pack.insert_object(id, None)?;
        }
        pack.write(&self.path.join("objects/pack"), 0)?;
        here.refresh()?;
        Ok(())
    }

    /// What `tree` needs and is not here, children before parents.
    fn missing(
        &self,
        source: &Repository,
        tree: Oid,
        seen: &mut HashSet<Oid>,
        missing: &mut Vec<Oid>,
    ) -> Result<(), SourceError> {
        for entry in &source.find_tree(tree)? {
            let id = entry.id();
            if !matches!(entry.kind(), Some(ObjectType::Blob | ObjectType::Tree))
                || !seen.insert(id)
                || self.has(id)?
            {
                continue;
            }
            if entry.kind() == Some(ObjectType::Tree) {
                self.missing(source, id, seen, missing)?;
            } else {
                missing.push(id);
            }
        }
        missing.push(tree);
        Ok(())
    }

    /// Every file below `tree`, sorted by path. Submodule entries are passed over.
    pub(super) fn list(&self, tree: Oid) -> Result<Vec<SourceFile>, SourceError> {
        let mut files = Vec::new();
        self.list_below(tree, "", &mut files)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }

    fn list_below(
        &self,
        tree: Oid,
        folder: &str,
        files: &mut Vec<SourceFile>,
    ) -> Result<(), SourceError> {
        let tree = self.repository.find_tree(tree).map_err(|error| damaged(&self.path, &error))?;
        for entry in &tree {
            let name = entry.name().map_err(|_| {
                let shown = String::from_utf8_lossy(entry.name_bytes()).into_owned();
                SourceError::new(format!("the file name `{folder}{shown}` is not UTF-8"))
                    .help("rename the file or ignore it")
            })?;
            let mode = match entry.filemode() & 0o170_111 {
                0o040_000 => {
                    self.list_below(entry.id(), &format!("{folder}{name}/"), files)?;
                    continue;
                }
                0o120_000 => Mode::Link,
                0o160_000 => continue,
                0o100_000 => Mode::File,
                _ => Mode::Executable,
            };
            let path = format!("{folder}{name}");
            files.push(SourceFile { path, mode, blob: entry.id().to_string() });
        }
        Ok(())
    }

    /// Keeps `tree` under `name`.
    pub(super) fn pin(&self, name: &str, tree: Oid) -> Result<(), SourceError> {
        self.repository.reference(&pin_name(name)?, tree, true, "pin")?;
        Ok(())
    }

    /// Lets go what `name` kept; nothing when there is no such pin.
    pub(super) fn unpin(&self, name: &str) -> Result<(), SourceError> {
        match self.repository.find_reference(&pin_name(name)?) {
            Ok(mut reference) => Ok(reference.delete()?),
            Err(error) if error.code() == git2::ErrorCode::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn pin_name(name: &str) -> Result<String, SourceError> {
    let name = format!("refs/flowrun/{name}");
    if git2::Reference::is_valid_name(&name) {
        Ok(name)
    } else {
        Err(SourceError::new(format!("`{name}` cannot be the name of a pin")))
    }
}

fn lock(mirror: &Path) -> Result<std::fs::File, SourceError> {
    let file = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(mirror.with_extension("lock"))?
        .into_parts()
        .0;
    file.lock()?;
    Ok(file)
}

/// Reading flowrun's own copy failed: a disk fault, or power was lost while it was written.
pub(super) fn damaged(mirror: &Path, error: &git2::Error) -> SourceError {
    let mirror = mirror.display();
    SourceError::new(format!(
        "flowrun's copy of the code in `{mirror}` is damaged: {}",
        error.message()
    ))
    .help(format!("remove `{mirror}` and run `flowrun apply` again: it is made anew"))
}
