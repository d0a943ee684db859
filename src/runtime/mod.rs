//! Where jobs run. Owns the life of one program from start to end, its log and its limits.
//! Knows nothing of pipelines, artifacts or retries.

mod cgroup;
mod door;
mod job_folder;
mod link;
pub mod local;
pub mod log;
pub mod log_lines;
pub mod monitor;
mod process;
mod program;
pub mod scripted;
mod settle;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::event::{JobEnd, Usage};
use crate::names::JobName;

/// One program to run once. Nothing is left to decide.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Unique over all time; also how an earlier flowrun's job is found again.
    pub name: JobName,
    /// The attempt's folder: `stdout`, `stderr`, `index`, `order.json`, `end.json` lie here. Exists.
    pub folder: PathBuf,
    /// Program and arguments; the program is looked up in the job's own `PATH`.
    pub command: Vec<String>,
    /// Current directory.
    pub directory: PathBuf,
    /// All of its variables.
    pub env: BTreeMap<String, String>,
    /// Limits where a cgroup can be had, bytes.
    pub memory_limit: Option<u64>,
    /// Limit where a cgroup can be had, processors.
    pub cpu_limit: Option<f64>,
    /// The attempt's timeout. The runtime keeps it also when flowrun is gone.
    pub timeout: Option<Duration>,
    /// TERM → this → KILL.
    pub grace: Duration,
    /// Bytes of log kept per stream; what is over is counted and said in the log.
    pub log_cap: u64,
}

/// How a job ended and what it used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobReport {
    /// How it ended.
    pub end: JobEnd,
    /// What it used.
    pub usage: Usage,
    /// Things worth a line: a killed child of a job that ended well, processes left behind.
    pub remarks: Vec<String>,
}

/// The runtime itself does not work; never the fault of a job.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The monitor cannot be started or talked to.
    #[error("the process monitor cannot be reached: {0}")]
    Monitor(String),
    /// A file of the job cannot be read or written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// A place where jobs run. Implementations never retry.
#[async_trait]
pub trait Runtime: Send + Sync {
    /// Starts the job, unless one of this name was ever started. Returns as soon as the runtime holds it.
    ///
    /// A crash after this call leaves the job running; [`Runtime::wait`] of a later process finds it.
    /// A program that does not exist is a job that `Exited(127)` with the reason in its `stderr`.
    async fn start(&self, job: &Job) -> Result<(), RuntimeError>;

    /// Waits for the end of a job, also of one that an earlier process started. Can be asked again afterwards.
    ///
    /// A job that nobody holds and that left no `end.json` is `Lost`, and what is left of it is stopped first; after that
    /// answer the name can never be started.
    async fn wait(
        &self,
        job: &JobName,
        folder: &std::path::Path,
    ) -> Result<JobReport, RuntimeError>;

    /// Asks a job to stop: TERM to all of it, KILL after its grace; at once with `kill`. Its `wait` says `Cancelled`.
    /// No error when it has ended.
    async fn stop(&self, job: &JobName, kill: bool) -> Result<(), RuntimeError>;

    /// Whether the job runs now under this runtime (false once it has ended or was never started).
    async fn is_running(&self, job: &JobName) -> Result<bool, RuntimeError>;
}

/// Keeps every open file but the standard streams from programs that this process starts.
///
/// Whoever started flowrun may have left it open files that a monitor would then hold for as long as it lives: in
/// `apply | cat` the reader would never see the end. To be called first of all, before anything else is opened or started.
pub fn seal_inherited_descriptors() {
    close_fds::set_fds_cloexec_threadsafe(3, &[]);
}

/// The job that was ordered in this attempt's folder, with its variables; nothing when it was never started.
pub fn ordered_job(folder: &std::path::Path) -> Option<Job> {
    job_folder::JobFolder::new(folder).job()
}
