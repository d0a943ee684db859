//! What only stores in buckets promise: little is moved, machines fetch what they need, read-only means it, and half an upload is nothing.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use flowrun::digest::Digest;
use flowrun::store::s3::bucket::Bucket;
use flowrun::store::{Lookup, Moved, PinOwner, Store, StoreError, Traffic};

use crate::fixture::{LONG, Place, record, run};
use crate::on_both_servers;
use crate::s3::{Access, names_below, open};
use crate::server::{Server, below};

on_both_servers!(
    what_is_there_is_not_sent_again,
    a_machine_fetches_what_it_lacks,
    a_changed_file_in_the_cache_is_fetched_again,
    a_pack_that_was_cut_is_found,
    read_only_changes_nothing,
    a_killed_upload_leaves_nothing_that_is_seen,
    a_claim_on_the_same_machine_is_free_at_once,
);

/// A part of a bucket, and machines that share it.
struct Cloud {
    folder: tempfile::TempDir,
    url: String,
    bucket: Bucket,
}

impl Cloud {
    fn new(server: Server) -> Self {
        let folder = tempfile::Builder::new().prefix("cloud-").tempdir().unwrap();
        let prefix = folder.path().file_name().unwrap().to_str().unwrap();
        let url = below(&server.url(), prefix);
        let bucket = Bucket::new(url.parse().unwrap());
        Self { folder, url, bucket }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(&path, bytes).unwrap();
        path
    }

    fn machine(&self, name: &str) -> impl Store + use<> {
        open(&self.url, &self.path(name), Access::ReadWrite)
    }
}

async fn take(store: &impl Store, path: &Path) -> (Digest, Moved) {
    let traffic = Traffic::default();
    let artifact = store.take_in(path, &traffic).await.unwrap().unwrap();
    (artifact, traffic.moved())
}

fn noise(seed: &str, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new_derive_key(seed).finalize_xof().fill(&mut bytes);
    bytes
}

async fn what_is_there_is_not_sent_again(server: Server) {
    let cloud = Cloud::new(server);
    let large = noise("large", 3 << 20);
    cloud.write("out/large", &large);
    cloud.write("out/small", b"small");
    let (artifact, moved) = take(&cloud.machine("a"), &cloud.path("out")).await;
    assert!(moved.sent >= large.len() as u64 + 5, "{moved:?}");

    // From a machine that knows nothing of it.
    cloud.write("again/large", &large);
    cloud.write("again/small", b"small");
    let (again, moved) = take(&cloud.machine("b"), &cloud.path("again")).await;
    assert_eq!(again, artifact);
    assert_eq!(moved.sent, 0, "{moved:?}");

    // One file more.
    cloud.write("more/large", &large);
    cloud.write("more/other", b"other");
    let (_, moved) = take(&cloud.machine("c"), &cloud.path("more")).await;
    assert!(moved.sent > 0 && moved.sent < 100_000, "{moved:?}");
}

async fn a_machine_fetches_what_it_lacks(server: Server) {
    let cloud = Cloud::new(server);
    let large = noise("shared", 2 << 20);
    cloud.write("one/large", &large);
    for number in 0..100 {
        cloud.write(&format!("one/small/{number}"), &noise(&number.to_string(), 1000));
    }
    cloud.write("two/large", &large);
    cloud.write("two/more", &noise("more", 500_000));
    let first = cloud.machine("first");
    let (one, _) = take(&first, &cloud.path("one")).await;
    let (two, _) = take(&first, &cloud.path("two")).await;

    let other = cloud.machine("other");
    let fetch = async |artifact: &Digest, name: &str| {
        let traffic = Traffic::default();
        other.place(artifact, &cloud.path(name), false, &traffic).await.unwrap();
        traffic.moved().received
    };
    let received = fetch(&one, "one-back").await;
    assert!(received >= 2_100_000, "{received}");
    let received = fetch(&two, "two-back").await;
    assert!((500_000..700_000).contains(&received), "the large file was here already: {received}");
    assert_eq!(fetch(&two, "two-again").await, 0);
    assert_eq!(fs_err::read(cloud.path("two-back/large")).unwrap(), large);
}

