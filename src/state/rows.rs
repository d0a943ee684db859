//! What the tables say, as values.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Key;
use crate::event::{
    Created, Failure, FieldChange, JobEnd, Maker, Outputs, Reason, RunEvent, RunOutcome, Skip,
    Usage, Values,
};
use crate::names::{Owner, PipelineName, ReleaseId, RunId, TaskId};
use crate::scalar::Scalar;

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
    /// `waiting running retrying done reused failed skipped blocked cancelled`; of a service also `rolling_out`, `kept`.
    pub state: String,
    /// Why it stands where it stands.
    pub reason: Option<TaskReason>,
    /// Its key.
    pub key: Option<Key>,
    /// The run whose record it took.
    pub reused_from: Option<RunId>,
    /// Artifacts.
    pub outputs: Outputs,
    /// Reported scalars.
    pub values: Values,
    /// Attempts so far.
    pub attempts: u32,
    /// When its newest attempt or rollout started, Unix milliseconds; none for what was reused.
    pub started_at: Option<u64>,
    /// When the task was over, Unix milliseconds.
    pub ended_at: Option<u64>,
}

/// Why a task stands where it stands; data, made into words by `report`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskReason {
    /// Why its newest attempt started (running, retrying and done tasks).
    Ran(Reason),
    /// Why it failed.
    Failed(Failure),
    /// Why it was skipped.
    Skipped(Skip),
    /// Who made the result that it took (reused tasks), where machines share a store.
    MadeBy(Maker),
    /// The task that it needs and that has no result.
    BlockedBy(TaskId),
    /// What the gate of a service said (kept tasks; also between the gate and the rollout).
    Gate(GateDecision),
    /// The release that a service is rolling out or has rolled out (done tasks). `why`: what differs from the one that was live before.
    #[expect(missing_docs, reason = "the doc of a variant names its fields")]
    Released { release: ReleaseId, number: u64, why: Vec<FieldChange> },
    /// The live release of a service is the same (reused tasks).
    #[expect(missing_docs, reason = "the doc of a variant names its fields")]
    Unchanged {
        release: ReleaseId,
        number: u64,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        changed: Vec<FieldChange>,
    },
}

/// What the gate of a service said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateDecision {
    /// All expressions held.
    pub passed: bool,
    /// The first that did not.
    pub failed: Option<String>,
    /// What the expressions name, by dotted path; none where it is none.
    pub values: BTreeMap<String, Option<Scalar>>,
    /// The live release it was compared with.
    pub live: Option<ReleaseId>,
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
    /// What it used; `wall_ms` is the time between the two events.
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

/// What a text that a person wrote for a run stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundRun {
    /// No run begins like this.
    Missing,
    /// This one.
    One(RunId),
    /// More than one begins like this, newest first (ten at most).
    Several(Vec<RunId>),
}
