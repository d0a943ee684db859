//! Settings: flag → `FLOWRUN_*` variable → `flowrun.toml` beside the pipeline → `config.toml` in the home → default.
//! The only reader of the environment.

mod caller;
mod file;
mod layers;
mod machine;
mod table;
#[cfg(test)]
mod tests;
mod values;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use etcetera::BaseStrategy;

pub(crate) use caller::{Caller, wants_backtrace};
pub(crate) use file::SettingsFile;
pub(crate) use table::{PASSED, named};

use self::layers::Layers;
use self::values::{
    access, address, colour, from_one, names, ports, processors, runtime, size, time, whole,
};
use super::args::SettingFlags;
use super::error::CliError;
use super::screen::ColourChoice;
use crate::engine::STORE_PATIENCE;
use crate::state::StatePlace;
use crate::store::s3::bucket::BucketPlace;

/// Where routes are listened for unless something else is set.
const GATEWAY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// What replicas get their ports from unless something else is set: below what systems hand out by themselves.
const REPLICA_PORTS: RangeInclusive<u16> = 21_000..=28_999;

/// Everything that can be set, checked.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Where everything of flowrun's own lives, absolute.
    pub(crate) home: PathBuf,
    /// Where artifacts and records live.
    pub(crate) store: StoreChoice,
    /// Where runs and events are recorded.
    pub(crate) state: StatePlace,
    /// Whether the store is written.
    pub(crate) read_only_store: bool,
    /// How long a run waits for a store that went away.
    pub(crate) store_patience: Duration,
    /// Where stages run.
    pub(crate) runtime: RuntimeChoice,
    /// It was asked for on the command line.
    pub(crate) runtime_is_asked: bool,
    /// Tasks at once.
    pub(crate) jobs: u32,
    /// Processors to share out.
    pub(crate) cpu: f64,
    /// Bytes of memory to share out.
    pub(crate) memory: u64,
    /// Graphics processors to hand out.
    pub(crate) graphics: Vec<u32>,
    /// Runs kept per pipeline.
    pub(crate) keep_runs: usize,
    /// Days for which runs are kept.
    pub(crate) keep_days: u64,
    /// Releases kept per service.
    pub(crate) keep_releases: u32,
    /// Bytes of log per stream.
    pub(crate) log_cap: u64,
    /// Names of the caller's variables that stages get.
    pub(crate) pass_env: Vec<String>,
    /// Where routes are listened for; port 0: any free one.
    pub(crate) gateway: SocketAddr,
    /// Whether that was said, and is not just the default.
    pub(crate) gateway_is_set: bool,
    /// What replicas get their ports from.
    pub(crate) replica_ports: RangeInclusive<u16>,
    /// When colour is used.
    pub(crate) colour: ColourChoice,
    /// The caller.
    pub(crate) caller: Caller,
}

/// Where artifacts and records live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StoreChoice {
    /// In this folder, absolute.
    Folder(PathBuf),
    /// In a bucket, with the folder `store` of the home in front.
    Bucket {
        /// As it was written, to be handed on.
        address: String,
        /// What that means.
        place: BucketPlace,
    },
}

/// Where stages run, as it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum RuntimeChoice {
    /// As processes of this machine.
    #[default]
    Local,
    /// As containers of a Docker Engine.
    Docker,
    /// As containers where that works, else as processes.
    Auto,
}

impl StoreChoice {
    /// What another flowrun is told, to open the same store.
    pub(crate) fn address(&self) -> String {
        match self {
            Self::Folder(folder) => folder.display().to_string(),
            Self::Bucket { address, .. } => address.clone(),
        }
    }
}

impl fmt::Display for StoreChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => folder.display().fmt(formatter),
            Self::Bucket { place, .. } => place.fmt(formatter),
        }
    }
}

impl Settings {
    /// The folder on this machine that artifacts go through: the store itself, or the one in front of a bucket.
    pub(crate) fn store_folder(&self) -> PathBuf {
        match &self.store {
            StoreChoice::Folder(folder) => folder.clone(),
            StoreChoice::Bucket { .. } => self.home.join("store"),
        }
    }

    /// Reads all settings. `beside` is the folder of the pipeline, whose `flowrun.toml` counts.
    pub(crate) fn resolve(
        flags: &SettingFlags,
        caller: &Caller,
        beside: Option<&Path>,
    ) -> Result<Self, CliError> {
        let mut layers = Layers { flags, caller, files: Vec::new() };
        if let Some(folder) = beside {
            layers.files.extend(SettingsFile::read(&folder.join("flowrun.toml"), false)?);
        }
        let home = match layers.folder("home")? {
            Some(home) => home,
            None => default_home()?,
        };
        layers.files.extend(SettingsFile::read(&home.join("config.toml"), true)?);

        if layers.find("runtime").is_some_and(|found| found.text == "kubernetes") {
            return Err(CliError::NotAvailable {
                what: "the runtime `kubernetes`".to_owned(),
                help: Some("use `--runtime local` or `--runtime docker`".to_owned()),
            });
        }
        let pass_env = layers.read("pass_env", names)?;
        Ok(Self {
            state: layers.state()?,
            store: layers.store(&home)?,
            read_only_store: layers.read("store.access", access)?.unwrap_or(false),
            store_patience: layers.read("store.patience", time)?.unwrap_or(STORE_PATIENCE),
            runtime: layers.read("runtime", runtime)?.unwrap_or_default(),
            runtime_is_asked: layers.flags.get("runtime").is_some(),
            jobs: layers.read("jobs", from_one)?.unwrap_or_else(machine::processors),
            cpu: layers.read("cpu", processors)?.unwrap_or_else(|| machine::processors().into()),
            memory: layers.read("memory", size)?.unwrap_or_else(machine::memory),
            graphics: machine::graphics(
                caller.variables.get("CUDA_VISIBLE_DEVICES").map(String::as_str),
            ),
            keep_runs: layers.read("keep.runs", whole)?.unwrap_or(20),
            keep_days: layers.read("keep.days", whole)?.unwrap_or(30),
            keep_releases: layers.read("keep.releases", whole)?.unwrap_or(10),
            log_cap: layers.read("log_cap", size)?.unwrap_or(256 << 20),
            pass_env: pass_env
                .unwrap_or_else(|| PASSED.iter().map(|&name| name.to_owned()).collect()),
            gateway: layers.read("gateway", address)?.unwrap_or(GATEWAY),
            gateway_is_set: layers.find("gateway").is_some(),
            replica_ports: layers.read("replica_ports", ports)?.unwrap_or(REPLICA_PORTS),
            colour: layers.read("color", colour)?.unwrap_or_default(),
            home,
            caller: caller.clone(),
        })
    }
}

fn default_home() -> Result<PathBuf, CliError> {
    let strategy = etcetera::choose_base_strategy().map_err(|_| {
        CliError::missing("your home folder cannot be found", "set `FLOWRUN_HOME` to a folder")
    })?;
    Ok(strategy.state_dir().unwrap_or_else(|| strategy.data_dir()).join("flowrun"))
}