/// Wrong bytes in the cache are neither used nor the end of it: the bucket has the right ones.
async fn a_changed_file_in_the_cache_is_fetched_again(server: Server) {
    let cloud = Cloud::new(server);
    let bytes = noise("cached", 300_000);
    let (artifact, _) = take(&cloud.machine("first"), &cloud.write("out", &bytes)).await;
    let other = cloud.machine("other");
    let traffic = Traffic::default();
    other.place(&artifact, &cloud.path("before"), false, &traffic).await.unwrap();
    crate::dir::overwrite(&crate::dir::blob(&cloud.path("other"), &bytes));
    for store in [&other, &cloud.machine("other")] {
        let target = cloud.path(&format!("after-{}", Digest::of(b"x").short()));
        store.place(&artifact, &target, true, &traffic).await.unwrap();
        assert_eq!(fs_err::read(&target).unwrap(), bytes);
        fs_err::remove_file(target).unwrap();
    }
}

async fn a_pack_that_was_cut_is_found(server: Server) {
    let cloud = Cloud::new(server);
    for number in 0..50 {
        cloud.write(&format!("out/{number}"), &noise(&number.to_string(), 2000));
    }
    let (artifact, _) = take(&cloud.machine("first"), &cloud.path("out")).await;
    let written = record("train", Some(artifact));
    let first = cloud.machine("first");
    first.put_record(written.clone(), false).await.unwrap();
    let packs = names_below(&cloud.bucket, "pack/").await;
    assert!(!packs.is_empty(), "50 small files lie in packs");
    for pack in &packs {
        let object = cloud.bucket.get(pack).await.unwrap().unwrap();
        let half = object.bytes.slice(..object.bytes.len() / 2);
        let always = flowrun::store::s3::bucket::Condition::Always;
        cloud.bucket.put(pack, half, always).await.unwrap();
    }
    let other = cloud.machine("other");
    let target = cloud.path("back");
    let error = other.place(&artifact, &target, false, &Traffic::default()).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert!(!target.exists());
    let found = cloud.machine("third").look_up(&written.key).await.unwrap();
    assert!(matches!(found, Lookup::Broken { .. }), "{found:?}");
    // The machine that still has it mends it by taking it in again.
    for number in 0..50 {
        cloud.write(&format!("again/{number}"), &noise(&number.to_string(), 2000));
    }
    let (again, _) = take(&cloud.machine("third"), &cloud.path("again")).await;
    assert_eq!(again, artifact);
    let third = cloud.machine("fourth");
    third.place(&artifact, &cloud.path("whole"), false, &Traffic::default()).await.unwrap();
    assert_eq!(fs_err::read(cloud.path("whole/7")).unwrap(), noise("7", 2000));
}

async fn read_only_changes_nothing(server: Server) {
    let cloud = Cloud::new(server);
    let first = cloud.machine("first");
    let (artifact, _) = take(&first, &cloud.write("out", &noise("x", 100_000))).await;
    let written = record("train", Some(artifact));
    first.put_record(written.clone(), false).await.unwrap();
    let objects = async || {
        let mut lines = Vec::new();
        cloud.bucket.list("", &mut |line| lines.push(line)).await.unwrap();
        lines
    };
    let before = objects().await;
    let reader = open(&cloud.url, &cloud.path("reader"), Access::ReadOnly);
    let found = reader.look_up(&written.key).await.unwrap();
    assert_eq!(found, Lookup::Hit(Box::new(written)));
    let target = cloud.path("back");
    reader.place(&artifact, &target, false, &Traffic::default()).await.unwrap();
    assert_eq!(fs_err::read(target).unwrap(), noise("x", 100_000));
    reader.records().await.unwrap();
    // What would change something is refused, or does it on this machine alone.
    let made = reader.take_in(&cloud.write("mine", b"mine"), &Traffic::default()).await;
    let made = made.ok().and_then(Result::ok).unwrap_or(artifact);
    drop(reader.put_record(record("mine", Some(made)), true).await);
    drop(reader.pin(PinOwner::Run(run(1)), &[made]).await);
    drop(reader.claim(&Digest::of(b"key"), "reader").await);
    drop(reader.collect_garbage(Duration::ZERO, Duration::ZERO, false).await);
    drop(reader.check(&|_| {}).await);
    assert_eq!(objects().await, before);
}

const ORDER: &str = "FLOWRUN_TEST_UPLOAD";

