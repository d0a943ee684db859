//! A replica as a container: what it sees, under which paths, and what it reaches.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::orphans::{PIPELINE, RELEASE, STAGE};
use super::place::Place;
use super::start::{text, volume};
use crate::environment::Environment;
use crate::names::ServiceId;
use crate::release::{Release, ReleasedContainer};
use crate::runtime::{Container, ContainerNetwork, ContainerUser, Mount, MountSource};
use crate::workspace::WorkFolder;
use crate::workspace::inside::{ENVIRONMENT, Seen, inside};

/// A replica's container and the paths that hold in it.
pub(super) struct Contained {
    pub(super) container: Container,
    pub(super) work: WorkFolder,
    /// `FLOWRUN_VOLUME_<NAME>`
    pub(super) volumes: Vec<(String, String)>,
    /// Those of the image.
    pub(super) variables: BTreeMap<String, String>,
    /// This machine on its network.
    pub(super) gateway: IpAddr,
}

/// What a start is made of on this machine.
pub(super) struct Ground<'a> {
    /// Its folder.
    pub(super) start: &'a Path,
    /// Its work folder.
    pub(super) work: &'a WorkFolder,
    /// What it sees as `/tmp`.
    pub(super) temporary: &'a Path,
    /// Its environment, if it has one.
    pub(super) environment: Option<&'a Environment>,
}

/// Whether a stage runs the image's own program and needs nothing of flowrun's folders.
pub(super) fn is_bare(release: &Release) -> bool {
    let behaviour = &release.behaviour;
    behaviour.command.is_empty() && release.notes.files.is_none() && behaviour.inputs.is_empty()
}

/// Makes what the container of a start needs on this machine, its network included.
pub(super) async fn contain(
    place: &Place,
    release: &Release,
    is: &ReleasedContainer,
    ground: &Ground<'_>,
) -> Result<Contained, String> {
    let id = &release.service;
    let network = place.network(&id.pipeline).await?;
    let (work, seen) = inside(ground.start, ground.work, ground.temporary);
    let mut mounts = Vec::new();
    if !is_bare(release) {
        mounts.extend(seen.into_iter().map(mount));
    }
    if let Some(environment) = ground.environment.and_then(Environment::mounted) {
        mounts.push(Mount {
            source: MountSource::Path(environment.to_owned()),
            target: ENVIRONMENT.into(),
            read_only: true,
        });
    }
    let mut volumes = Vec::new();
    for (name, path) in &release.behaviour.volumes {
        let target = mounted_at(name.as_str(), path, ground.work, &work)?;
        let source = if is.image_user {
            // Its files belong to whom the image says; the engine sees to that.
            let docker = place.docker()?;
            MountSource::Volume(docker.volume_name(id.pipeline.as_str(), name.as_str()))
        } else {
            let folder = volume(&place.settings.volumes, release, name.as_str());
            fs_err::create_dir_all(&folder).map_err(text)?;
            MountSource::Path(folder)
        };
        let variable = format!("FLOWRUN_VOLUME_{}", name.variable());
        volumes.push((variable, target.to_string_lossy().into_owned()));
        mounts.push(Mount { source, target, read_only: false });
    }
    let user = if is.image_user { ContainerUser::Image } else { ContainerUser::Caller };
    let container = Container {
        image: is.image.clone(),
        args: None,
        user,
        read_only_root: !is.writable_root,
        network: ContainerNetwork::Named(network.name),
        capabilities: is.capabilities.clone(),
        mounts,
        gpus: release.behaviour.gpu,
        hosts: hosts(place, release, network.gateway).await?,
        labels: labels(release),
    };
    let variables = image_variables(place, &is.image).await?;
    Ok(Contained { container, work, volumes, variables, gateway: network.gateway })
}

/// What is seen, as it is mounted.
pub(super) fn mount(seen: Seen) -> Mount {
    let Seen { source, target, read_only } = seen;
    Mount { source: MountSource::Path(source), target, read_only }
}

/// Without a way to an engine there is no image either; that is said when the container is made.
async fn image_variables(place: &Place, id: &str) -> Result<BTreeMap<String, String>, String> {
    let Ok(docker) = place.docker() else { return Ok(BTreeMap::new()) };
    let image = docker.local_image(id).await.map_err(text)?;
    Ok(image.ok_or_else(|| format!("its image `{id}` is not on this machine any more"))?.env)
}

/// Where a volume is seen. A place below the base is made here, so that the engine, which is root, makes nothing in the work folder.
fn mounted_at(
    name: &str,
    path: &str,
    outside: &WorkFolder,
    inside: &WorkFolder,
) -> Result<PathBuf, String> {
    if Path::new(path).is_absolute() {
        return Ok(path.into());
    }
    let folder = outside.base.join(path);
    let made = folder.parent().map_or(Ok(()), fs_err::create_dir_all);
    made.and_then(|()| fs_err::create_dir(&folder)).map_err(|error| {
        format!("volume `{name}` cannot lie at `{path}` in the work folder: {error}")
    })?;
    Ok(inside.base.join(path))
}

/// The services of the pipeline, all at this machine's address on its network: the gateway answers there for each of them.
async fn hosts(
    place: &Place,
    release: &Release,
    gateway: IpAddr,
) -> Result<BTreeMap<String, IpAddr>, String> {
    let ServiceId { pipeline, stage } = &release.service;
    let rows = place.state.services_here(Some(pipeline)).await.map_err(text)?;
    let others = rows.into_iter().map(|row| row.service.stage);
    let called = release.behaviour.services.keys().cloned();
    let all = others.chain(called).chain([stage.clone()]);
    Ok(all.map(|stage| (stage.host_name(), gateway)).collect())
}

fn labels(release: &Release) -> BTreeMap<String, String> {
    let ServiceId { pipeline, stage } = &release.service;
    let all = [
        (PIPELINE, pipeline.to_string()),
        (STAGE, stage.to_string()),
        (RELEASE, release.id.to_string()),
    ];
    all.map(|(name, value)| (name.to_owned(), value)).into()
}
