//! Rows and events → values.

use std::collections::BTreeMap;

use sqlx::AssertSqlSafe;

use super::rows::{AttemptRow, FoundRun, Recorded, RunFilter, RunRow, RunState, TaskRow, Wish};
use super::runs::TaskIdentity;
use super::statement::{Row, Statement, integer, name, parse, small, statement, unsigned};
use super::{State, StateError};
use crate::event::{RunEvent, RunOutcome, Usage};
use crate::names::{RunId, TaskId};

/// A run's row with its first event, which says what it was made of.
const RUN: &str = "SELECT run.id, run.state, run.outcome, run.wish, run.owner, run.epoch, run.made_at, run.ended_at, event.body \
     FROM run JOIN event ON event.stream = run.id AND event.seq = 1";

impl State {
    /// The journal of a run after `after` (0: all).
    pub async fn events(&self, run: RunId, after: u64) -> Result<Vec<Recorded>, StateError> {
        let rows = statement(
            "SELECT seq, at, epoch, body FROM event WHERE stream = $1 AND seq > $2 ORDER BY seq",
        )
        .bind(run.to_string())
        .bind(integer(after));
        let record = |row: &Row| {
            Ok(Recorded {
                seq: unsigned(row.try_get("seq")?),
                at: unsigned(row.try_get("at")?),
                epoch: unsigned(row.try_get("epoch")?),
                event: parse(row.try_get("body")?)?,
            })
        };
        self.values(rows, record).await
    }

    /// Why the machinery left a run that nobody took over since.
    pub async fn why_left(&self, run: RunId) -> Result<Option<String>, StateError> {
        let rows = statement(
            "SELECT body FROM event WHERE stream = $1 AND kind IN ('left', 'taken_over', 'reopened') ORDER BY seq DESC LIMIT 1",
        )
        .bind(run.to_string());
        let newest = self.values(rows, |row: &Row| parse(row.try_get("body")?)).await?.pop();
        Ok(match newest {
            Some(RunEvent::Left { why }) => Some(why),
            _ => None,
        })
    }

    /// One run.
    pub async fn run(&self, run: RunId) -> Result<Option<RunRow>, StateError> {
        let rows =
            statement(AssertSqlSafe(format!("{RUN} WHERE run.id = $1"))).bind(run.to_string());
        Ok(self.values(rows, run_row).await?.pop())
    }

    /// Runs, newest first.
    pub async fn runs(&self, filter: &RunFilter) -> Result<Vec<RunRow>, StateError> {
        let mut sql = format!("{RUN} WHERE 1 = 1");
        if filter.unended {
            sql.push_str(" AND run.state <> 'ended'");
        }
        if filter.pipeline.is_some() {
            sql.push_str(" AND run.pipeline = $2");
        }
        sql.push_str(" ORDER BY run.id DESC LIMIT $1");
        let mut query =
            statement(AssertSqlSafe(sql)).bind(filter.limit.map_or(i64::MAX, i64::from));
        if let Some(pipeline) = &filter.pipeline {
            query = query.bind(pipeline.as_str());
        }
        self.values(query, run_row).await
    }

    /// The run that a person means: `latest`, or the beginning of an id in either case.
    pub async fn find_run(&self, text: &str) -> Result<FoundRun, StateError> {
        let (pattern, limit) = match text {
            "latest" => ("%".to_owned(), 1_i64),
            "" => return Ok(FoundRun::Missing),
            text if text.chars().all(|c| c.is_ascii_alphanumeric()) => {
                (format!("{}%", text.to_ascii_uppercase()), 10)
            }
            _ => return Ok(FoundRun::Missing),
        };
        let rows = statement("SELECT id FROM run WHERE id LIKE $1 ORDER BY id DESC LIMIT $2")
            .bind(pattern)
            .bind(limit);
        let ids: Vec<RunId> = self.values(rows, |row| name(row.try_get("id")?)).await?;
        Ok(match ids.as_slice() {
            [] => FoundRun::Missing,
            [id] => FoundRun::One(*id),
            _ => FoundRun::Several(ids),
        })
    }

    /// Tasks of a run in task-number order.
    pub async fn tasks(&self, run: RunId) -> Result<Vec<TaskRow>, StateError> {
        let rows = statement(
            "SELECT stage, copy, matrix, state, reason, stage_key, reused_from, outputs, \"values\", attempts, started_at, ended_at \
             FROM task WHERE run = $1",
        )
        .bind(run.to_string());
        let mut tasks = self.values(rows, task_row).await?;
        tasks.sort_by_key(|(number, _)| *number);
        Ok(tasks.into_iter().map(|(_, task)| task).collect())
    }

    /// Attempts of a run in the order they started.
    pub async fn attempts(&self, run: RunId) -> Result<Vec<AttemptRow>, StateError> {
        let rows = statement(
            "SELECT stage, copy, number, job, host, job_end, peak_memory, cpu_ms, started_at, ended_at \
             FROM attempt WHERE run = $1 ORDER BY started_at, stage, copy, number",
        )
        .bind(run.to_string());
        self.values(rows, attempt_row).await
    }

    /// Metrics of a run: task → name → value.
    pub async fn metrics(
        &self,
        run: RunId,
    ) -> Result<BTreeMap<TaskId, BTreeMap<String, f64>>, StateError> {
        let rows = statement("SELECT stage, copy, name, value FROM metric WHERE run = $1")
            .bind(run.to_string());
        let metric = |row: &Row| {
            Ok((task_id(row)?, row.try_get::<String, _>("name")?, row.try_get::<f64, _>("value")?))
        };
        let rows = self.values(rows, metric).await?;
        let mut metrics: BTreeMap<TaskId, BTreeMap<String, f64>> = BTreeMap::new();
        for (task, name, value) in rows {
            metrics.entry(task).or_default().insert(name, value);
        }
        Ok(metrics)
    }

