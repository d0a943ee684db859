//! One suite for every store: whatever is said of the trait `Store` holds for each implementation, and what only `dir` promises below.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use flowrun::digest::Digest;
use flowrun::event::{KEY_FORMAT, KeyParts};
use flowrun::names::RunId;
use flowrun::scalar::Scalar;
use flowrun::store::dir::DirStore;
use flowrun::store::{EntryKind, Lookup, Record, Refused, Store, StoreError};

/// A store under test, and what is needed to play tricks on it.
struct Place {
    folder: tempfile::TempDir,
    store: Box<dyn Store>,
    /// Opens the same store once more, as another process would.
    open: fn(&Path) -> Box<dyn Store>,
    /// Writes into the stored bytes of a file, behind the store's back.
    damage: fn(&Path, &Digest),
    /// Removes them.
    lose: fn(&Path, &Digest),
}

impl Place {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(&path, bytes).unwrap();
        path
    }

    fn again(&self) -> Box<dyn Store> {
        (self.open)(self.folder.path())
    }

    async fn take(&self, path: &Path) -> Digest {
        self.store.take_in(path).await.unwrap().unwrap()
    }

    async fn refuses(&self, path: &Path) -> Refused {
        self.store.take_in(path).await.unwrap().unwrap_err()
    }

    /// Takes a file with these bytes in and places it again: what comes back.
    async fn place(&self, artifact: &Digest, name: &str, own: bool) -> PathBuf {
        let target = self.path(name);
        fs_err::create_dir_all(target.parent().unwrap()).unwrap();
        self.store.place(artifact, &target, own).await.unwrap();
        target
    }
}

fn parts(command: &str) -> KeyParts {
    KeyParts {
        format: KEY_FORMAT,
        command: vec![command.to_owned()],
        env: BTreeMap::new(),
        environment: Digest::of(b"environment"),
        platform: "linux/x86_64".to_owned(),
        files: Digest::of(b"files"),
        inputs: BTreeMap::new(),
        params: BTreeMap::new(),
        matrix: BTreeMap::new(),
        outputs: BTreeMap::new(),
        metrics: None,
        values: None,
        workdir: ".".to_owned(),
        network: "default".to_owned(),
        secrets: BTreeMap::new(),
    }
}

fn record(command: &str, output: Option<Digest>) -> Record {
    let parts = parts(command);
    Record {
        format: 1,
        key: parts.key(),
        parts,
        outputs: output.map(|digest| ("model".parse().unwrap(), digest)).into_iter().collect(),
        // The nearest number above 0.1 + 0.2, which a careless reader of JSON loses.
        metrics: BTreeMap::from([("loss".to_owned(), 0.300_000_000_000_000_04)]),
        values: BTreeMap::from([("kind".to_owned(), Scalar::Text("a".to_owned()))]),
        seconds: 1.25,
        peak_memory: 7,
        made_by: run(1),
        made_at: 1_700_000_000_000,
    }
}

fn run(number: u128) -> RunId {
    RunId::new(1_700_000_000_000, number)
}

