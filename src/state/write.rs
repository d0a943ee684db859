//! Brings [`Step`]s into the tables, inside the transaction of their events.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::AssertSqlSafe;

use super::database::Transaction;
use super::project::{AttemptChange, Rows, Step, TASK_COLUMNS, TaskChange, outcome_word};
use super::rows::TaskReason;
use super::statement::{
    Cell, ROWS_AT_ONCE, integer, json, name, parse, placeholders, small, statement,
};
use crate::event::Skip;
use crate::names::TaskId;

/// Does the steps in order.
pub(super) async fn apply(
    connection: &mut Transaction<'_>,
    run: &str,
    steps: &[Step<'_>],
) -> Result<(), sqlx::Error> {
    for step in steps {
        match step {
            Step::Rows(rows) => apply_rows(connection, run, rows).await?,
            Step::TasksReopened => {
                reopen_skipped(connection, run).await?;
                statement(
                    "UPDATE task SET state = 'waiting', reason = NULL, stage_key = NULL, started_at = NULL, ended_at = NULL \
                     WHERE run = $1 AND state IN ('running', 'retrying', 'failed', 'blocked', 'cancelled', 'rolling_out', 'kept')",
                )
                .bind(run)
                .execute(connection)
                .await?;
            }
            Step::Owned { by, epoch } => {
                statement("UPDATE run SET owner = $2, epoch = $3 WHERE id = $1")
                    .bind(run)
                    .bind(json(by))
                    .bind(integer(*epoch))
                    .execute(connection)
                    .await?;
            }
            Step::Active => {
                statement(
                    "UPDATE run SET state = 'active', outcome = NULL, ended_at = NULL WHERE id = $1",
                )
                .bind(run)
                .execute(connection)
                .await?;
            }
            Step::Ended { outcome, at } => {
                statement(
                    "UPDATE run SET state = 'ended', outcome = $2, ended_at = $3, owner = NULL WHERE id = $1",
                )
                .bind(run)
                .bind(outcome_word(*outcome))
                .bind(integer(*at))
                .execute(connection)
                .await?;
            }
        }
    }
    Ok(())
}

/// What was skipped because a service kept its release may run now; what `when` skipped is skipped again anyway.
async fn reopen_skipped(connection: &mut Transaction<'_>, run: &str) -> Result<(), sqlx::Error> {
    let rows = statement(
        "SELECT stage, copy, state, reason FROM task WHERE run = $1 AND state IN ('kept', 'skipped')",
    )
    .bind(run)
    .fetch_all(connection)
    .await?;
    let (mut open, mut skipped) = (BTreeSet::new(), Vec::new());
    for row in &rows {
        let task = TaskId { stage: name(row.try_get(0)?)?, copy: small(row.try_get(1)?) };
        if row.try_get::<&str, _>(2)? == "kept" {
            open.insert(task);
        } else if let Some(TaskReason::Skipped(Skip::Needs(needed))) =
            row.try_get::<Option<&str>, _>(3)?.map(parse).transpose()?
        {
            skipped.push((task, needed));
        }
    }
    // Each round opens what needs something open; skips hang on each other like a chain.
    loop {
        let (opened, rest): (Vec<_>, Vec<_>) =
            skipped.into_iter().partition(|(_, needed)| open.contains(needed));
        skipped = rest;
        if opened.is_empty() {
            return Ok(());
        }
        for (task, _) in opened {
            statement(
                "UPDATE task SET state = 'waiting', reason = NULL, ended_at = NULL WHERE run = $1 AND stage = $2 AND copy = $3",
            )
            .bind(run)
            .bind(task.stage.as_str())
            .bind(i64::from(task.copy))
            .execute(connection)
            .await?;
            open.insert(task);
        }
    }
}

async fn apply_rows(
    connection: &mut Transaction<'_>,
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
        let mut query = statement(AssertSqlSafe(sql)).persistent(keep_prepared(metrics.len()));
        for ((task, name), value) in metrics {
            query = query
                .bind(run)
                .bind(task.stage.as_str())
                .bind(i64::from(task.copy))
                .bind(*name)
                .bind(**value);
        }
        query.execute(connection).await?;
    }
    Ok(())
}

/// Whether a statement of this many rows comes again: single ones and full ones do.
pub(super) fn keep_prepared(rows: usize) -> bool {
    rows == 1 || rows == ROWS_AT_ONCE
}

/// Sets the same columns of many tasks. A task that the run does not have is passed over.
async fn update_tasks(
    connection: &mut Transaction<'_>,
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
    let mut query = statement(AssertSqlSafe(sql)).persistent(keep_prepared(tasks.len())).bind(run);
    for (task, change) in tasks {
        query = query.bind(task.stage.as_str()).bind(i64::from(task.copy));
        for column in columns {
            // Every task of the group has a value for each of its columns.
            let cell = change.0[*column].as_ref().unwrap_or(&Cell::Text(None));
            query = query.bind(cell.borrowed());
        }
    }
    query.execute(connection).await?;
    Ok(())
}

async fn write_attempt(
    connection: &mut Transaction<'_>,
    run: &str,
    task: &TaskId,
    number: u32,
    change: &AttemptChange<'_>,
) -> Result<(), sqlx::Error> {
    let stage = task.stage.as_str();
    if let Some((job, host, at)) = change.started {
        statement(
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
        .execute(connection)
        .await?;
    }
    if let Some((end, usage, at)) = change.ended {
        statement(
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
        .execute(connection)
        .await?;
    }
    Ok(())
}
