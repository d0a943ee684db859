//! What every store promises, through a network that fails: the same texts, and the store never knows less than it did.

use flowrun::store::{Lookup, Store, StoreError, Traffic};

use crate::faults::{EVERY_FAULT, Fault, Plan};
use crate::fixture::{Place, record};
use crate::objects::HONEST_FAULTS;
use crate::ports::free_port;
use crate::s3::{Access, open};
use crate::server::Server;
use crate::{artifacts, claims, damage, garbage, names, on_both_servers, records, sizes};

on_both_servers!(
    artifacts_survive_faults,
    records_survive_faults,
    garbage_collection_survives_faults,
    half_answers_are_never_taken_for_whole,
);

fn faulty(server: Server, seed: u64) -> (Place, crate::faults::Proxy) {
    Place::on_faulty(server, Plan { percent: 20, faults: HONEST_FAULTS, seed })
}

/// Runs a text of the suite in a place of its own, and sees to it that something befell it.
macro_rules! through {
    ($server:expr, $seed:expr, $($text:path),* $(,)?) => {{
        let mut befell = 0;
        $({
            let (place, proxy) = faulty($server, $seed);
            $text(&place).await;
            befell += proxy.told().1.values().sum::<u64>();
        })*
        assert!(befell > 0, "no request failed");
    }};
}

async fn artifacts_survive_faults(server: Server) {
    through!(
        server,
        1,
        artifacts::an_empty_file_and_an_empty_folder,
        artifacts::a_folder_comes_back_as_it_was,
        artifacts::taking_in_can_be_repeated,
        artifacts::an_artifact_is_given_out_whole_or_not_at_all,
        names::odd_names_come_back_as_they_were,
        sizes::large_files_beside_small_ones,
    );
}

async fn records_survive_faults(server: Server) {
    through!(
        server,
        2,
        records::a_record_is_found_as_it_was_written,
        records::the_first_record_wins_unless_replaced,
        records::a_record_is_found_by_what_it_made,
        damage::damaged_bytes_are_found_named_and_never_used,
        damage::lost_bytes_are_found_and_named,
    );
    if server == Server::Seaweed {
        through!(
            server,
            3,
            records::many_writers_of_one_record_agree,
            claims::a_claim_excludes_everybody_else_until_it_is_dropped,
        );
    }
}

async fn garbage_collection_survives_faults(server: Server) {
    through!(
        server,
        4,
        garbage::garbage_goes_and_what_is_needed_stays,
        garbage::a_release_keeps_what_its_run_made,
    );
}

async fn half_answers_are_never_taken_for_whole(server: Server) {
    let faults = Plan { percent: 30, faults: EVERY_FAULT, seed: 5 };
    let (place, proxy) = Place::on_faulty(server, Plan { percent: 0, ..faults });
    for number in 0..200 {
        place.write(&format!("out/{number}"), number.to_string().repeat(number * 40).as_bytes());
    }
    let artifact = place.take(&place.path("out")).await;
    let written = record("train", Some(artifact));
    place.store.put_record(written.clone(), false).await.unwrap();
    proxy.change(faults);
    let mut whole = 0;
    for round in 0..8 {
        let other = place.tricks.elsewhere();
        match other.look_up(&written.key).await {
            Ok(Lookup::Hit(found)) => assert_eq!(*found, written),
            // Half of a record is none, and half of a manifest is damage; both cost work and no more.
            Ok(Lookup::Miss | Lookup::Broken { .. }) => {}
            Err(error) => assert!(matches!(error, StoreError::Unreachable { .. }), "{error}"),
        }
        let target = place.path(&format!("back-{round}"));
        if other.place(&artifact, &target, false, &Traffic::default()).await.is_ok() {
            for number in 0..200 {
                let bytes = fs_err::read(target.join(number.to_string())).unwrap();
                assert_eq!(bytes, number.to_string().repeat(number * 40).as_bytes());
            }
            whole += 1;
        }
    }
    assert!(whole > 0, "not one round came through");
    assert!(proxy.told().1.contains_key(&Fault::Shorten), "{:?}", proxy.told());
    // What half answers were taken for is mended by storing it again.
    proxy.change(Plan { percent: 0, ..faults });
    let again = place.path("again");
    place.place(&artifact, "again", true).await;
    let other = place.tricks.elsewhere();
    assert_eq!(other.take_in(&again, &Traffic::default()).await.unwrap().unwrap(), artifact);
    other.put_record(written.clone(), true).await.unwrap();
    let found = place.tricks.elsewhere().look_up(&written.key).await.unwrap();
    assert_eq!(found, Lookup::Hit(Box::new(written)));
    place.fetch(&artifact, "whole").await;
}

#[tokio::test]
async fn a_store_where_nobody_answers_says_so() {
    let port = free_port();
    let folder = tempfile::tempdir().unwrap();
    let url = format!("s3://flowrun/part?endpoint=http://127.0.0.1:{port}&region=us-east-1");
    let store = open(&url, folder.path(), Access::ReadWrite);
    let error = store.look_up(&record("x", None).key).await.unwrap_err();
    let StoreError::Unreachable { place, why, help, passes } = error else { panic!("{error}") };
    assert_eq!(place, "s3://flowrun/part");
    assert!(passes && !why.is_empty() && !help.is_empty(), "{why}: {help}");
}
