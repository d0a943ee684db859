//! Rows and events (SQLite now; sqlx's one home). Truth is the `event` table; other columns are projections written in the same
//! transaction. Knows nothing of the engine.
//!
//! One connection writes, guarded by a lock of this process and `BEGIN IMMEDIATE` against others; at most two more read, and only
//! when something is read. Whatever is cut off midway (a crash, a dropped future) is rolled back as a whole.

mod append;
mod history;
mod lock;
mod open;
mod project;
mod read;
mod rebuild;
mod rows;
mod runs;
mod statement;
#[cfg(test)]
mod tests;
mod write;

use std::sync::Arc;

use sqlx::sqlite::{SqliteConnection, SqlitePool};
use tokio::sync::Mutex;

pub use lock::{RunLock, owner_alive};
pub use rows::{
    AttemptRow, FoundRun, Recorded, RunFilter, RunRow, RunState, TaskReason, TaskRow, Wish,
};
pub use runs::FIRST_EPOCH;

use crate::names::{PipelineName, RunId};

/// The state of one installation. Cheap to clone.
#[derive(Debug, Clone)]
pub struct State {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// The database, for errors.
    place: String,
    writer: Mutex<SqliteConnection>,
    /// Opened when first used.
    readers: SqlitePool,
}

/// The state cannot be used (exit 5).
#[expect(missing_docs, reason = "the doc of a variant names its fields")]
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Somebody with a newer epoch owns the run.
    #[error("run {run} was taken over by another process")]
    Fenced { run: RunId },
    /// The pipeline's name is bound to another origin.
    #[error("the pipeline name `{name}` belongs to `{bound}`, not to `{origin}`")]
    OtherOrigin { name: PipelineName, bound: String, origin: String },
    /// Another run of this pipeline is active.
    #[error("run {run} of this pipeline is active")]
    Active { run: RunId },
    /// The database itself.
    #[error("the state at `{place}` cannot be used: {why}")]
    Database { place: String, why: String },
}

impl State {
    /// An error of the database or of what lies in it.
    fn broken(&self, why: impl std::fmt::Display) -> StateError {
        StateError::Database { place: self.inner.place.clone(), why: why.to_string() }
    }

    /// No such run: a caller that made its id up.
    fn unknown(&self, run: RunId) -> StateError {
        self.broken(format!("there is no run {run}"))
    }
}
