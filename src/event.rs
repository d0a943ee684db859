//! The versioned vocabulary of what happens in a run: written to the journal, shown by reports,
//! compared by `why`. Knows no IO.
//!
//! **Version rule.** A journal names [`JOURNAL_VERSION`]. New variants and new optional fields keep the
//! version; whoever renames, removes or changes the meaning of one raises it and keeps reading the old.

mod key;
mod shared;
#[cfg(test)]
pub(crate) mod testing;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Key};
use crate::names::{
    InputName, JobName, OutputName, Owner, ParamName, PipelineName, ReleaseId, RunId, StageName,
    TaskId,
};
use crate::scalar::Scalar;
pub use key::{InputPart, KEY_FORMAT, KeyParts};
pub use shared::{KeptParts, Maker, Moved, Movement};

/// The version of everything in this module as it lies on disk.
pub const JOURNAL_VERSION: u32 = 1;

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
        /// Who made it and when; only from a store that machines share.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        made: Option<Maker>,
        #[serde(default, skip_serializing_if = "Moved::is_nothing")]
        moved: Moved,
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
    TaskDone {
        task: TaskId,
        key: Option<Key>,
        outputs: Outputs,
        metrics: Metrics,
        values: Values,
        #[serde(default, skip_serializing_if = "Moved::is_nothing")]
        moved: Moved,
    },
    /// No attempt is left, or none could start.
    TaskFailed { task: TaskId, cause: Failure },
    /// The run was stopped before or while the task ran.
    TaskCancelled { task: TaskId },
    /// The winner among a stage's copies.
    Picked { stage: StageName, copy: u32, metric: String, value: f64 },
    /// Which live releases a task's `{live}` inputs and expressions see from here on; none: nothing is live.
    LiveSeen { task: TaskId, live: BTreeMap<StageName, Option<ReleaseId>> },
    /// What the task's inputs from outside hold for the whole run, by input; whatever happens at their sources.
    OutsidePinned { task: TaskId, inputs: BTreeMap<InputName, OutsidePin> },
    /// The gate of a service was asked. When it did not pass, `failed` is the expression that was false, the live release
    /// stays and the task has ended *kept*. `values`: what the expressions name, by its dotted path; none where it is none.
    GateDecided {
        task: TaskId,
        passed: bool,
        failed: Option<String>,
        values: BTreeMap<String, Option<Scalar>>,
        live: Option<ReleaseId>,
    },
    /// Journalled before the server is asked to start replicas. `why`: what differs from the live release; empty for the first.
    RolloutStarted { task: TaskId, release: ReleaseId, number: u64, why: Vec<FieldChange> },
    /// All new replicas are ready; the live release still answers (unless it is replaced in place).
    RolloutPrepared { task: TaskId, release: ReleaseId },
    /// The `verify` stage of the service ended.
    Verified { task: TaskId, release: ReleaseId, passed: bool },
    /// The release is live; the task is done.
    RolloutPromoted { task: TaskId, release: ReleaseId, replaced: Option<ReleaseId> },
    /// The release will not go live: journalled before its replicas are stopped. What becomes of the task follows.
    RolloutAbandoned { task: TaskId, release: ReleaseId, why: String },
    /// The live release is the same; nothing restarted and no gate was asked. The task has ended as reused. `changed`: replicas and
    /// route as far as the file says something else of them than before; they were changed in place.
    RolloutUnchanged {
        task: TaskId,
        release: ReleaseId,
        number: u64,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        changed: Vec<FieldChange>,
    },
    /// Somebody wants the run to stop.
    StopWished { by: String, kill: bool },
    /// The run's own `timeout` is over; what runs is stopped.
    RunTimedOut,
    /// The machinery failed (a source or an index that cannot be reached, a full disk), and the run was left as it is for whoever goes
    /// on with it. `why`: for a person.
    Left { why: String },
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
    /// What another machine needs to go on with the run; none where the store is of this home alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<KeptParts>,
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
    /// A secret was there when the run began and cannot be had any more: `group/name#entry`, and why.
    Secret { name: String, why: String },
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
    /// The new release did not become ready, crashed, or did not pass `verify`; the last lines of its log.
    Rollout { why: String, log: Vec<String> },
    /// Another home, as people know it, keeps the service up: only there it can get a new release.
    ServedElsewhere { home: String },
    /// A `{live}` input was judged, and another release became live before the promotion.
    LiveChanged { service: StageName },
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
    /// Of a plan only: what its input from outside holds is known once it is fetched. `changed`: it is not what was fetched last.
    NotFetched { input: InputName, changed: bool },
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

/// What an input from outside holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutsidePin {
    /// What tells what is wanted (address and digest) from everything else, without a word of it.
    pub wanted: Digest,
    /// The address, without its secrets.
    pub address: String,
    /// What tells this content from other content of that address, for people.
    pub version: String,
    /// The artifact.
    pub artifact: Digest,
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
    /// Bytes of a task go to the store's place or come from there; none: they are over.
    Moving { task: TaskId, how_far: Option<Movement> },
    /// The job of an attempt that an earlier flowrun started was found and is watched again.
    Adopted { task: TaskId, attempt: u32 },
    /// A part that the run cannot do without does not answer since then, and is waited for until then (Unix milliseconds); said again
    /// now and then. What runs goes on.
    Away { part: Part, place: String, why: String, help: String, since: u64, until: u64 },
    /// It answers again.
    Back { part: Part, place: String, since: u64 },
    /// Something to know that is no failure, once per run.
    Remark(String),
}

/// A part of a place that machines may share, and that may go away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Where runs and events are recorded.
    State,
    /// Where artifacts and records are.
    Store,
}

impl std::fmt::Display for Part {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::State => "state",
            Self::Store => "store",
        })
    }
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
