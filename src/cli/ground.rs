//! Where the stages of a run run: as processes of this machine, or as containers of a Docker Engine with images that are fixed
//! before the run starts.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::asked::Asked;
use super::error::CliError;
use super::images::{self, Images};
use super::place::Place;
use super::screen::Screen;
use super::settings::RuntimeChoice;
use crate::engine::DockerPlace;
use crate::names::StageName;
use crate::runtime::docker::network::Network;
use crate::runtime::docker::{About, Docker};
use crate::words::visible;

/// Where stages run; kept with each run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RuntimeKind {
    /// As processes of this machine.
    #[default]
    Local,
    /// As containers.
    Docker,
}

/// The same with all that is fixed for a run.
#[derive(Debug, Clone)]
pub(crate) enum Ground {
    /// Processes of this machine.
    Local,
    /// Containers.
    Docker(Box<Containers>),
}

/// What is fixed for a run in containers.
#[derive(Debug, Clone)]
pub(crate) struct Containers {
    /// The engine.
    pub(crate) docker: Docker,
    /// Of every stage that may run.
    pub(crate) images: Images,
    /// Of the pipeline, when it has services; none also for a plan.
    network: Option<Network>,
}

/// What a ground is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Stages shall run on it.
    Run,
    /// It is only looked at.
    Plan,
}

/// Why a run is opened again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reopen {
    /// It goes on: its images have to be here.
    GoOn,
    /// It is stopped or looked at: no stage of it starts any more.
    End,
}

impl Ground {
    /// Which of both it is.
    pub(crate) fn kind(&self) -> RuntimeKind {
        match self {
            Self::Local => RuntimeKind::Local,
            Self::Docker(_) => RuntimeKind::Docker,
        }
    }

    /// Its containers, if it has any.
    pub(crate) fn containers(&self) -> Option<&Containers> {
        match self {
            Self::Local => None,
            Self::Docker(containers) => Some(containers),
        }
    }

    /// The id of each stage's image; empty where stages are processes.
    pub(crate) fn image_ids(&self) -> BTreeMap<StageName, String> {
        let images = self.containers().into_iter().flat_map(|containers| &containers.images);
        images.map(|(stage, image)| (stage.clone(), image.id.clone())).collect()
    }
}

impl Containers {
    /// What the engine of flowrun is told.
    pub(crate) fn place<'a>(&self, services: impl Iterator<Item = &'a StageName>) -> DockerPlace {
        let address = self.network.as_ref().map(|network| network.gateway);
        let hosts = services.filter_map(|service| Some((service.host_name(), address?))).collect();
        DockerPlace {
            docker: self.docker.clone(),
            images: self.images.clone(),
            network: self.network.clone(),
            hosts,
        }
    }
}

/// The ground of what is asked for: an engine is looked for where it is wanted. For a run images are pulled and built and the network
/// is made; a plan makes nothing.
pub(crate) async fn of_asked(
    place: &Place,
    asked: &Asked,
    purpose: Purpose,
    screen: Screen,
) -> Result<Ground, CliError> {
    let Some(docker) = chosen(place, asked, screen).await? else { return Ok(Ground::Local) };
    let stages = asked.stages_that_may_run();
    let (pipeline, snapshot) = (&asked.pipeline, &asked.snapshot);
    let (images, network) = match purpose {
        Purpose::Run => {
            let images = images::resolve(pipeline, &stages, snapshot, &docker, screen).await?;
            (images, network(&docker, asked).await?)
        }
        Purpose::Plan => {
            (images::look_up(pipeline, &stages, snapshot, &docker, screen).await?, None)
        }
    };
    Ok(Ground::Docker(Box::new(Containers { docker, images, network })))
}

/// The ground that the run with this folder was started on, whatever is asked for now.
pub(crate) async fn of_run(
    place: &Place,
    asked: &Asked,
    folder: &Path,
    why: Reopen,
    screen: Screen,
) -> Result<Ground, CliError> {
    if super::kept::runtime(folder) == RuntimeKind::Local {
        return Ok(Ground::Local);
    }
    let docker = place.docker()?;
    if why == Reopen::End {
        let images = images::kept(folder).unwrap_or_default();
        return Ok(Ground::Docker(Box::new(Containers { docker, images, network: None })));
    }
    tell(&docker.about().await?, screen);
    let images = images::pinned(folder, &docker, screen).await?.ok_or_else(|| {
        CliError::missing(
            "it is not known which images the run was started with",
            "start a new run with `flowrun apply`",
        )
    })?;
    let network = network(&docker, asked).await?;
    Ok(Ground::Docker(Box::new(Containers { docker, images, network })))
}

/// The engine that stages are to run on; none: on this machine. What was found is said.
async fn chosen(place: &Place, asked: &Asked, screen: Screen) -> Result<Option<Docker>, CliError> {
    match place.settings.runtime {
        RuntimeChoice::Local => Ok(None),
        RuntimeChoice::Docker => {
            let (docker, about) = answers(place).await?;
            tell(&about, screen);
            Ok(Some(docker))
        }
        RuntimeChoice::Auto => {
            if let Some(stage) = asked.stage_without_image() {
                screen.say(&format!("runtime local: stage `{stage}` has no image"));
                return Ok(None);
            }
            match answers(place).await {
                Ok((docker, about)) => {
                    tell(&about, screen);
                    Ok(Some(docker))
                }
                Err(error) => {
                    screen.say(&format!("runtime local: {}", visible(&error.to_string())));
                    Ok(None)
                }
            }
        }
    }
}

async fn answers(place: &Place) -> Result<(Docker, About), CliError> {
    let docker = place.docker()?;
    let about = docker.about().await?;
    Ok((docker, about))
}

fn tell(about: &About, screen: Screen) {
    screen.say(&format!("runtime docker {}", visible(&about.version)));
}

/// The pipeline's network, if it has services, so that stages reach them by name.
async fn network(docker: &Docker, asked: &Asked) -> Result<Option<Network>, CliError> {
    if asked.pipeline.stages.values().all(|stage| stage.service().is_none()) {
        return Ok(None);
    }
    Ok(Some(docker.network(asked.pipeline.name.as_str()).await?))
}
