//! The end of a service: its row, the folders of its replicas and, when told, the volumes that only it uses. With the last service of
//! a pipeline goes the network of its containers.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::place::Place;
use super::scribe::insist;
use super::{RolloutError, clock, folders, start};
use crate::names::ServiceId;
use crate::release::ServiceEvent;
use crate::state::RunFilter;
use crate::workspace;

/// Forgets a service whose replicas are gone. Fit to be done twice.
pub(super) async fn remove(
    place: &Place,
    id: &ServiceId,
    volumes: bool,
    by: String,
) -> Result<(), RolloutError> {
    let now = clock::now();
    let doomed = if volumes { own_volumes(place, id).await? } else { Doomed::default() };
    let in_containers = has_containers(place, id).await?;
    // Nobody asks again: the one who decides has forgotten the service by now.
    insist(|| place.state.remove_service(id, now)).await?;
    let event = ServiceEvent::TakenDown { by };
    insist(|| place.state.append_service(id, &event, now)).await?;
    let replicas = folders::service(&place.settings.services, id);
    let removing = move || {
        let folders = std::iter::once(&replicas).chain(&doomed.folders);
        folders.into_iter().try_for_each(|folder| workspace::remove_folder(folder))
    };
    let removed = tokio::task::spawn_blocking(removing).await;
    removed
        .map_err(std::io::Error::other)
        .flatten()
        .map_err(|error| RolloutError::Machinery(error.to_string()))?;
    if in_containers {
        clean_engine(place, id, &doomed.engine).await?;
    }
    Ok(())
}

/// What goes with a service.
#[derive(Default)]
struct Doomed {
    folders: BTreeSet<PathBuf>,
    /// Volumes of the engine.
    engine: BTreeSet<String>,
}

async fn has_containers(place: &Place, id: &ServiceId) -> Result<bool, RolloutError> {
    let rows = place.state.releases(Some(id)).await?;
    Ok(rows.iter().any(|row| row.release.behaviour.container.is_some()))
}

/// Removes the service's volumes at the engine and, after the last service of the pipeline, their network.
async fn clean_engine(
    place: &Place,
    id: &ServiceId,
    volumes: &BTreeSet<String>,
) -> Result<(), RolloutError> {
    let broken = |why: &dyn std::fmt::Display| {
        RolloutError::Machinery(format!("service `{id}` is down, and something of it stays: {why}"))
    };
    let docker = place.docker().map_err(|why| broken(&why))?;
    for volume in volumes {
        docker.remove_volume(volume).await.map_err(|error| broken(&error))?;
    }
    let services = place.state.services_here(Some(&id.pipeline)).await?;
    let pipeline = Some(id.pipeline.clone());
    let unended = RunFilter { pipeline, unended: true, ..RunFilter::default() };
    // A run needs it also between two of its containers; `gc` removes it later.
    if services.is_empty() && place.state.runs(&unended).await?.is_empty() {
        let gone = docker.remove_network(id.pipeline.as_str()).await;
        if !gone.map_err(|error| broken(&error))? {
            // A run of the pipeline is still on it; `gc` removes it later.
            tracing::info!(pipeline = %id.pipeline, "its network is in use and stays");
        }
    }
    Ok(())
}

/// Volumes that releases of this service name and no live release or candidate of another service does.
async fn own_volumes(place: &Place, id: &ServiceId) -> Result<Doomed, RolloutError> {
    let state = &place.state;
    let mut others = BTreeSet::new();
    for row in state.services_here(Some(&id.pipeline)).await? {
        if row.service == *id {
            continue;
        }
        let candidate = row.candidate.map(|(release, _)| release);
        for release in row.live.into_iter().chain(candidate) {
            if let Some(row) = state.release(release).await? {
                others.extend(row.release.behaviour.volumes.into_keys());
            }
        }
    }
    let mut doomed = Doomed::default();
    for row in state.releases(Some(id)).await? {
        for name in row.release.behaviour.volumes.keys().filter(|name| !others.contains(*name)) {
            let folder = start::volume(&place.settings.volumes, &row.release, name.as_str());
            doomed.folders.insert(folder);
            let container = row.release.behaviour.container.as_ref();
            if container.is_some_and(|container| container.image_user)
                && let Ok(docker) = place.docker()
            {
                doomed.engine.insert(docker.volume_name(id.pipeline.as_str(), name.as_str()));
            }
        }
    }
    Ok(doomed)
}
