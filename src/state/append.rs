//! The journal: one transaction per append, refused when the epoch is old.

use sqlx::{AssertSqlSafe, Connection, SqliteConnection};

use super::project::{kind, steps};
use super::statement::{ROWS_AT_ONCE, integer, json, placeholders, unsigned};
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
        let mut writer = self.inner.writer.lock().await;
        let broken = |error: sqlx::Error| self.broken(error);
        let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await.map_err(broken)?;
        let id = run.to_string();
        let found = sqlx::query_as::<_, (i64, i64)>(
            "SELECT epoch, (SELECT COALESCE(MAX(seq), 0) FROM event WHERE stream = $1) FROM run WHERE id = $1",
        )
        .bind(&id)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(broken)?;
        let Some((stored, last)) = found else {
            return Err(self.unknown(run));
        };
        if unsigned(stored) != epoch {
            return Err(StateError::Fenced { run });
        }
        remember_parts(&mut transaction, parts).await.map_err(broken)?;
        insert_events(&mut transaction, &id, last, now, epoch, events).await.map_err(broken)?;
        let steps = steps(events.iter().map(|event| (now, event)));
        apply(&mut transaction, &id, &steps).await.map_err(broken)?;
        transaction.commit().await.map_err(broken)
    }
}

/// Writes events behind number `last` of the stream.
pub(super) async fn insert_events(
    connection: &mut SqliteConnection,
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
        let mut statement = sqlx::query(AssertSqlSafe(sql)).persistent(keep_prepared(events.len()));
        for event in events {
            seq += 1;
            statement = statement
                .bind(stream)
                .bind(seq)
                .bind(integer(now))
                .bind(integer(epoch))
                .bind(kind(event))
                .bind(json(event));
        }
        statement.execute(&mut *connection).await?;
    }
    Ok(())
}

async fn remember_parts(
    connection: &mut SqliteConnection,
    parts: &[KeyParts],
) -> Result<(), sqlx::Error> {
    for parts in parts.chunks(ROWS_AT_ONCE) {
        let sql = format!(
            "INSERT INTO stage_key (digest, parts) VALUES {} ON CONFLICT (digest) DO NOTHING",
            placeholders(parts.len(), 2, 1)
        );
        let mut statement = sqlx::query(AssertSqlSafe(sql)).persistent(keep_prepared(parts.len()));
        for parts in parts {
            statement = statement.bind(parts.key().to_string()).bind(json(parts));
        }
        statement.execute(&mut *connection).await?;
    }
    Ok(())
}
