//! What a container of a job is made of; data that is written into `order.json`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The container of a job. Paths and variables of the job are those inside of it.
///
/// With an empty [`super::Job::command`] the image's own program runs, in the image's own folder when
/// [`super::Job::directory`] is empty; then the job's variables are added to the image's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// The image by its id (`sha256:…`), which is here.
    pub image: String,
    /// Arguments in place of the image's own, for its own program.
    #[serde(default)]
    pub args: Option<Vec<String>>,
    /// Who runs it.
    pub user: ContainerUser,
    /// Whether its root cannot be written.
    pub read_only_root: bool,
    /// What it reaches.
    pub network: ContainerNetwork,
    /// Capabilities it keeps; all others are dropped, except that the image's own program keeps Docker's usual ones.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// What it sees of this machine.
    pub mounts: Vec<Mount>,
    /// Graphics processors it gets.
    #[serde(default)]
    pub gpus: u32,
    /// Names that resolve, and to what.
    #[serde(default)]
    pub hosts: BTreeMap<String, IpAddr>,
    /// Labels beside flowrun's own: `flowrun.pipeline`, `flowrun.stage`, `flowrun.run`, ….
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// Who runs a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContainerUser {
    /// Whoever calls flowrun: files it makes belong to the caller.
    #[default]
    Caller,
    /// Whom the image names.
    Image,
}

/// What a container reaches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContainerNetwork {
    /// Nothing but itself.
    None,
    /// The engine's usual network.
    Default,
    /// The network of a pipeline, by name.
    Named(String),
}

/// A place of this machine that a container sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// What is seen.
    pub source: MountSource,
    /// Where.
    pub target: PathBuf,
    /// It cannot be written.
    pub read_only: bool,
}

/// What a container sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountSource {
    /// A file or folder of this machine.
    Path(PathBuf),
    /// A volume of the engine, made when it is not there.
    Volume(String),
}
