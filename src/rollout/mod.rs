//! From a release to replicas that answer. Owns the life of services: rollouts (prepare → promote | abandon), replicas and
//! their probes, restarts with backoff, adoption, and what the gateway leads to. Knows no DAG and no attempts.

mod actor;
mod adopt;
mod clock;
mod contained;
#[cfg(test)]
mod container_tests;
pub mod folders;
mod keeper;
mod listeners;
mod machine;
mod orphans;
mod place;
#[cfg(test)]
mod port_tests;
mod ports;
mod probe;
mod removal;
#[cfg(test)]
mod restart_tests;
mod rollback;
mod scribe;
mod service;
mod start;
mod supervisor;
#[cfg(test)]
mod tests;
mod texts;
#[cfg(test)]
mod world;

pub use listeners::refused;
pub use supervisor::{Runtimes, Supervisor, SupervisorSettings};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedSender;

use crate::names::{ReleaseId, ServiceId};

/// Puts releases live. Every call is idempotent: after a broken connection or a restart of either side it is made again.
/// Implementations: [`crate::rollout`]'s supervisor, in the server, and the server's client.
#[async_trait]
pub trait Rollout: Send + Sync {
    /// Starts the replicas of a release (a row of the state) beside the live ones and waits until all are ready. Of a service that is
    /// replaced in place the old replica is stopped first. Told again, also of one that was abandoned, it goes on or begins anew.
    ///
    /// The caller's end gives the release up: a server abandons a candidate whose caller is gone and whose run has no owner.
    async fn prepare(
        &self,
        release: ReleaseId,
        progress: UnboundedSender<String>,
    ) -> Result<Result<Candidate, RolloutFailure>, RolloutError>;

    /// Switches to a prepared release if the live one is `if_live_is`, then drains and stops the old replicas (the answer does not
    /// wait for that). A release that is live already answers as the first time.
    async fn promote(
        &self,
        release: ReleaseId,
        if_live_is: Option<ReleaseId>,
    ) -> Result<Promotion, RolloutError>;

    /// Stops the replicas of a release that is not live; one that was replaced in place is started again. No error when there is
    /// nothing to stop.
    async fn abandon(&self, release: ReleaseId, why: &str) -> Result<(), RolloutError>;

    /// The live release is what is wanted: sees that it runs, with so many replicas and this route.
    async fn keep(
        &self,
        service: &ServiceId,
        replicas: u32,
        route: Option<&str>,
    ) -> Result<(), RolloutError>;
}

/// A prepared release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Reaches all its replicas: what `verify` gets as `FLOWRUN_SERVICE_<NAME>_URL`.
    pub url: String,
}

/// What came of a promotion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Promotion {
    /// It is live; what it replaced.
    Promoted(Option<ReleaseId>),
    /// Another release is live than the one that was expected; nothing changed.
    LiveIs(Option<ReleaseId>),
    /// A replica of it ended meanwhile; the old release is still live.
    Failed(RolloutFailure),
}

/// The release's own fault: it never became ready, or ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutFailure {
    /// A fragment: `replica 1 exited with code 3 before it was ready`.
    pub why: String,
    /// The last lines of its log.
    pub log: Vec<String>,
}

/// The machinery of services does not work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum RolloutError {
    /// The server cannot be started or reached.
    #[error("the server cannot be reached: {0}")]
    Server(String),
    /// State, store, disk, source or monitor.
    #[error("{0}")]
    Machinery(String),
    /// There is no such service, release or replica.
    #[error("{0}")]
    Unknown(String),
}
