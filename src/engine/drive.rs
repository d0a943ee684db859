//! The engine's one loop: folds everything that can happen into [`super::run::Input`], journals what the pure machine says, then acts.

mod actions;
mod attend;
mod cleaner;
mod driver;
mod journal;
mod live;
mod lookout;
mod pinning;
mod services;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::Report;
use super::attempt::recall;
use super::error::EngineError;
use super::settings::EngineSettings;
use crate::environment::Definition;
use crate::event::{KeyParts, RunOutcome};
use crate::names::{RunId, StageName, TaskId};
use crate::plan::{Graph, KeyContext};
use crate::rollout::Rollout;
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
    /// What others have to say during the run: one remark each.
    pub remarks: mpsc::UnboundedReceiver<String>,
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

/// Does the run until its end. `stop` may change at any time; wishes of other processes are read from the state.
///
/// Releases of services are rolled out by `rollout`. On an error, and when this process dies, running jobs go on and the journal holds what is needed to take them up again.
pub async fn drive(
    order: RunOrder,
    state: State,
    store: Arc<dyn Store>,
    runtime: Arc<dyn Runtime>,
    rollout: Arc<dyn Rollout>,
    report: &mut dyn Report,
    stop: watch::Receiver<Stop>,
) -> Result<RunOutcome, EngineError> {
    let live = recall(&order.graph, &order.journal, &state).await?;
    Driver::take_up(order, state, store, runtime, rollout, live, report)?.go(stop).await
}
