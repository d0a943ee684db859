//! What runs and releases left at the Docker Engine: ended containers, networks nobody is on, built images nobody needs. Volumes are
//! never touched, and nothing of another installation is.

use std::collections::BTreeSet;

use super::GRACE;
use crate::cli::clock;
use crate::cli::error::CliError;
use crate::cli::images;
use crate::cli::place::Place;
use crate::runtime::docker::{Docker, FoundContainer};
use crate::state::{RunFilter, RunState};

/// What was removed, or would be.
#[derive(Debug, Default)]
pub(super) struct Swept {
    /// Names.
    pub(super) containers: Vec<String>,
    /// Names.
    pub(super) networks: Vec<String>,
    /// Tags, or ids.
    pub(super) images: Vec<String>,
    /// Why the engine was not looked through, where runs or releases of this home were there.
    pub(super) unreached: Option<String>,
}

/// Whose work may still need something.
struct Needed {
    runs: BTreeSet<String>,
    releases: BTreeSet<String>,
    pipelines: BTreeSet<String>,
    images: BTreeSet<String>,
}

/// Removes it; nothing, and why, when no engine answers.
pub(super) async fn sweep(
    place: &Place,
    docker: &Docker,
    dry_run: bool,
) -> Result<Swept, CliError> {
    let mut swept = Swept::default();
    if let Err(error) = docker.about().await {
        let was_there = !needed(place).await?.images.is_empty();
        return Ok(Swept { unreached: was_there.then(|| error.to_string()), ..swept });
    }
    // What is there first, who needs it then: what begins in between is seen as needed.
    let (containers, images) = (docker.containers().await?, docker.built_images().await?);
    let needed = needed(place).await?;
    if !dry_run {
        docker.remove_left_secrets(place.home.root(), GRACE).await?;
    }
    let grace = i64::try_from(GRACE.as_secs()).unwrap_or(i64::MAX);
    let since = i64::try_from(clock::now() / 1000).unwrap_or(i64::MAX).saturating_sub(grace);
    for container in containers {
        if is_left(&container, &needed, since) {
            if !dry_run {
                docker.remove_container(&container.name).await?;
            }
            swept.containers.push(container.name);
        }
    }
    for network in docker.idle_networks().await? {
        let wanted = !needed.pipelines.contains(&network.pipeline);
        if wanted && (dry_run || docker.remove_idle_network(&network.name).await?) {
            swept.networks.push(network.name);
        }
    }
    for image in images {
        // A run that is about to begin has not pinned what it built yet.
        let wanted = !needed.images.contains(&image.id) && image.made_at < since;
        if wanted && (dry_run || docker.remove_built_image(&image).await?) {
            swept.images.push(image.tags.into_iter().next().unwrap_or(image.id));
        }
    }
    Ok(swept)
}

async fn needed(place: &Place) -> Result<Needed, CliError> {
    let mut needed = Needed {
        runs: BTreeSet::new(),
        releases: BTreeSet::new(),
        pipelines: BTreeSet::new(),
        images: BTreeSet::new(),
    };
    for row in place.state.runs(&RunFilter::default()).await? {
        let folder = place.home.run(row.id);
        let pinned = images::kept(&folder).unwrap_or_default();
        needed.images.extend(pinned.into_values().map(|image| image.id));
        if !matches!(row.state, RunState::Ended(_)) || place.state.is_owned(row.id, &folder).await?
        {
            needed.runs.insert(row.id.to_string());
            needed.pipelines.insert(row.created.pipeline.to_string());
        }
    }
    for row in place.state.releases(None).await? {
        let container = row.release.behaviour.container;
        needed.images.extend(container.map(|container| container.image));
    }
    for row in place.state.services_here(None).await? {
        needed.pipelines.insert(row.service.pipeline.to_string());
        let releases = row.live.into_iter().chain(row.candidate.map(|(release, _)| release));
        needed.releases.extend(releases.map(|release| release.to_string()));
    }
    Ok(needed)
}

/// Whether a container has ended and nobody will ask for it. One that belongs to neither run nor release built something for flowrun
/// itself, and its process may be about to read what it said: until it is old.
fn is_left(container: &FoundContainer, needed: &Needed, since: i64) -> bool {
    let label = |name: &str| container.labels.get(name);
    !container.running
        && match (label("flowrun.run"), label("flowrun.release")) {
            (_, Some(release)) => !needed.releases.contains(release),
            (Some(run), None) => !needed.runs.contains(run),
            (None, None) => container.made_at < since,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_ended_and_nobody_asks_for_is_left() {
        let needed = Needed {
            runs: ["active".to_owned()].into(),
            releases: ["live".to_owned()].into(),
            pipelines: BTreeSet::new(),
            images: BTreeSet::new(),
        };
        let container = |running, labels: &[(&str, &str)]| FoundContainer {
            name: "x".to_owned(),
            running,
            made_at: 100,
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        };
        let left = |running, labels: &[(&str, &str)], since| {
            is_left(&container(running, labels), &needed, since)
        };
        assert!(left(false, &[("flowrun.run", "ended")], 0));
        assert!(!left(false, &[("flowrun.run", "active")], 0));
        assert!(!left(true, &[("flowrun.run", "ended")], 0));
        assert!(!left(false, &[("flowrun.run", "ended"), ("flowrun.release", "live")], 0));
        assert!(left(false, &[("flowrun.run", "active"), ("flowrun.release", "old")], 0));
        assert!(!left(false, &[], 100), "it may be young");
        assert!(left(false, &[], 101));
    }
}
