//! Records: found as they were written, and one per key however many write.

use flowrun::digest::Digest;
use flowrun::store::{Lookup, Record, StoreError};

use crate::fixture::{Place, record};
use crate::on_every_store;

on_every_store!(
    a_record_is_found_as_it_was_written,
    the_first_record_wins_unless_replaced,
    a_record_is_found_by_what_it_made,
);

mod at_once {
    use super::many_writers_of_one_record_agree;

    crate::on_conditional_stores!(many_writers_of_one_record_agree);
}

pub(crate) async fn a_record_is_found_as_it_was_written(place: &Place) {
    let artifact = place.take(&place.write("out", b"bytes")).await;
    let written = record("train", Some(artifact));
    assert_eq!(place.store.look_up(&written.key).await.unwrap(), Lookup::Miss);
    assert_eq!(place.store.put_record(written.clone(), false).await.unwrap(), written);
    for store in [&place.store, &place.again(), &place.tricks.elsewhere()] {
        let Lookup::Hit(found) = store.look_up(&written.key).await.unwrap() else {
            panic!("no hit")
        };
        assert_eq!(*found, written);
    }
    let mut wrong = record("train", None);
    wrong.key = Digest::of(b"another");
    assert!(matches!(place.store.put_record(wrong, false).await, Err(StoreError::Io(_))));
}

pub(crate) async fn the_first_record_wins_unless_replaced(place: &Place) {
    let first = record("train", Some(place.take(&place.write("1", b"one")).await));
    let second = record("train", Some(place.take(&place.write("2", b"two")).await));
    assert_eq!(first.key, second.key);
    place.store.put_record(first.clone(), false).await.unwrap();
    let other = place.tricks.elsewhere();
    assert_eq!(other.put_record(second.clone(), false).await.unwrap(), first);
    assert_eq!(other.put_record(second.clone(), true).await.unwrap(), second);
    let found = place.store.look_up(&first.key).await.unwrap();
    assert_eq!(found, Lookup::Hit(Box::new(second)));
}

pub(crate) async fn many_writers_of_one_record_agree(place: &Place) {
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..8 {
        let artifact = place.take(&place.write(&number.to_string(), &[number])).await;
        let store = if number % 2 == 0 { place.again() } else { place.tricks.elsewhere() };
        writers.spawn(async move { store.put_record(record("x", Some(artifact)), false).await });
    }
    let held: Vec<Record> =
        writers.join_all().await.into_iter().map(|record| record.unwrap()).collect();
    assert!(held.iter().all(|record| record == &held[0]));
    let found = place.store.look_up(&held[0].key).await.unwrap();
    assert_eq!(found, Lookup::Hit(Box::new(held[0].clone())));
}

pub(crate) async fn a_record_is_found_by_what_it_made(place: &Place) {
    place.write("out/x", b"bytes");
    let artifact = place.take(&place.path("out")).await;
    let old = record("old", Some(artifact));
    let mut new = record("new", None);
    new.made_at += 1;
    for record in [&old, &new] {
        place.store.put_record(record.clone(), false).await.unwrap();
    }
    for store in [place.again(), place.tricks.elsewhere()] {
        let summary = store.summary().await.unwrap();
        assert_eq!((summary.records, summary.artifacts), (2, 1));
        let lines = store.records().await.unwrap();
        assert_eq!(lines.iter().map(|line| &line.record).collect::<Vec<_>>(), [&new, &old]);
        assert_eq!(lines[1].bytes["model"], Some(5));
        for digits in [artifact.short(), artifact.to_string(), String::new()] {
            assert_eq!(store.find_artifacts(&digits, 9).await.unwrap(), [artifact]);
        }
    }
}
