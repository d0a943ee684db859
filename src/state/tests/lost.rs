//! Connections that are lost: killed in the middle of anything, and with the answer to a commit.

use std::time::Duration;

use super::*;

in_postgres! {
    killed_connections_lose_and_double_nothing,
    an_answer_that_was_lost_is_asked_for,
    an_answer_that_cannot_be_had_is_not_guessed,
    a_transaction_that_is_left_is_rolled_back,
}

/// Ends every other connection of the test's schema.
async fn kill_others(state: &State, home: &str) {
    let sql = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE pid <> pg_backend_pid() AND application_name = '{home}'"
    );
    say(state, sql).await;
}

/// A state whose connections can be told from those of other tests.
async fn named(world: &World, name: &str) -> State {
    let StatePlace::Postgres(place) = &world.place else { panic!("it is in Postgres") };
    let place = format!("{}&application_name={name}", place.url().reveal()).parse().unwrap();
    State::open_at(world.home.path(), &place).await.unwrap()
}

async fn killed_connections_lose_and_double_nothing(world: &World) {
    let run = id(1);
    let tasks: Vec<_> = (1..=4).map(|copy| task("train", copy)).collect();
    let killer = state_with_run(world, run, &tasks).await;
    free(&killer).await;
    let name = format!("victim_{}", world.schema);
    let victim = named(world, &name).await;
    let appending = tokio::spawn({
        let tasks = tasks.clone();
        async move {
            for attempt in 1..=40 {
                for task in &tasks {
                    let events = [started(task, attempt, None, run), ended(task, attempt, 1)];
                    victim
                        .append(run, FIRST_EPOCH, u64::from(attempt), &events, &[])
                        .await
                        .unwrap();
                    assert_eq!(victim.wished(run).await.unwrap(), None);
                }
            }
        }
    });
    let (mut kills, mut seen) = (0, 0);
    while !appending.is_finished() {
        // Whoever is killed without end gets nowhere.
        let now = killer.events(run, 0).await.unwrap().len();
        if now > seen {
            seen = now;
            kill_others(&killer, &name).await;
            kills += 1;
        }
    }
    appending.await.unwrap();
    assert!(kills > 3, "it was over before anything was killed");
    let events = killer.events(run, 0).await.unwrap();
    let seqs: Vec<_> = events.iter().map(|event| event.seq).collect();
    assert_eq!(seqs, (1..=321).collect::<Vec<_>>());
    // In the order in which they were written, each once.
    let written: Vec<_> = events[1..].iter().map(|recorded| recorded.event.clone()).collect();
    let wanted: Vec<_> = (1..=40)
        .flat_map(|attempt| tasks.iter().map(move |task| (task, attempt)))
        .flat_map(|(task, attempt)| [started(task, attempt, None, run), ended(task, attempt, 1)])
        .collect();
    assert_eq!(written, wanted);
}

async fn an_answer_that_was_lost_is_asked_for(world: &World) {
    let state = world.open().await;
    let connections = state.inner.database.shared().unwrap();
    let lost = || sqlx::Error::Io(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
    let number = async |commit: bool| -> i64 {
        let mut held = connections.take().await.unwrap();
        held.begin().await.unwrap();
        let row = statement("SELECT txid_current()").fetch_one(&mut held).await.unwrap();
        if commit {
            held.commit().await.unwrap();
        }
        row.try_get(0).unwrap()
    };
    let (committed, dropped) = (number(true).await, number(false).await);
    // Everything that a process may have is in somebody's hands, as when the server goes while all of them commit.
    let mut all = Vec::new();
    while let Ok(held) = tokio::time::timeout(Duration::from_secs(5), connections.take()).await {
        all.push(held.unwrap());
    }
    assert!(all.len() > 2);
    // A heartbeat comes through all the same.
    drop(connections.take_urgent().await.unwrap());
    let held = all.first_mut().unwrap();
    assert!(postgres::outcome(held, committed, lost()).await.is_ok());
    let ended = postgres::outcome(held, dropped, lost()).await;
    assert!(matches!(ended, Err(sqlx::Error::Io(_))), "it is tried again: {ended:?}");
    // Of a server that never had it.
    let ended = postgres::outcome(held, committed + 1_000_000, lost()).await;
    assert!(matches!(ended, Err(sqlx::Error::Io(_))), "{ended:?}");
}

/// What the server says of anything else tells nothing of the transaction: to write it once more could double it.
async fn an_answer_that_cannot_be_had_is_not_guessed(world: &World) {
    let state = world.open().await;
    let lost = sqlx::Error::Io(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
    let mut held = state.inner.database.shared().unwrap().take().await.unwrap();
    // Found before the one of the server.
    for sql in [
        format!(
            "CREATE FUNCTION {0}.txid_status(BIGINT) RETURNS TEXT LANGUAGE plpgsql AS \
             $$ BEGIN RAISE EXCEPTION 'out of memory' USING ERRCODE = '53200'; END $$",
            world.schema
        ),
        format!("SET search_path = {0}, pg_catalog", world.schema),
    ] {
        statement(sqlx::AssertSqlSafe(sql)).execute(&mut held).await.unwrap();
    }
    let ended = postgres::outcome(&mut held, 1, lost).await.unwrap_err();
    assert!(ended.to_string().contains("not known whether"), "{ended}");
}

async fn a_transaction_that_is_left_is_rolled_back(world: &World) {
    let run = id(1);
    let state = state_with_run(world, run, &[task("train", 1)]).await;
    let event = [started(&task("train", 1), 1, None, run)];
    for polls in 1..200 {
        let mut append = Box::pin(state.append(run, FIRST_EPOCH + 9, 2, &event, &[]));
        let mut left = polls;
        std::future::poll_fn(|context| {
            left -= 1;
            if left == 0 || append.as_mut().poll(context).is_ready() {
                return std::task::Poll::Ready(());
            }
            std::task::Poll::Pending
        })
        .await;
    }
    // Nobody holds anything up, and the connections are fit for use.
    state.append(run, FIRST_EPOCH, 3, &event, &[]).await.unwrap();
    assert_eq!(state.events(run, 0).await.unwrap().len(), 2);
}
