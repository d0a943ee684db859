//! What the engine needs to know of the place it works in.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::environment::EnvironmentSettings;

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
    /// `PATH`, `USER`, `LOGNAME`, `TZ` of the caller and the variables of `pass_env`.
    pub pass_env: BTreeMap<String, String>,
    /// For building environments.
    pub environment: EnvironmentSettings,
    /// Keep the work folders of attempts that ended well too.
    pub keep_work: bool,
}
