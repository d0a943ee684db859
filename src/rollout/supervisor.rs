//! All services of a home, as one actor: requests, ends of replicas, probes and timers go into one `select!`.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::sync::oneshot;

use super::actor::{Actor, Request};
use super::machine::Kind;
use super::place::{Place, networks};
use super::service::{Waiting, Wanted};
use super::{Candidate, Promotion, Rollout, RolloutError, RolloutFailure, adopt, rollback};
use crate::environment::EnvironmentSettings;
use crate::gateway::Gateway;
use crate::names::{ReleaseId, RunId, ServiceId};
use crate::release::{Release, ServiceStatus};
use crate::runtime::docker::Docker;
use crate::runtime::{RuntimeError, Supervised};
use crate::source::SourceSettings;
use crate::state::State;
use crate::store::Store;
use crate::vault::Vault;

/// What the supervisor needs to know of the place.
#[derive(Debug, Clone)]
pub struct SupervisorSettings {
    /// `services/` of the home.
    pub services: PathBuf,
    /// `volumes/` of the home.
    pub volumes: PathBuf,
    /// `runs/` of the home: whether the run of a candidate has an owner.
    pub runs: PathBuf,
    /// Where routes are listened for.
    pub gateway: SocketAddr,
    /// Where the stable port of each service is listened on.
    pub address: IpAddr,
    /// Replicas get their `$PORT` from these.
    pub replica_ports: RangeInclusive<u16>,
    /// Numbers of the graphics processors that replicas share, those of a service in turns.
    pub graphics: Vec<u32>,
    /// Bytes of log kept per stream of a start.
    pub log_cap: u64,
    /// For environments that are not there any more.
    pub environment: EnvironmentSettings,
    /// For the files of releases.
    pub source: SourceSettings,
    /// For releases that are containers; none: they cannot be started.
    pub docker: Option<Docker>,
    /// Opens secrets; none: releases with secrets cannot be started.
    pub vault: Option<Arc<Vault>>,
}

/// Makes the runtime of one replica: its folder is given, and whether it is a container.
pub type Runtimes =
    Arc<dyn Fn(&Path, bool) -> Result<Arc<dyn Supervised>, RuntimeError> + Send + Sync>;

/// The owner of all services of a home. Cheap to clone; ends with its last clone and leaves every replica running.
#[derive(Clone)]
pub struct Supervisor {
    requests: UnboundedSender<Request>,
    place: Arc<Place>,
}

impl Supervisor {
    /// Takes over what runs, brings the live releases back, and abandons candidates whose run has no owner.
    ///
    /// When it returns, every replica that was ready under an earlier supervisor answers again.
    pub async fn start(
        settings: SupervisorSettings,
        state: State,
        store: Arc<dyn Store>,
        gateway: Gateway,
        runtimes: Runtimes,
    ) -> Result<Self, RolloutError> {
        let networks = networks(settings.docker.clone());
        Self::start_in(Place { settings, state, store, gateway, runtimes, networks }).await
    }

    /// The same in this place.
    pub(super) async fn start_in(place: Place) -> Result<Self, RolloutError> {
        let place = Arc::new(place);
        let found = adopt::look(&place).await?;
        let (to, reports) = mpsc::unbounded_channel();
        let actor = Actor::adopt(place.clone(), found, to).await;
        let (requests, asked) = mpsc::unbounded_channel();
        tokio::spawn(actor.run(asked, reports));
        Ok(Self { requests, place })
    }

    /// Every service.
    pub async fn status(&self) -> Vec<ServiceStatus> {
        self.ask(Request::Status).await.unwrap_or_default()
    }

    /// Whether routes are listened for, or why not; none while no service has a route.
    pub async fn routes(&self) -> Option<Result<(), String>> {
        self.ask(Request::Routes).await.ok().flatten()
    }

    /// New replicas of the live release beside the old, then the switch; in place where it is replaced in place.
    pub async fn restart(
        &self,
        service: &ServiceId,
        by: &str,
        progress: UnboundedSender<String>,
    ) -> Result<Result<(), RolloutFailure>, RolloutError> {
        let (service, by) = (service.clone(), by.to_owned());
        let started = self
            .ask(|reply| Request::Restart { service, by, waiting: Waiting { reply, progress } })
            .await??;
        Ok(started.map(|_| ()))
    }

