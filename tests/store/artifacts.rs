//! Files, folders and links come back as they were taken in.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use flowrun::digest::Digest;
use flowrun::store::{EntryKind, Refused, Traffic};

use crate::fixture::{Place, mode};
use crate::on_every_store;

on_every_store!(
    an_empty_file_and_an_empty_folder,
    a_file_is_one_entry_without_a_path,
    a_folder_comes_back_as_it_was,
    an_own_copy_can_be_written_without_harm,
    taking_in_can_be_repeated,
    a_file_with_a_name_elsewhere_is_not_shared_with_it,
    an_artifact_is_given_out_whole_or_not_at_all,
    what_cannot_be_stored_is_named,
);

pub(crate) async fn an_empty_file_and_an_empty_folder(place: &Place) {
    let file = place.take(&place.write("file", b"")).await;
    fs_err::create_dir(place.path("folder")).unwrap();
    let folder = place.take(&place.path("folder")).await;
    assert_ne!(file, folder);
    assert_eq!(place.store.entries(&folder).await.unwrap(), []);
    for back in
        [place.place(&file, "back/file", false).await, place.fetch(&file, "fetched/file").await]
    {
        assert_eq!(fs_err::read(back).unwrap(), b"");
    }
    for back in [
        place.place(&folder, "back/folder", false).await,
        place.fetch(&folder, "fetched/folder").await,
    ] {
        assert_eq!(fs_err::read_dir(back).unwrap().count(), 0);
    }
}

async fn a_file_is_one_entry_without_a_path(place: &Place) {
    let artifact = place.take(&place.write("model.bin", b"weights")).await;
    let entries = place.store.entries(&artifact).await.unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].path, "");
    let kind = EntryKind::File { digest: Digest::of(b"weights"), size: 7, exec: false };
    assert_eq!(entries[0].kind, kind);
    // The name is no part of it.
    assert_eq!(place.take(&place.write("other", b"weights")).await, artifact);
}

pub(crate) async fn a_folder_comes_back_as_it_was(place: &Place) {
    let odd = "nl\n\"quote\" back\\slash 'tick' \u{1f600} \t";
    place.write("out/a/b/c.txt", b"c");
    place.write(&format!("out/{odd}/{odd}"), b"odd");
    place.write("out/a.txt", b"sorts between a and a/b");
    place.write("out/run.sh", b"#!/bin/sh\n");
    fs_err::set_permissions(place.path("out/run.sh"), PermissionsExt::from_mode(0o700)).unwrap();
    fs_err::create_dir_all(place.path("out/empty/inner")).unwrap();
    symlink("a/b", place.path("out/to-folder")).unwrap();
    symlink("../a.txt", place.path("out/a/up")).unwrap();
    symlink("nowhere", place.path("out/dangling")).unwrap();
    let artifact = place.take(&place.path("out")).await;
    let here = place.again();
    let other = place.tricks.elsewhere();
    for (name, own, store) in
        [("back", false, &here), ("mine", true, &here), ("fetched", false, &other)]
    {
        let back = place.path(name);
        store.place(&artifact, &back, own, &Traffic::default()).await.unwrap();
        assert_eq!(fs_err::read(back.join("a/b/c.txt")).unwrap(), b"c");
        assert_eq!(fs_err::read(back.join(odd).join(odd)).unwrap(), b"odd");
        assert!(back.join("empty/inner").is_dir());
        assert_eq!(fs_err::read_link(back.join("to-folder")).unwrap(), Path::new("a/b"));
        assert_eq!(fs_err::read_link(back.join("a/up")).unwrap(), Path::new("../a.txt"));
        assert_eq!(fs_err::read_link(back.join("dangling")).unwrap(), Path::new("nowhere"));
        let modes = (mode(&back.join("run.sh")), mode(&back.join("a.txt")));
        assert_eq!(modes, if own { (0o755, 0o644) } else { (0o555, 0o444) });
        // Taken in again, it is the same.
        assert_eq!(place.take(&back).await, artifact);
    }
    let paths: Vec<String> =
        place.store.entries(&artifact).await.unwrap().into_iter().map(|entry| entry.path).collect();
    let mut sorted = paths.clone();
    sorted.sort();
    assert_eq!(paths, sorted);
    assert_eq!(paths.len(), 12);
}

async fn an_own_copy_can_be_written_without_harm(place: &Place) {
    let artifact = place.take(&place.write("file", b"before")).await;
    let mine = place.place(&artifact, "mine", true).await;
    fs_err::write(mine, b"after").unwrap();
    let back = place.place(&artifact, "back", false).await;
    assert_eq!(fs_err::read(back).unwrap(), b"before");
}

