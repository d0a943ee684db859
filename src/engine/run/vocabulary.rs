//! What the machine is told and what it says.

use std::collections::BTreeMap;

use crate::digest::Key;
use crate::event::{
    Failure, FieldChange, JobEnd, Maker, Metrics, Moved, Outputs, OutsidePin, Reason, RunEvent,
    RunOutcome, Usage, Values, Waiting,
};
use crate::names::{InputName, ReleaseId, RunId, StageName};
use crate::plan::TaskIndex;
use crate::rollout::{Promotion, RolloutFailure};
use crate::scalar::Scalar;

use super::schedule::Grant;

/// Everything that can happen to a run.
#[expect(missing_docs, reason = "the doc of a variant names its fields")]
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// Answers [`Command::Resolve`]. `live`: what the look saw of live releases; empty for a task that names none.
    Resolved { task: TaskIndex, resolution: Resolution, live: Seen },
    /// Comes before the answer to [`Command::Resolve`] of a task with inputs from outside: what they hold.
    Pinned { task: TaskIndex, inputs: Pins },
    /// Answers [`Command::Claim`].
    Claimed { task: TaskIndex, answer: ClaimAnswer },
    /// Answers [`Command::AwaitClaim`]: it is worth looking again.
    ClaimFree { task: TaskIndex },
    /// What [`Command::Start`] needed before the job could not be made; there was no job.
    LaunchFailed { task: TaskIndex, attempt: u32, failure: Failure },
    /// The job of an attempt is over, at Unix milliseconds.
    JobEnded {
        task: TaskIndex,
        attempt: u32,
        end: JobEnd,
        usage: Usage,
        at: u64,
        beside: Circumstance,
    },
    /// Answers [`Command::Collect`], at Unix milliseconds.
    Collected { task: TaskIndex, attempt: u32, result: Result<Product, Failure>, at: u64 },
    /// Answers [`Command::Sleep`].
    BackoffOver { task: TaskIndex },
    /// Answers [`Command::Release`], with the release's number.
    ReleaseMade { task: TaskIndex, made: Result<(ReleaseId, u64), Failure> },
    /// Answers [`Command::Prepare`].
    Prepared { task: TaskIndex, release: ReleaseId, result: Result<(), RolloutFailure> },
    /// Answers [`Command::Promote`].
    PromotionEnded { task: TaskIndex, release: ReleaseId, promotion: Promotion },
    /// Answers [`Command::Abandon`]; `log`: the last lines of the attempt that was asked for.
    Abandoned { task: TaskIndex, release: ReleaseId, log: Vec<String> },
    /// Somebody wants the run to stop, or to stop harder.
    StopWished { by: String, kill: bool },
    /// The run's own timeout is over.
    RunTimedOut,
}

/// What else is known of a job that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Circumstance {
    /// Nothing that changes what follows.
    Usual,
    /// It had ended before this process took the run up. A bad end is then like that of a run that is opened again: another
    /// attempt follows, as whoever resumes has mended something.
    Unseen,
    /// It ended badly and had written into this input. Another attempt would do so again.
    SpoiltInput(InputName),
}

/// Which live releases a task sees, by service; none: nothing is live.
pub type Seen = BTreeMap<StageName, Option<ReleaseId>>;

/// What a task's inputs from outside hold.
pub type Pins = BTreeMap<InputName, OutsidePin>;

/// What a gate was asked and what it said.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// The first expression that is false, if any.
    pub failed: Option<String>,
    /// What the expressions name, by dotted path; none where it is none.
    pub values: BTreeMap<String, Option<Scalar>>,
    /// The live release they were asked about.
    pub live: Option<ReleaseId>,
}

/// What a look at a task's key, or at what decides how a service behaves, found.
#[expect(missing_docs, reason = "the doc of a variant names its fields")]
#[derive(Debug, Clone, PartialEq)]
pub enum Resolution {
    /// Its key has a whole record.
    Hit(Box<Reused>),
    /// It must run; without a key it is never cached.
    Miss { key: Option<Key>, why: Reason },
    /// Its `when` is false.
    Skip { when: String },
    /// It cannot run.
    Failed(Failure),
    /// Of a service: the live release behaves the same, and was told to stay, with these changes in place.
    Unchanged { release: ReleaseId, number: u64, changed: Vec<FieldChange> },
    /// Of a service: its gate did not pass.
    Kept(Box<Asked>),
    /// Of a service: a new release is due. `why`: what differs from the live one; `asked`: its gate, if it has one.
    Release { why: Vec<FieldChange>, asked: Option<Box<Asked>> },
}

