//! What is live, as reports show it: rows of the state, and what the server says of them when it runs.

use std::collections::BTreeMap;

use tokio::sync::mpsc::unbounded_channel;

use super::error::CliError;
use super::ground::RuntimeKind;
use super::place::Place;
use crate::names::{PipelineName, ServiceId, StageName};
use crate::release::{Protocol, ServiceState, ServiceStatus};
use crate::report::{KnownService, LiveService, ServiceView, known_services, service_url};
use crate::spec::Pipeline;
use crate::state::{ReleaseRow, ServiceHome, ServiceRow};

/// So many events of each service are read.
const EVENTS: u32 = 20;

/// Services with what is known of them.
pub(crate) struct Services {
    /// By name.
    pub(crate) views: Vec<ServiceView>,
    /// Whether the server runs.
    pub(crate) server: bool,
}

/// All services, or one. Starts no server.
pub(crate) async fn services(
    place: &Place,
    only: Option<&ServiceId>,
) -> Result<Services, CliError> {
    let mut rows = place.state.services(only.map(|service| &service.pipeline)).await?;
    rows.retain(|row| only.is_none_or(|service| *service == row.service));
    if rows.is_empty() {
        // Nobody is asked where there is nothing to ask for.
        return Ok(Services { views: Vec::new(), server: false });
    }
    let (told, _) = unbounded_channel();
    let running = place.client(told)?.status_if_running().await?;
    // Of services of other homes nobody here could say more with a server.
    let server = running.is_some() || rows.iter().all(|row| row.home != ServiceHome::This);
    let running = running.unwrap_or_default();
    let mut views = Vec::new();
    for row in rows {
        let live = match row.live {
            Some(id) => place.state.release(id).await?,
            None => None,
        };
        let told = running.iter().find(|status| status.service == row.service);
        let status = match told.filter(|_| row.home == ServiceHome::This) {
            Some(status) => status.clone(),
            None => unknown(place, &row, live.as_ref()).await?,
        };
        let events = place.state.service_events(&row.service, EVENTS).await?;
        views.push(ServiceView { status, live, events });
    }
    Ok(Services { views, server })
}

/// The services of a pipeline that are live, as the state has them.
pub(crate) async fn live(
    place: &Place,
    pipeline: &PipelineName,
) -> Result<Vec<LiveService>, CliError> {
    let mut found = Vec::new();
    let rows = place.state.services(Some(pipeline)).await?;
    if rows.is_empty() {
        return Ok(found);
    }
    let running = place.client(unbounded_channel().0)?.status_if_running().await?;
    for row in rows {
        let Some(id) = row.live else { continue };
        let status = running.iter().flatten().find(|status| status.service == row.service);
        let trouble = status.and_then(trouble);
        let Some(live) = place.state.release(id).await? else { continue };
        let url = url(place, &row, Some(&live), row.route.as_deref());
        let (stage, number) = (row.service.stage, live.release.number);
        found.push(LiveService { stage, number, url, trouble });
    }
    Ok(found)
}

/// What keeps a live service from answering as it shall, if anything.
fn trouble(status: &ServiceStatus) -> Option<String> {
    let counted = format!("{} of {} ready", status.ready, status.wanted);
    let message = status.message.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
    match status.state {
        ServiceState::Ready => status.message.clone(),
        ServiceState::Unknown => None,
        ServiceState::Stopped => Some("stopped: no replica is wanted".to_owned()),
        ServiceState::Crashing => Some(format!("crashing, {counted}{message}")),
        ServiceState::Unreachable => Some(format!("unreachable{message}")),
        ServiceState::Degraded | ServiceState::Starting => Some(format!("{counted}{message}")),
    }
}

/// The services of a pipeline file, as a report of a run on this ground needs to know them.
pub(crate) async fn known(
    place: &Place,
    pipeline: &Pipeline,
    ground: RuntimeKind,
) -> Result<BTreeMap<StageName, KnownService>, CliError> {
    let mut live = BTreeMap::new();
    for row in place.state.services(Some(&pipeline.name)).await? {
        if let Some(release) = place.state.live_release(&row.service).await? {
            live.insert(row.service.stage, (release.id, release.number));
        }
    }
    let in_containers = ground == RuntimeKind::Docker;
    Ok(known_services(pipeline, place.settings.gateway, in_containers, &live))
}

/// What can be said of a service that the server does not know, or while none runs.
async fn unknown(
    place: &Place,
    row: &ServiceRow,
    live: Option<&ReleaseRow>,
) -> Result<ServiceStatus, CliError> {
    let candidate = match row.candidate {
        Some((id, _)) => place.state.release(id).await?,
        None => None,
    };
    Ok(ServiceStatus {
        service: row.service.clone(),
        state: ServiceState::Unknown,
        message: match &row.home {
            ServiceHome::This => None,
            home @ ServiceHome::Other { .. } => Some(format!("kept up by the home {home}")),
        },
        live: row.live,
        number: live.map(|row| row.release.number),
        candidate: candidate.map(|row| (row.release.id, row.release.number)),
        wanted: row.wanted,
        ready: 0,
        url: url(place, row, live, None),
        route: row.route.as_deref().map(|route| url(place, row, live, Some(route))),
        replicas: Vec::new(),
    })
}

fn url(place: &Place, row: &ServiceRow, live: Option<&ReleaseRow>, route: Option<&str>) -> String {
    let protocol = live.map_or(Protocol::Http, |row| row.release.behaviour.serving.protocol);
    let here = service_url(place.settings.gateway, row.port, protocol, route);
    match &row.home {
        ServiceHome::Other { host, .. } if !host.is_empty() => {
            here.replace(&place.settings.gateway.ip().to_string(), host)
        }
        ServiceHome::Other { .. } | ServiceHome::This => here,
    }
}
