//! The journal: one transaction per append, refused when the epoch is old.

use sqlx::AssertSqlSafe;

use std::collections::BTreeMap;

use super::database::{Subject, Transaction, Writer};
use super::project::{kind, steps};
use super::statement::{ROWS_AT_ONCE, integer, json, placeholders, statement, unsigned};
use super::write::{apply, keep_prepared};
use super::{State, StateError};
use crate::event::{KeyParts, RunEvent};
use crate::names::RunId;

impl State {
    /// Appends events and their projections (`task`, `attempt`, `metric`, `run`) in one transaction. `Fenced` when the epoch is old; then nothing was written.
    /// `parts` are key parts to remember beside the keys of `AttemptStarted`, `TaskDone` and `TaskReused` (`stage_key`).
    ///
    /// A crash before the return leaves all of it or nothing.
    pub async fn append(
        &self,
        run: RunId,
        epoch: u64,
        now: u64,
        events: &[RunEvent],
        parts: &[KeyParts],
    ) -> Result<(), StateError> {
        let id = run.to_string();
        let holder = self.inner.home.holder.as_str();
        let appended = self.insist(|| async {
            let mut writer = self.inner.database.writer().await?;
            append(&mut writer, (&id, holder), (epoch, now), events, parts).await
        });
        match appended.await? {
            Answer::Written => Ok(()),
            Answer::Fenced => Err(StateError::Fenced { run }),
            Answer::Unknown => Err(self.unknown(run)),
        }
    }
}

/// What came of an append.
enum Answer {
    Written,
    /// Somebody else has the right to own the run by now.
    Fenced,
    /// There is no such run.
    Unknown,
}

async fn append(
    writer: &mut Writer<'_>,
    (run, holder): (&str, &str),
    (epoch, now): (u64, u64),
    events: &[RunEvent],
    parts: &[KeyParts],
) -> Result<Answer, sqlx::Error> {
    let mut transaction = writer.begin(Subject::Run(run)).await?;
    let found = statement(
        "SELECT epoch, (SELECT COALESCE(MAX(seq), 0) FROM event WHERE stream = $1), lease_holder FROM run WHERE id = $1",
    )
    .bind(run)
    .fetch_optional(&mut transaction)
    .await?;
    let Some(row) = found else { return Ok(Answer::Unknown) };
    let (stored, last): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    let held_by: Option<&str> = row.try_get(2)?;
    if unsigned(stored) != epoch || held_by.is_some_and(|by| by != holder) {
        return Ok(Answer::Fenced);
    }
    remember_parts(&mut transaction, parts).await?;
    insert_events(&mut transaction, run, last, now, epoch, events).await?;
    let steps = steps(events.iter().map(|event| (now, event)));
    apply(&mut transaction, run, &steps).await?;
    transaction.commit().await?;
    Ok(Answer::Written)
}

/// Writes events behind number `last` of the stream.
pub(super) async fn insert_events(
    connection: &mut Transaction<'_>,
    stream: &str,
    last: i64,
    now: u64,
    epoch: u64,
    events: &[RunEvent],
) -> Result<(), sqlx::Error> {
    let mut seq = last;
    for events in events.chunks(ROWS_AT_ONCE) {
        let sql = format!(
            "INSERT INTO event (stream, seq, at, epoch, kind, body) VALUES {}",
            placeholders(events.len(), 6, 1)
        );
        let mut query = statement(AssertSqlSafe(sql)).persistent(keep_prepared(events.len()));
        for event in events {
            seq += 1;
            query = query
                .bind(stream)
                .bind(seq)
                .bind(integer(now))
                .bind(integer(epoch))
                .bind(kind(event))
                .bind(json(event));
        }
        query.execute(connection).await?;
    }
    Ok(())
}

async fn remember_parts(
    connection: &mut Transaction<'_>,
    parts: &[KeyParts],
) -> Result<(), sqlx::Error> {
    // In one order for everybody, so that two runs with the same keys do not wait for each other.
    let parts: BTreeMap<String, &KeyParts> =
        parts.iter().map(|parts| (parts.key().to_string(), parts)).collect();
    let parts: Vec<(String, &KeyParts)> = parts.into_iter().collect();
    for parts in parts.chunks(ROWS_AT_ONCE) {
        let sql = format!(
            "INSERT INTO stage_key (digest, parts) VALUES {} ON CONFLICT (digest) DO NOTHING",
            placeholders(parts.len(), 2, 1)
        );
        let mut query = statement(AssertSqlSafe(sql)).persistent(keep_prepared(parts.len()));
        for (key, parts) in parts {
            query = query.bind(key).bind(json(parts));
        }
        query.execute(connection).await?;
    }
    Ok(())
}
