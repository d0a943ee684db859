//! What can be wrong with the machinery itself.

use crate::names::{InputName, RunId, StageName};
use crate::outside::OutsideError;

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
    /// The server, or what it needs to roll a release out.
    #[error(transparent)]
    Rollout(#[from] crate::rollout::RolloutError),
    /// An input from outside.
    #[error("input `{input}` of stage `{stage}`: {error}")]
    Outside {
        /// The stage.
        stage: StageName,
        /// Its input.
        input: InputName,
        /// Why it cannot be had.
        error: OutsideError,
    },
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
    /// The caller did not want to wait for a state that is away.
    #[error("interrupted while the state was away")]
    Left,
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
