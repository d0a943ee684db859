//! The versioned vocabulary of what happens in a run: written to the journal, shown by reports,
//! compared by `why`. Knows no IO.
//!
//! **Version rule.** A journal names [`JOURNAL_VERSION`]. New variants and new optional fields keep the
//! version; whoever renames, removes or changes the meaning of one raises it and keeps reading the old.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Key};
use crate::names::{
    AxisName, InputName, JobName, OutputName, Owner, ParamName, PipelineName, RunId, StageName,
    TaskId,
};
use crate::scalar::Scalar;

/// The version of everything in this module as it lies on disk.
pub const JOURNAL_VERSION: u32 = 1;

/// The version of [`KeyParts`]; raising it makes every stage run again.
pub const KEY_FORMAT: u32 = 1;

/// What happened in a run, in order. The journal of these is the truth about the run.
#[expect(missing_docs, reason = "the doc of a variant names its fields")]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunEvent {
    /// The run exists. Always the first event.
    Created(Box<Created>),
    /// A process took the run over; its appends carry this epoch from here on.
    TakenOver { by: Owner, epoch: u64 },
    /// `resume` opened an ended run again; failed, lost and cancelled tasks start afresh.
    Reopened { by: Owner, epoch: u64 },
    /// The task's key has a record; nothing ran.
    TaskReused {
        task: TaskId,
        key: Key,
        from: RunId,
        outputs: Outputs,
        metrics: Metrics,
        values: Values,
    },
    /// `when` was false, here or above.
    TaskSkipped { task: TaskId, why: Skip },
    /// Something the task needs failed.
    TaskBlocked { task: TaskId, by: TaskId },
    /// Journalled before the job exists.
    AttemptStarted {
        task: TaskId,
        attempt: u32,
        key: Option<Key>,
        why: Reason,
        job: JobName,
        host: String,
    },
    /// The job is over. Not yet the task: its outputs are still to be collected.
    AttemptEnded { task: TaskId, attempt: u32, end: JobEnd, usage: Usage },
    /// Another attempt starts at `not_before` (Unix milliseconds).
    RetryScheduled { task: TaskId, not_before: u64 },
    /// Journalled after the record exists.
    TaskDone { task: TaskId, key: Option<Key>, outputs: Outputs, metrics: Metrics, values: Values },
    /// No attempt is left, or none could start.
    TaskFailed { task: TaskId, cause: Failure },
    /// The run was stopped before or while the task ran.
    TaskCancelled { task: TaskId },
    /// The winner among a stage's copies.
    Picked { stage: StageName, copy: u32, metric: String, value: f64 },
    /// Somebody wants the run to stop.
    StopWished { by: String, kill: bool },
    /// The run's own `timeout` is over; what runs is stopped.
    RunTimedOut,
    /// Always the last event of a run that is not reopened.
    Ended { outcome: RunOutcome },
}

/// What a run is made of; fixed for its whole life.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Created {
    /// [`JOURNAL_VERSION`] of the writer.
    pub version: u32,
    /// The pipeline.
    pub pipeline: PipelineName,
    /// Where the code comes from.
    pub snapshot: SnapshotId,
    /// Digest of the pipeline file's bytes.
    pub file: Digest,
    /// Every parameter with its value in this run.
    pub params: BTreeMap<ParamName, Scalar>,
    /// Which stages were asked for.
    pub selection: Selection,
    /// What started the run: `cli`, a schedule.
    pub cause: String,
}

/// The code of a run, pinned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotId {
    /// Git id of the tree of the whole repo, in flowrun's mirror.
    pub tree: String,
    /// The commit it was made from; none for a folder that is no git repo.
    pub commit: Option<String>,
    /// The branch or tag that was asked for or checked out.
    pub reference: Option<String>,
    /// The work tree differed from the commit.
    pub dirty: bool,
    /// The base folder inside the tree, `/`-separated, empty for its root.
    pub base: String,
    /// Where the code lives, without userinfo: a URL or an absolute folder.
    pub origin: String,
}

/// Which stages a run was asked to do. Names were checked against the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// Only these; what they need must be reusable.
    pub only: BTreeSet<StageName>,
    /// These and all that depends on them.
    pub from: BTreeSet<StageName>,
    /// These and all that they need.
    pub until: BTreeSet<StageName>,
    /// These run even when their key has a record.
    pub force: BTreeSet<StageName>,
}

/// Outputs by name: the artifact digests.
pub type Outputs = BTreeMap<OutputName, Digest>;
/// Flat numbers a stage reported.
pub type Metrics = BTreeMap<String, f64>;
/// Flat values a stage reported.
pub type Values = BTreeMap<String, Scalar>;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunOutcome {
    /// Every wanted task is done, reused or skipped.
    Done,
    /// A task failed or the run timed out.
    Failed,
    /// A gate kept the live release.
    Kept,
    /// Stopped by a wish.
    Cancelled,
}

impl RunOutcome {
    /// The outcome as users write and read it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Kept => "kept",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Why a task was skipped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Skip {
    /// Its own `when` was false: the expressions, as they stand in the file.
    When(String),
    /// Something it needs was skipped.
    Needs(TaskId),
}

/// How a job ended, as the runtime saw it.
#[expect(missing_docs, reason = "the doc of a variant names its fields")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobEnd {
    /// The program returned this exit code.
    Exited(i32),
    /// A signal ended the program (its number).
    Signalled(i32),
    /// A kill for lack of memory was counted and the job failed; `limit` in bytes.
    OutOfMemory { limit: u64 },
    /// The attempt's `timeout` was over.
    TimedOut { after: Duration },
    /// It was stopped on request.
    Cancelled,
    /// Nobody can say any more how it ended; it does not use up `retries`.
    Lost { why: String },
}