/// Whether this run may compute a key.
#[expect(missing_docs, reason = "the doc of a variant names its fields")]
#[derive(Debug, Clone, PartialEq)]
pub enum ClaimAnswer {
    /// The driver holds the claim until the attempt is over.
    Ours,
    /// Somebody else computes it.
    Held { by: String },
    /// Somebody else has computed it meanwhile.
    Hit(Box<Reused>),
}

/// A record that is taken instead of running.
#[derive(Debug, Clone, PartialEq)]
pub struct Reused {
    /// Its key.
    pub key: Key,
    /// The run that made it.
    pub from: RunId,
    /// Artifacts.
    pub outputs: Outputs,
    /// Numbers.
    pub metrics: Metrics,
    /// Scalars.
    pub values: Values,
    /// Who made it and when, where that is worth telling.
    pub made: Option<Maker>,
    /// What came with it, bytes.
    pub moved: Moved,
}

/// What an attempt gave; its record exists.
#[derive(Debug, Clone, PartialEq)]
pub struct Product {
    /// The record's key; none when it is never cached.
    pub key: Option<Key>,
    /// Artifacts.
    pub outputs: Outputs,
    /// Numbers.
    pub metrics: Metrics,
    /// Scalars.
    pub values: Values,
    /// What went and came for it, bytes.
    pub moved: Moved,
}

/// What the driver is to do. Those of [`Command::is_free`] may be done before the step's events are journalled.
#[expect(missing_docs, reason = "the doc of a variant names its fields")]
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Evaluate `when`, make the key, look it up.
    Resolve { task: TaskIndex },
    /// Try to claim the key and look it up once more.
    Claim { task: TaskIndex, key: Key },
    /// Wait a while, or until the key's claim is known to be free.
    AwaitClaim { task: TaskIndex, key: Key },
    /// Make environment and work folder, start the job, wait for its end. `outcome` is the run's, for hooks.
    Start {
        task: TaskIndex,
        attempt: u32,
        key: Option<Key>,
        grant: Grant,
        outcome: Option<RunOutcome>,
    },
    /// Find the job of an earlier process again and wait for its end.
    Adopt { task: TaskIndex, attempt: u32, key: Option<Key> },
    /// Take the outputs in and write the record.
    Collect { task: TaskIndex, attempt: u32, key: Option<Key>, usage: Usage },
    /// Wait until Unix milliseconds.
    Sleep { task: TaskIndex, until: u64 },
    /// Stop a job; its end is still to be told.
    StopJob { task: TaskIndex, attempt: u32, kill: bool },
    /// For the report only: what a task waits for.
    Tell { task: TaskIndex, why: Waiting },
    /// Make a release of a service: its environment, its row, what keeps its parts.
    Release { task: TaskIndex },
    /// Have the replicas of a release started, and wait until they are ready.
    Prepare { task: TaskIndex, release: ReleaseId },
    /// Have a release put live.
    Promote { task: TaskIndex, release: ReleaseId, if_live_is: Option<ReleaseId> },
    /// Have the replicas of a release stopped. `log_of`: the attempt whose last lines say why.
    Abandon { task: TaskIndex, release: ReleaseId, why: String, log_of: Option<(TaskIndex, u32)> },
}

impl Command {
    /// Whether it may be done before the events are journalled: a read, a pause, or (collect) something that a later
    /// process does again with the same result.
    pub fn is_free(&self) -> bool {
        match self {
            Self::Resolve { .. }
            | Self::Claim { .. }
            | Self::AwaitClaim { .. }
            | Self::Collect { .. }
            | Self::Sleep { .. }
            | Self::Tell { .. } => true,
            Self::Start { .. }
            | Self::Adopt { .. }
            | Self::StopJob { .. }
            | Self::Release { .. }
            | Self::Prepare { .. }
            | Self::Promote { .. }
            | Self::Abandon { .. } => false,
        }
    }
}

/// What the machine says at once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Step {
    /// To be journalled, in order.
    pub events: Vec<RunEvent>,
    /// To be done, in order.
    pub commands: Vec<Command>,
}
