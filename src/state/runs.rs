//! The life of a run's row: made, active, taken over, wished to stop, deleted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sqlx::AssertSqlSafe;

use super::append::insert_events;
use super::database::{Subject, Writer};
use super::ownership::hold;
use super::project::steps;
use super::rows::Wish;
use super::statement::{ROWS_AT_ONCE, integer, json, placeholders, statement, unsigned};
use super::write::{apply, keep_prepared};
use super::{State, StateError};
use crate::event::{Created, RunEvent};
use crate::names::{Owner, PipelineName, RunId, TaskId};
use crate::scalar::Scalar;

/// The epoch of the owner that made a run.
pub const FIRST_EPOCH: u64 = 1;

/// How often a run is made active while others of its pipeline come and go.
const MOST_TRIES: usize = 10;

const OTHERS: &str = "runs of this pipeline come and go too fast; try again";

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
        let bind = || async {
            let mut writer = self.inner.database.writer().await?;
            bind(&mut writer, name.as_str(), origin, now, rebind).await
        };
        let bound = self.insist(bind).await?;
        if bound == origin {
            return Ok(());
        }
        Err(StateError::OtherOrigin { name: name.clone(), bound, origin: origin.to_owned() })
    }

    /// Makes a run in state `waiting` with its `Created` event (seq 1) and its rows in `task` (`tasks`: id and label, in task-number order).
    ///
    /// Its pipeline was bound before. `owner` owns it under [`FIRST_EPOCH`] and holds its [`super::RunLock`].
    pub async fn create_run(
        &self,
        id: RunId,
        created: &Created,
        tasks: &[(TaskId, String, BTreeMap<String, Scalar>)],
        owner: &Owner,
        now: u64,
    ) -> Result<(), StateError> {
        let create = || async {
            let mut writer = self.inner.database.writer().await?;
            create(&mut writer, (id, &self.inner.home.holder), created, tasks, owner, now).await
        };
        self.insist(create).await
    }

    /// Makes a waiting run active. `Active` when another run of its pipeline is.
    pub async fn activate(&self, run: RunId) -> Result<(), StateError> {
        let activate = || async {
            let mut writer = self.inner.database.writer().await?;
            let done =
                statement("UPDATE run SET state = 'active' WHERE id = $1 AND state = 'waiting'")
                    .bind(run.to_string())
                    .execute(&mut writer)
                    .await;
            or_active(&mut writer, run, done).await
        };
        for _ in 0..MOST_TRIES {
            match self.insist(activate).await? {
                Ok(_) => return Ok(()),
                Err(Some(run)) => return Err(StateError::Active { run }),
                Err(None) => {}
            }
        }
        Err(self.broken(OTHERS))
    }

    /// Takes a run over or reopens an ended one (`Active` is possible then): raises its epoch, writes `TakenOver` or `Reopened`, clears the wish.
    /// The caller holds the run's [`super::RunLock`]. Returns the new epoch.
    pub async fn take_over(&self, run: RunId, by: &Owner, now: u64) -> Result<u64, StateError> {
        let take = || async {
            let mut writer = self.inner.database.writer().await?;
            let done = take(&mut writer, (run, &self.inner.home.holder), by, now).await;
            or_active(&mut writer, run, done).await
        };
        for _ in 0..MOST_TRIES {
            match self.insist(take).await? {
                Ok(Taken::At(epoch)) => return Ok(epoch),
                Ok(Taken::Fenced) => return Err(StateError::Fenced { run }),
                Ok(Taken::Unknown) => return Err(self.unknown(run)),
                Err(Some(run)) => return Err(StateError::Active { run }),
                Err(None) => {}
            }
        }
        Err(self.broken(OTHERS))
    }

    /// Sets or raises a run's wish. `by` is journalled by the owner. An ended run has none.
    pub async fn wish(&self, run: RunId, wish: Wish) -> Result<(), StateError> {
        let change = statement(
            "UPDATE run SET wish = CASE WHEN wish = 'kill' THEN wish ELSE $2 END WHERE id = $1 AND state <> 'ended'",
        )
        .bind(run.to_string())
        .bind(match wish {
            Wish::Stop => "stop",
            Wish::Kill => "kill",
        });
        self.write(change).await.map(|_| ())
    }

    /// Removes the rows and events of a run that has ended (gc). Its key parts stay until [`State::forget_unused_parts`].
    ///
    /// The caller holds the run's [`super::RunLock`]; `Fenced` when it lost that, or when somebody has opened the run again: then
    /// nothing was removed.
    pub async fn delete_run(&self, run: RunId) -> Result<(), StateError> {
        let delete = || async {
            let mut writer = self.inner.database.writer().await?;
            delete(&mut writer, (run, &self.inner.home.holder)).await
        };
        if self.insist(delete).await? { Ok(()) } else { Err(StateError::Fenced { run }) }
    }

    /// Removes key parts that no task has any more (gc). Returns how many.
    pub async fn forget_unused_parts(&self) -> Result<u64, StateError> {
        let forget = || async {
            let mut writer = self.inner.database.writer().await?;
            forget_parts(&mut writer).await
        };
        self.insist(forget).await
    }
}

