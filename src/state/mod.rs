//! Rows and events, in SQLite or Postgres (sqlx's one home). Truth is the `event` table; other columns are projections written in
//! the same transaction. Knows nothing of the engine.
//!
//! One set of statements serves both databases; `database` holds what differs. Whatever is cut off midway (a crash, a dropped future,
//! a lost connection) is rolled back as a whole.

mod append;
mod database;
mod history;
mod home;
mod lock;
mod open;
mod ownership;
mod patience;
mod place;
mod postgres;
mod project;
mod read;
mod rebuild;
mod releases;
mod rows;
mod runs;
mod secrets;
mod service_events;
mod services;
mod statement;
#[cfg(test)]
mod tests;
mod write;

use std::sync::Arc;

pub use ownership::RunLock;
pub use patience::STATE_PATIENCE;
pub use place::StatePlace;
pub use postgres::PostgresPlace;
pub use releases::ReleaseRow;
pub use rows::{
    AttemptRow, FoundRun, GateDecision, Recorded, RunFilter, RunRow, RunState, TaskReason, TaskRow,
    Wish,
};
pub use runs::FIRST_EPOCH;
pub use secrets::SecretRow;
pub use services::{ServiceHome, ServiceRow, Swap};

use crate::names::{PipelineName, RunId, ServiceId};
use crate::weather::Weather;
use database::Database;
use home::ThisHome;

/// The state of one home, or of homes that share one. Cheap to clone.
#[derive(Debug, Clone)]
pub struct State {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// The database, for errors.
    place: String,
    database: Database,
    home: ThisHome,
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
    /// Another home keeps the service up.
    #[error("the service `{service}` is kept up by the home {home}")]
    ServedElsewhere { service: ServiceId, home: String },
    /// The database itself.
    #[error("the state at `{place}` cannot be used: {why}")]
    Database { place: String, why: String },
}

impl State {
    /// Where the state is, without its password.
    pub fn place(&self) -> &str {
        &self.inner.place
    }

    /// Whether the database is away, and is waited for; in the home it always answers. What is over before people would notice it is
    /// not told.
    pub fn weather(&self) -> Weather {
        let shared = self.inner.database.shared();
        shared.map(|connections| connections.weather().clone()).unwrap_or_default()
    }

    /// An error of the database or of what lies in it.
    fn broken(&self, why: impl std::fmt::Display) -> StateError {
        StateError::Database { place: self.inner.place.clone(), why: why.to_string() }
    }

    /// No such run: a caller that made its id up.
    fn unknown(&self, run: RunId) -> StateError {
        self.broken(format!("there is no run {run}"))
    }
}
