//! What flowrun made at an engine and can remove: only what carries the label of this installation.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bollard::models::ContainerSummaryStateEnum as State;
use bollard::query_parameters::{
    InspectContainerOptions, ListContainersOptionsBuilder, ListNetworksOptionsBuilder,
    ListVolumesOptionsBuilder, RemoveContainerOptionsBuilder,
};

use super::error::status;
use super::network::PIPELINE;
use super::{Docker, DockerError, INSTALLATION};

/// How often a container is looked at that another process is just removing, and the pause between.
const LOOKS: u32 = 300;
const PAUSE: Duration = Duration::from_millis(100);

/// A container of this installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundContainer {
    /// Its name: that of its job.
    pub name: String,
    /// It runs now.
    pub running: bool,
    /// When it was made, Unix seconds.
    pub made_at: i64,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// A network of this installation that nothing is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdleNetwork {
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub pipeline: String,
}

/// A volume of this installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundVolume {
    /// Its name at the engine.
    pub name: String,
    /// Whose it is.
    pub pipeline: String,
    /// Its name in the pipeline.
    pub volume: String,
}

impl Docker {
    /// All volumes of this installation, by name.
    pub async fn volumes(&self) -> Result<Vec<FoundVolume>, DockerError> {
        let options = ListVolumesOptionsBuilder::default().filters(&self.by_label()).build();
        let found = self.engine().await?.list_volumes(Some(options)).await;
        let found = found.map_err(|error| DockerError::of("list volumes", &error))?;
        let mut volumes: Vec<FoundVolume> = found
            .volumes
            .into_iter()
            .flatten()
            .filter_map(|one| {
                let pipeline = one.labels.get(PIPELINE)?.clone();
                let prefix = self.volume_name(&pipeline, "");
                let volume = one.name.strip_prefix(&prefix)?.to_owned();
                Some(FoundVolume { name: one.name, pipeline, volume })
            })
            .collect();
        volumes.sort_by(|one, two| one.name.cmp(&two.name));
        Ok(volumes)
    }

    /// The names of all containers of this installation, running or not, with their labels.
    pub async fn containers(&self) -> Result<Vec<FoundContainer>, DockerError> {
        let options =
            ListContainersOptionsBuilder::default().all(true).filters(&self.by_label()).build();
        let found = self.engine().await?.list_containers(Some(options)).await;
        let found = found.map_err(|error| DockerError::of("list containers", &error))?;
        let mut containers: Vec<FoundContainer> = found
            .into_iter()
            .filter_map(|one| {
                let name = one.names?.first()?.trim_start_matches('/').to_owned();
                let running =
                    matches!(one.state, Some(State::RUNNING | State::PAUSED | State::RESTARTING));
                Some(FoundContainer {
                    name,
                    running,
                    made_at: one.created.unwrap_or_default(),
                    labels: one.labels.unwrap_or_default().into_iter().collect(),
                })
            })
            .collect();
        containers.sort_by(|one, two| one.name.cmp(&two.name));
        Ok(containers)
    }

    /// Removes the container of a job that was made and never started, if there is one.
    pub async fn remove_if_unstarted(&self, name: &str) -> Result<(), DockerError> {
        match self.find_job(name).await? {
            Some(found) if found.is_new() => self.discard(name).await,
            _ => Ok(()),
        }
    }

    /// Removes every container with this label that was made and never started: a process that is killed just when it asks for a
    /// container leaves one that the engine makes after everybody has looked.
    pub async fn remove_unstarted(&self, label: &str, value: &str) -> Result<(), DockerError> {
        let mut filters = self.by_label();
        filters.entry("label").or_default().push(format!("{label}={value}"));
        filters.insert("status", vec!["created".to_owned()]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let found = self.engine().await?.list_containers(Some(options)).await;
        let found = found.map_err(|error| DockerError::of("list containers", &error))?;
        for id in found.into_iter().filter_map(|one| one.id) {
            self.discard(&id).await?;
        }
        Ok(())
    }

    /// Stops and removes a container of this installation, if it is there; afterwards it is gone.
    pub async fn remove_container(&self, name: &str) -> Result<(), DockerError> {
        let what = || format!("remove container `{name}`");
        let engine = self.engine().await?;
        for look in 0..LOOKS {
            let found = match engine.inspect_container(name, None::<InspectContainerOptions>).await
            {
                Ok(found) => found,
                Err(error) if status(&error) == Some(404) => return Ok(()),
                Err(error) => return Err(DockerError::of(what(), &error)),
            };
            let labels = found.config.and_then(|config| config.labels);
            if !self.is_ours(labels.as_ref()) {
                let why = "somebody else made it".to_owned();
                return Err(DockerError::Refused { what: what(), why });
            }
            let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
            match engine.remove_container(name, Some(options)).await {
                Ok(()) => return Ok(()),
                Err(error) => match status(&error) {
                    Some(404) => return Ok(()),
                    // Another process is at it.
                    Some(409) if look + 1 < LOOKS => tokio::time::sleep(PAUSE).await,
                    _ => return Err(DockerError::of(what(), &error)),
                },
            }
        }
        Ok(())
    }

    /// The networks of this installation that nothing is on, by name.
    pub async fn idle_networks(&self) -> Result<Vec<IdleNetwork>, DockerError> {
        let options = ListNetworksOptionsBuilder::default().filters(&self.by_label()).build();
        let found = self.engine().await?.list_networks(Some(options)).await;
        let found = found.map_err(|error| DockerError::of("list networks", &error))?;
        let used: Vec<String> = self.used_networks().await?;
        let networks = found.into_iter().filter_map(|network| {
            let pipeline = network.labels?.remove(PIPELINE).unwrap_or_default();
            Some(IdleNetwork { name: network.name?, pipeline })
        });
        let mut idle: Vec<IdleNetwork> =
            networks.filter(|network| !used.contains(&network.name)).collect();
        idle.sort_by(|one, two| one.name.cmp(&two.name));
        Ok(idle)
    }

    /// The networks that any container is on, also a stopped one, which needs its network when it is started again.
    async fn used_networks(&self) -> Result<Vec<String>, DockerError> {
        let options = ListContainersOptionsBuilder::default().all(true).build();
        let found = self.engine().await?.list_containers(Some(options)).await;
        let found = found.map_err(|error| DockerError::of("list containers", &error))?;
        let networks = found.into_iter().filter_map(|one| one.network_settings?.networks);
        Ok(networks.flat_map(HashMap::into_keys).collect())
    }

    /// Removes a network by its name, as [`Docker::idle_networks`] gives it. False: something came onto it meanwhile.
    pub async fn remove_idle_network(&self, name: &str) -> Result<bool, DockerError> {
        match self.find_network(name).await? {
            Some(found) => self.remove_found_network(&found).await,
            None => Ok(true),
        }
    }

    fn by_label(&self) -> HashMap<&'static str, Vec<String>> {
        HashMap::from([("label", vec![format!("{INSTALLATION}={}", self.settings().installation)])])
    }
}