/// Binds a name that is free, or any with `rebind`. Says whose it is now.
async fn bind(
    writer: &mut Writer<'_>,
    name: &str,
    origin: &str,
    now: u64,
    rebind: bool,
) -> Result<String, sqlx::Error> {
    let bound = || statement("SELECT origin FROM pipeline WHERE name = $1").bind(name);
    if let Some(row) = bound().fetch_optional(writer).await?
        && row.try_get::<&str, _>(0)? == origin
    {
        return Ok(origin.to_owned());
    }
    let sql = if rebind {
        "INSERT INTO pipeline (name, origin, made_at) VALUES ($1, $2, $3) ON CONFLICT (name) DO UPDATE SET origin = excluded.origin"
    } else {
        "INSERT INTO pipeline (name, origin, made_at) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING"
    };
    statement(sql).bind(name).bind(origin).bind(integer(now)).execute(writer).await?;
    // Whoever came first in between has the name.
    bound().fetch_one(writer).await?.try_get(0)
}

/// A refusal by `run_active` names the run that is active; none when that has just ended, so that the same may go well now.
pub(super) async fn or_active<T>(
    writer: &mut Writer<'_>,
    run: RunId,
    done: Result<T, sqlx::Error>,
) -> Result<Result<T, Option<RunId>>, sqlx::Error> {
    let error = match done {
        Ok(done) => return Ok(Ok(done)),
        Err(error) => error,
    };
    if !error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation) {
        return Err(error);
    }
    writer.refresh().await?;
    let active = statement(
        "SELECT a.id FROM run a JOIN run r ON a.pipeline = r.pipeline AND a.target = r.target WHERE r.id = $1 AND a.state = 'active'",
    )
    .bind(run.to_string())
    .fetch_optional(writer)
    .await?;
    Ok(Err(active.and_then(|row| row.try_get::<&str, _>(0).ok()?.parse().ok())))
}

async fn forget_parts(writer: &mut Writer<'_>) -> Result<u64, sqlx::Error> {
    let mut transaction = writer.begin(Subject::Parts).await?;
    // Whoever has just found its parts there has not said yet whose they are.
    transaction.on_postgres("LOCK TABLE stage_key IN SHARE ROW EXCLUSIVE MODE").await?;
    let gone = statement(
        "DELETE FROM stage_key WHERE digest NOT IN (SELECT stage_key FROM task WHERE stage_key IS NOT NULL)",
    )
    .execute(&mut transaction)
    .await?;
    transaction.commit().await?;
    Ok(gone)
}