fn mode(path: &Path) -> u32 {
    fs_err::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

async fn an_empty_file_and_an_empty_folder(place: &Place) {
    let file = place.take(&place.write("file", b"")).await;
    fs_err::create_dir(place.path("folder")).unwrap();
    let folder = place.take(&place.path("folder")).await;
    assert_ne!(file, folder);
    assert_eq!(place.store.entries(&folder).await.unwrap(), []);
    let back = place.place(&file, "back/file", false).await;
    assert_eq!(fs_err::read(back).unwrap(), b"");
    let back = place.place(&folder, "back/folder", false).await;
    assert_eq!(fs_err::read_dir(back).unwrap().count(), 0);
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

async fn a_folder_comes_back_as_it_was(place: &Place) {
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
    for (name, own) in [("back", false), ("mine", true)] {
        let back = place.place(&artifact, name, own).await;
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

async fn taking_in_can_be_repeated(place: &Place) {
    place.write("out/x", b"x");
    place.write("out/tool", b"tool");
    fs_err::set_permissions(place.path("out/tool"), PermissionsExt::from_mode(0o755)).unwrap();
    fs_err::hard_link(place.path("out/x"), place.path("out/twin")).unwrap();
    let artifact = place.take(&place.path("out")).await;
    assert_eq!(place.take(&place.path("out")).await, artifact);
    let other = place.again();
    assert_eq!(other.take_in(&place.path("out")).await.unwrap().unwrap(), artifact);
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

async fn ten_thousand_files(place: &Place) {
    for number in 0..10_000 {
        let folder = place.path(&format!("many/{}", number % 100));
        if number < 100 {
            fs_err::create_dir_all(&folder).unwrap();
        }
        fs_err::write(folder.join(number.to_string()), number.to_string()).unwrap();
    }
    let artifact = place.take(&place.path("many")).await;
    assert_eq!(place.store.entries(&artifact).await.unwrap().len(), 10_100);
    let back = place.place(&artifact, "back", false).await;
    assert_eq!(fs_err::read(back.join("77/9977")).unwrap(), b"9977");
    let key = record("many", Some(artifact));
    place.store.put_record(key.clone(), false).await.unwrap();
    assert!(matches!(place.again().look_up(&key.key).await.unwrap(), Lookup::Hit(_)));
}

async fn a_large_file(place: &Place) {
    let bytes: Vec<u8> =
        (0..(64u64 << 20) + 12_345).map(|at| u8::try_from(at * at % 251).unwrap()).collect();
    let digest = Digest::of(&bytes);
    let artifact = place.take(&place.write("large", &bytes)).await;
    let entries = place.store.entries(&artifact).await.unwrap();
    let kind = EntryKind::File { digest, size: bytes.len() as u64, exec: false };
    assert_eq!(entries[0].kind, kind);
    place.store.sync().await.unwrap();
    let back = place.place(&artifact, "back", true).await;
    assert_eq!(Digest::of(&fs_err::read(back).unwrap()), digest);
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

async fn a_record_is_found_as_it_was_written(place: &Place) {
    let artifact = place.take(&place.write("out", b"bytes")).await;
    let written = record("train", Some(artifact));
    assert_eq!(place.store.look_up(&written.key).await.unwrap(), Lookup::Miss);
    assert_eq!(place.store.put_record(written.clone(), false).await.unwrap(), written);
    for store in [&place.store, &place.again()] {
        let Lookup::Hit(found) = store.look_up(&written.key).await.unwrap() else {
            panic!("no hit")
        };
        assert_eq!(*found, written);
    }
    let mut wrong = record("train", None);
    wrong.key = Digest::of(b"another");
    assert!(matches!(place.store.put_record(wrong, false).await, Err(StoreError::Io(_))));
}

async fn the_first_record_wins_unless_replaced(place: &Place) {
    let first = record("train", Some(place.take(&place.write("1", b"one")).await));
    let second = record("train", Some(place.take(&place.write("2", b"two")).await));
    assert_eq!(first.key, second.key);
    place.store.put_record(first.clone(), false).await.unwrap();
    let other = place.again();
    assert_eq!(other.put_record(second.clone(), false).await.unwrap(), first);
    assert_eq!(other.put_record(second.clone(), true).await.unwrap(), second);
    let found = place.store.look_up(&first.key).await.unwrap();
    assert_eq!(found, Lookup::Hit(Box::new(second)));
}

async fn many_writers_of_one_record_agree(place: &Place) {
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..8 {
        let artifact = place.take(&place.write(&number.to_string(), &[number])).await;
        let store = place.again();
        writers.spawn(async move { store.put_record(record("x", Some(artifact)), false).await });
    }
    let held: Vec<Record> =
        writers.join_all().await.into_iter().map(|record| record.unwrap()).collect();
    assert!(held.iter().all(|record| record == &held[0]));
    let found = place.store.look_up(&held[0].key).await.unwrap();
    assert_eq!(found, Lookup::Hit(Box::new(held[0].clone())));
}

async fn damaged_bytes_are_found_named_and_never_used(place: &Place) {
    let artifact = place.take(&place.write("out", b"bytes")).await;
    let blob = Digest::of(b"bytes");
    let written = record("train", Some(artifact));
    place.store.put_record(written.clone(), false).await.unwrap();
    (place.damage)(place.folder.path(), &blob);
    let found = place.again().look_up(&written.key).await.unwrap();
    assert_eq!(found, Lookup::Broken { missing: vec![blob] });
    let target = place.path("back");
    let error = place.store.place(&artifact, &target, false).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged { digest, .. } if digest == blob), "{error}");
    assert!(!target.exists());
    // A broken record does not win against a whole one.
    let mut second = record("train", Some(place.take(&place.write("new", b"other")).await));
    second.made_at += 1;
    assert_eq!(place.store.put_record(second.clone(), false).await.unwrap(), second);
    // The same bytes again make the first artifact whole.
    fs_err::remove_file(place.path("out")).unwrap();
    assert_eq!(place.take(&place.write("out", b"bytes")).await, artifact);
    let back = place.place(&artifact, "back", false).await;
    assert_eq!(fs_err::read(back).unwrap(), b"bytes");
}

async fn lost_bytes_are_found_and_named(place: &Place) {
    let artifact = place.take(&place.write("out", b"bytes")).await;
    let written = record("train", Some(artifact));
    place.store.put_record(written.clone(), false).await.unwrap();
    (place.lose)(place.folder.path(), &Digest::of(b"bytes"));
    let found = place.again().look_up(&written.key).await.unwrap();
    assert_eq!(found, Lookup::Broken { missing: vec![Digest::of(b"bytes")] });
    let unknown = Digest::of(b"never stored");
    let error = place.store.entries(&unknown).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged { digest, .. } if digest == unknown));
}

async fn a_claim_excludes_everybody_else_until_it_is_dropped(place: &Place) {
    let (key, other_key) = (Digest::of(b"key"), Digest::of(b"other"));
    let other = place.again();
    let claim = place.store.claim(&key, "run 1 on host a").await.unwrap().unwrap();
    for store in [&place.store, &other] {
        let holder = store.claim(&key, "somebody").await.unwrap().err();
        assert_eq!(holder.as_deref(), Some("run 1 on host a"));
    }
    assert!(other.claim(&other_key, "somebody").await.unwrap().is_ok());
    drop(claim);
    let claim = other.claim(&key, "run 2").await.unwrap().unwrap();
    let holder = place.store.claim(&key, "run 3").await.unwrap().err();
    assert_eq!(holder.as_deref(), Some("run 2"));
    drop(claim);
}

async fn one_of_many_gets_the_claim_at_a_time(place: &Place) {
    let (key, inside) = (Digest::of(b"key"), std::sync::Arc::new(AtomicU64::new(0)));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (store, inside) = (place.again(), std::sync::Arc::clone(&inside));
        tasks.spawn(async move {
            let mut got = 0;
            while got < 50 {
                let Ok(claim) = store.claim(&key, "me").await.unwrap() else {
                    tokio::task::yield_now().await;
                    continue;
                };
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                tokio::task::yield_now().await;
                assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1);
                drop(claim);
                got += 1;
            }
        });
    }
    tasks.join_all().await;
}

