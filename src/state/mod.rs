//! Rows and events (SQLite now; sqlx's one home). Truth is the `event` table; other columns are projections written in the same
//! transaction. Knows nothing of the engine.

use std::collections::BTreeMap;
use std::path::Path;

use crate::event::{Created, JobEnd, KeyParts, Outputs, RunEvent, RunOutcome, Usage, Values};
use crate::names::{Owner, PipelineName, RunId, TaskId};
use crate::scalar::Scalar;

/// The state of one installation. Cheap to clone.
#[derive(Debug, Clone)]
pub struct State {
    // A pool of connections.
}

/// The state cannot be used (exit 5).
#[expect(missing_docs, reason = "the doc of a variant names its fields")]
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Somebody with a newer epoch owns the run.
    #[error("run {run} was taken over by another process")]
    Fenced { run: RunId },
    /// The pipeline's name is bound to another origin.
    #[error("the pipeline name `{name}` belongs to `{bound}`, not to `{origin}`")]
    OtherOrigin { name: PipelineName, bound: String, origin: String },
    /// Another run of this pipeline is active.
    #[error("run {run} of this pipeline is active")]
    Active { run: RunId },
    /// The database itself.
    #[error("the state at `{place}` cannot be used: {why}")]
    Database { place: String, why: String },
}

/// A run as its row says.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRow {
    /// Its id.
    pub id: RunId,
    /// What it was made of.
    pub created: Created,
    /// Where it stands.
    pub state: RunState,
    /// What somebody wishes it to do.
    pub wish: Option<Wish>,
    /// Who owns it (waiting and active runs).
    pub owner: Option<Owner>,
    /// Of the newest owner.
    pub epoch: u64,
    /// Unix milliseconds.
    pub made_at: u64,
    /// Unix milliseconds, when ended.
    pub ended_at: Option<u64>,
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// Behind another run of its pipeline.
    Waiting,
    /// Being done, or left by an owner that died.
    Active,
    /// Over.
    Ended(RunOutcome),
}

/// What somebody wishes a run to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Stop: TERM and 10 s.
    Stop,
    /// Stop at once.
    Kill,
}

/// A task as its row says.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskRow {
    /// Which.
    pub task: TaskId,
    /// `train[trees=100]`.
    pub label: String,
    /// `waiting running retrying done reused failed skipped blocked cancelled`.
    pub state: String,
    /// Why it ran, was skipped or failed, as a sentence fragment.
    pub reason: Option<String>,
    /// Its key.
    pub key: Option<crate::digest::Key>,
    /// The run whose record it took.
    pub reused_from: Option<RunId>,
    /// Artifacts.
    pub outputs: Outputs,
    /// Reported scalars.
    pub values: Values,
    /// Attempts so far.
    pub attempts: u32,
    /// Unix milliseconds.
    pub started_at: Option<u64>,
    /// Unix milliseconds.
    pub ended_at: Option<u64>,
}

/// An attempt as its row says.
#[derive(Debug, Clone, PartialEq)]
pub struct AttemptRow {
    /// Which task.
    pub task: TaskId,
    /// From 1.
    pub number: u32,
    /// The runtime's name for it.
    pub job: String,
    /// Where it ran.
    pub host: String,
    /// How it ended; none while it runs.
    pub end: Option<JobEnd>,
    /// What it used.
    pub usage: Usage,
    /// Unix milliseconds.
    pub started_at: u64,
    /// Unix milliseconds.
    pub ended_at: Option<u64>,
}

/// An event with its place in the journal.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// From 1, without gaps.
    pub seq: u64,
    /// Unix milliseconds.
    pub at: u64,
    /// Of the writer.
    pub epoch: u64,
    /// What happened.
    pub event: RunEvent,
}

/// Which runs to list.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    /// Of this pipeline only.
    pub pipeline: Option<PipelineName>,
    /// That are not ended only.
    pub unended: bool,
    /// At most this many, newest first.
    pub limit: Option<u32>,
}

impl State {
    /// Opens the state of a home, making and migrating it when needed (two processes at once are fine).
    pub async fn open(home: &Path) -> Result<Self, StateError> {
        let _ = home;
        todo!()
    }

    /// The installation's id (a ULID made at first open).
    pub async fn installation(&self) -> Result<String, StateError> {
        todo!()
    }

