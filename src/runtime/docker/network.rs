//! Networks of pipelines and their volumes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use bollard::models::{NetworkCreateRequest, NetworkInspect};
use bollard::query_parameters::{InspectNetworkOptions, RemoveVolumeOptions};

use super::error::status;
use super::{Docker, DockerError, INSTALLATION};
use crate::digest::Digest;

/// The label with the pipeline's name.
pub(super) const PIPELINE: &str = "flowrun.pipeline";

/// How often a network is looked for that another process is just making, and the pause between.
const LOOKS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(100);

/// The network of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Its name: `flowrun-<last 8 of the installation>-<pipeline>`.
    pub name: String,
    /// This machine's own address on it: the gateway listens there.
    pub gateway: IpAddr,
}

impl Docker {
    /// The network of a pipeline, made when it is not there. Safe to call by several processes at once.
    ///
    /// Old engines make two networks of one name when they are asked twice at once. They refuse two bridges of one name, so the
    /// bridge's name follows from the network's, and whoever is refused waits for the other's.
    pub async fn network(&self, pipeline: &str) -> Result<Network, DockerError> {
        let name = self.network_name(pipeline);
        if let Some(found) = self.find_network(&name).await? {
            return self.as_network(name, &found);
        }
        let bridge = format!("fr-{}", Digest::of(name.as_bytes()).short());
        let request = NetworkCreateRequest {
            name: name.clone(),
            driver: Some("bridge".to_owned()),
            labels: Some(HashMap::from([
                (INSTALLATION.to_owned(), self.settings().installation.clone()),
                (PIPELINE.to_owned(), pipeline.to_owned()),
            ])),
            options: Some(HashMap::from([("com.docker.network.bridge.name".to_owned(), bridge)])),
            ..NetworkCreateRequest::default()
        };
        let refused = match self.engine().await?.create_network(request).await {
            Ok(_) => None,
            Err(error) => Some(DockerError::of(format!("make network `{name}`"), &error)),
        };
        if matches!(refused, Some(DockerError::Absent { .. })) {
            return Err(refused.unwrap_or_else(|| unreachable!("it was just looked at")));
        }
        let is_taken = refused.as_ref().is_none_or(|error| {
            let said = error.to_string();
            said.contains("same bridge name") || said.contains("already exists")
        });
        for _ in 0..if is_taken { LOOKS } else { 1 } {
            if let Some(found) = self.find_network(&name).await? {
                return self.as_network(name, &found);
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(refused.unwrap_or_else(|| DockerError::Refused {
            what: format!("make network `{name}`"),
            why: "it was made and is gone again".to_owned(),
        }))
    }

    /// Removes the network of a pipeline, if it is there and nothing is on it. Whether it is gone.
    pub async fn remove_network(&self, pipeline: &str) -> Result<bool, DockerError> {
        let name = self.network_name(pipeline);
        match self.find_network(&name).await? {
            Some(found) => self.remove_found_network(&found).await,
            None => Ok(true),
        }
    }

    /// This machine's address on the engine's usual network, if it is there.
    pub async fn usual_gateway(&self) -> Result<Option<IpAddr>, DockerError> {
        Ok(self.find_network("bridge").await?.as_ref().and_then(gateway))
    }

    pub(super) async fn remove_found_network(
        &self,
        found: &NetworkInspect,
    ) -> Result<bool, DockerError> {
        if !self.is_ours(found.labels.as_ref()) {
            return Ok(false);
        }
        let id = found.id.as_deref().unwrap_or_default();
        match self.engine().await?.remove_network(id).await {
            Ok(()) => Ok(true),
            Err(error) => match status(&error) {
                Some(404) => Ok(true),
                // Something is on it.
                Some(403 | 409) => Ok(false),
                _ => Err(DockerError::of("remove a network", &error)),
            },
        }
    }

    fn network_name(&self, pipeline: &str) -> String {
        format!("flowrun-{}-{pipeline}", self.short_installation())
    }

    pub(super) async fn find_network(
        &self,
        name: &str,
    ) -> Result<Option<NetworkInspect>, DockerError> {
        let engine = self.engine().await?;
        match engine.inspect_network(name, None::<InspectNetworkOptions>).await {
            // The engine also finds by the beginning of an id.
            Ok(found) => Ok(Some(found).filter(|found| found.name.as_deref() == Some(name))),
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(DockerError::of(format!("look for network `{name}`"), &error)),
        }
    }

    fn as_network(&self, name: String, found: &NetworkInspect) -> Result<Network, DockerError> {
        if !self.is_ours(found.labels.as_ref()) {
            return Err(DockerError::Refused {
                what: format!("use network `{name}`"),
                why: "somebody else made it; remove it with `docker network rm`".to_owned(),
            });
        }
        let gateway = gateway(found).ok_or_else(|| DockerError::Refused {
            what: format!("use network `{name}`"),
            why: "it has no gateway".to_owned(),
        })?;
        Ok(Network { name, gateway })
    }

    pub(super) fn is_ours(&self, labels: Option<&HashMap<String, String>>) -> bool {
        let made_by = labels.and_then(|labels| labels.get(INSTALLATION));
        made_by.is_some_and(|made_by| *made_by == self.settings().installation)
    }

    /// The volume's name at the engine: `flowrun-<last 8 of the installation>-<pipeline>-<volume>`.
    pub fn volume_name(&self, pipeline: &str, volume: &str) -> String {
        format!("flowrun-{}-{pipeline}-{volume}", self.short_installation())
    }

    /// Removes a volume of this installation with all data, if it is there.
    pub async fn remove_volume(&self, name: &str) -> Result<(), DockerError> {
        let what = format!("remove volume `{name}`");
        let engine = self.engine().await?;
        let found = match engine.inspect_volume(name).await {
            Ok(found) => found,
            Err(error) if status(&error) == Some(404) => return Ok(()),
            Err(error) => return Err(DockerError::of(what, &error)),
        };
        if !self.is_ours(Some(&found.labels)) {
            return Err(DockerError::Refused { what, why: "somebody else made it".to_owned() });
        }
        match engine.remove_volume(name, None::<RemoveVolumeOptions>).await {
            Ok(()) => Ok(()),
            Err(error) if status(&error) == Some(404) => Ok(()),
            Err(error) => Err(DockerError::of(what, &error)),
        }
    }
}

/// This machine's address on a network; IPv4 before IPv6.
fn gateway(found: &NetworkInspect) -> Option<IpAddr> {
    let configs = found.ipam.as_ref()?.config.as_ref()?.iter();
    let addresses = configs.filter_map(|config| {
        let text = config.gateway.as_deref()?;
        text.split('/').next()?.parse::<IpAddr>().ok()
    });
    addresses.min_by_key(IpAddr::is_ipv6)
}
