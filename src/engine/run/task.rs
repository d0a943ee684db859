//! Where one task stands.

use crate::digest::Key;
use crate::event::Reason;
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
    /// Nothing changes any more, unless the run is reopened.
    Ended(Outcome),
}

/// How a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    Reused,
    Failed,
    Skipped,
    /// By the task that failed.
    Blocked {
        by: TaskIndex,
    },
    Cancelled,
}

impl Outcome {
    /// Whether it stays when the run is opened again.
    pub(super) fn stays(self) -> bool {
        match self {
            Self::Done | Self::Reused | Self::Skipped => true,
            Self::Failed | Self::Blocked { .. } | Self::Cancelled => false,
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

    /// An attempt is journalled and not over.
    pub(super) fn is_live(&self) -> bool {
        matches!(self, Self::Running { .. } | Self::Collecting { .. })
    }

    /// Some answer is still to come.
    pub(super) fn is_under_way(&self) -> bool {
        match self {
            Self::Resolving
            | Self::Claiming { .. }
            | Self::AwaitingClaim
            | Self::Running { .. }
            | Self::Collecting { .. }
            | Self::BackingOff => true,
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

    /// The same, taken out of a state that is about to be replaced.
    pub(super) fn into_grant(self) -> Option<Grant> {
        match self {
            Self::Claiming { grant, .. }
            | Self::Running { grant, .. }
            | Self::Collecting { grant, .. } => Some(grant),
            _ => None,
        }
    }
}