async fn garbage_goes_and_what_is_needed_stays(place: &Place) {
    let store = &place.store;
    let pinned = place.take(&place.write("pinned", b"pinned")).await;
    let recorded = place.take(&place.write("recorded", b"recorded")).await;
    let garbage = place.take(&place.write("garbage", b"garbage")).await;
    store.pin(run(1), &[pinned, garbage]).await.unwrap();
    store.pin(run(1), &[pinned]).await.unwrap();
    let written = record("kept", Some(recorded));
    store.put_record(written.clone(), false).await.unwrap();
    let day = Duration::from_hours(24);

    let all_young = store.collect_garbage(day, 2 * day, false).await.unwrap();
    assert_eq!((all_young.removed, all_young.kept), (0, 7));
    let dry = store.collect_garbage(day, Duration::ZERO, true).await.unwrap();
    assert_eq!(dry.removed, 2);
    let swept = place.again().collect_garbage(day, Duration::ZERO, false).await.unwrap();
    assert_eq!((swept, swept.kept), (dry, 5));
    assert!(matches!(store.entries(&garbage).await, Err(StoreError::Damaged { .. })));
    assert_eq!(store.look_up(&written.key).await.unwrap(), Lookup::Hit(Box::new(written.clone())));
    place.place(&pinned, "pinned-again", false).await;

    // A record nobody keeps any more goes with its artifact.
    store.collect_garbage(Duration::ZERO, Duration::ZERO, false).await.unwrap();
    assert_eq!(store.look_up(&written.key).await.unwrap(), Lookup::Miss);
    place.place(&pinned, "pinned-still", false).await;
    store.unpin(run(1)).await.unwrap();
    store.unpin(run(1)).await.unwrap();
    let swept = store.collect_garbage(Duration::ZERO, Duration::ZERO, false).await.unwrap();
    assert_eq!((swept.removed, swept.kept), (2, 0));
}