    /// So many replicas from now on. Does not wait for them.
    pub async fn scale(
        &self,
        service: &ServiceId,
        replicas: u32,
        by: &str,
    ) -> Result<(), RolloutError> {
        let (service, by) = (service.clone(), by.to_owned());
        self.ask(|reply| Request::Scale { service, replicas, by, reply }).await?
    }

    /// Stops a service and forgets it; with `volumes` also the volumes only it uses. Waits until its replicas are gone.
    /// One that could not be forgotten earlier is forgotten now.
    pub async fn down(
        &self,
        service: &ServiceId,
        volumes: bool,
        by: &str,
    ) -> Result<(), RolloutError> {
        let rows = self.place.state.services_here(Some(&service.pipeline)).await?;
        let has_row = rows.iter().any(|row| row.service == *service);
        let (service, by) = (service.clone(), by.to_owned());
        self.ask(|reply| Request::Down { service, has_row, volumes, by, reply }).await?
    }

    /// Puts an earlier release (none: the one that was live before) live again.
    pub async fn roll_back(
        &self,
        service: &ServiceId,
        to: Option<u64>,
        by: &str,
        progress: UnboundedSender<String>,
    ) -> Result<Result<Release, RolloutFailure>, RolloutError> {
        rollback::roll_back(self, &self.place, service, to, by, progress).await
    }

    /// The process that asked for these candidates is gone: those that are not being promoted and whose run has no owner are
    /// abandoned.
    pub async fn caller_gone(&self, candidates: &[ReleaseId]) {
        let candidates = candidates.to_vec();
        // A supervisor that is gone has nothing to abandon.
        drop(self.ask(|reply| Request::CallerGone(candidates, reply)).await);
    }

    /// Prepares a release for a run, or (none) for a roll-back that `by` asked for.
    pub(super) async fn make_ready(
        &self,
        release: Release,
        run: Option<RunId>,
        by: String,
        progress: UnboundedSender<String>,
    ) -> Result<Result<Candidate, RolloutFailure>, RolloutError> {
        let release = Arc::new(release);
        let wanted = |reply| {
            let waiting = Waiting { reply, progress };
            Request::Prepare(Box::new(Wanted { release, run, kind: Kind::Rollout, by, waiting }))
        };
        self.ask(wanted).await?
    }

    /// Ends when nothing of this supervisor runs any more, once its last clone is dropped.
    #[cfg(test)]
    pub(super) fn gone(&self) -> impl Future<Output = ()> + use<> {
        let place = Arc::downgrade(&self.place);
        async move {
            while place.strong_count() > 0 {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        }
    }

    async fn release(&self, release: ReleaseId) -> Result<Release, RolloutError> {
        let row = self.place.state.release(release).await?;
        let unknown = || RolloutError::Unknown(format!("there is no release {release}"));
        Ok(row.ok_or_else(unknown)?.release)
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, RolloutError> {
        let (reply, answer) = oneshot::channel();
        let ended = || RolloutError::Machinery("the supervisor of services has ended".to_owned());
        self.requests.send(request(reply)).map_err(|_| ended())?;
        answer.await.map_err(|_| ended())
    }
}

#[async_trait]
impl Rollout for Supervisor {
    async fn prepare(
        &self,
        release: ReleaseId,
        progress: UnboundedSender<String>,
    ) -> Result<Result<Candidate, RolloutFailure>, RolloutError> {
        let release = self.release(release).await?;
        let run = release.notes.run;
        self.make_ready(release, Some(run), format!("run {run}"), progress).await
    }

    async fn promote(
        &self,
        release: ReleaseId,
        if_live_is: Option<ReleaseId>,
    ) -> Result<Promotion, RolloutError> {
        let release = Arc::new(self.release(release).await?);
        self.ask(|reply| Request::Promote { release, if_live_is, reply }).await?
    }

    async fn abandon(&self, release: ReleaseId, why: &str) -> Result<(), RolloutError> {
        let Some(row) = self.place.state.release(release).await? else { return Ok(()) };
        let (service, why) = (row.release.service, why.to_owned());
        self.ask(|reply| Request::Abandon { service, release, why, reply }).await?
    }

    async fn keep(
        &self,
        service: &ServiceId,
        replicas: u32,
        route: Option<&str>,
    ) -> Result<(), RolloutError> {
        let (service, route) = (service.clone(), route.map(str::to_owned));
        self.ask(|reply| Request::Keep { service, replicas, route, reply }).await?
    }
}
