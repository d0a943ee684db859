//! Where one task stands.

use crate::digest::Key;
use crate::event::{Failure, FieldChange, Reason};
use crate::names::ReleaseId;
use crate::plan::TaskIndex;

use super::schedule::Grant;

/// One task.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) state: TaskState,
    /// Number of the last attempt; goes on over resumes.
    pub(super) attempts: u32,
    /// Attempts that used up `retries`, since the run was last opened.
    pub(super) spent: u32,
    /// Attempts lost in a row.
    pub(super) lost: u32,
    /// Attempts that ended for lack of memory, since the run was last opened.
    pub(super) out_of_memory: u32,
}

/// Variants carry what is true only then.
#[derive(Debug)]
pub(super) enum TaskState {
    /// Not in this run; also a hook that was not called.
    Out,
    /// So many of its needs have no result yet. Zero: nothing new may start.
    Waiting { unmet: usize },
    /// Its key is being looked up.
    Resolving,
    /// In the queue.
    Queued { key: Option<Key>, why: Reason },
    /// It has its place, its key is being claimed.
    Claiming { key: Key, why: Reason, grant: Grant },
    /// Another run computes its key.
    AwaitingClaim,
    /// Its attempt is journalled; the job is being made, runs, or runs still.
    Running { attempt: u32, key: Option<Key>, grant: Grant },
    /// The job ended well.
    Collecting { attempt: u32, grant: Grant },
    /// Between two attempts.
    BackingOff,
    /// Of a service: its new release is being made, which differs so from the live one.
    Releasing { why: Vec<FieldChange> },
    /// Of a service: this release is journalled.
    RollingOut { release: ReleaseId, step: RolloutStep },
    /// Nothing changes any more, unless the run is reopened.
    Ended(Outcome),
}

/// How far a release is.
#[derive(Debug)]
pub(super) enum RolloutStep {
    /// Its replicas are being started.
    Preparing,
    /// They are ready; the `verify` task is under way.
    Verifying,
    /// It is being put live. Nothing stops that any more.
    Promoting,
    /// Its replicas are being stopped.
    Abandoning { then: Then },
}

/// What becomes of a service whose release was abandoned.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Then {
    /// It is looked at from the start, or, when nothing new may start, it is cancelled.
    Anew,
    /// It fails.
    Failed(Failure),
}

/// How a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    Reused,
    Failed,
    /// The gate of the service did not pass.
    Kept,
    /// By its `when`, or by what it needs; `kept`: a service that was kept is why.
    Skipped {
        kept: bool,
    },
    /// By the task that failed.
    Blocked {
        by: TaskIndex,
    },
    Cancelled,
}

impl Outcome {
    /// Whether it stays when the run is opened again. A gate is asked again, as another release may be live by then.
    pub(super) fn stays(self) -> bool {
        match self {
            Self::Done | Self::Reused | Self::Skipped { kept: false } => true,
            Self::Failed
            | Self::Kept
            | Self::Skipped { kept: true }
            | Self::Blocked { .. }
            | Self::Cancelled => false,
        }
    }
}

impl Task {
    pub(super) fn new(state: TaskState) -> Self {
        Self { state, attempts: 0, spent: 0, lost: 0, out_of_memory: 0 }
    }
}

impl TaskState {
    /// Its result is there.
    pub(super) fn has_result(&self) -> bool {
        matches!(self, Self::Ended(Outcome::Done | Outcome::Reused))
    }

    /// An attempt or a rollout is journalled and not over.
    pub(super) fn is_live(&self) -> bool {
        matches!(self, Self::Running { .. } | Self::Collecting { .. } | Self::RollingOut { .. })
    }

    /// Some answer is still to come.
    pub(super) fn is_under_way(&self) -> bool {
        match self {
            Self::Resolving
            | Self::Claiming { .. }
            | Self::AwaitingClaim
            | Self::Running { .. }
            | Self::Collecting { .. }
            | Self::BackingOff
            | Self::Releasing { .. } => true,
            // The answer comes from the `verify` task.
            Self::RollingOut { step, .. } => !matches!(step, RolloutStep::Verifying),
            Self::Out | Self::Waiting { .. } | Self::Queued { .. } | Self::Ended(_) => false,
        }
    }

    /// What it holds of the machine.
    pub(super) fn grant(&self) -> Option<&Grant> {
        match self {
            Self::Claiming { grant, .. }
            | Self::Running { grant, .. }
            | Self::Collecting { grant, .. } => Some(grant),
            _ => None,
        }
    }
}
