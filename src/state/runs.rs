//! The life of a run's row: made, active, taken over, wished to stop, deleted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, Connection, SqliteConnection};

use super::append::insert_events;
use super::project::steps;
use super::rows::Wish;
use super::statement::{ROWS_AT_ONCE, integer, json, placeholders, unsigned};
use super::write::{apply, keep_prepared};
use super::{State, StateError};
use crate::event::{Created, RunEvent};
use crate::names::{Owner, PipelineName, RunId, TaskId};
use crate::scalar::Scalar;

/// The epoch of the owner that made a run.
pub const FIRST_EPOCH: u64 = 1;

/// The column `task.matrix`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TaskIdentity {
    /// Its number, from 1.
    pub(super) number: u64,
    /// `train[trees=100]`.
    pub(super) label: String,
    /// Its matrix copy.
    pub(super) values: BTreeMap<String, Scalar>,
}

impl State {
    /// Binds a pipeline name to its origin at first use; another origin is `OtherOrigin`. `rebind` moves the binding.
    pub async fn bind_pipeline(
        &self,
        name: &PipelineName,
        origin: &str,
        now: u64,
        rebind: bool,
    ) -> Result<(), StateError> {
        let mut writer = self.inner.writer.lock().await;
        let broken = |error: sqlx::Error| self.broken(error);
        let bound: Option<String> =
            sqlx::query_scalar("SELECT origin FROM pipeline WHERE name = $1")
                .bind(name.as_str())
                .fetch_optional(&mut *writer)
                .await
                .map_err(broken)?;
        if bound.as_deref() == Some(origin) {
            return Ok(());
        }
        let sql = if rebind {
            "INSERT INTO pipeline (name, origin, made_at) VALUES ($1, $2, $3) ON CONFLICT (name) DO UPDATE SET origin = excluded.origin"
        } else {
            "INSERT INTO pipeline (name, origin, made_at) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING"
        };
        sqlx::query(sql)
            .bind(name.as_str())
            .bind(origin)
            .bind(integer(now))
            .execute(&mut *writer)
            .await
            .map_err(broken)?;
        // Whoever came first in between has the name.
        let bound: String = sqlx::query_scalar("SELECT origin FROM pipeline WHERE name = $1")
            .bind(name.as_str())
            .fetch_one(&mut *writer)
            .await
            .map_err(broken)?;
        if bound == origin {
            return Ok(());
        }
        Err(StateError::OtherOrigin { name: name.clone(), bound, origin: origin.to_owned() })
    }

    /// Makes a run in state `waiting` with its `Created` event (seq 1) and its rows in `task` (`tasks`: id and label, in task-number order).
    ///
    /// Its pipeline was bound before. `owner` owns it under [`FIRST_EPOCH`] and holds its lock file.
    pub async fn create_run(
        &self,
        id: RunId,
        created: &Created,
        tasks: &[(TaskId, String, BTreeMap<String, Scalar>)],
        owner: &Owner,
        now: u64,
    ) -> Result<(), StateError> {
        let mut writer = self.inner.writer.lock().await;
        create(&mut writer, id, created, tasks, owner, now)
            .await
            .map_err(|error| self.broken(error))
    }

    /// Makes a waiting run active. `Active` when another run of its pipeline is.
    pub async fn activate(&self, run: RunId) -> Result<(), StateError> {
        let mut writer = self.inner.writer.lock().await;
        let result =
            sqlx::query("UPDATE run SET state = 'active' WHERE id = $1 AND state = 'waiting'")
                .bind(run.to_string())
                .execute(&mut *writer)
                .await;
        match result {
            Ok(_) => Ok(()),
            Err(error) => Err(self.active_or_broken(&mut writer, run, error).await),
        }
    }

    /// Takes a run over or reopens an ended one (`Active` is possible then): raises its epoch, writes `TakenOver` or `Reopened`, clears the wish.
    /// The caller holds the run's lock file. Returns the new epoch.
    pub async fn take_over(&self, run: RunId, by: &Owner, now: u64) -> Result<u64, StateError> {
        let mut writer = self.inner.writer.lock().await;
        match take(&mut writer, run, by, now).await {
            Ok(Some(epoch)) => Ok(epoch),
            Ok(None) => Err(self.unknown(run)),
            Err(error) => Err(self.active_or_broken(&mut writer, run, error).await),
        }
    }

    /// Sets or raises a run's wish. `by` is journalled by the owner. An ended run has none.
    pub async fn wish(&self, run: RunId, wish: Wish) -> Result<(), StateError> {
        let mut writer = self.inner.writer.lock().await;
        sqlx::query(
            "UPDATE run SET wish = CASE WHEN wish = 'kill' THEN wish ELSE $2 END WHERE id = $1 AND state <> 'ended'",
        )
        .bind(run.to_string())
        .bind(match wish {
            Wish::Stop => "stop",
            Wish::Kill => "kill",
        })
        .execute(&mut *writer)
        .await
        .map_err(|error| self.broken(error))?;
        Ok(())
    }

    /// Removes a run's rows and events (gc). Its key parts stay until [`State::forget_unused_parts`].
    pub async fn delete_run(&self, run: RunId) -> Result<(), StateError> {
        let mut writer = self.inner.writer.lock().await;
        delete(&mut writer, run).await.map_err(|error| self.broken(error))
    }

