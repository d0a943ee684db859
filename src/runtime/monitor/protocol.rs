//! What flowrun and its monitor say to each other: JSON lines over a Unix socket.
//!
//! Both sides begin with [`Hello`]. Then flowrun sends [`Question`]s and the monitor one [`Reply`] to each, in any order.
//! Jobs are meant by name, so a question can be asked again after a lost connection.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::super::{Job, JobReport};
use crate::names::JobName;

/// Raised with every change of these types, as a newer flowrun may meet an older monitor.
pub(in super::super) const VERSION: u32 = 1;

/// The first line of each side.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct Hello {
    pub(in super::super) version: u32,
}

/// Something asked of the monitor.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct Question {
    /// Comes back with the reply; unique on this connection.
    pub(in super::super) id: u64,
    pub(in super::super) ask: Ask,
}

/// What can be asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in super::super) enum Ask {
    /// Start this job, unless its name was ever started or declared lost. Answer: `Held` or `Failed`.
    Start { job: Box<Job> },
    /// Answer when the job has ended: `Ended`. A job this monitor never started is settled from its folder, and its name is
    /// never started after.
    Wait { job: JobName, folder: PathBuf },
    /// Stop a job. Answer at once: `Held`, also for a job that does not run.
    Stop { job: JobName, kill: bool },
    /// Answer: `Running`.
    List,
}

/// An answer.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct Reply {
    pub(in super::super) id: u64,
    pub(in super::super) answer: Answer,
}

/// What can be answered.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in super::super) enum Answer {
    /// Done, or it was so before.
    Held,
    /// How the job ended.
    Ended { report: JobReport },
    /// The jobs that run now.
    Running { jobs: Vec<JobName> },
    /// The monitor could not do it.
    Failed { why: String },
}
