//! Brings [`Step`]s into the tables, inside the transaction of their events.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, SqliteConnection};

use super::project::{AttemptChange, Rows, Step, TASK_COLUMNS, TaskChange, outcome_word};
use super::statement::{Cell, ROWS_AT_ONCE, bind, integer, json, placeholders};
use crate::names::TaskId;

/// Does the steps in order.
pub(super) async fn apply(
    connection: &mut SqliteConnection,
    run: &str,
    steps: &[Step<'_>],
) -> Result<(), sqlx::Error> {
    for step in steps {
        match step {
            Step::Rows(rows) => apply_rows(connection, run, rows).await?,
            Step::TasksReopened => {
                sqlx::query(
                    "UPDATE task SET state = 'waiting', reason = NULL, stage_key = NULL, started_at = NULL, ended_at = NULL \
                     WHERE run = $1 AND state IN ('running', 'retrying', 'failed', 'blocked', 'cancelled')",
                )
                .bind(run)
                .execute(&mut *connection)
                .await?;
            }
            Step::Owned { by, epoch } => {
                sqlx::query("UPDATE run SET owner = $2, epoch = $3 WHERE id = $1")
                    .bind(run)
                    .bind(json(by))
                    .bind(integer(*epoch))
                    .execute(&mut *connection)
                    .await?;
            }
            Step::Active => {
                sqlx::query(
                    "UPDATE run SET state = 'active', outcome = NULL, ended_at = NULL WHERE id = $1",
                )
                .bind(run)
                .execute(&mut *connection)
                .await?;
            }
            Step::Ended { outcome, at } => {
                sqlx::query(
                    "UPDATE run SET state = 'ended', outcome = $2, ended_at = $3, owner = NULL WHERE id = $1",
                )
                .bind(run)
                .bind(outcome_word(*outcome))
                .bind(integer(*at))
                .execute(&mut *connection)
                .await?;
            }
        }
    }
    Ok(())
}

async fn apply_rows(
    connection: &mut SqliteConnection,
    run: &str,
    rows: &Rows<'_>,
) -> Result<(), sqlx::Error> {
    // Tasks that set the same columns share statements; there are as many groups as kinds of events.
    let mut groups: BTreeMap<Vec<usize>, Vec<(&TaskId, &TaskChange)>> = BTreeMap::new();
    for (task, change) in &rows.tasks {
        let columns = (0..TASK_COLUMNS.len()).filter(|column| change.0[*column].is_some());
        groups.entry(columns.collect()).or_default().push((task, change));
    }
    for (columns, tasks) in &groups {
        for tasks in tasks.chunks(ROWS_AT_ONCE) {
            update_tasks(connection, run, columns, tasks).await?;
        }
    }
    for ((task, number), change) in &rows.attempts {
        write_attempt(connection, run, task, *number, change).await?;
    }
    let metrics: Vec<_> = rows.metrics.iter().collect();
    for metrics in metrics.chunks(ROWS_AT_ONCE) {
        let sql = format!(
            "INSERT INTO metric (run, stage, copy, name, value) VALUES {} \
             ON CONFLICT (run, stage, copy, name) DO UPDATE SET value = excluded.value",
            placeholders(metrics.len(), 5, 1)
        );
        let mut statement =
            sqlx::query(AssertSqlSafe(sql)).persistent(keep_prepared(metrics.len()));
        for ((task, name), value) in metrics {
            statement = statement
                .bind(run)
                .bind(task.stage.as_str())
                .bind(i64::from(task.copy))
                .bind(*name)
                .bind(**value);
        }
        statement.execute(&mut *connection).await?;
    }
    Ok(())
}

/// Whether a statement of this many rows comes again: single ones and full ones do.
pub(super) fn keep_prepared(rows: usize) -> bool {
    rows == 1 || rows == ROWS_AT_ONCE
}

/// Sets the same columns of many tasks. A task that the run does not have is passed over.
async fn update_tasks(
    connection: &mut SqliteConnection,
    run: &str,
    columns: &[usize],
    tasks: &[(&TaskId, &TaskChange)],
) -> Result<(), sqlx::Error> {
    let sets: Vec<String> = columns
        .iter()
        .enumerate()
        // Columns of VALUES are called column1, column2, …; the first two say which task.
        .map(|(place, column)| format!("{} = v.column{}", TASK_COLUMNS[*column], place + 3))
        .collect();
    let sql = format!(
        "UPDATE task SET {} FROM (VALUES {}) AS v WHERE task.run = $1 AND task.stage = v.column1 AND task.copy = v.column2",
        sets.join(", "),
        placeholders(tasks.len(), columns.len() + 2, 2)
    );
    let mut statement =
        sqlx::query(AssertSqlSafe(sql)).persistent(keep_prepared(tasks.len())).bind(run);
    for (task, change) in tasks {
        statement = statement.bind(task.stage.as_str()).bind(i64::from(task.copy));
        for column in columns {
            // Every task of the group has a value for each of its columns.
            let cell = change.0[*column].as_ref().unwrap_or(&Cell::Text(None));
            statement = bind(statement, cell);
        }
    }
    statement.execute(connection).await?;
    Ok(())
}

async fn write_attempt(
    connection: &mut SqliteConnection,
    run: &str,
    task: &TaskId,
    number: u32,
    change: &AttemptChange<'_>,
) -> Result<(), sqlx::Error> {
    let stage = task.stage.as_str();
    if let Some((job, host, at)) = change.started {
        sqlx::query(
            "INSERT INTO attempt (run, stage, copy, number, job, host, started_at) VALUES ($1, $2, $3, $4, $5, $6, $7) \
             ON CONFLICT (run, stage, copy, number) DO UPDATE SET job = excluded.job, host = excluded.host, started_at = excluded.started_at",
        )
        .bind(run)
        .bind(stage)
        .bind(i64::from(task.copy))
        .bind(i64::from(number))
        .bind(job)
        .bind(host)
        .bind(integer(at))
        .execute(&mut *connection)
        .await?;
    }
    if let Some((end, usage, at)) = change.ended {
        sqlx::query(
            "UPDATE attempt SET job_end = $5, peak_memory = $6, cpu_ms = $7, ended_at = $8 \
             WHERE run = $1 AND stage = $2 AND copy = $3 AND number = $4",
        )
        .bind(run)
        .bind(stage)
        .bind(i64::from(task.copy))
        .bind(i64::from(number))
        .bind(json(end))
        .bind(integer(usage.peak_memory))
        .bind(integer(usage.cpu_ms))
        .bind(integer(at))
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}
