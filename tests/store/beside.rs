//! A store that is only read, with a folder beside it for what is new: the tricks that are played on that folder, and what only the two together promise.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use flowrun::names::ReleaseId;
use flowrun::store::beside::BesideStore;
use flowrun::store::dir::DirStore;
use flowrun::store::{Lookup, PinOwner, Store, Traffic};

use crate::dir::DirTricks;
use crate::fixture::{Place, Tricks, record};

/// The folder of the test, with an empty store of others in it.
pub(crate) struct BesideTricks {
    folder: PathBuf,
    own: DirTricks,
}

impl BesideTricks {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), own: DirTricks::new(folder) }
    }
}

#[async_trait]
impl Tricks for BesideTricks {
    fn again(&self) -> Box<dyn Store> {
        let own = DirStore::open(&self.folder.join("store"), &self.folder).unwrap();
        Box::new(BesideStore::new(Arc::new(theirs(&self.folder)), own))
    }

    fn elsewhere(&self) -> Box<dyn Store> {
        self.again()
    }

    async fn damage(&self, bytes: &[u8]) {
        self.own.damage(bytes).await;
    }

    async fn lose(&self, bytes: &[u8]) {
        self.own.lose(bytes).await;
    }

    async fn remember(&self, _: &str, _: &[u8]) {}
}

fn theirs(folder: &Path) -> DirStore {
    DirStore::open(&folder.join("theirs"), folder).unwrap()
}

/// Every file of the store of others.
fn files(place: &Place) -> Vec<PathBuf> {
    let walk = walkdir::WalkDir::new(place.path("theirs")).sort_by_file_name();
    walk.into_iter().map(|entry| entry.unwrap().into_path()).collect()
}

#[tokio::test]
async fn what_others_have_is_used_and_what_is_new_stays_here() {
    let place = Place::on_beside();
    let others = theirs(&place.path(""));
    let traffic = Traffic::default();
    let data =
        others.take_in(&place.write("data", b"their data"), &traffic).await.unwrap().unwrap();
    let prepared = record("prepare", Some(data));
    others.put_record(prepared.clone(), false).await.unwrap();
    let before = files(&place);

    let found = place.store.look_up(&prepared.key).await.unwrap();
    assert_eq!(found, Lookup::Hit(Box::new(prepared.clone())));
    let placed = place.place(&data, "input", false).await;
    assert_eq!(fs_err::read(placed).unwrap(), b"their data");
    let trained = record("train", Some(place.take(&place.write("model", b"a new model")).await));
    assert!(place.store.claim(&trained.key, "here").await.unwrap().is_ok());
    place.store.put_record(trained.clone(), false).await.unwrap();
    place.store.collect_garbage(Duration::ZERO, Duration::MAX, false).await.unwrap();
    assert_eq!(files(&place), before, "nothing of theirs is written");

    let again = place.again();
    let found = again.look_up(&trained.key).await.unwrap();
    assert_eq!(found, Lookup::Hit(Box::new(trained.clone())));
    assert_eq!(others.look_up(&trained.key).await.unwrap(), Lookup::Miss);
    let records = again.records().await.unwrap();
    assert_eq!(records.len(), 2);
    assert_eq!(again.summary().await.unwrap().artifacts, 2);
    assert!(again.check(&|_| {}).await.unwrap().broken.is_empty());
}

#[tokio::test]
async fn what_was_made_here_holds_here_though_others_have_another_result() {
    let place = Place::on_beside();
    let others = theirs(&place.path(""));
    let traffic = Traffic::default();
    let old = others.take_in(&place.write("old", b"old"), &traffic).await.unwrap().unwrap();
    others.put_record(record("train", Some(old)), false).await.unwrap();
    let forced = record("train", Some(place.take(&place.write("new", b"new")).await));
    place.store.put_record(forced.clone(), true).await.unwrap();
    let found = place.again().look_up(&forced.key).await.unwrap();
    assert_eq!(found, Lookup::Hit(Box::new(forced)));
}

#[tokio::test]
async fn a_release_keeps_its_artifacts_when_others_remove_them() {
    let place = Place::on_beside();
    let others = theirs(&place.path(""));
    let traffic = Traffic::default();
    for name in ["model/weights", "model/words/list"] {
        place.write(name, name.as_bytes());
    }
    let model = others.take_in(&place.path("model"), &traffic).await.unwrap().unwrap();
    place.store.pin(PinOwner::Release(ReleaseId::new(1, 2)), &[model]).await.unwrap();
    fs_err::remove_dir_all(place.path("theirs")).unwrap();
    let again = place.again();
    again.collect_garbage(Duration::ZERO, Duration::ZERO, false).await.unwrap();
    let target = place.path("placed");
    again.place(&model, &target, false, &traffic).await.unwrap();
    assert_eq!(fs_err::read(target.join("words/list")).unwrap(), b"model/words/list");
}
