//! Claims: one process computes a key at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flowrun::digest::Digest;

use crate::fixture::{Place, claim_when_free};
use crate::on_conditional_stores;

on_conditional_stores!(
    a_claim_excludes_everybody_else_until_it_is_dropped,
    one_of_many_gets_the_claim_at_a_time,
);

pub(crate) async fn a_claim_excludes_everybody_else_until_it_is_dropped(place: &Place) {
    let (key, other_key) = (Digest::of(b"key"), Digest::of(b"other"));
    let other = place.tricks.elsewhere();
    let claim = place.store.claim(&key, "run 1 on host a").await.unwrap().unwrap();
    for store in [&place.store, &place.again(), &other] {
        let holder = store.claim(&key, "somebody").await.unwrap().err();
        assert_eq!(holder.as_deref(), Some("run 1 on host a"));
    }
    assert!(other.claim(&other_key, "somebody").await.unwrap().is_ok());
    drop(claim);
    let claim = claim_when_free(&*other, &key, "run 2").await;
    let holder = place.store.claim(&key, "run 3").await.unwrap().err();
    assert_eq!(holder.as_deref(), Some("run 2"));
    drop(claim);
    drop(claim_when_free(&*place.store, &key, "run 3").await);
}

async fn one_of_many_gets_the_claim_at_a_time(place: &Place) {
    let (key, inside) = (Digest::of(b"key"), Arc::new(AtomicU64::new(0)));
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..8 {
        let store = if number % 2 == 0 { place.again() } else { place.tricks.elsewhere() };
        let inside = Arc::clone(&inside);
        tasks.spawn(async move {
            for _ in 0..5 {
                let claim = claim_when_free(&*store, &key, "me").await;
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                tokio::task::yield_now().await;
                assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1);
                drop(claim);
            }
        });
    }
    tasks.join_all().await;
}