pub(crate) async fn taking_in_can_be_repeated(place: &Place) {
    place.write("out/x", b"x");
    place.write("out/tool", b"tool");
    fs_err::set_permissions(place.path("out/tool"), PermissionsExt::from_mode(0o755)).unwrap();
    fs_err::hard_link(place.path("out/x"), place.path("out/twin")).unwrap();
    let artifact = place.take(&place.path("out")).await;
    assert_eq!(place.take(&place.path("out")).await, artifact);
    let other = place.again();
    assert_eq!(
        other.take_in(&place.path("out"), &Traffic::default()).await.unwrap().unwrap(),
        artifact
    );
    fs_err::remove_dir_all(place.path("out")).unwrap();
    let back = place.place(&artifact, "back", false).await;
    assert_eq!(fs_err::read(back.join("twin")).unwrap(), b"x");
}

async fn a_file_with_a_name_elsewhere_is_not_shared_with_it(place: &Place) {
    let elsewhere = place.write("elsewhere", b"mine");
    fs_err::create_dir(place.path("out")).unwrap();
    fs_err::hard_link(&elsewhere, place.path("out/linked")).unwrap();
    let artifact = place.take(&place.path("out")).await;
    assert_eq!(mode(&elsewhere), 0o644);
    fs_err::write(&elsewhere, b"changed later").unwrap();
    let back = place.place(&artifact, "back", false).await;
    assert_eq!(fs_err::read(back.join("linked")).unwrap(), b"mine");
}

pub(crate) async fn an_artifact_is_given_out_whole_or_not_at_all(place: &Place) {
    place.write("out/x", b"bytes");
    place.write("out/deep/y", b"more");
    let artifact = place.take(&place.path("out")).await;
    for (name, store) in [("here", place.again()), ("elsewhere", place.tricks.elsewhere())] {
        let given = place.path(name);
        store.export(&artifact, &given, &Traffic::default()).await.unwrap();
        assert_eq!(fs_err::read(given.join("deep/y")).unwrap(), b"more");
        // It is nobody else's.
        fs_err::write(given.join("x"), "changed").unwrap();
        let error = store.export(&artifact, &given, &Traffic::default()).await.unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        assert_eq!(fs_err::read(given.join("x")).unwrap(), b"changed");
    }
    let unknown = Digest::of(b"never stored");
    let nowhere = place.path("nowhere");
    place.store.export(&unknown, &nowhere, &Traffic::default()).await.unwrap_err();
    assert!(!nowhere.exists());
}

async fn what_cannot_be_stored_is_named(place: &Place) {
    let fifo = |name: &str| {
        let path = place.path(name);
        rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RWXU).unwrap();
    };
    let refused = |refused: Refused| match refused {
        Refused::Kind { path, why } => format!("{path}: {why}"),
        Refused::Missing => "missing".to_owned(),
    };
    assert_eq!(place.refuses(&place.path("none")).await, Refused::Missing);
    assert_eq!(place.refuses(&place.write("a", b"").join("b")).await, Refused::Missing);

    fifo("pipe");
    let why = refused(place.refuses(&place.path("pipe")).await);
    assert!(why.starts_with(".: is a FIFO"), "{why}");
    for (name, said) in [
        ("1", "deep/pipe: is a FIFO"),
        ("2", "sock: is a socket"),
        ("3", "deep/out: is a link to `../../x`, which leaves"),
        ("4", "absolute: is a link to `/etc/passwd`"),
        ("5", "has a name that is not UTF-8"),
        ("6", "detour: is a link to `up/../x`"),
        ("7", "loop: is a link that leads back to itself"),
    ] {
        let path = place.path(name);
        fs_err::create_dir_all(path.join("deep")).unwrap();
        place.write(&format!("{name}/whole"), b"kept");
        match name {
            "1" => fifo("1/deep/pipe"),
            "2" => drop(std::os::unix::net::UnixListener::bind(path.join("sock")).unwrap()),
            "3" => symlink("../../x", path.join("deep/out")).unwrap(),
            "4" => symlink("/etc/passwd", path.join("absolute")).unwrap(),
            "5" => {
                use std::os::unix::ffi::OsStrExt;
                let name = std::ffi::OsStr::from_bytes(b"deep/\xff");
                fs_err::write(path.join(name), "").unwrap();
            }
            "6" => {
                symlink("..", path.join("deep/up")).unwrap();
                symlink("up/../x", path.join("deep/detour")).unwrap();
            }
            _ => symlink("loop", path.join("loop")).unwrap(),
        }
        let why = refused(place.refuses(&path).await);
        assert!(why.contains(said), "{why}");
        // Nothing of it was touched.
        assert_eq!(mode(&path.join("whole")), 0o644);
    }
    let link = place.path("link");
    symlink(place.write("target", b""), &link).unwrap();
    let why = refused(place.refuses(&link).await);
    assert!(why.contains("is a symbolic link"), "{why}");
}
