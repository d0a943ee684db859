//! What everything that looks after services shares, and what its tasks tell the one that decides.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc::UnboundedSender;

use super::listeners::Bound;
use super::machine::{Fact, Slot};
use super::supervisor::{Runtimes, SupervisorSettings};
use super::{RolloutError, RolloutFailure};
use crate::gateway::{Gateway, Listener};
use crate::names::{PipelineName, ReleaseId, RunId, ServiceId};
use crate::runtime::Supervised;
use crate::runtime::docker::Docker;
use crate::runtime::docker::network::Network;
use crate::state::{State, StateError, Swap};
use crate::store::Store;

/// The place services live in.
pub(super) struct Place {
    pub(super) settings: SupervisorSettings,
    pub(super) state: State,
    pub(super) store: Arc<dyn Store>,
    pub(super) gateway: Gateway,
    pub(super) runtimes: Runtimes,
    pub(super) networks: Networks,
}

/// Makes the network of a pipeline, or finds it.
pub(super) type Networks =
    Arc<dyn Fn(PipelineName) -> BoxFuture<'static, Result<Network, String>> + Send + Sync>;

/// The networks of the engine, if there is a way to one.
pub(super) fn networks(docker: Option<Docker>) -> Networks {
    Arc::new(move |pipeline| {
        let docker = docker.clone();
        Box::pin(async move {
            let docker = docker.ok_or_else(|| NO_ENGINE.to_owned())?;
            let made = docker.network(pipeline.as_str()).await;
            made.map_err(|error| format!("the network of its containers cannot be had: {error}"))
        })
    })
}

/// Why a container cannot be had when the server knows no way to an engine.
const NO_ENGINE: &str = "the Docker Engine cannot be reached: the server knows no way to one";

impl Place {
    /// The runtime of the replica with this folder.
    pub(super) fn runtime(
        &self,
        replica: &Path,
        in_container: bool,
    ) -> Result<Arc<dyn Supervised>, String> {
        (self.runtimes)(replica, in_container).map_err(|error| error.to_string())
    }

    /// The network of a pipeline, made when it is not there.
    pub(super) async fn network(&self, pipeline: &PipelineName) -> Result<Network, String> {
        (self.networks)(pipeline.clone()).await
    }

    /// Whether somebody goes on with a run; nobody does with none.
    pub(super) async fn has_owner(&self, run: Option<RunId>) -> Result<bool, StateError> {
        let Some(run) = run else { return Ok(false) };
        self.state.is_owned(run, &self.settings.runs.join(run.to_string())).await
    }

    /// The engine, for what is no replica.
    pub(super) fn docker(&self) -> Result<&Docker, String> {
        self.settings.docker.as_ref().ok_or_else(|| NO_ENGINE.to_owned())
    }
}

/// What a task tells of a service.
pub(super) enum Report {
    /// About one start of a replica.
    Replica(Slot, u64, Fact),
    /// Its folder is known, and, once its program runs, since when (Unix milliseconds).
    Begun { slot: Slot, folder: std::path::PathBuf, started_at: Option<u64> },
    /// Where its ports are reached.
    Reached(Slot, IpAddr),
    /// Where this machine is on the network of its containers.
    OnNetwork(IpAddr),
    /// Something to show who waits for the candidate.
    Progress(String),
    /// The candidate of this turn is written down, and this is bound for it.
    Recorded(u64, Result<(Bound, Listener), NotRecorded>),
    /// What the state says of the promotion of the candidate of this turn.
    Swapped(u64, Result<Swap, StateError>),
    /// Listeners that were missing.
    Bound(Bound, Option<String>),
    /// The routing listener.
    Routes(Result<Listener, String>),
    /// Whether the run of a candidate whose caller is gone has an owner.
    Owned(ReleaseId, bool),
}

/// Why a candidate cannot go on.
pub(super) enum NotRecorded {
    /// Its port cannot be had, say.
    Failed(RolloutFailure),
    /// The state does not work.
    Machinery(RolloutError),
}

/// Tells reports of one service.
#[derive(Clone)]
pub(super) struct Teller {
    pub(super) service: ServiceId,
    pub(super) to: UnboundedSender<(ServiceId, Report)>,
}

impl Teller {
    /// Nobody listens any more once the supervisor is gone; then nothing is lost.
    pub(super) fn tell(&self, report: Report) {
        drop(self.to.send((self.service.clone(), report)));
    }
}

impl From<StateError> for RolloutError {
    fn from(error: StateError) -> Self {
        Self::Machinery(error.to_string())
    }
}
