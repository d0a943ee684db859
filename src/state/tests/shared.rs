//! What only a shared state has: a schema of its own, migrations of two processes at once, homes that share it.

use super::services::{go_live, made, serve};
use super::*;

in_postgres! {
    openers_at_once_migrate_once,
    a_newer_schema_is_refused,
    a_schema_that_is_not_there_is_said,
    a_home_keeps_its_id,
    texts_are_ordered_by_their_bytes,
    a_service_belongs_to_one_home,
}

async fn openers_at_once_migrate_once(world: &World) {
    let opened = (0..6).map(|_| {
        let world = world.elsewhere();
        tokio::spawn(async move { world.open().await })
    });
    for state in futures_util::future::join_all(opened).await {
        let rows = state.unwrap().services(None).await.unwrap();
        assert_eq!(rows, []);
    }
    let state = world.open().await;
    let rows = statement("SELECT COUNT(*) FROM installation");
    let counts = state.values(rows, |row| row.try_get::<i64, _>(0)).await.unwrap();
    assert_eq!(counts, [1]);
    assert_eq!(say(&state, "UPDATE home SET seen_at = 1").await, 7);
}

async fn a_newer_schema_is_refused(world: &World) {
    let state = world.open().await;
    say(&state, "UPDATE flowrun_version SET version = 99").await;
    let error = State::open_at(world.home.path(), &world.place).await.unwrap_err().to_string();
    assert!(error.contains("newer flowrun (version 99"), "{error}");
    say(&state, format!("UPDATE flowrun_version SET version = {}", open::MIGRATIONS.len())).await;
}

async fn a_schema_that_is_not_there_is_said(world: &World) {
    world.open().await;
    let StatePlace::Postgres(place) = &world.place else { panic!("it is in Postgres") };
    let (url, _) = place.url().reveal().rsplit_once("schema=").unwrap();
    let other = format!("{url}options=-csearch_path%3Dnobody_made_it").parse().unwrap();
    let error = State::open_at(world.home.path(), &other).await.unwrap_err().to_string();
    assert!(error.contains("the schema that its `search_path` names is not there"), "{error}");
}

async fn a_home_keeps_its_id(world: &World) {
    let id = world.open().await.installation().to_owned();
    assert_eq!(world.open().await.installation(), id);
    assert_ne!(world.elsewhere().open().await.installation(), id);
    // A home that had its state for itself before keeps what it wrote on its containers.
    let moved = world.elsewhere();
    let alone = State::open(moved.home.path()).await.unwrap();
    assert_eq!(moved.open().await.installation(), alone.installation());
    fs_err::write(moved.home.path().join("installation"), "nonsense").unwrap();
    let error = State::open_at(moved.home.path(), &moved.place).await.unwrap_err().to_string();
    assert!(error.contains("holds no id"), "{error}");
}

async fn texts_are_ordered_by_their_bytes(world: &World) {
    let state = world.open().await;
    for (number, name) in (1..).zip(["b", "a_b", "ab", "a0"]) {
        let service = crate::release::testing::service(&format!("iris/{name}"));
        let release = state
            .create_release(
                ReleaseId::new(number, 1),
                &service,
                crate::release::testing::behaviour(),
                crate::release::testing::notes(),
                number,
            )
            .await
            .unwrap();
        state.set_candidate(&release, None, number).await.unwrap();
    }
    let rows = state.services(None).await.unwrap();
    let names: Vec<String> = rows.iter().map(|row| row.service.stage.to_string()).collect();
    assert_eq!(names, ["a0", "a_b", "ab", "b"]);
    // Whatever the language of the database is.
    let rows = statement(
        "SELECT DISTINCT CAST(collation_name AS TEXT) FROM information_schema.columns \
         WHERE table_schema = current_schema() AND data_type = 'text'",
    );
    let collations = state.values(rows, |row| row.try_get::<Option<String>, _>(0)).await.unwrap();
    assert_eq!(collations, [Some("C".to_owned())]);
}

async fn a_service_belongs_to_one_home(world: &World) {
    let (here, there) = (world.open().await, world.elsewhere());
    let there_state = there.open().await;
    let first = made(&here, 1).await;
    go_live(&here, &first, 2).await;
    assert_eq!(here.services_here(None).await.unwrap().len(), 1);
    assert_eq!(there_state.services_here(None).await.unwrap(), []);
    let row = there_state.services(None).await.unwrap().pop().unwrap();
    let ServiceHome::Other { id, folder, .. } = &row.home else { panic!("{:?}", row.home) };
    assert_eq!(id, here.installation());
    let home = fs_err::canonicalize(world.home.path()).unwrap();
    assert_eq!(*folder, home.display().to_string());

    let second = made(&there_state, 2).await;
    let refused = there_state.set_candidate(&second, None, 3).await;
    let Err(StateError::ServedElsewhere { service, home }) = refused else { panic!("{refused:?}") };
    assert_eq!((service, home), (serve(), row.home.to_string()));
    here.remove_service(&serve(), 4).await.unwrap();
    there_state.set_candidate(&second, None, 5).await.unwrap();
    assert_eq!(there_state.services_here(None).await.unwrap().len(), 1);
}
