//! What the engine needs to know of the place it works in.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::environment::EnvironmentSettings;
use crate::names::StageName;
use crate::outside::OutsideSettings;
use crate::runtime::docker::Docker;
use crate::runtime::docker::image::Image;
use crate::runtime::docker::network::Network;
use crate::vault::Vault;

/// What the engine needs to know of the place.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// `runs/` of the home.
    pub runs: PathBuf,
    /// Tasks at once.
    pub jobs: u32,
    /// Processors to share out.
    pub cpu: f64,
    /// Bytes of memory to share out.
    pub memory: u64,
    /// Graphics processors to hand out.
    pub gpus: Vec<u32>,
    /// After a failure, go on with what does not need the failed task.
    pub keep_going: bool,
    /// Bytes of log kept per stream of an attempt.
    pub log_cap: u64,
    /// This host's name.
    pub host: String,
    /// Who does it, `user@host`: stands in records and claims.
    pub who: String,
    /// Other machines use the store too.
    pub shared_store: bool,
    /// How long a store that went away is waited for.
    pub store_patience: Duration,
    /// `PATH`, `USER`, `LOGNAME`, `TZ` of the caller and the variables of `pass_env`.
    pub pass_env: BTreeMap<String, String>,
    /// For building environments.
    pub environment: EnvironmentSettings,
    /// Keep the work folders of attempts that ended well too.
    pub keep_work: bool,
    /// Stages run as containers of this engine; none: as processes of this machine.
    pub docker: Option<DockerPlace>,
    /// For fetching what lies outside.
    pub outside: OutsideSettings,
    /// Opens secrets; none when no stage has any.
    pub vault: Option<Arc<Vault>>,
}

/// What is fixed for a run whose stages are containers.
#[derive(Debug, Clone)]
pub struct DockerPlace {
    /// The engine.
    pub docker: Docker,
    /// The image of each stage that may run.
    pub images: BTreeMap<StageName, Image>,
    /// The network of the pipeline; none when it has no services.
    pub network: Option<Network>,
    /// The host names of its services, which resolve to this machine on that network.
    pub hosts: BTreeMap<String, IpAddr>,
}
