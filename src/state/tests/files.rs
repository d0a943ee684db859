//! What only files have: openers at once, a private home, how much waits for the disk.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::services::live;
use super::*;
use crate::state::database::Writer;

#[tokio::test]
async fn two_openers_make_one_private_state() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let opened = futures_util::future::join_all((0..8).map(|_| State::open(&home))).await;
    let mut ids: Vec<String> =
        opened.iter().map(|state| state.as_ref().unwrap().installation().to_owned()).collect();
    ids.dedup();
    assert_eq!(ids.len(), 1);
    assert!(ids[0].parse::<RunId>().is_ok());
    let mode = |path: &Path| fs_err::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&home.join("state.db")), 0o600);
    assert_eq!(mode(&home), 0o700);
}

/// What it made outside of itself bears the id, whichever state it has.
#[tokio::test]
async fn a_home_that_had_a_state_elsewhere_keeps_its_id() {
    let home = tempfile::tempdir().unwrap();
    let id = RunId::new(7, 7).to_string();
    fs_err::write(home.path().join("installation"), format!("{id}\n")).unwrap();
    assert_eq!(State::open(home.path()).await.unwrap().installation(), id);
    fs_err::remove_file(home.path().join("installation")).unwrap();
    assert_eq!(State::open(home.path()).await.unwrap().installation(), id);
}

#[tokio::test]
async fn a_newer_state_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let state = State::open(home.path()).await.unwrap();
    say(&state, "PRAGMA user_version = 99").await;
    let error = State::open(home.path()).await.unwrap_err().to_string();
    assert!(error.contains("newer flowrun"), "{error}");
}

/// How much of a transaction waits for the disk.
async fn level(writer: &mut Writer<'_>) -> i64 {
    statement("PRAGMA synchronous").fetch_one(writer).await.unwrap().try_get(0).unwrap()
}

#[tokio::test]
async fn releases_are_durable_and_events_quick() {
    let world = World::on_files();
    let state = world.open().await;
    let (normal, full) = (1, 2);
    let database = &state.inner.database;
    let mut writer = database.durable().await.unwrap();
    assert_eq!(level(&mut writer).await, full);
    let refused: Result<(), _> = Err(sqlx::Error::RowNotFound);
    assert!(writer.usual(refused).await.is_err());
    assert_eq!(level(&mut database.writer().await.unwrap()).await, normal);
    live(&state, 1, 1).await;
    assert_eq!(level(&mut database.writer().await.unwrap()).await, normal);
}
