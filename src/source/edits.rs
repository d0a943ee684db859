//! Changes to a tree, collected by path, then applied in one pass: only folders that change are written anew.

use std::collections::BTreeMap;

use git2::{ObjectType, Oid, Repository, Tree};

use super::{Mode, SourceError};

/// Git's mode of a folder.
const FOLDER: i32 = 0o040_000;

impl Mode {
    /// Git's number.
    pub(super) fn git(self) -> i32 {
        match self {
            Self::File => 0o100_644,
            Self::Executable => 0o100_755,
            Self::Link => 0o120_000,
        }
    }
}

#[derive(Debug)]
enum Edit {
    Remove,
    Put(Oid, i32),
    Below(Edits),
}

/// Changes by path.
#[derive(Debug, Default)]
pub(super) struct Edits(BTreeMap<String, Edit>);

impl Edits {
    /// Puts a file. What was said before about this path, or below it, is replaced.
    pub(super) fn put(&mut self, path: &str, blob: Oid, mode: Mode) {
        self.set(path, Edit::Put(blob, mode.git()));
    }

    /// Puts a whole folder.
    pub(super) fn put_tree(&mut self, path: &str, tree: Oid) {
        self.set(path, Edit::Put(tree, FOLDER));
    }

    /// Removes a file, unless something is put there or in its place.
    pub(super) fn remove(&mut self, path: &str) {
        self.set(path, Edit::Remove);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn set(&mut self, path: &str, edit: Edit) {
        let Some((folder, rest)) = path.split_once('/') else {
            match self.0.get(path) {
                // A file that became a folder is reported as gone and as files below: the files below win.
                Some(Edit::Put(..) | Edit::Below(_)) if matches!(edit, Edit::Remove) => {}
                _ => {
                    self.0.insert(path.to_owned(), edit);
                }
            }
            return;
        };
        let slot = self.0.entry(folder.to_owned()).or_insert_with(|| Edit::Below(Self::default()));
        match slot {
            Edit::Below(below) => below.set(rest, edit),
            // A folder that became a file: its old files are gone with it.
            Edit::Put(..) if matches!(edit, Edit::Remove) => {}
            Edit::Put(..) | Edit::Remove => {
                let mut below = Self::default();
                below.set(rest, edit);
                *slot = Edit::Below(below);
            }
        }
    }

    /// The tree that `base` becomes, written into `repository`; none when nothing is left in it.
    pub(super) fn apply(
        &self,
        repository: &Repository,
        base: Option<&Tree<'_>>,
    ) -> Result<Option<Oid>, SourceError> {
        let mut builder = repository.treebuilder(base)?;
        for (name, edit) in &self.0 {
            let old = base.and_then(|tree| tree.get_name(name));
            let new = match edit {
                Edit::Remove => None,
                Edit::Put(id, mode) => Some((*id, *mode)),
                Edit::Below(below) => {
                    let subtree = match &old {
                        Some(entry) if entry.kind() == Some(ObjectType::Tree) => {
                            Some(repository.find_tree(entry.id())?)
                        }
                        _ => None,
                    };
                    below.apply(repository, subtree.as_ref())?.map(|id| (id, FOLDER))
                }
            };
            match new {
                Some((id, mode)) => {
                    builder.insert(name, id, mode)?;
                }
                None if old.is_some() => builder.remove(name)?,
                None => {}
            }
        }
        if builder.is_empty() { Ok(None) } else { Ok(Some(builder.write()?)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(repository: &Repository, tree: Option<Oid>) -> Vec<String> {
        let mut paths = Vec::new();
        if let Some(tree) = tree {
            let tree = repository.find_tree(tree).unwrap();
            tree.walk(git2::TreeWalkMode::PreOrder, |folder, entry| {
                if entry.kind() == Some(ObjectType::Blob) {
                    paths.push(format!("{folder}{}", entry.name().unwrap()));
                }
                git2::TreeWalkResult::Ok
            })
            .unwrap();
        }
        paths
    }

    #[test]
    fn files_become_folders_and_back() {
        let folder = tempfile::tempdir().unwrap();
        let repository = Repository::init_bare(folder.path()).unwrap();
        let blob = repository.blob(b"x").unwrap();
        let mut first = Edits::default();
        for path in ["a", "b/one", "b/two", "c/d/e"] {
            first.put(path, blob, Mode::File);
        }
        let tree = first.apply(&repository, None).unwrap();
        let base = repository.find_tree(tree.unwrap()).unwrap();
        let mut second = Edits::default();
        second.put("a/now/folder", blob, Mode::File);
        second.remove("a");
        second.put("b", blob, Mode::Executable);
        second.remove("b/one");
        second.remove("b/two");
        second.remove("c/d/e");
        let tree = second.apply(&repository, Some(&base)).unwrap();
        assert_eq!(paths(&repository, tree), ["a/now/folder", "b"]);
        let mut third = Edits::default();
        third.remove("a/now/folder");
        third.remove("b");
        let base = repository.find_tree(tree.unwrap()).unwrap();
        assert_eq!(third.apply(&repository, Some(&base)).unwrap(), None);
    }
}
