//! What is needed stays, and the rest goes when it is old enough.

use std::time::Duration;

use flowrun::digest::Digest;
use flowrun::names::{ReleaseId, RunId};
use flowrun::store::{Lookup, PinOwner, Store, StoreError};

use crate::fixture::{Place, record, run};
use crate::on_every_store;

on_every_store!(
    garbage_goes_and_what_is_needed_stays,
    a_pin_grows_and_shrinks,
    a_release_keeps_what_its_run_made,
    garbage_collection_leaves_writers_alone,
);

async fn is_there(store: &dyn Store, artifact: &Digest) -> bool {
    match store.entries(artifact).await {
        Ok(_) => true,
        Err(StoreError::Damaged { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

pub(crate) async fn garbage_goes_and_what_is_needed_stays(place: &Place) {
    let store = &place.store;
    let pinned = place.take(&place.write("pinned", b"pinned")).await;
    let recorded = place.take(&place.write("recorded", b"recorded")).await;
    let garbage = place.take(&place.write("garbage", b"garbage")).await;
    store.pin(PinOwner::Run(run(1)), &[pinned, garbage]).await.unwrap();
    store.pin(PinOwner::Run(run(1)), &[pinned]).await.unwrap();
    let written = record("kept", Some(recorded));
    store.put_record(written.clone(), false).await.unwrap();
    let day = Duration::from_hours(24);

    let all_young = store.collect_garbage(day, 2 * day, false).await.unwrap();
    assert_eq!(all_young.removed, 0);
    assert!(all_young.kept > 0);
    let other = place.tricks.elsewhere();
    let dry = other.collect_garbage(day, Duration::ZERO, true).await.unwrap();
    assert!(dry.removed > 0 && dry.bytes > 0, "{dry:?}");
    assert!(is_there(&*place.tricks.elsewhere(), &garbage).await);
    let swept = other.collect_garbage(day, Duration::ZERO, false).await.unwrap();
    assert_eq!(swept, dry);
    assert!(!is_there(&*place.tricks.elsewhere(), &garbage).await);
    let found = place.tricks.elsewhere().look_up(&written.key).await.unwrap();
    assert_eq!(found, Lookup::Hit(Box::new(written.clone())));
    place.fetch(&pinned, "pinned-again").await;

    // A record nobody keeps any more goes with its artifact.
    other.collect_garbage(Duration::ZERO, Duration::ZERO, false).await.unwrap();
    let found = place.tricks.elsewhere().look_up(&written.key).await.unwrap();
    assert_eq!(found, Lookup::Miss);
    assert!(!is_there(&*place.tricks.elsewhere(), &recorded).await);
    place.fetch(&pinned, "pinned-still").await;
    store.unpin(PinOwner::Run(run(1))).await.unwrap();
    store.unpin(PinOwner::Run(run(1))).await.unwrap();
    let swept = other.collect_garbage(Duration::ZERO, Duration::ZERO, false).await.unwrap();
    assert!(swept.removed > 0);
    assert_eq!(swept.kept, 0);
    assert!(!is_there(&*place.tricks.elsewhere(), &pinned).await);
}

async fn a_pin_grows_and_shrinks(place: &Place) {
    let mut artifacts = Vec::new();
    for number in 0..4u8 {
        artifacts.push(place.take(&place.write(&number.to_string(), &[number])).await);
        place.store.pin(PinOwner::Run(run(1)), &artifacts).await.unwrap();
    }
    let other = place.tricks.elsewhere();
    other.collect_garbage(Duration::ZERO, Duration::ZERO, false).await.unwrap();
    for artifact in &artifacts {
        assert!(other.entries(artifact).await.is_ok());
    }
    place.store.pin(PinOwner::Run(run(1)), &artifacts[..1]).await.unwrap();
    other.collect_garbage(Duration::ZERO, Duration::ZERO, false).await.unwrap();
    let other = place.tricks.elsewhere();
    assert!(other.entries(&artifacts[0]).await.is_ok());
    assert!(other.entries(&artifacts[3]).await.is_err());
}

pub(crate) async fn a_release_keeps_what_its_run_made(place: &Place) {
    let store = &place.store;
    let model = place.take(&place.write("model", b"model")).await;
    let other = place.take(&place.write("other", b"other")).await;
    // One time and chance for both: a run and a release of the same id are two pins.
    let release = PinOwner::Release(ReleaseId::new(1, 1));
    let run = PinOwner::Run(RunId::new(1, 1));
    store.pin(run, &[model, other]).await.unwrap();
    store.pin(release, &[other]).await.unwrap();
    store.pin(release, &[model]).await.unwrap();
    store.unpin(run).await.unwrap();
    let again = place.tricks.elsewhere();
    again.collect_garbage(Duration::ZERO, Duration::ZERO, false).await.unwrap();
    assert!(again.entries(&model).await.is_ok());
    assert!(again.entries(&other).await.is_err(), "the newer pin is the pin");
    again.unpin(release).await.unwrap();
    again.unpin(release).await.unwrap();
    again.collect_garbage(Duration::ZERO, Duration::ZERO, false).await.unwrap();
    assert!(place.tricks.elsewhere().entries(&model).await.is_err());
}

/// What is young stays although nobody has said yet that it is needed: whoever takes in says so only afterwards.
async fn garbage_collection_leaves_writers_alone(place: &Place) {
    let day = Duration::from_hours(24);
    let sweeper = place.tricks.elsewhere();
    let sweeping = tokio::spawn(async move {
        for _ in 0..5 {
            sweeper.collect_garbage(Duration::ZERO, day, false).await.unwrap();
        }
    });
    let mut written = Vec::new();
    let mut number = 0;
    while !sweeping.is_finished() || number == 0 {
        let name = number.to_string();
        place.write(&format!("{name}/file"), name.as_bytes());
        let artifact = place.take(&place.path(&name)).await;
        let kept = record(&name, Some(artifact));
        assert_eq!(place.store.put_record(kept.clone(), false).await.unwrap(), kept);
        written.push(kept);
        number += 1;
    }
    sweeping.await.unwrap();
    let other = place.tricks.elsewhere();
    for kept in written {
        match other.look_up(&kept.key).await.unwrap() {
            Lookup::Hit(found) => assert_eq!(*found, kept),
            Lookup::Miss => panic!("a young record is gone"),
            Lookup::Broken { missing } => panic!("{missing:?} went away under a writer"),
        }
    }
}
