//! Trees that go through folders.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use fs_err as fs;

use git2::ObjectType;

use super::mirror::Mirror;
use super::*;
use crate::event::SnapshotId;

fn settings(root: &Path, name: &str) -> SourceSettings {
    let home = root.join(name);
    fs::create_dir(&home).unwrap();
    SourceSettings { mirrors: home.join("mirror"), home, env: Vec::new() }
}

/// A folder with everything that a tree can hold.
fn code(root: &Path) -> std::path::PathBuf {
    let folder = root.join("code");
    fs::create_dir_all(folder.join("deep/er")).unwrap();
    fs::create_dir_all(folder.join("a")).unwrap();
    fs::write(folder.join("pipeline.yaml"), "x\n").unwrap();
    fs::write(folder.join("deep/er/a b\n\u{1f600}.txt"), "").unwrap();
    fs::write(folder.join("a/z"), "1").unwrap();
    // Git sorts a folder as if its name ended in `/`.
    fs::write(folder.join("a.b"), "2").unwrap();
    fs::write(folder.join("a0"), "3").unwrap();
    fs::write(folder.join("run.sh"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(folder.join("run.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    symlink("deep/er", folder.join("link")).unwrap();
    symlink("nothing", folder.join("deep/dangling")).unwrap();
    fs::write(folder.join("large.bin"), vec![7_u8; 9 << 20]).unwrap();
    folder
}

/// A snapshot of the code, and the folder with its files.
fn taken(root: &Path) -> (Snapshot, PathBuf) {
    let here = settings(root, "here");
    let taken = take(&here, &Origin::Folder(code(root)), None).unwrap();
    let files = root.join("files");
    fs::create_dir(&files).unwrap();
    taken.write_all(&files).unwrap();
    (taken, files)
}

#[test]
fn a_tree_goes_through_a_folder_and_stays_itself() {
    let root = tempfile::tempdir().unwrap();
    let (taken, files) = taken(root.path());
    fs::create_dir(files.join("empty")).unwrap();

    let there = settings(root.path(), "there");
    assert!(open(&there, &taken.id).is_err(), "the other machine has nothing yet");
    let adopted = adopt(&there, &taken.id, &files, None).unwrap();
    assert_eq!((&adopted.id, &adopted.files), (&taken.id, &taken.files));
    assert_eq!(adopted.read("a/z").unwrap().unwrap(), b"1");
    assert_eq!(open(&there, &taken.id).unwrap().files, taken.files);
}

#[test]
fn another_tree_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let (taken, files) = taken(root.path());
    fs::write(files.join("a0"), "4").unwrap();
    let error = adopt(&settings(root.path(), "there"), &taken.id, &files, None).unwrap_err();
    assert!(error.message.contains(&taken.id.tree), "{error}");
}

#[test]
fn an_empty_tree_is_one_too() {
    let root = tempfile::tempdir().unwrap();
    let here = settings(root.path(), "here");
    let folder = root.path().join("code");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("x"), "x").unwrap();
    let mut id = take(&here, &Origin::Folder(folder), None).unwrap().id;
    // Git's id of the tree without entries.
    id.tree = "4b825dc642cb6eb9a060e54bf8d69288fbee4904".to_owned();
    let files = root.path().join("files");
    fs::create_dir(&files).unwrap();
    assert!(adopt(&here, &id, &files, None).unwrap().files.is_empty());
}

/// A tree with a mode that git writes no more and a submodule, as old and foreign tools left them.
fn odd_tree(settings: &SourceSettings, origin: &str) -> SnapshotId {
    let mirror = Mirror::open_or_create(settings, origin).unwrap();
    let odb = mirror.repository.odb().unwrap();
    let blob = odb.write(ObjectType::Blob, b"x\n").unwrap();
    let mut inner = b"100664 pipeline.yaml\0".to_vec();
    inner.extend(blob.as_bytes());
    let inner = odb.write(ObjectType::Tree, &inner).unwrap();
    let mut tree = b"40000 code\0".to_vec();
    tree.extend(inner.as_bytes());
    tree.extend(b"160000 module\0");
    tree.extend([7; 20]);
    let tree = odb.write(ObjectType::Tree, &tree).unwrap().to_string();
    let (base, origin) = (String::new(), origin.to_owned());
    SnapshotId { tree, commit: None, reference: None, dirty: false, base, origin }
}

#[test]
fn an_odd_tree_goes_along_with_its_files() {
    let root = tempfile::tempdir().unwrap();
    let here = settings(root.path(), "here");
    let taken = Snapshot::open(&here, odd_tree(&here, "/code")).unwrap();
    let files = root.path().join("files");
    fs::create_dir(&files).unwrap();
    taken.write_all(&files).unwrap();
    let there = settings(root.path(), "there");
    assert!(adopt(&there, &taken.id, &files, None).is_err(), "the files alone are another tree");
    let trees = taken.odd_trees().unwrap().unwrap();
    assert!(adopt(&there, &taken.id, &files, Some(&trees[..trees.len() - 1])).is_err(), "cut");
    let adopted = adopt(&there, &taken.id, &files, Some(&trees)).unwrap();
    assert_eq!((&adopted.id, &adopted.files), (&taken.id, &taken.files));
    assert_eq!(adopted.read("code/pipeline.yaml").unwrap().unwrap(), b"x\n");

    // Trees of other files are of no use.
    fs::write(files.join("code/pipeline.yaml"), "y\n").unwrap();
    let elsewhere = settings(root.path(), "elsewhere");
    let error = adopt(&elsewhere, &taken.id, &files, Some(&trees)).unwrap_err();
    assert!(error.message.contains("lack `pipeline.yaml`"), "{error}");
    // A usual tree needs nothing besides.
    let usual = take(&here, &Origin::Folder(code(root.path())), None).unwrap();
    assert_eq!(usual.odd_trees().unwrap(), None);
}
