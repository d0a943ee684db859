//! The engine's one loop: folds everything that can happen into [`super::run::Input`], journals what the pure machine says, then acts.

mod actions;
mod cleaner;
mod driver;
mod journal;
mod live;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use super::Report;
use crate::environment::{Definition, EnvironmentSettings};
use crate::event::{KeyParts, RunOutcome};
use crate::names::{RunId, StageName, TaskId};
use crate::plan::{Graph, KeyContext};
use crate::runtime::Runtime;
use crate::source::Snapshot;
use crate::spec::Pipeline;
use crate::state::{Recorded, State};
use crate::store::Store;

use driver::Driver;

/// What is asked of the engine: one run, owned by this process under `epoch`.
pub struct RunOrder {
    /// The run; its rows exist, it is active, and the caller holds its lock.
    pub run: RunId,
    /// Of the caller's ownership.
    pub epoch: u64,
    /// The file.
    pub pipeline: Arc<Pipeline>,
    /// Its tasks within the selection.
    pub graph: Graph,
    /// What decides keys.
    pub context: KeyContext,
    /// The code.
    pub snapshot: Snapshot,
    /// Per stage with `run`.
    pub environments: BTreeMap<StageName, Definition>,
    /// What reasons compare with.
    pub history: BTreeMap<TaskId, KeyParts>,
    /// The journal so far: a new run has just its `Created`.
    pub journal: Vec<Recorded>,
    /// The rest.
    pub settings: EngineSettings,
}

/// What the engine needs to know of the place.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// `runs/` of the home.
    pub runs: PathBuf,
    /// Tasks at once.
    pub jobs: u32,
    /// Processors to share out.
    pub cpu: f64,
    /// Bytes of memory to share out.
    pub memory: u64,
    /// Graphics processors to hand out.
    pub gpus: Vec<u32>,
    /// After a failure, go on with what does not need the failed task.
    pub keep_going: bool,
    /// Bytes of log kept per stream of an attempt.
    pub log_cap: u64,
    /// This host's name.
    pub host: String,
    /// `PATH`, `USER`, `LOGNAME`, `TZ` of the caller and the variables of `pass_env`.
    pub pass_env: BTreeMap<String, String>,
    /// For building environments.
    pub environment: EnvironmentSettings,
    /// Keep the work folders of attempts that ended well too.
    pub keep_work: bool,
}

/// What the caller wishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stop {
    /// Go on.
    #[default]
    No,
    /// Nothing new starts, jobs get TERM and their grace.
    Gently,
    /// KILL.
    Now,
}

/// The machinery failed; the run is left as it is and can be resumed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The state.
    #[error(transparent)]
    State(#[from] crate::state::StateError),
    /// The store.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    /// The runtime.
    #[error(transparent)]
    Runtime(#[from] crate::runtime::RuntimeError),
    /// The work folder or the snapshot.
    #[error(transparent)]
    Workspace(#[from] crate::workspace::WorkspaceError),
    /// The package index cannot be reached.
    #[error("the package index cannot be reached")]
    Index {
        /// The tool's last lines.
        log: String,
    },
    /// The journal contradicts the pipeline.
    #[error("the journal of run {run} does not fit its pipeline: {why}")]
    Journal {
        /// The run.
        run: RunId,
        /// What does not fit.
        why: String,
    },
    /// No progress is possible and nothing failed: a bug.
    #[error("the run is stuck: {0}; this is a bug in flowrun")]
    Stuck(String),
}

impl From<std::io::Error> for EngineError {
    /// Of a file of the run or of an attempt; the error names the path.
    fn from(error: std::io::Error) -> Self {
        Self::Workspace(error.into())
    }
}

/// Does the run until its end. `stop` may change at any time; wishes of other processes are read from the state.
///
/// On an error, and when this process dies, running jobs go on and the journal holds what is needed to take them up again.
pub async fn drive(
    order: RunOrder,
    state: State,
    store: Arc<dyn Store>,
    runtime: Arc<dyn Runtime>,
    report: &mut dyn Report,
    stop: watch::Receiver<Stop>,
) -> Result<RunOutcome, EngineError> {
    Driver::take_up(order, state, store, runtime, report)?.go(stop).await
}