/// The process that tests kill: takes a folder in and writes its record.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn helper_that_is_killed() {
    #[expect(clippy::disallowed_methods, reason = "the test that starts it says what to take in")]
    let Ok(order) = std::env::var(ORDER) else { return };
    let (url, machine, path, hold): (String, PathBuf, PathBuf, bool) =
        serde_json::from_str(&order).unwrap();
    let store = open(&url, &machine, Access::ReadWrite);
    println!("\nbegins");
    if hold {
        let claim = store.claim(&Digest::of(b"held"), "who dies").await.unwrap();
        assert!(claim.is_ok());
        println!("\nholds");
        std::future::pending::<()>().await;
    }
    let (artifact, _) = take(&store, &path).await;
    store.put_record(record("killed", Some(artifact)), false).await.unwrap();
}

fn helper(cloud: &Cloud, machine: &str, path: &Path, hold: bool) -> Child {
    let order = serde_json::to_string(&(&cloud.url, cloud.path(machine), path, hold)).unwrap();
    std::process::Command::new(std::env::current_exe().unwrap())
        .args(["cloud::helper_that_is_killed", "--exact", "--nocapture"])
        .env(ORDER, order)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn await_line(child: &mut Child, wanted: &str) {
    use std::io::{BufRead, BufReader};
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map(Result::unwrap).any(|line| line == wanted), "the helper never {wanted}");
}

/// Whatever a reader can see is whole: an object has the bytes of its name, and a record names only what is there.
async fn assert_whole(cloud: &Cloud) {
    for prefix in ["blob/", "tree/"] {
        for name in names_below(&cloud.bucket, prefix).await {
            let hex = name.rsplit('/').next().unwrap();
            let object = cloud.bucket.get(&name).await.unwrap().unwrap();
            assert_eq!(Digest::of(&object.bytes).hex(), hex, "{name}");
        }
    }
}

async fn a_killed_upload_leaves_nothing_that_is_seen(server: Server) {
    let cloud = Cloud::new(server);
    let source = |folder: &str| {
        cloud.write(&format!("{folder}/large"), &noise("killed", 40 << 20));
        for number in 0..500 {
            cloud.write(&format!("{folder}/small/{number}"), &noise(&number.to_string(), 3000));
        }
        cloud.path(folder)
    };
    let start = Instant::now();
    let mut whole = helper(&cloud, "first", &source("whole"), false);
    assert!(whole.wait().unwrap().success());
    let length = start.elapsed();
    let key = record("killed", None).key;
    let mut unfinished = 0;
    for round in 0..4u32 {
        let names = names_below(&cloud.bucket, "").await;
        cloud.bucket.remove(&names).await.unwrap();
        let machine = format!("machine-{round}");
        let mut child = helper(&cloud, &machine, &source(&format!("source-{round}")), false);
        await_line(&mut child, "begins");
        // Spread over the whole of what an undisturbed one takes; any instant will do.
        std::thread::sleep(length * round / 4);
        child.kill().unwrap();
        let ended = child.wait().unwrap().success();
        assert_whole(&cloud).await;
        let reader = cloud.machine(&format!("reader-{round}"));
        match reader.look_up(&key).await.unwrap() {
            Lookup::Hit(found) => {
                let artifact = found.outputs["model"];
                let target = cloud.path(&format!("back-{round}"));
                reader.place(&artifact, &target, false, &Traffic::default()).await.unwrap();
            }
            Lookup::Miss => unfinished += 1,
            Lookup::Broken { missing } => panic!("{missing:?} of a record that was written last"),
        }
        // The same once more, on the machine that was killed, makes it whole.
        if !ended {
            let path = source(&format!("source-{round}"));
            let mut child = helper(&cloud, &machine, &path, false);
            assert!(child.wait().unwrap().success());
            let found = cloud.machine(&format!("after-{round}")).look_up(&key).await.unwrap();
            assert!(matches!(found, Lookup::Hit(_)), "{found:?}");
        }
    }
    assert!(unfinished > 0, "no round was killed in its middle: the test did not test anything");
    // Parts that nobody sees take room until they are swept.
    cloud.bucket.sweep_uploads(Duration::ZERO, &|_| true, false).await.unwrap();
    assert_eq!(cloud.bucket.sweep_uploads(Duration::ZERO, &|_| true, true).await.unwrap(), 0);
}