    /// Binds a pipeline name to its origin at first use; another origin is `OtherOrigin`. `rebind` moves the binding.
    pub async fn bind_pipeline(
        &self,
        name: &PipelineName,
        origin: &str,
        now: u64,
        rebind: bool,
    ) -> Result<(), StateError> {
        let _ = (name, origin, now, rebind);
        todo!()
    }

    /// Makes a run in state `waiting` with its `Created` event (seq 1) and its rows in `task` (`tasks`: id and label, in task-number order).
    pub async fn create_run(
        &self,
        id: RunId,
        created: &Created,
        tasks: &[(TaskId, String, BTreeMap<String, Scalar>)],
        owner: &Owner,
        now: u64,
    ) -> Result<(), StateError> {
        let _ = (id, created, tasks, owner, now);
        todo!()
    }

    /// Makes a waiting run active. `Active` when another run of its pipeline is.
    pub async fn activate(&self, run: RunId) -> Result<(), StateError> {
        let _ = run;
        todo!()
    }

    /// Takes a run over or reopens an ended one (`Active` is possible then): raises its epoch, writes `TakenOver` or `Reopened`, clears the wish.
    /// The caller holds the run's lock file. Returns the new epoch.
    pub async fn take_over(&self, run: RunId, by: &Owner, now: u64) -> Result<u64, StateError> {
        let _ = (run, by, now);
        todo!()
    }

    /// Appends events and their projections (`task`, `attempt`, `metric`, `run`) in one transaction. `Fenced` when the epoch is old; then nothing was written.
    /// `labels` gives key parts to remember beside `AttemptStarted`/`TaskDone` keys (`stage_key`).
    pub async fn append(
        &self,
        run: RunId,
        epoch: u64,
        now: u64,
        events: &[RunEvent],
        parts: &[KeyParts],
    ) -> Result<(), StateError> {
        let _ = (run, epoch, now, events, parts);
        todo!()
    }

    /// The journal of a run after `after` (0: all).
    pub async fn events(&self, run: RunId, after: u64) -> Result<Vec<Recorded>, StateError> {
        let _ = (run, after);
        todo!()
    }

    /// One run.
    pub async fn run(&self, run: RunId) -> Result<Option<RunRow>, StateError> {
        let _ = run;
        todo!()
    }

    /// Runs, newest first.
    pub async fn runs(&self, filter: &RunFilter) -> Result<Vec<RunRow>, StateError> {
        let _ = filter;
        todo!()
    }

    /// Tasks of a run in task-number order.
    pub async fn tasks(&self, run: RunId) -> Result<Vec<TaskRow>, StateError> {
        let _ = run;
        todo!()
    }

    /// Attempts of a run in the order they started.
    pub async fn attempts(&self, run: RunId) -> Result<Vec<AttemptRow>, StateError> {
        let _ = run;
        todo!()
    }

    /// Metrics of a run: task → name → value.
    pub async fn metrics(
        &self,
        run: RunId,
    ) -> Result<BTreeMap<TaskId, BTreeMap<String, f64>>, StateError> {
        let _ = run;
        todo!()
    }

    /// Key parts of the last finished (done or reused) task of every stage and copy of a pipeline: what reasons compare with.
    /// With `before`, only runs made before that one.
    pub async fn last_keys(
        &self,
        pipeline: &PipelineName,
        before: Option<RunId>,
    ) -> Result<BTreeMap<TaskId, KeyParts>, StateError> {
        let _ = (pipeline, before);
        todo!()
    }

    /// Median seconds of each task's finished attempts over the last 10 runs of a pipeline, for the ETA.
    pub async fn durations(
        &self,
        pipeline: &PipelineName,
    ) -> Result<BTreeMap<TaskId, f64>, StateError> {
        let _ = pipeline;
        todo!()
    }

    /// Sets or raises a run's wish. `by` is journalled by the owner.
    pub async fn wish(&self, run: RunId, wish: Wish) -> Result<(), StateError> {
        let _ = (run, wish);
        todo!()
    }

    /// The wish of a run (polled by its owner).
    pub async fn wished(&self, run: RunId) -> Result<Option<Wish>, StateError> {
        let _ = run;
        todo!()
    }

    /// Remembers that an environment was built.
    pub async fn environment_built(
        &self,
        digest: crate::digest::Digest,
        parts: &str,
        lock: &str,
        now: u64,
    ) -> Result<(), StateError> {
        let _ = (digest, parts, lock, now);
        todo!()
    }

    /// Removes a run's rows and events (gc).
    pub async fn delete_run(&self, run: RunId) -> Result<(), StateError> {
        let _ = run;
        todo!()
    }
}