    /// Removes key parts that no task has any more (gc). Returns how many.
    pub async fn forget_unused_parts(&self) -> Result<u64, StateError> {
        let mut writer = self.inner.writer.lock().await;
        let done = sqlx::query(
            "DELETE FROM stage_key WHERE digest NOT IN (SELECT stage_key FROM task WHERE stage_key IS NOT NULL)",
        )
        .execute(&mut *writer)
        .await
        .map_err(|error| self.broken(error))?;
        Ok(done.rows_affected())
    }

    /// A refusal by `run_active` names the run that is active.
    async fn active_or_broken(
        &self,
        writer: &mut SqliteConnection,
        run: RunId,
        error: sqlx::Error,
    ) -> StateError {
        if !error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation) {
            return self.broken(error);
        }
        let active: Result<Option<String>, sqlx::Error> = sqlx::query_scalar(
            "SELECT a.id FROM run a JOIN run r ON a.pipeline = r.pipeline AND a.target = r.target WHERE r.id = $1 AND a.state = 'active'",
        )
        .bind(run.to_string())
        .fetch_optional(writer)
        .await;
        match active.ok().flatten().and_then(|id| id.parse().ok()) {
            Some(run) => StateError::Active { run },
            // It ended since; the caller tries again.
            None => self.broken(error),
        }
    }
}

async fn create(
    writer: &mut SqliteConnection,
    id: RunId,
    created: &Created,
    tasks: &[(TaskId, String, BTreeMap<String, Scalar>)],
    owner: &Owner,
    now: u64,
) -> Result<(), sqlx::Error> {
    let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await?;
    let run = id.to_string();
    sqlx::query(
        "INSERT INTO run (id, pipeline, commit_id, tree, dirty, file, params, selection, cause, state, owner, epoch, made_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'waiting', $10, $11, $12)",
    )
    .bind(&run)
    .bind(created.pipeline.as_str())
    .bind(&created.snapshot.commit)
    .bind(&created.snapshot.tree)
    .bind(i64::from(created.snapshot.dirty))
    .bind(created.file.to_string())
    .bind(json(&created.params))
    .bind(json(&created.selection))
    .bind(&created.cause)
    .bind(json(owner))
    .bind(integer(FIRST_EPOCH))
    .bind(integer(now))
    .execute(&mut *transaction)
    .await?;
    let event = RunEvent::Created(Box::new(created.clone()));
    insert_events(&mut transaction, &run, 0, now, FIRST_EPOCH, &[event]).await?;
    let mut number = 0;
    for tasks in tasks.chunks(ROWS_AT_ONCE) {
        let sql = format!(
            "INSERT INTO task (run, stage, copy, matrix, state) VALUES {}",
            placeholders(tasks.len(), 5, 1)
        );
        let mut statement = sqlx::query(AssertSqlSafe(sql)).persistent(keep_prepared(tasks.len()));
        for (task, label, values) in tasks {
            number += 1;
            let matrix = TaskIdentity { number, label: label.clone(), values: values.clone() };
            statement = statement
                .bind(&run)
                .bind(task.stage.as_str())
                .bind(i64::from(task.copy))
                .bind(json(&matrix))
                .bind("waiting");
        }
        statement.execute(&mut *transaction).await?;
    }
    transaction.commit().await
}

async fn take(
    writer: &mut SqliteConnection,
    run: RunId,
    by: &Owner,
    now: u64,
) -> Result<Option<u64>, sqlx::Error> {
    let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await?;
    let id = run.to_string();
    let found = sqlx::query_as::<_, (i64, i64, String)>(
        "SELECT epoch, (SELECT COALESCE(MAX(seq), 0) FROM event WHERE stream = $1), state FROM run WHERE id = $1",
    )
    .bind(&id)
    .fetch_optional(&mut *transaction)
    .await?;
    let Some((old, last, state)) = found else {
        return Ok(None);
    };
    let epoch = unsigned(old) + 1;
    let event = if state == "ended" {
        RunEvent::Reopened { by: by.clone(), epoch }
    } else {
        RunEvent::TakenOver { by: by.clone(), epoch }
    };
    sqlx::query("UPDATE run SET wish = NULL WHERE id = $1")
        .bind(&id)
        .execute(&mut *transaction)
        .await?;
    let events = [event];
    insert_events(&mut transaction, &id, last, now, epoch, &events).await?;
    apply(&mut transaction, &id, &steps(events.iter().map(|event| (now, event)))).await?;
    transaction.commit().await?;
    Ok(Some(epoch))
}

async fn delete(writer: &mut SqliteConnection, run: RunId) -> Result<(), sqlx::Error> {
    let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await?;
    let id = run.to_string();
    for sql in [
        "DELETE FROM metric WHERE run = $1",
        "DELETE FROM attempt WHERE run = $1",
        "DELETE FROM task WHERE run = $1",
        "DELETE FROM event WHERE stream = $1",
        "DELETE FROM run WHERE id = $1",
    ] {
        sqlx::query(sql).bind(&id).execute(&mut *transaction).await?;
    }
    transaction.commit().await
}
