//! What earlier runs say: keys for reasons, durations for the ETA; and environments.

use std::collections::BTreeMap;

use super::read::task_id;
use super::statement::{integer, parse, statement, unsigned};
use super::{State, StateError};
use crate::digest::{Digest, Key};
use crate::event::KeyParts;
use crate::names::{PipelineName, RunId, TaskId};

/// A task that is in none of so many newest runs of its pipeline (`before` itself counts) is forgotten.
const RUNS_LOOKED_BACK: i64 = 20;

impl State {
    /// Key parts of the last finished (done or reused) task of every stage and copy of a pipeline: what reasons compare with.
    /// With `before`, only runs made before that one.
    ///
    /// Of tasks that are in one of the newest 20 runs; their last finish may be as old as it likes.
    pub async fn last_keys(
        &self,
        pipeline: &PipelineName,
        before: Option<RunId>,
    ) -> Result<BTreeMap<TaskId, KeyParts>, StateError> {
        // Which tasks there are is read from an index alone; then each one's newest run is found by index too (7 ms for 1,000 tasks).
        let rows = statement(
            "SELECT finished.stage, finished.copy, k.parts FROM ( \
               SELECT seen.stage, seen.copy, ( \
                 SELECT t.stage_key FROM run AS r JOIN task AS t ON t.run = r.id AND t.stage = seen.stage AND t.copy = seen.copy \
                 WHERE r.pipeline = $1 AND r.id < $2 AND t.state IN ('done', 'reused') AND t.stage_key IS NOT NULL \
                 ORDER BY r.id DESC LIMIT 1) AS stage_key \
               FROM (SELECT DISTINCT stage, copy FROM task \
                     WHERE run IN (SELECT id FROM run WHERE pipeline = $1 AND id <= $2 ORDER BY id DESC LIMIT $3)) AS seen) AS finished \
             JOIN stage_key AS k ON k.digest = finished.stage_key",
        )
        .bind(pipeline.as_str())
        // `~` comes after every character of an id.
        .bind(before.map_or_else(|| "~".to_owned(), |run| run.to_string()))
        .bind(RUNS_LOOKED_BACK);
        let rows =
            self.values(rows, |row| Ok((task_id(row)?, parse(row.try_get("parts")?)?))).await?;
        Ok(rows.into_iter().collect())
    }

    /// Median seconds of each task's finished attempts over the last 10 runs of a pipeline, for the ETA.
    pub async fn durations(
        &self,
        pipeline: &PipelineName,
    ) -> Result<BTreeMap<TaskId, f64>, StateError> {
        let rows = statement(
            "SELECT stage, copy, ended_at - started_at AS took FROM attempt \
             WHERE run IN (SELECT id FROM run WHERE pipeline = $1 ORDER BY id DESC LIMIT 10) \
               AND ended_at IS NOT NULL AND job_end = $2",
        )
        .bind(pipeline.as_str())
        .bind(super::statement::json(&crate::event::JobEnd::Exited(0)));
        let rows =
            self.values(rows, |row| Ok((task_id(row)?, unsigned(row.try_get("took")?)))).await?;
        let mut by_task: BTreeMap<TaskId, Vec<u64>> = BTreeMap::new();
        for (task, took) in rows {
            by_task.entry(task).or_default().push(took);
        }
        Ok(by_task.into_iter().map(|(task, took)| (task, median_seconds(took))).collect())
    }

    /// What a key is the digest of, when some task of this home had it.
    pub async fn parts(&self, key: Key) -> Result<Option<KeyParts>, StateError> {
        let rows = statement("SELECT parts FROM stage_key WHERE digest = $1").bind(key.to_string());
        Ok(self.values(rows, |row| parse(row.try_get("parts")?)).await?.pop())
    }

    /// Key parts of every task of a run that has them (`runs diff`).
    pub async fn keys_of_run(&self, run: RunId) -> Result<BTreeMap<TaskId, KeyParts>, StateError> {
        let rows = statement(
            "SELECT task.stage, task.copy, k.parts FROM task JOIN stage_key AS k ON k.digest = task.stage_key WHERE task.run = $1",
        )
        .bind(run.to_string());
        let rows =
            self.values(rows, |row| Ok((task_id(row)?, parse(row.try_get("parts")?)?))).await?;
        Ok(rows.into_iter().collect())
    }

    /// Remembers that an environment was built.
    pub async fn environment_built(
        &self,
        digest: Digest,
        parts: &str,
        lock: &str,
        now: u64,
    ) -> Result<(), StateError> {
        let query = statement(
            "INSERT INTO environment (digest, parts, lock, built_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (digest) DO UPDATE SET lock = excluded.lock, built_at = excluded.built_at",
        )
        .bind(digest.to_string())
        .bind(parts)
        .bind(lock)
        .bind(integer(now));
        self.write(query).await?;
        Ok(())
    }
}

/// The middle of some milliseconds, in seconds; of an even number, the mean of the middle two.
fn median_seconds(mut took: Vec<u64>) -> f64 {
    took.sort_unstable();
    let middle = took.len() / 2;
    let millis = match took.len() {
        0 => 0,
        count if count % 2 == 1 => took[middle],
        _ => took[middle - 1].midpoint(took[middle]),
    };
    std::time::Duration::from_millis(millis).as_secs_f64()
}
