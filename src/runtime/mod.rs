//! Where jobs run. Owns the life of one program from start to end, its log and its limits.
//! Knows nothing of pipelines, artifacts or retries.

mod beside;
mod cgroup;
mod container;
pub mod docker;
pub(crate) mod door;
mod heard;
mod job_folder;
mod link;
pub mod local;
pub mod log;
pub mod log_lines;
pub mod monitor;
mod process;
mod program;
pub mod scripted;
pub mod secret_files;
mod settle;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::event::{JobEnd, Usage};
use crate::names::JobName;
use crate::secret::HandedSecret;

pub use container::{Container, ContainerNetwork, ContainerUser, Mount, MountSource};

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
    /// Which of them.
    #[serde(default)]
    pub log_keep: LogKeep,
    /// What its container is made of; none: a process of this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Box<Container>>,
    /// Handed over beside the job and never written down. No log shows their values.
    #[serde(skip)]
    pub secrets: Vec<HandedSecret>,
}

/// Which bytes of a log that is too long are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogKeep {
    /// The first: right for what ends.
    #[default]
    First,
    /// The newest, about half of what may be kept at least: right for what stays up.
    Latest,
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
    /// The Docker Engine is not there, refuses, or cannot do what is needed.
    #[error(transparent)]
    Docker(#[from] docker::DockerError),
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

/// A command that asks a running job something (a `ready` probe).
#[derive(Debug, Clone, PartialEq)]
pub struct Beside {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Its current directory, as the job sees it.
    pub directory: PathBuf,
    /// All of its variables, but those of the job's secrets.
    pub env: BTreeMap<String, String>,
}

/// A runtime whose jobs stay up and are reached by others.
#[async_trait]
pub trait Supervised: Runtime {
    /// Where ports of a running job are reached from this machine; none when it does not run.
    async fn address(&self, job: &JobName) -> Result<Option<IpAddr>, RuntimeError>;

    /// Runs a command beside the job's program, on the same machine or in its container, with the secrets that the program got. An
    /// inner error is a fragment for a person: why the answer is no, without secrets. Dropped midway, the command is stopped.
    async fn ask(&self, job: &JobName, beside: &Beside)
    -> Result<Result<(), String>, RuntimeError>;
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

/// The main process of the job that was started in this folder, running or not; nothing when none was started.
pub fn main_process(folder: &std::path::Path) -> Option<i32> {
    job_folder::JobFolder::new(folder).process().map(|process| process.main.pid)
}

/// How the job of this folder ended; nothing while it runs, when nobody wrote it down, or when none was started.
pub fn job_report(folder: &std::path::Path) -> Option<JobReport> {
    job_folder::JobFolder::new(folder).report()
}

/// When the job of this folder was started, Unix milliseconds; nothing when none was.
pub fn started_at(folder: &std::path::Path) -> Option<u64> {
    job_folder::JobFolder::new(folder).ordered_at()
}
