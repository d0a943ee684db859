//! The files of a snapshot on the disk, and how they travel.

use super::*;

#[test]
fn large_file_pointers_count_as_on_disk() {
    let place = Place::new();
    let repo = place.repo("repo");
    let pointer = format!(
        "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 5\n",
        "a".repeat(64)
    );
    repo.write(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n");
    repo.write("m/model.bin", &pointer);
    // Without the filter in git's settings the pointer is committed as it is.
    repo.commit();
    let error = place.take(&repo.path).unwrap_err();
    assert!(error.message.contains("`m/model.bin`"), "{error}");
    assert!(error.help.unwrap().contains("git lfs pull"));
    let error = place.fetch(repo.url(), None).unwrap_err();
    assert!(error.help.is_some(), "{error}");
    repo.write("m/model.bin", "content");
    assert_eq!(text(&place.take(&repo.path).unwrap(), "m/model.bin"), "content");
}

#[test]
fn files_are_written_as_copies_and_links_are_not_followed() {
    let place = Place::new();
    let repo = place.repo("repo");
    repo.write("a/b/c.txt", "text");
    repo.write("run.sh", "x");
    fs::set_permissions(repo.path.join("run.sh"), PermissionsExt::from_mode(0o755)).unwrap();
    symlink("a/b/c.txt", repo.path.join("link")).unwrap();
    repo.commit();
    let snapshot = place.take(&repo.path).unwrap();
    let all: Vec<&SourceFile> = snapshot.files.iter().collect();
    let out = place.folder.path().join("out");
    fs::create_dir(&out).unwrap();
    snapshot.write_files(&all, &out).unwrap();
    assert_eq!(fs::read_to_string(out.join("a/b/c.txt")).unwrap(), "text");
    assert_eq!(fs::read_link(out.join("link")).unwrap(), Path::new("a/b/c.txt"));
    let mode = |path: &str| fs::metadata(out.join(path)).unwrap().permissions().mode() & 0o111;
    assert_eq!((mode("a/b/c.txt"), mode("run.sh") & 0o100), (0, 0o100));
    assert!(snapshot.write_files(&all, &out).is_err(), "nothing is overwritten");

    let elsewhere = place.folder.path().join("elsewhere");
    let trap = place.folder.path().join("trap");
    fs::create_dir_all(elsewhere.join("b")).unwrap();
    fs::create_dir(&trap).unwrap();
    symlink(&elsewhere, trap.join("a")).unwrap();
    assert!(snapshot.write_files(&all, &trap).is_err());
    assert_eq!(fs::read_dir(elsewhere.join("b")).unwrap().count(), 0);
}

#[test]
fn a_large_file_is_written_in_pieces() {
    let place = Place::new();
    let folder = place.folder.path().join("plain");
    fs::create_dir(&folder).unwrap();
    let bytes: Vec<u8> = (0..9_500_000_u32).flat_map(u32::to_le_bytes).take(9_500_000).collect();
    fs::write(folder.join("large"), &bytes).unwrap();
    let snapshot = place.take(&folder).unwrap();
    let out = place.folder.path().join("out");
    fs::create_dir(&out).unwrap();
    snapshot.write_files(&[snapshot.file("large").unwrap()], &out).unwrap();
    assert!(fs::read(out.join("large")).unwrap() == bytes);
    assert!(snapshot.read("large").unwrap().unwrap() == bytes);
}

#[test]
fn many_files_travel_as_one_pack() {
    let place = Place::new();
    let repo = place.repo("repo");
    for n in 0..300 {
        repo.write(&format!("d{}/f{n}", n % 7), &format!("content {n}"));
    }
    repo.commit();
    let snapshot = place.take(&repo.path).unwrap();
    let packs = fs::read_dir(snapshot.mirror.join("objects/pack")).unwrap().count();
    assert_eq!(packs, 2, "a pack and its index");
    assert_eq!(snapshot.files.len(), 300);
    assert_eq!(text(&snapshot, "d0/f7"), "content 7");
    assert_eq!(snapshot.id.tree, repo.git(&["rev-parse", "HEAD^{tree}"]));
}