async fn create(
    writer: &mut Writer<'_>,
    (id, holder): (RunId, &str),
    created: &Created,
    tasks: &[(TaskId, String, BTreeMap<String, Scalar>)],
    owner: &Owner,
    now: u64,
) -> Result<(), sqlx::Error> {
    let run = id.to_string();
    let mut transaction = writer.begin(Subject::Run(&run)).await?;
    statement(
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
    .execute(&mut transaction)
    .await?;
    hold(&mut transaction, &run, holder).await?;
    let event = RunEvent::Created(Box::new(created.clone()));
    insert_events(&mut transaction, &run, 0, now, FIRST_EPOCH, &[event]).await?;
    let mut number = 0;
    for tasks in tasks.chunks(ROWS_AT_ONCE) {
        let sql = format!(
            "INSERT INTO task (run, stage, copy, matrix, state) VALUES {}",
            placeholders(tasks.len(), 5, 1)
        );
        let mut query = statement(AssertSqlSafe(sql)).persistent(keep_prepared(tasks.len()));
        for (task, label, values) in tasks {
            number += 1;
            let matrix = TaskIdentity { number, label: label.clone(), values: values.clone() };
            query = query
                .bind(&run)
                .bind(task.stage.as_str())
                .bind(i64::from(task.copy))
                .bind(json(&matrix))
                .bind("waiting");
        }
        query.execute(&mut transaction).await?;
    }
    transaction.commit().await
}

/// What came of taking a run over.
enum Taken {
    /// The new epoch.
    At(u64),
    /// Another process has got the right to own it meanwhile.
    Fenced,
    /// There is no such run.
    Unknown,
}

async fn take(
    writer: &mut Writer<'_>,
    (run, holder): (RunId, &str),
    by: &Owner,
    now: u64,
) -> Result<Taken, sqlx::Error> {
    let id = run.to_string();
    let mut transaction = writer.begin(Subject::Run(&id)).await?;
    let found = statement(
        "SELECT epoch, (SELECT COALESCE(MAX(seq), 0) FROM event WHERE stream = $1), state, lease_holder FROM run WHERE id = $1",
    )
    .bind(&id)
    .fetch_optional(&mut transaction)
    .await?;
    let Some(row) = found else {
        return Ok(Taken::Unknown);
    };
    if row.try_get::<Option<&str>, _>(3)?.is_some_and(|by| by != holder) {
        return Ok(Taken::Fenced);
    }
    let (old, last): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    let epoch = unsigned(old) + 1;
    let event = if row.try_get::<&str, _>(2)? == "ended" {
        RunEvent::Reopened { by: by.clone(), epoch }
    } else {
        RunEvent::TakenOver { by: by.clone(), epoch }
    };
    statement("UPDATE run SET wish = NULL WHERE id = $1")
        .bind(&id)
        .execute(&mut transaction)
        .await?;
    let events = [event];
    insert_events(&mut transaction, &id, last, now, epoch, &events).await?;
    apply(&mut transaction, &id, &steps(events.iter().map(|event| (now, event)))).await?;
    transaction.commit().await?;
    Ok(Taken::At(epoch))
}

/// `false`: it is not the caller's to remove.
async fn delete(
    writer: &mut Writer<'_>,
    (run, holder): (RunId, &str),
) -> Result<bool, sqlx::Error> {
    let id = run.to_string();
    let mut transaction = writer.begin(Subject::Run(&id)).await?;
    let found = statement("SELECT state, lease_holder FROM run WHERE id = $1")
        .bind(&id)
        .fetch_optional(&mut transaction)
        .await?;
    if let Some(row) = found {
        let is_ours =
            !transaction.is_shared() || row.try_get::<Option<&str>, _>(1)? == Some(holder);
        if !is_ours || row.try_get::<&str, _>(0)? != "ended" {
            return Ok(false);
        }
    }
    for sql in [
        "DELETE FROM metric WHERE run = $1",
        "DELETE FROM attempt WHERE run = $1",
        "DELETE FROM task WHERE run = $1",
        "DELETE FROM event WHERE stream = $1",
        "DELETE FROM run WHERE id = $1",
    ] {
        statement(sql).bind(&id).execute(&mut transaction).await?;
    }
    transaction.commit().await?;
    Ok(true)
}