async fn a_pin_grows_and_shrinks(place: &Place) {
    let mut artifacts = Vec::new();
    for number in 0..4u8 {
        artifacts.push(place.take(&place.write(&number.to_string(), &[number])).await);
        place.store.pin(run(1), &artifacts).await.unwrap();
    }
    let other = place.again();
    other.collect_garbage(Duration::ZERO, Duration::ZERO, false).await.unwrap();
    for artifact in &artifacts {
        assert!(other.entries(artifact).await.is_ok());
    }
    place.store.pin(run(1), &artifacts[..1]).await.unwrap();
    other.collect_garbage(Duration::ZERO, Duration::ZERO, false).await.unwrap();
    assert!(other.entries(&artifacts[0]).await.is_ok());
    assert!(other.entries(&artifacts[3]).await.is_err());
}

async fn check_reads_everything_and_names_what_is_wrong(place: &Place) {
    place.write("out/good", b"good");
    place.write("out/bad", b"bad");
    let artifact = place.take(&place.path("out")).await;
    let written = record("train", Some(artifact));
    place.store.put_record(written.clone(), false).await.unwrap();
    let bytes = AtomicU64::new(0);
    let progress = |more: u64| {
        bytes.fetch_add(more, Ordering::SeqCst);
    };
    let report = place.store.check(&progress).await.unwrap();
    assert_eq!(report.broken, Vec::<String>::new());
    assert_eq!((report.objects, bytes.load(Ordering::SeqCst)), (4, 7));

    let bad = Digest::of(b"bad");
    (place.damage)(place.folder.path(), &bad);
    let report = place.store.check(&|_| {}).await.unwrap();
    assert_eq!(report.broken.len(), 2, "{report:?}");
    assert!(report.broken.iter().all(|line| line.contains(&bad.hex())), "{report:?}");
    assert!(report.broken[0].contains("moved to"), "{report:?}");
    assert!(report.broken[1].contains(&artifact.to_string()), "{report:?}");
    assert!(report.broken[1].contains("runs again"), "{report:?}");
    let found = place.store.look_up(&written.key).await.unwrap();
    assert_eq!(found, Lookup::Broken { missing: vec![bad] });
}

fn open_dir(folder: &Path) -> Box<dyn Store> {
    Box::new(DirStore::open(&folder.join("store"), folder).unwrap())
}

fn dir_blob(folder: &Path, digest: &Digest) -> PathBuf {
    let hex = digest.hex();
    folder.join("store/blob").join(&hex[..2]).join(hex)
}

fn dir() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let store = open_dir(folder.path());
    let damage = |folder: &Path, digest: &Digest| {
        let path = dir_blob(folder, digest);
        fs_err::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        let bytes = fs_err::read(&path).unwrap();
        fs_err::write(&path, vec![b'?'; bytes.len()]).unwrap();
    };
    let lose = |folder: &Path, digest: &Digest| {
        fs_err::remove_file(dir_blob(folder, digest)).unwrap();
    };
    Place { folder, store, open: open_dir, damage, lose }
}

