//! What became of stored bytes behind the store's back is found, named and never used.

use std::sync::atomic::{AtomicU64, Ordering};

use flowrun::digest::Digest;
use flowrun::store::{Lookup, StoreError, Traffic};

use crate::fixture::{Place, record};
use crate::on_every_store;

on_every_store!(
    damaged_bytes_are_found_named_and_never_used,
    damage_in_a_large_file_is_found,
    lost_bytes_are_found_and_named,
    check_reads_everything_and_names_what_is_wrong,
);

/// Bytes of this test alone.
const BYTES: &[u8] = b"bytes that stand nowhere else";

pub(crate) async fn damaged_bytes_are_found_named_and_never_used(place: &Place) {
    damage_is_found(place, BYTES).await;
}

/// Large enough to be an object of its own on every store.
async fn damage_in_a_large_file_is_found(place: &Place) {
    damage_is_found(place, &BYTES.repeat(100_000)).await;
}

async fn damage_is_found(place: &Place, bytes: &[u8]) {
    let artifact = place.take(&place.write("out", bytes)).await;
    let blob = Digest::of(bytes);
    let written = record("train", Some(artifact));
    place.store.put_record(written.clone(), false).await.unwrap();
    place.tricks.damage(bytes).await;

    let other = place.tricks.elsewhere();
    let target = place.path("back");
    let error = other.place(&artifact, &target, false, &Traffic::default()).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged { digest, .. } if digest == blob), "{error}");
    assert!(!target.exists());
    let given = place.path("given");
    other.export(&artifact, &given, &Traffic::default()).await.unwrap_err();
    assert!(!given.exists());
    // Once found it is known to everybody, and the work is done again.
    let found = place.tricks.elsewhere().look_up(&written.key).await.unwrap();
    assert_eq!(found, Lookup::Broken { missing: vec![blob] });
    // A broken record does not win against a whole one.
    let mut second = record("train", Some(place.take(&place.write("new", b"other")).await));
    second.made_at += 1;
    assert_eq!(other.put_record(second.clone(), false).await.unwrap(), second);
    // The same bytes again make the first artifact whole.
    fs_err::remove_file(place.path("out")).unwrap();
    fs_err::write(place.path("out"), bytes).unwrap();
    let again = other.take_in(&place.path("out"), &Traffic::default()).await.unwrap().unwrap();
    assert_eq!(again, artifact);
    for back in
        [place.place(&artifact, "back", false).await, place.fetch(&artifact, "fetched").await]
    {
        assert_eq!(fs_err::read(back).unwrap(), bytes);
    }
}

pub(crate) async fn lost_bytes_are_found_and_named(place: &Place) {
    let artifact = place.take(&place.write("out", BYTES)).await;
    let written = record("train", Some(artifact));
    place.store.put_record(written.clone(), false).await.unwrap();
    place.tricks.lose(BYTES).await;
    let other = place.tricks.elsewhere();
    let found = other.look_up(&written.key).await.unwrap();
    assert_eq!(found, Lookup::Broken { missing: vec![Digest::of(BYTES)] });
    let target = place.path("back");
    let error = other.place(&artifact, &target, false, &Traffic::default()).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged { digest, .. } if digest == Digest::of(BYTES)));
    assert!(!target.exists());
    let unknown = Digest::of(b"never stored");
    let error = place.store.entries(&unknown).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged { digest, .. } if digest == unknown));
}

async fn check_reads_everything_and_names_what_is_wrong(place: &Place) {
    place.write("out/good", b"good");
    place.write("out/bad", BYTES);
    let artifact = place.take(&place.path("out")).await;
    let written = record("train", Some(artifact));
    place.store.put_record(written.clone(), false).await.unwrap();
    let bytes = AtomicU64::new(0);
    let progress = |more: u64| {
        bytes.fetch_add(more, Ordering::SeqCst);
    };
    let report = place.store.check(&progress).await.unwrap();
    assert_eq!(report.broken, Vec::<String>::new());
    assert!(report.objects > 1, "{report:?}");
    assert!(bytes.load(Ordering::SeqCst) >= 4 + BYTES.len() as u64);

    let bad = Digest::of(BYTES);
    place.tricks.damage(BYTES).await;
    let report = place.tricks.elsewhere().check(&|_| {}).await.unwrap();
    assert!(report.broken.iter().any(|line| line.contains(&bad.hex())), "{report:?}");
    assert!(report.broken.iter().any(|line| line.contains(&artifact.to_string())), "{report:?}");
    assert!(report.broken.iter().any(|line| line.contains("runs again")), "{report:?}");
    // Perhaps with what lay in one pack with it.
    let found = place.tricks.elsewhere().look_up(&written.key).await.unwrap();
    assert!(matches!(&found, Lookup::Broken { missing } if missing.contains(&bad)), "{found:?}");
}
