//! What is reused after more than a day gets a new age before gc could take it. The bucket is a real one; a proxy makes its objects old in
//! what the client hears of them, since nothing else can.

use std::collections::BTreeMap;

use flowrun::store::s3::bucket::Bucket;
use flowrun::store::{Lookup, Traffic};

use crate::faults::{Fault, Plan};
use crate::fixture::{Place, record};
use crate::server::Server;

const QUIET: Plan = Plan { percent: 0, faults: &[Fault::Age], seed: 0 };
const OLD: Plan = Plan { percent: 100, ..QUIET };

/// When each object was written last, on the server's clock.
async fn ages(bucket: &Bucket) -> BTreeMap<String, u64> {
    let mut ages = BTreeMap::new();
    let mut note = |listed: flowrun::store::s3::bucket::Listed| {
        ages.insert(listed.name, listed.modified);
    };
    bucket.list("", &mut note).await.unwrap();
    ages
}

/// Waits until something that is written now has another age than all of these.
async fn await_another_second(bucket: &Bucket, before: &BTreeMap<String, u64>) {
    let newest = before.values().max().unwrap();
    loop {
        let name = "probe-of-the-clock";
        let always = flowrun::store::s3::bucket::Condition::Always;
        bucket.put(name, b"x".to_vec().into(), always).await.unwrap();
        let now = bucket.head(name).await.unwrap().unwrap().modified;
        bucket.remove(&[name.to_owned()]).await.unwrap();
        if now > *newest {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_reused_when_it_is_old_is_renewed() {
    let (place, proxy, bucket) = Place::on_aging(Server::Seaweed, QUIET);
    // A file that lies alone, and small ones in a pack.
    place.write("model/large.bin", &vec![7; 2 << 20]);
    for number in 0..10 {
        place.write(&format!("model/{number}.txt"), format!("{number}").as_bytes());
    }
    let artifact = place.take(&place.path("model")).await;
    let record = record("train", Some(artifact));
    place.store.put_record(record.clone(), false).await.unwrap();
    let made = ages(&bucket).await;
    for shelf in ["blob/", "pack/", "packed/", "tree/", "record/"] {
        assert!(made.keys().any(|name| name.starts_with(shelf)), "{shelf}: {made:?}");
    }
    await_another_second(&bucket, &made).await;
    let found = |lookup| assert!(matches!(lookup, Lookup::Hit(_)));

    // What is young stays as it is.
    found(place.tricks.elsewhere().look_up(&record.key).await.unwrap());
    assert_eq!(ages(&bucket).await, made);

    // What is old and found is renewed, all that belongs to it.
    proxy.change(OLD);
    found(place.tricks.elsewhere().look_up(&record.key).await.unwrap());
    let renewed = ages(&bucket).await;
    assert_eq!(renewed.keys().collect::<Vec<_>>(), made.keys().collect::<Vec<_>>());
    for (name, age) in made.iter().filter(|(name, _)| !name.starts_with("probe")) {
        assert!(renewed[name] > *age, "{name} was not renewed");
    }

    // Storing the same again renews it too, and uploads nothing.
    await_another_second(&bucket, &renewed).await;
    let traffic = Traffic::default();
    let other = place.tricks.elsewhere();
    place.write("again/large.bin", &vec![7; 2 << 20]);
    other.take_in(&place.path("again"), &traffic).await.unwrap().unwrap();
    let again = ages(&bucket).await;
    let large = again.keys().find(|name| name.starts_with("blob/")).unwrap();
    assert!(again[large] > renewed[large], "{large} was not renewed");
    assert!(traffic.moved().sent < 1 << 20, "it was not uploaded again");

    // And it is whole.
    proxy.change(QUIET);
    let fetched = place.fetch(&artifact, "fetched").await;
    assert_eq!(fs_err::read(fetched.join("large.bin")).unwrap(), vec![7; 2 << 20]);
    assert_eq!(fs_err::read(fetched.join("3.txt")).unwrap(), b"3");
}
