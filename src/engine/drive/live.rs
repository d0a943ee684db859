//! A live attempt as the driver sees it, and what its futures come back with.

use tokio::task::AbortHandle;

use crate::digest::Key;
use crate::engine::attempt::Resolved;
use crate::engine::run::{Circumstance, ClaimAnswer, Input};
use crate::engine::tail::Tail;
use crate::event::Failure;
use crate::names::JobName;
use crate::plan::TaskIndex;
use crate::runtime::{Job, JobReport};
use crate::state::Wish;
use crate::store::Claim;

/// An attempt between its `AttemptStarted` and the end of its job.
pub(super) struct Live {
    pub(super) attempt: u32,
    pub(super) job: JobName,
    pub(super) stage: LiveStage,
    pub(super) tail: Tail,
}

/// How far it is.
pub(super) enum LiveStage {
    /// Environment and work folder are being made; can be given up at any time.
    Preparing(AbortHandle),
    /// The runtime is being asked to start it. A wish to stop waits for the answer, else the job could start after the stop.
    Starting { stop: Option<bool> },
    /// The runtime is being asked whether it still holds the job of an earlier process.
    Finding,
    /// The runtime holds it.
    Running,
}

/// What a future came back with.
pub(super) enum Happened {
    Input(Input),
    Resolved { task: TaskIndex, resolved: Box<Resolved> },
    Claimed { task: TaskIndex, key: Key, answer: ClaimAnswer, claim: Option<Claim> },
    Prepared { task: TaskIndex, attempt: u32, job: Result<Box<Job>, Failure> },
    Started { task: TaskIndex, attempt: u32 },
    Adoption { task: TaskIndex, attempt: u32, running: bool },
    Reclaimed { task: TaskIndex, key: Key, claim: Option<Claim> },
    JobEnded { task: TaskIndex, attempt: u32, report: JobReport, beside: Circumstance },
    Wished(Option<Wish>),
    Nothing,
}
