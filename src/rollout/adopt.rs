//! What an earlier server left: which replicas of a service run, and which of them were ready.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, OnceLock};

use futures_util::future::join_all;

use super::folders::{self, StartFolder};
use super::keeper::Running;
use super::machine::{Adopted, Slot, Terms};
use super::place::Place;
use super::start::{self, Addresses};
use super::{RolloutError, orphans, service};
use crate::names::JobName;
use crate::release::Release;
use crate::runtime::{self, Job, Runtime, Supervised};
use crate::state::ServiceRow;

/// A service as it is found.
pub(super) struct FoundService {
    pub(super) row: ServiceRow,
    pub(super) live: Option<Arc<Release>>,
    /// One that is kept for its caller.
    pub(super) candidate: Option<Arc<Release>>,
    /// One that nobody goes on with: to be abandoned.
    pub(super) ownerless: Option<Arc<Release>>,
    pub(super) replicas: Vec<FoundReplica>,
}

/// A replica that runs.
pub(super) struct FoundReplica {
    pub(super) adopted: Adopted,
    pub(super) addresses: Addresses,
    /// Where its ports are reached, if that can be told now.
    pub(super) host: Option<IpAddr>,
    pub(super) release: Arc<Release>,
    pub(super) running: Running,
    /// Unix milliseconds, as far as the disk tells.
    pub(super) started_at: Option<u64>,
}

impl FoundService {
    /// For the machine.
    pub(super) fn live_terms(&self) -> Option<(crate::names::ReleaseId, Terms)> {
        self.live.as_ref().map(|release| (release.id, service::terms(release)))
    }
}

/// Looks at all services at once.
pub(super) async fn look(place: &Arc<Place>) -> Result<Vec<FoundService>, RolloutError> {
    let rows = place.state.services_here(None).await?;
    end_forgotten(place, &rows).await?;
    let found = join_all(rows.into_iter().map(|row| look_at(place, row))).await;
    found.into_iter().collect()
}

/// Ends what runs of services that have no row: a server was killed after it wrote that a first release is given up, and before
/// its replicas were told to stop.
async fn end_forgotten(place: &Arc<Place>, rows: &[ServiceRow]) -> Result<(), RolloutError> {
    let services = &place.settings.services;
    let broken = |error: std::io::Error| RolloutError::Machinery(error.to_string());
    let there = folders::services(services).map_err(broken)?;
    for id in there.iter().filter(|id| rows.iter().all(|row| row.service != **id)) {
        let starts = folders::starts(services, id).map_err(broken)?;
        for start in starts.into_iter().filter(StartFolder::may_run) {
            let (release, replica) = (start.release, start.replica);
            if place.state.release(release).await?.is_none() {
                // Of another state that this home worked with, whose server comes back.
                tracing::info!(service = %id, %release, "a replica of a release that this state does not know is left alone");
                continue;
            }
            let folder = folders::replica(services, id, release, replica);
            let in_container =
                runtime::ordered_job(&start.path).is_some_and(|job| job.container.is_some());
            let name = JobName::of_replica(release, replica, start.start);
            tracing::info!(service = %id, job = %name, "ends what is left of a service");
            if in_container {
                orphans::remove_unstarted(place, &name).await;
            }
            match place.runtime(&folder, in_container) {
                Ok(runtime) => stop(&*runtime, &name, &start).await,
                Err(why) => tracing::warn!(job = %name, why, "it cannot be stopped"),
            }
            let (place, id) = (place.clone(), id.clone());
            let slot = Slot { release, replica };
            tokio::task::spawn_blocking(move || start::clean_all(&place, &id, slot, &start.path));
        }
    }
    Ok(())
}

async fn look_at(place: &Arc<Place>, row: ServiceRow) -> Result<FoundService, RolloutError> {
    let release = |id| async move {
        let row = place.state.release(id).await?;
        Ok::<_, RolloutError>(row.map(|row| Arc::new(row.release)))
    };
    let live = match row.live {
        Some(id) => release(id).await?,
        None => None,
    };
    let mut candidate = None;
    let mut ownerless = None;
    if let Some((id, run)) = row.candidate {
        let found = release(id).await?;
        // A roll-back has no run: who asked for it is gone with the server, and asks again.
        if place.has_owner(run).await? {
            candidate = found;
        } else {
            ownerless = found;
        }
    }
    let starts = folders::starts(&place.settings.services, &row.service)
        .map_err(|error| RolloutError::Machinery(error.to_string()))?;
    let (may_run, over): (Vec<StartFolder>, Vec<StartFolder>) =
        starts.into_iter().partition(StartFolder::may_run);
    clean(place, &row, over);
    let known: Vec<Arc<Release>> =
        [&live, &candidate, &ownerless].into_iter().flatten().cloned().collect();
    let replicas = join_all(may_run.into_iter().map(|start| look_for(place, &known, &row, start)));
    let replicas = replicas.await.into_iter().flatten().collect();
    Ok(FoundService { row, live, candidate, ownerless, replicas })
}

