//! Collections beside those who use what is old, in the orders that hurt.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::super::S3Store;
use super::super::bucket::tests::bucket_on;
use super::super::bucket::tests::memory::{Memory, named};
use super::super::bucket::tests::server::{Asked, Reply, Server, error};
use super::super::clock;
use crate::digest::Digest;
use crate::event::KeyParts;
use crate::names::RunId;
use crate::store::dir::DirStore;
use crate::store::{Lookup, PinOwner, Record, Store, Traffic};

const DAY: Duration = Duration::from_hours(24);
const SWEEPING: &str = "sweeping";

/// A bucket, and what happens just before it answers: `None` lets it answer as it does.
struct Cloud {
    memory: Arc<Mutex<Memory>>,
    server: Server,
    folder: tempfile::TempDir,
}

impl Cloud {
    async fn new(
        mut befalls: impl FnMut(&Asked, &mut Memory) -> Option<Reply> + Send + 'static,
    ) -> Self {
        let mut memory = Memory::at(clock::now());
        memory.put("probe", br#"{"format":1,"conditional":true,"young":"copy"}"#);
        let memory = Arc::new(Mutex::new(memory));
        let shared = Arc::clone(&memory);
        let server = Server::start(move |asked| {
            let mut memory = shared.lock().unwrap();
            befalls(asked, &mut memory).unwrap_or_else(|| memory.answer(asked))
        })
        .await;
        Self { memory, server, folder: tempfile::tempdir().unwrap() }
    }

    fn machine(&self, name: &str) -> S3Store {
        let machine = self.folder.path().join(name);
        fs_err::create_dir_all(&machine).unwrap();
        let cache = DirStore::open(&machine.join("store"), &machine).unwrap();
        S3Store::of(bucket_on(&self.server), cache, false)
    }

    /// Three days go by, in which nobody uses anything.
    fn age(&self) {
        let mut memory = self.memory.lock().unwrap();
        for kept in memory.objects.values_mut() {
            kept.modified -= 3 * 24 * 3600 * 1000;
        }
    }

    fn has(&self, name: &str) -> bool {
        self.memory.lock().unwrap().objects.contains_key(name)
    }

    fn file(&self, bytes: &[u8]) -> std::path::PathBuf {
        let path = self.folder.path().join(Digest::of(bytes).short());
        fs_err::write(&path, bytes).unwrap();
        path
    }
}

async fn take(store: &S3Store, path: &Path) -> Digest {
    store.take_in(path, &Traffic::default()).await.unwrap().unwrap()
}

fn record(artifact: Digest) -> Record {
    let parts = KeyParts::of_no_stage(vec!["true".to_owned()]);
    Record {
        format: 1,
        key: parts.key(),
        parts,
        outputs: BTreeMap::from([("model".parse().unwrap(), artifact)]),
        metrics: BTreeMap::new(),
        values: BTreeMap::new(),
        seconds: 0.0,
        peak_memory: 0,
        made_by: RunId::new(1, 1),
        made_at: 1,
        made_on: None,
    }
}

fn blob(bytes: &[u8]) -> String {
    let hex = Digest::of(bytes).hex();
    format!("blob/{}/{hex}", &hex[..2])
}

fn renews(asked: &Asked, name: &str) -> bool {
    asked.line.contains(name) && asked.header("x-amz-copy-source").is_some()
}

fn removes(asked: &Asked, name: &str) -> bool {
    asked.line == format!("DELETE /team/models/{name}?x-id=DeleteObject")
        || named(asked).iter().any(|one| one == name)
}

/// The question of gc, the renewal, the removal: in this order.
fn is_collected_behind_its_renewal(
    name: String,
) -> impl FnMut(&Asked, &mut Memory) -> Option<Reply> + Send + 'static {
    let mut times = 1;
    move |asked, memory| {
        if times == 0 || !renews(asked, &name) {
            return None;
        }
        times -= 1;
        let reply = memory.answer(asked);
        memory.put(SWEEPING, br#"{"01K":{"number":2,"over":true}}"#);
        memory.objects.remove(&name);
        Some(reply)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_collected_behind_its_renewal_is_not_found() {
    let cloud = Cloud::new(is_collected_behind_its_renewal(blob(b"old"))).await;
    let first = cloud.machine("first");
    let artifact = take(&first, &cloud.file(b"old")).await;
    let record = record(artifact);
    first.put_record(record.clone(), false).await.unwrap();
    cloud.age();
    let found = cloud.machine("second").look_up(&record.key).await.unwrap();
    assert_eq!(found, Lookup::Broken { missing: vec![Digest::of(b"old")] });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_collected_behind_its_renewal_is_stored_again() {
    let cloud = Cloud::new(is_collected_behind_its_renewal(blob(b"old"))).await;
    take(&cloud.machine("first"), &cloud.file(b"old")).await;
    cloud.age();
    take(&cloud.machine("second"), &cloud.file(b"old")).await;
    assert!(cloud.has(&blob(b"old")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_is_being_removed_is_waited_for() {
    let name = blob(b"old");
    let mut looks = None;
    let cloud = Cloud::new(move |asked, memory| {
        if renews(asked, &name) && looks.is_none() {
            looks = Some(2);
            memory.put(SWEEPING, br#"{"01K":{"number":7,"over":false}}"#);
        }
        if asked.line.contains("models/sweeping") && asked.line.starts_with("GET") {
            match &mut looks {
                Some(0) => {
                    memory.objects.remove(&name);
                    memory.put(SWEEPING, br#"{"01K":{"number":8,"over":true}}"#);
                    looks = Some(u32::MAX);
                }
                Some(left) => *left = left.saturating_sub(1),
                None => {}
            }
        }
        None
    })
    .await;
    take(&cloud.machine("first"), &cloud.file(b"old")).await;
    cloud.age();
    let second = cloud.machine("second");
    // Known before, and therefore nothing new.
    drop(second.shared.before_writing().await.unwrap());
    let before = second.shared.before_writing().await.unwrap();
    let missing = second.shared.missing_of(&Digest::of(b"")).await.unwrap();
    assert_eq!(missing.len(), 1, "there is no such artifact");
    assert!(!second.shared.may_be_swept(&before).await.unwrap(), "nothing was written");
    take(&second, &cloud.file(b"old")).await;
    assert!(cloud.has(&blob(b"old")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_that_failed_is_not_repeated_unseen() {
    let name = blob(b"old");
    let mut failures = 1;
    let cloud = Cloud::new(move |asked, memory| {
        if failures == 0 || !removes(asked, &name) {
            return None;
        }
        failures -= 1;
        // Somebody renews it while gc waits for its next try.
        let now = memory.now;
        memory.objects.get_mut(&name).unwrap().modified = now;
        Some(error(503, "SlowDown"))
    })
    .await;
    take(&cloud.machine("first"), &cloud.file(b"old")).await;
    cloud.age();
    let swept = cloud.machine("gc").collect_garbage(DAY, 2 * DAY, false).await.unwrap();
    assert!(cloud.has(&blob(b"old")), "{swept:?}");
    assert!(!cloud.server.lines().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_said_before_ages_are_asked_for_and_after_the_last_removal() {
    let name = blob(b"old");
    let cloud = Cloud::new(|_, _| None).await;
    take(&cloud.machine("first"), &cloud.file(b"old")).await;
    cloud.age();
    let before = cloud.server.asked().len();
    cloud.machine("gc").collect_garbage(DAY, 2 * DAY, false).await.unwrap();
    assert!(!cloud.has(&name));
    let asked: Vec<Asked> = cloud.server.asked().split_off(before);
    let says =
        |asked: &Asked| asked.line.starts_with("PUT") && asked.line.contains("models/sweeping");
    let at = |is: &dyn Fn(&Asked) -> bool| asked.iter().position(is).unwrap();
    let question = at(&|asked| asked.line.starts_with("HEAD") && asked.line.contains(&name));
    let removal = at(&|asked| removes(asked, &name));
    assert!(at(&says) < question && question < removal);
    let last = asked.iter().rposition(says).unwrap();
    assert!(removal < last);
    assert!(String::from_utf8_lossy(&asked[last].body).contains(r#""over":true"#));
}

/// Others may keep what they like in the bucket, also where a store keeps things of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_of_the_store_stays() {
    let cloud = Cloud::new(|_, _| None).await;
    let foreign = ["claim/2026/storm.pdf", "quarantine/mail", "blob/readme"];
    for name in foreign {
        cloud.memory.lock().unwrap().put(name, b"somebody's");
    }
    cloud.age();
    cloud.machine("gc").collect_garbage(DAY, DAY, false).await.unwrap();
    for name in foreign {
        assert!(cloud.has(name), "{name}");
    }
}

/// What a run said and another one replaced is not said again by the first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pin_that_somebody_else_replaced_is_left_alone() {
    let cloud = Cloud::new(|_, _| None).await;
    let run = PinOwner::Run(RunId::new(1, 1));
    let [a, b, c] = [b"a", b"b", b"c"].map(|text| Digest::of(text));
    let (sleeper, next) = (cloud.machine("sleeper"), cloud.machine("next"));
    sleeper.pin(run, &[a]).await.unwrap();
    sleeper.pin(run, &[a, b]).await.unwrap();
    next.pin(run, &[a, b, c]).await.unwrap();
    sleeper.pin(run, &[a]).await.unwrap();
    let pins = cloud.machine("gc").pins().await.unwrap();
    assert_eq!(pins[0].artifacts.len(), 3);
    // Nor does it come back when the run is gone.
    next.unpin(run).await.unwrap();
    sleeper.pin(run, &[a, b]).await.unwrap();
    assert!(cloud.machine("gc").pins().await.unwrap().is_empty());
}
