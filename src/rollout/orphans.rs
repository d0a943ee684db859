//! Containers of services that nobody looks after: a server was killed between the engine and its own files, or files were removed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::folders::{self, StartFolder};
use super::place::Place;
use crate::names::{JobName, ServiceId};
use crate::runtime::Job;
use crate::runtime::docker::{Docker, DockerError, FoundContainer};

/// Carried by containers of services alone, so that those of runs are never taken for one.
pub(super) const RELEASE: &str = "flowrun.release";
pub(super) const PIPELINE: &str = "flowrun.pipeline";
pub(super) const STAGE: &str = "flowrun.stage";

/// Between two tries to reach the engine.
const PAUSE: Duration = Duration::from_secs(5);

/// Removes every replica's container that belongs to no start on disk that may run. A start's folder and its order are there before its
/// container is, so this can be done beside everything else. With `insist` it waits for the engine to come.
pub(super) async fn sweep(place: Arc<Place>, insist: bool) {
    let Ok(docker) = place.docker() else { return };
    loop {
        match sweep_once(&place, docker).await {
            Ok(()) => return,
            Err(error) if !insist => {
                tracing::debug!(%error, "containers are not looked through");
                return;
            }
            Err(error) => tracing::warn!(%error, "containers cannot be looked through yet"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn sweep_once(place: &Place, docker: &Docker) -> Result<(), DockerError> {
    for container in docker.containers().await? {
        if is_orphan(place, &container) {
            tracing::info!(container = container.name, "removes a container that nobody knows");
            docker.remove_container(&container.name).await?;
        }
    }
    Ok(())
}

/// Whether it is of a service and no start that may run has its name.
fn is_orphan(place: &Place, container: &FoundContainer) -> bool {
    if !container.labels.contains_key(RELEASE) {
        return false;
    }
    let label = |name| container.labels.get(name).map(String::as_str).unwrap_or_default();
    let (Ok(pipeline), Ok(stage)) = (label(PIPELINE).parse(), label(STAGE).parse()) else {
        return false;
    };
    let id = ServiceId { pipeline, stage };
    // A disk that cannot be read tells nothing.
    let Ok(starts) = folders::starts(&place.settings.services, &id) else { return false };
    let name = |start: &StartFolder| JobName::of_replica(start.release, start.replica, start.start);
    let known: BTreeSet<String> =
        starts.iter().filter(|one| one.may_run()).map(|one| name(one).to_string()).collect();
    !known.contains(&container.name)
}

/// Removes what may have been made of a job that could not be started.
pub(super) async fn forget(place: &Place, job: &Job) {
    let Some(docker) = job.container.as_ref().and_then(|_| place.docker().ok()) else { return };
    if let Err(error) = docker.remove_container(job.name.as_str()).await {
        tracing::info!(job = %job.name, %error, "what is left of it cannot be removed now");
    }
}

/// Removes the container of a start that was killed before its program ran: whoever asks for its end would start it.
pub(super) async fn remove_unstarted(place: &Place, name: &JobName) {
    let Ok(docker) = place.docker() else { return };
    if let Err(error) = docker.remove_if_unstarted(name.as_str()).await {
        tracing::warn!(job = %name, %error, "what is left of it cannot be removed now");
    }
}