macro_rules! suite {
    ($module:ident, $make:path, [$($name:ident)*]) => {
        mod $module {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(&$make()).await;
            })*
        }
    };
}

suite!(on_dir, super::dir, [
    an_empty_file_and_an_empty_folder
    a_file_is_one_entry_without_a_path
    a_folder_comes_back_as_it_was
    an_own_copy_can_be_written_without_harm
    taking_in_can_be_repeated
    a_file_with_a_name_elsewhere_is_not_shared_with_it
    ten_thousand_files
    a_large_file
    what_cannot_be_stored_is_named
    a_record_is_found_as_it_was_written
    the_first_record_wins_unless_replaced
    many_writers_of_one_record_agree
    damaged_bytes_are_found_named_and_never_used
    lost_bytes_are_found_and_named
    a_claim_excludes_everybody_else_until_it_is_dropped
    one_of_many_gets_the_claim_at_a_time
    garbage_goes_and_what_is_needed_stays
    a_pin_grows_and_shrinks
    check_reads_everything_and_names_what_is_wrong
]);

#[tokio::test]
async fn dir_takes_a_file_in_without_copying_it() {
    let place = dir();
    let path = place.write("out", &[7; 4096]);
    let before = fs_err::symlink_metadata(&path).unwrap().ino();
    place.take(&path).await;
    let blob =
        fs_err::symlink_metadata(dir_blob(place.folder.path(), &Digest::of(&[7; 4096]))).unwrap();
    assert_eq!((blob.ino(), blob.permissions().mode() & 0o777), (before, 0o444));
    // Zip files know no year before 1980.
    assert!(blob.mtime() > 315_532_800);
}

#[tokio::test]
async fn dir_finds_what_was_written_through_a_link() {
    let place = dir();
    place.write("out/x", b"bytes");
    place.write("out/y", b"other");
    let artifact = place.take(&place.path("out")).await;
    fs_err::remove_dir_all(place.path("out")).unwrap();
    let placed = place.store.place(&artifact, &place.path("in"), false).await.unwrap();
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
async fn dir_lists_and_gives_out_what_it_holds() {
    let place = dir();
    let store = DirStore::open(&place.path("store"), place.folder.path()).unwrap();
    place.write("out/x", b"bytes");
    let artifact = place.take(&place.path("out")).await;
    let old = record("old", Some(artifact));
    let mut new = record("new", None);
    new.made_at += 1;
    for record in [&old, &new] {
        place.store.put_record(record.clone(), false).await.unwrap();
    }
    let summary = store.summary().await.unwrap();
    assert_eq!((summary.records, summary.artifacts, summary.files, summary.bytes), (2, 1, 1, 5));
    let lines = store.records().await.unwrap();
    assert_eq!(lines.iter().map(|line| &line.record).collect::<Vec<_>>(), [&new, &old]);
    assert_eq!(lines[1].bytes["model"], Some(5));
    assert_eq!(store.find_artifacts(&artifact.short(), 9).await.unwrap(), [artifact]);
    assert_eq!(store.find_artifacts(&artifact.to_string(), 9).await.unwrap(), [artifact]);
    assert_eq!(store.find_artifacts("", 9).await.unwrap(), [artifact]);

    store.export(&artifact, &place.path("given")).await.unwrap();
    fs_err::write(place.path("given/x"), "changed").unwrap();
    let error = store.export(&artifact, &place.path("given")).await.unwrap_err();
    assert!(error.to_string().contains("given"), "{error}");
    assert_eq!(fs_err::read(place.path("given/x")).unwrap(), b"changed");
}

#[tokio::test]
async fn dir_names_the_path_when_it_may_not_write() {
    let place = dir();
    fs_err::remove_dir_all(place.path("store")).unwrap();
    fs_err::write(place.path("store"), "not a folder").unwrap();
    let error = place.store.take_in(&place.write("out", b"x")).await.unwrap_err();
    assert!(error.to_string().contains("store/"), "{error}");
    assert!(place.path("out").exists());
}
