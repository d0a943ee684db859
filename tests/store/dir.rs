//! The store in a folder: the tricks that are played on it, and what only it promises.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use flowrun::digest::Digest;
use flowrun::store::dir::DirStore;
use flowrun::store::{Lookup, PinOwner, Store, Traffic};

use crate::fixture::{Place, Tricks, record, run};

/// The folder that holds the store and what else the test has.
pub(crate) struct DirTricks(PathBuf);

impl DirTricks {
    pub(crate) fn new(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    fn blob(&self, bytes: &[u8]) -> PathBuf {
        blob(&self.0, bytes)
    }
}

#[async_trait]
impl Tricks for DirTricks {
    fn again(&self) -> Box<dyn Store> {
        Box::new(DirStore::open(&self.0.join("store"), &self.0).unwrap())
    }

    fn elsewhere(&self) -> Box<dyn Store> {
        self.again()
    }

    async fn damage(&self, bytes: &[u8]) {
        overwrite(&self.blob(bytes));
    }

    async fn lose(&self, bytes: &[u8]) {
        fs_err::remove_file(self.blob(bytes)).unwrap();
    }

    async fn remember(&self, _: &str, _: &[u8]) {}
}

/// Where the store in this folder keeps the file with these bytes.
pub(crate) fn blob(folder: &Path, bytes: &[u8]) -> PathBuf {
    let hex = Digest::of(bytes).hex();
    folder.join("store/blob").join(&hex[..2]).join(hex)
}

/// Other bytes, and as many.
pub(crate) fn overwrite(path: &Path) {
    fs_err::set_permissions(path, PermissionsExt::from_mode(0o644)).unwrap();
    let bytes = fs_err::read(path).unwrap();
    fs_err::write(path, vec![b'?'; bytes.len()]).unwrap();
}

#[tokio::test]
async fn takes_a_file_in_without_copying_it() {
    let place = Place::on_dir();
    let path = place.write("out", &[7; 4096]);
    let before = fs_err::symlink_metadata(&path).unwrap().ino();
    place.take(&path).await;
    let blob = fs_err::symlink_metadata(blob(&place.path(""), &[7; 4096])).unwrap();
    assert_eq!((blob.ino(), blob.permissions().mode() & 0o777), (before, 0o444));
    // Zip files know no year before 1980.
    assert!(blob.mtime() > 315_532_800);
}

#[tokio::test]
async fn finds_what_was_written_through_a_link() {
    let place = Place::on_dir();
    place.write("out/x", b"bytes");
    place.write("out/y", b"other");
    let artifact = place.take(&place.path("out")).await;
    fs_err::remove_dir_all(place.path("out")).unwrap();
    let placed =
        place.store.place(&artifact, &place.path("in"), false, &Traffic::default()).await.unwrap();
    if placed.is_empty() {
        // This filesystem has reflinks: the stage has a copy of its own.
        return;
    }
    assert_eq!(placed.len(), 2);
    assert_eq!(place.store.changed(&placed).await.unwrap(), []);
    // The stage may remove its own name of a file, and put another file there.
    fs_err::remove_file(&placed[1].path).unwrap();
    fs_err::write(&placed[1].path, "mine").unwrap();
    assert_eq!(place.store.changed(&placed).await.unwrap(), []);
    fs_err::set_permissions(&placed[0].path, PermissionsExt::from_mode(0o644)).unwrap();
    fs_err::write(&placed[0].path, "BYTES").unwrap();
    let changed = place.store.changed(&placed).await.unwrap();
    assert_eq!(changed, placed[..1]);
    // Somebody who has the same input finds it changed too, although the blob is in quarantine by now.
    assert_eq!(place.again().changed(&placed).await.unwrap(), placed[..1]);
    assert_eq!(fs_err::read_dir(place.path("store/quarantine")).unwrap().count(), 1);
}

#[tokio::test]
async fn names_the_path_when_it_may_not_write() {
    let place = Place::on_dir();
    fs_err::remove_dir_all(place.path("store")).unwrap();
    fs_err::write(place.path("store"), "not a folder").unwrap();
    let error =
        place.store.take_in(&place.write("out", b"x"), &Traffic::default()).await.unwrap_err();
    assert!(error.to_string().contains("store/"), "{error}");
    assert!(place.path("out").exists());
}

#[tokio::test]
async fn counts_every_object_once() {
    let place = Place::on_dir();
    let store = &place.store;
    let pinned = place.take(&place.write("pinned", b"pinned")).await;
    let recorded = place.take(&place.write("recorded", b"recorded")).await;
    place.take(&place.write("garbage", b"garbage")).await;
    store.pin(PinOwner::Run(run(1)), &[pinned]).await.unwrap();
    store.put_record(record("kept", Some(recorded)), false).await.unwrap();
    let bytes = AtomicU64::new(0);
    let progress = |more: u64| {
        bytes.fetch_add(more, Ordering::SeqCst);
    };
    let report = store.check(&progress).await.unwrap();
    assert_eq!((report.objects, bytes.load(Ordering::SeqCst)), (7, 21));
    let day = Duration::from_hours(24);
    let all_young = store.collect_garbage(day, 2 * day, false).await.unwrap();
    assert_eq!((all_young.removed, all_young.kept), (0, 7));
    let swept = store.collect_garbage(day, Duration::ZERO, false).await.unwrap();
    assert_eq!((swept.removed, swept.kept), (2, 5));
    let summary = store.summary().await.unwrap();
    assert_eq!((summary.records, summary.artifacts, summary.files, summary.bytes), (1, 2, 2, 14));
}

#[tokio::test]
async fn a_claim_is_free_at_once_when_it_is_dropped() {
    let place = Place::on_dir();
    let key = Digest::of(b"key");
    for _ in 0..50 {
        for store in [place.again(), place.again()] {
            drop(store.claim(&key, "me").await.unwrap().unwrap());
        }
    }
}

#[tokio::test]
async fn damage_is_seen_by_a_look_up() {
    let place = Place::on_dir();
    let written = record("train", Some(place.take(&place.write("out", b"bytes")).await));
    place.store.put_record(written.clone(), false).await.unwrap();
    place.tricks.damage(b"bytes").await;
    let found = place.again().look_up(&written.key).await.unwrap();
    assert_eq!(found, Lookup::Broken { missing: vec![Digest::of(b"bytes")] });
}

#[tokio::test]
async fn check_says_where_damage_was_moved_to() {
    let place = Place::on_dir();
    let artifact = place.take(&place.write("out", b"bytes")).await;
    place.tricks.damage(b"bytes").await;
    let report = place.store.check(&|_| {}).await.unwrap();
    assert_eq!(report.broken.len(), 2, "{report:?}");
    assert!(report.broken[0].contains("moved to"), "{report:?}");
    assert!(report.broken[1].contains(&artifact.to_string()), "{report:?}");
}