/// The replica of this start, if it runs. One that does not and left no report is settled, so that nothing is left of it.
async fn look_for(
    place: &Arc<Place>,
    known: &[Arc<Release>],
    row: &ServiceRow,
    start: StartFolder,
) -> Option<FoundReplica> {
    let id = &row.service;
    let folder = folders::replica(&place.settings.services, id, start.release, start.replica);
    let name = JobName::of_replica(start.release, start.replica, start.start);
    let job = runtime::ordered_job(&start.path);
    let in_container = job.as_ref().is_some_and(|job| job.container.is_some());
    let runtime = match place.runtime(&folder, in_container) {
        Ok(runtime) => runtime,
        Err(why) => {
            tracing::warn!(service = %id, why, "a replica cannot be looked at");
            return None;
        }
    };
    let runs = runtime.is_running(&name).await.unwrap_or_else(|error| {
        // Taken for one that runs: a second start beside a living one would be worse, and its end is asked for again and again.
        tracing::warn!(service = %id, %error, "a replica cannot be looked at");
        true
    });
    let Some(job) = job.filter(|_| runs) else {
        if in_container {
            orphans::remove_unstarted(place, &name).await;
        }
        settle(&*runtime, &name, &start).await;
        clean(place, row, vec![start]);
        return None;
    };
    let mut release = known.iter().find(|release| release.id == start.release).cloned();
    if release.is_none() {
        let row = place.state.release(start.release).await.ok().flatten();
        release = row.map(|row| Arc::new(row.release));
    }
    let found = release.and_then(|release| Some((addresses(&release, &job)?, release)));
    let Some((addresses, release)) = found else {
        stop(&*runtime, &name, &start).await;
        return None;
    };
    let question = start::question(&release, &job, addresses.port).unwrap_or_else(|why| {
        tracing::warn!(service = %id, why, "its probe cannot be filled in");
        super::probe::Question::Tcp
    });
    let slot = Slot { release: start.release, replica: start.replica };
    let host = host(&*runtime, &name, in_container).await;
    // One whose address is not known cannot be led to; it is asked again.
    let ready = start.was_ready() && host.is_some();
    let restarts = start.start.saturating_sub(1);
    let started_at = fs_err::metadata(start.path.join("order.json"))
        .and_then(|metadata| metadata.modified())
        .ok()
        .and_then(|at| at.duration_since(std::time::SystemTime::UNIX_EPOCH).ok())
        .map(crate::words::millis);
    Some(FoundReplica {
        adopted: Adopted { slot, ready, restarts },
        addresses,
        host,
        release,
        running: Running {
            runtime,
            job: name,
            folder: start.path,
            question,
            ready,
            host: host.map_or_else(OnceLock::new, OnceLock::from),
        },
        started_at,
    })
}

/// Where its ports are reached.
async fn host(runtime: &dyn Supervised, name: &JobName, in_container: bool) -> Option<IpAddr> {
    if !in_container {
        return Some(Ipv4Addr::LOCALHOST.into());
    }
    runtime.address(name).await.unwrap_or_else(|error| {
        tracing::warn!(job = %name, %error, "the address of a replica cannot be told");
        None
    })
}

/// Where it listens, as it was told when it was started.
fn addresses(release: &Release, job: &Job) -> Option<Addresses> {
    let port = |name: &str| job.env.get(name)?.parse().ok();
    let mut ports = std::collections::BTreeMap::new();
    for name in release.behaviour.serving.ports.keys() {
        ports.insert(name.clone(), port(&format!("PORT_{}", name.variable()))?);
    }
    Some(Addresses { port: port("PORT")?, ports })
}

/// Removes what starts that are over left, beside everything else.
fn clean(place: &Arc<Place>, row: &ServiceRow, mut over: Vec<StartFolder>) {
    over.retain(|start| start.path.join("work").exists());
    if over.is_empty() {
        return;
    }
    let (place, service) = (place.clone(), row.service.clone());
    tokio::task::spawn_blocking(move || {
        for StartFolder { release, replica, path, .. } in over {
            start::clean(&place, &service, Slot { release, replica }, &path);
        }
    });
}

async fn settle(runtime: &dyn Runtime, name: &JobName, start: &StartFolder) {
    if let Err(error) = runtime.wait(name, &start.path).await {
        tracing::warn!(job = %name, %error, "what became of a replica cannot be told");
    }
}

/// One of a release that nobody knows any more.
async fn stop(runtime: &dyn Runtime, name: &JobName, start: &StartFolder) {
    if let Err(error) = runtime.stop(name, true).await {
        tracing::warn!(job = %name, %error, "a replica of an unknown release cannot be stopped");
        return;
    }
    settle(runtime, name, start).await;
}