impl JobEnd {
    /// Whether the user's program ended well.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Exited(0))
    }
}

/// What an attempt used; zero where it is not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Largest memory in use, bytes.
    pub peak_memory: u64,
    /// Processor time of user and system, milliseconds.
    pub cpu_ms: u64,
    /// From start to end of the user's program, milliseconds.
    pub wall_ms: u64,
}

/// Why a task failed: the user's mishap, never flowrun's.
#[expect(missing_docs, reason = "the doc of a variant names its fields")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// The program did not end well.
    Job(JobEnd),
    /// The environment could not be built; the tool's last lines.
    Environment { log: String },
    /// A declared output is not there.
    OutputMissing { output: OutputName, path: String },
    /// A declared output holds what flowrun does not store (FIFO, device, link that leaves it).
    OutputRefused { output: OutputName, path: String, why: String },
    /// The metrics file is missing or not a flat object of numbers.
    MetricsInvalid { why: String },
    /// The values file is missing or not a flat object of scalars.
    ValuesInvalid { why: String },
    /// The stage wrote into an input.
    InputChanged { input: InputName },
    /// An expression of the stage could not be evaluated.
    Expression { why: String },
    /// `cache: only`, or outside the selection, and no record for the key.
    NotReusable { why: String },
    /// The stage asks for more than the machine has.
    Resources { why: String },
    /// No copy of a stage with `pick` reported the metric.
    PickImpossible { metric: String },
    /// The work folder could not be made: two inputs at one path, a missing folder for `workdir`.
    WorkFolder { why: String },
    /// The whole run's timeout.
    RunTimedOut,
}

/// Why a task runs rather than being reused.
#[expect(missing_docs, reason = "the doc of a variant names its fields")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// This pipeline never finished this task before.
    FirstTime,
    /// These fields differ from the last finished task of the same stage and copy.
    Changed(Vec<FieldChange>),
    /// It was done before, with the same key, but that record is gone (gc, another store).
    NoRecord,
    /// The task is never cached.
    NotCached(NotCached),
    /// `--force`.
    Forced,
    /// The record's artifacts are not whole.
    RecordBroken { missing: Vec<Digest> },
    /// The record is older than `cache: <duration>` allows.
    Expired { age: Duration },
    /// An earlier attempt of this run ended badly or was lost.
    Retry { of: u32 },
}

/// Why a task is never cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotCached {
    /// It has no outputs, metrics or values.
    NoOutputs,
    /// `cache: false`.
    Off,
    /// It uses a service.
    UsesService,
    /// Its command names `run.id` or `run.commit`.
    NamesRun,
}

/// One field of [`KeyParts`] that differs, for people: `params.seed: 7 → 8`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldChange {
    /// The field: `command`, `params.seed`, `files`, `inputs.dataset`, `environment`.
    pub field: String,
    /// What it was; none when it is new.
    pub was: Option<String>,
    /// What it is; none when it is gone.
    pub is: Option<String>,
}

/// Everything that decides a task's result (ARCHITECTURE §4). Its digest is the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyParts {
    /// [`KEY_FORMAT`].
    pub format: u32,
    /// The expanded command: `["sh", "-e", "-c", text]` for a string.
    pub command: Vec<String>,
    /// Declared `env`, expanded.
    pub env: BTreeMap<String, String>,
    /// Digest of the environment's definition.
    pub environment: Digest,
    /// `os/arch` and interpreter version on local; image digest elsewhere.
    pub platform: String,
    /// Digest over (path, mode, blob id) of the stage's files.
    pub files: Digest,
    /// Inputs: where they lie and what they are.
    pub inputs: BTreeMap<InputName, InputPart>,
    /// The params the stage names.
    pub params: BTreeMap<ParamName, Scalar>,
    /// The values of this matrix copy.
    pub matrix: BTreeMap<AxisName, Scalar>,
    /// Output names and paths.
    pub outputs: BTreeMap<OutputName, String>,
    /// The metrics file.
    pub metrics: Option<String>,
    /// The values file.
    pub values: Option<String>,
    /// The current directory below the base.
    pub workdir: String,
    /// `container.network`.
    pub network: String,
    /// Names of secrets, never values.
    pub secrets: BTreeMap<String, String>,
}

/// One input in a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputPart {
    /// Digest of the artifact.
    pub digest: Digest,
    /// Where it is placed below the base, or else the name it keeps in the inputs folder.
    pub path: String,
}

impl KeyParts {
    /// The key: the digest of the canonical JSON of these parts.
    pub fn key(&self) -> Key {
        // A struct of maps and texts always serialises; the order of fields is fixed by the type.
        Digest::of(serde_json::to_string(self).unwrap_or_default().as_bytes())
    }
}

/// What a report shows beside events: never journalled, may be dropped.
#[expect(missing_docs, reason = "the doc of a variant names its fields")]
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// A line that a running task printed.
    Line { task: TaskId, attempt: u32, stream: Stream, text: String },
    /// A task whose needs are done cannot start yet, and why.
    Waiting { task: TaskId, why: Waiting },
    /// Something is being made ready for a task: an environment is built, files are placed.
    Preparing { task: TaskId, step: String },
    /// The job of an attempt that an earlier flowrun started was found and is watched again.
    Adopted { task: TaskId, attempt: u32 },
    /// Something to know that is no failure, once per run.
    Remark(String),
}

/// Which of the two streams of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What a task waits for whose needs are done.
#[expect(missing_docs, reason = "the doc of a variant names its fields")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waiting {
    /// A free slot of `--jobs`.
    Slot,
    /// Free processors or memory.
    Resources,
    /// The end of a pause before the next attempt (Unix milliseconds).
    Backoff { until: u64 },
    /// Another run computes the same key.
    Claim { by: String },
}