/// Only where the server honours conditions are there claims between machines.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_whose_holder_was_killed_is_taken_over() {
    let cloud = Cloud::new(Server::Seaweed);
    let mut child = helper(&cloud, "dead", &cloud.path(""), true);
    await_line(&mut child, "holds");
    let other = cloud.machine("other");
    let key = Digest::of(b"held");
    let holder = other.claim(&key, "who lives").await.unwrap().err();
    assert_eq!(holder.as_deref(), Some("who dies"));
    child.kill().unwrap();
    child.wait().unwrap();
    let start = Instant::now();
    let claim = loop {
        match other.claim(&key, "who lives").await.unwrap() {
            Ok(claim) => break claim,
            Err(_) => assert!(start.elapsed() < LONG, "the dead keep their claims"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let holder = cloud.machine("third").claim(&key, "third").await.unwrap().err();
    assert_eq!(holder.as_deref(), Some("who lives"));
    drop(claim);
}

/// On the same machine nobody has to wait for that: the kernel knows who is dead.
async fn a_claim_on_the_same_machine_is_free_at_once(server: Server) {
    let cloud = Cloud::new(server);
    let mut child = helper(&cloud, "machine", &cloud.path(""), true);
    await_line(&mut child, "holds");
    let store = cloud.machine("machine");
    let key = Digest::of(b"held");
    assert!(store.claim(&key, "me").await.unwrap().is_err());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(store.claim(&key, "me").await.unwrap().is_ok());
}

/// A server that takes conditions and overwrites anyway: it is found out, the last record wins, and nobody waits for a claim.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_conditions_it_works_all_the_same() {
    let place = Place::on(Server::S3s);
    // As it is remembered once it was found out. Trying finds it out only when the writers meet, which a busy machine may prevent.
    let known = r#"{"format":1,"conditional":false,"copies_onto_itself":true}"#;
    place.tricks.remember("probe", known.as_bytes()).await;
    let other = place.tricks.elsewhere();
    let key = Digest::of(b"key");
    let claim = place.store.claim(&key, "here").await.unwrap().unwrap();
    assert!(other.claim(&key, "there").await.unwrap().is_ok());
    assert!(place.again().claim(&key, "here too").await.unwrap().is_err(), "one machine is sure");
    drop(claim);
    let mut writers = tokio::task::JoinSet::new();
    let mut written = Vec::new();
    for number in 0..4u8 {
        let artifact = place.take(&place.write(&number.to_string(), &[number])).await;
        written.push(record("x", Some(artifact)));
        let (store, record) = (place.tricks.elsewhere(), record("x", Some(artifact)));
        writers.spawn(async move { store.put_record(record, false).await.unwrap() });
    }
    writers.join_all().await;
    let found = other.look_up(&written[0].key).await.unwrap();
    let Lookup::Hit(found) = found else { panic!("{found:?}") };
    assert!(written.contains(&found), "one of them, whole");
}

/// Listing costs money and time with the size of the bucket: only gc, check and the commands that list may do it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everyday_work_never_lists_the_bucket() {
    let plan = crate::faults::Plan { percent: 0, faults: crate::faults::EVERY_FAULT, seed: 0 };
    let (place, proxy) = Place::on_faulty(Server::Seaweed, plan);
    for number in 0..300 {
        place.write(&format!("out/{number}"), number.to_string().as_bytes());
    }
    let artifact = place.take(&place.path("out")).await;
    let written = record("train", Some(artifact));
    drop(place.store.claim(&written.key, "me").await.unwrap());
    place.store.put_record(written.clone(), false).await.unwrap();
    place.store.pin(PinOwner::Run(run(1)), &[artifact]).await.unwrap();
    let other = place.tricks.elsewhere();
    assert!(matches!(other.look_up(&written.key).await.unwrap(), Lookup::Hit(_)));
    place.fetch(&artifact, "back").await;
    place.store.unpin(PinOwner::Run(run(1))).await.unwrap();
    // Whether there is such a bucket at all is asked once, and answered with one line.
    let is_walk = |name: &String| name.contains("list-type=2") && !name.contains("max-keys=1&");
    let lists: Vec<String> = proxy.requests().into_iter().filter(is_walk).collect();
    assert_eq!(lists, Vec::<String>::new());
    // A third of them try what the server can do, once per bucket.
    let (requests, _) = proxy.told();
    assert!(requests < 120, "300 small files are a few packs: {:?}", proxy.requests());
}