    /// The wish of a run (polled by its owner).
    pub async fn wished(&self, run: RunId) -> Result<Option<Wish>, StateError> {
        let rows = statement("SELECT wish FROM run WHERE id = $1").bind(run.to_string());
        let wish = |row: &Row| Ok(row.try_get::<Option<&str>, _>("wish")?.and_then(wish_of));
        Ok(self.values(rows, wish).await?.pop().flatten())
    }

    /// Reads rows; what cannot be read is an error of the database.
    pub(super) async fn values<T>(
        &self,
        rows: Statement<'_>,
        value: impl Fn(&Row) -> Result<T, sqlx::Error>,
    ) -> Result<Vec<T>, StateError> {
        let rows = self.insist(|| self.inner.database.read(rows.clone())).await?;
        rows.iter().map(value).collect::<Result<_, _>>().map_err(|error| self.broken(error))
    }

    /// Does one statement that may be done twice. Says how many rows it touched.
    pub(super) async fn write(&self, change: Statement<'_>) -> Result<u64, StateError> {
        let write = || async {
            let mut writer = self.inner.database.writer().await?;
            change.clone().execute(&mut writer).await
        };
        self.insist(write).await
    }

    /// Does one statement that may be done twice, so that no power failure takes it back.
    pub(super) async fn write_durably(&self, change: Statement<'_>) -> Result<(), StateError> {
        let write = || async {
            let mut writer = self.inner.database.durable().await?;
            let done = change.clone().execute(&mut writer).await;
            writer.usual(done).await
        };
        self.insist(write).await.map(|_| ())
    }
}

/// The task of a row with `stage` and `copy`.
pub(super) fn task_id(row: &Row) -> Result<TaskId, sqlx::Error> {
    Ok(TaskId { stage: name(row.try_get("stage")?)?, copy: small(row.try_get("copy")?) })
}

fn wish_of(word: &str) -> Option<Wish> {
    match word {
        "stop" => Some(Wish::Stop),
        "kill" => Some(Wish::Kill),
        _ => None,
    }
}

fn number(row: &Row, column: &str) -> Result<Option<u64>, sqlx::Error> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(unsigned))
}

fn json_or_default<T>(row: &Row, column: &str) -> Result<T, sqlx::Error>
where
    T: Default + serde::de::DeserializeOwned,
{
    row.try_get::<Option<&str>, _>(column)?.map_or_else(|| Ok(T::default()), parse)
}

fn run_row(row: &Row) -> Result<RunRow, sqlx::Error> {
    let RunEvent::Created(created) = parse(row.try_get("body")?)? else {
        return Err(sqlx::Error::Decode("the first event of a run is not `created`".into()));
    };
    let state = match (row.try_get("state")?, row.try_get("outcome")?) {
        ("waiting", _) => RunState::Waiting,
        ("active", _) => RunState::Active,
        (_, Some("done")) => RunState::Ended(RunOutcome::Done),
        (_, Some("kept")) => RunState::Ended(RunOutcome::Kept),
        (_, Some("cancelled")) => RunState::Ended(RunOutcome::Cancelled),
        _ => RunState::Ended(RunOutcome::Failed),
    };
    Ok(RunRow {
        id: name(row.try_get("id")?)?,
        created: *created,
        state,
        wish: row.try_get::<Option<&str>, _>("wish")?.and_then(wish_of),
        owner: row.try_get::<Option<&str>, _>("owner")?.map(parse).transpose()?,
        epoch: unsigned(row.try_get("epoch")?),
        made_at: unsigned(row.try_get("made_at")?),
        ended_at: number(row, "ended_at")?,
    })
}

fn task_row(row: &Row) -> Result<(u64, TaskRow), sqlx::Error> {
    let identity: TaskIdentity = parse(row.try_get("matrix")?)?;
    let task = TaskRow {
        task: task_id(row)?,
        label: identity.label,
        state: row.try_get("state")?,
        reason: row.try_get::<Option<&str>, _>("reason")?.map(parse).transpose()?,
        key: row.try_get::<Option<&str>, _>("stage_key")?.map(name).transpose()?,
        reused_from: row.try_get::<Option<&str>, _>("reused_from")?.map(name).transpose()?,
        outputs: json_or_default(row, "outputs")?,
        values: json_or_default(row, "values")?,
        attempts: small(row.try_get("attempts")?),
        started_at: number(row, "started_at")?,
        ended_at: number(row, "ended_at")?,
    };
    Ok((identity.number, task))
}

fn attempt_row(row: &Row) -> Result<AttemptRow, sqlx::Error> {
    let started_at = unsigned(row.try_get("started_at")?);
    let ended_at = number(row, "ended_at")?;
    Ok(AttemptRow {
        task: task_id(row)?,
        number: small(row.try_get("number")?),
        job: row.try_get("job")?,
        host: row.try_get("host")?,
        end: row.try_get::<Option<&str>, _>("job_end")?.map(parse).transpose()?,
        usage: Usage {
            peak_memory: number(row, "peak_memory")?.unwrap_or(0),
            cpu_ms: number(row, "cpu_ms")?.unwrap_or(0),
            wall_ms: ended_at.map_or(0, |end| end.saturating_sub(started_at)),
        },
        started_at,
        ended_at,
    })
}
