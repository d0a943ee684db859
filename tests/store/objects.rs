//! Objects of a bucket through a network that fails: whole or not there, whatever befalls the requests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bytes::Bytes;
use flowrun::digest::Digest;
use flowrun::store::s3::bucket::{Bucket, Condition, Put};

use crate::faults::{EVERY_FAULT, Fault, Plan, Proxy};
use crate::on_both_servers;
use crate::server::{Server, below};

on_both_servers!(
    small_objects_come_through,
    large_objects_come_through,
    half_answers_are_not_taken_for_whole,
);

/// All but answers that look whole: of bytes without a digest nobody can tell.
pub(crate) const HONEST_FAULTS: &[Fault] = &[
    Fault::Drop,
    Fault::Forget,
    Fault::CutRequest,
    Fault::CutAnswer,
    Fault::Delay,
    Fault::InternalError,
    Fault::SlowDown,
];

/// A bucket behind a proxy, and the same without.
struct Faulty {
    folder: tempfile::TempDir,
    bucket: Bucket,
    direct: Bucket,
    proxy: Proxy,
}

impl Faulty {
    fn new(server: Server, plan: Plan) -> Self {
        let folder = tempfile::Builder::new().prefix("objects-").tempdir().unwrap();
        let prefix = folder.path().file_name().unwrap().to_str().unwrap();
        let direct = below(&server.url(), prefix);
        let (proxy, url) = Proxy::in_front_of(&direct, plan);
        let bucket = Bucket::new(url.parse().unwrap());
        Self { folder, bucket, direct: Bucket::new(direct.parse().unwrap()), proxy }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// There were faults, and of several kinds.
    fn assert_faults(&self) {
        let (requests, faults) = self.proxy.told();
        let count: u64 = faults.values().sum();
        assert!(count * 20 > requests, "{count} faults in {requests} requests: {faults:?}");
        assert!(faults.len() >= 4, "{faults:?}");
    }
}

fn plan(seed: u64) -> Plan {
    Plan { percent: 25, faults: HONEST_FAULTS, seed }
}

fn bytes(number: usize) -> Bytes {
    format!("object {number} ").repeat(number * 7 + 1).into()
}

async fn small_objects_come_through(server: Server) {
    let faulty = Faulty::new(server, plan(1));
    let bucket = &faulty.bucket;
    let names: Vec<String> = (0..30).map(|number| format!("a/{number:02}")).collect();
    for (number, name) in names.iter().enumerate() {
        let put = bucket.put(name, bytes(number), Condition::Always).await.unwrap();
        assert!(matches!(put, Put::Done { .. }));
    }
    for (number, name) in names.iter().enumerate() {
        assert_eq!(bucket.get(name).await.unwrap().unwrap().bytes, bytes(number));
        let size = bytes(number).len() as u64;
        assert_eq!(bucket.head(name).await.unwrap().unwrap().size, size);
        let middle = bucket.get_range(name, size / 3..size).await.unwrap().unwrap();
        assert_eq!(middle, bytes(number).slice(usize::try_from(size / 3).unwrap()..));
    }
    let mut listed = Vec::new();
    bucket.list("a/", &mut |line| listed.push(line.name)).await.unwrap();
    assert_eq!(listed, names);
    assert!(bucket.touch(&names[0]).await.unwrap());
    bucket.remove(&names[..10]).await.unwrap();
    let mut left = Vec::new();
    faulty.direct.list("a/", &mut |line| left.push(line.name)).await.unwrap();
    assert_eq!(left, names[10..]);
    assert_eq!(bucket.get(&names[0]).await.unwrap(), None);
    faulty.assert_faults();
}

/// On a server that honours conditions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_conditional_writers_wins() {
    let faulty = Faulty::new(Server::Seaweed, plan(2));
    assert!(faulty.bucket.is_conditional().await.unwrap());
    let mut winners = BTreeMap::new();
    for round in 0..12 {
        let name = format!("claim/{round}");
        let mut writers = tokio::task::JoinSet::new();
        for number in 0..4 {
            let (bucket, name) = (faulty.bucket.clone(), name.clone());
            writers.spawn(async move {
                let put = bucket.put(&name, bytes(number), Condition::Absent).await.unwrap();
                matches!(put, Put::Done { .. }).then_some(number)
            });
        }
        // An answer that was lost must not make the winner believe that somebody else won.
        let won: BTreeSet<usize> = writers.join_all().await.into_iter().flatten().collect();
        assert_eq!(won.len(), 1, "round {round}: {won:?}");
        winners.insert(name, *won.first().unwrap());
    }
    for (name, number) in winners {
        let object = faulty.direct.get(&name).await.unwrap().unwrap();
        assert_eq!(object.bytes, bytes(number));
        let next = Condition::Matches(&object.meta.etag);
        assert!(matches!(
            faulty.bucket.put(&name, bytes(9), next).await.unwrap(),
            Put::Done { .. }
        ));
        assert_eq!(faulty.bucket.put(&name, bytes(8), next).await.unwrap(), Put::Lost);
    }
    faulty.assert_faults();
}

async fn large_objects_come_through(server: Server) {
    // Of every size around the bounds between one request, several parts and a part more.
    let faulty = Faulty::new(server, plan(3));
    for size in [0, 1, 16 << 20, (16 << 20) + 1, 43 << 20] {
        let source = faulty.path(&format!("source-{size}"));
        fs_err::write(&source, noise(size)).unwrap();
        let name = format!("blob/{size}");
        let size = size as u64;
        faulty.bucket.upload(&name, &source, size, &|_| {}).await.unwrap();
        for (bucket, what) in [(&faulty.direct, "direct"), (&faulty.bucket, "faulty")] {
            let target = faulty.path(&format!("{what}-{size}"));
            assert!(bucket.download(&name, size, &target, &|_| {}).await.unwrap());
            assert_eq!(digest(&target), digest(&source), "{what} {size}");
        }
    }
    faulty.assert_faults();
}

/// With answers that are half and look whole: an error, or the right bytes.
async fn half_answers_are_not_taken_for_whole(server: Server) {
    let faulty = Faulty::new(server, Plan { percent: 30, faults: EVERY_FAULT, seed: 4 });
    let size = 40 << 20;
    let source = faulty.path("source");
    fs_err::write(&source, noise(size)).unwrap();
    let size = size as u64;
    faulty.direct.upload("blob", &source, size, &|_| {}).await.unwrap();
    let mut whole = 0;
    for round in 0..6 {
        let target = faulty.path(&format!("target-{round}"));
        if let Ok(found) = faulty.bucket.download("blob", size, &target, &|_| {}).await {
            assert!(found);
            assert_eq!(digest(&target), digest(&source));
            whole += 1;
        } else {
            assert!(!target.exists(), "a download that failed leaves no file");
        }
        for at in 0..20 {
            let range = at * 1000..at * 1000 + 999;
            if let Ok(part) = faulty.bucket.get_range("blob", range).await {
                assert_eq!(part.unwrap().len(), 999);
            }
        }
    }
    assert!(whole > 0, "no download came through");
    let (_, told) = faulty.proxy.told();
    assert!(told.contains_key(&Fault::Shorten), "{told:?}");
}

fn digest(path: &Path) -> Digest {
    Digest::of(&fs_err::read(path).unwrap())
}

fn noise(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new_derive_key("noise").finalize_xof().fill(&mut bytes);
    bytes
}
