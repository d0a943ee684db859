//! Opens the parts of a place: state, store, runtime; and what they are told of the settings.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::error::CliError;
use super::home::Home;
use super::read_only_store::ReadOnlyStore;
use super::settings::{Caller, Settings};
use crate::engine::EngineSettings;
use crate::environment::EnvironmentSettings;
use crate::names::{Owner, RunId};
use crate::runtime::Runtime;
use crate::runtime::local::{LocalRuntime, LocalSettings};
use crate::source::SourceSettings;
use crate::state::State;
use crate::store::Store;
use crate::store::dir::DirStore;

/// An opened place.
#[derive(Clone)]
pub(crate) struct Place {
    /// The home.
    pub(crate) home: Home,
    /// The settings.
    pub(crate) settings: Settings,
    /// Runs and events.
    pub(crate) state: State,
    /// Artifacts and records.
    pub(crate) store: Arc<dyn Store>,
    /// The same for a look inside and for copies out, which write nothing into it.
    pub(crate) artifacts: Arc<DirStore>,
}

impl Place {
    /// Opens the home, its state and the store, making what is not there.
    pub(crate) async fn open(settings: &Settings) -> Result<Self, CliError> {
        let home = Home::open(&settings.home)?;
        let state = State::open(home.root()).await?;
        let artifacts = Arc::new(open_store(settings)?);
        let whole: Arc<dyn Store> = Arc::<DirStore>::clone(&artifacts);
        let store =
            if settings.read_only_store { Arc::new(ReadOnlyStore::new(whole)) } else { whole };
        Ok(Self { home, settings: settings.clone(), state, store, artifacts })
    }

    /// The runtime of a run.
    pub(crate) fn runtime(&self, run: RunId) -> Result<Arc<dyn Runtime>, CliError> {
        let program = own_program().map_err(|error| {
            CliError::missing(
                format!("flowrun cannot find its own program: {error}"),
                "start it by its full path",
            )
        })?;
        Ok(Arc::new(LocalRuntime::new(program, self.home.run(run), LocalSettings::default())))
    }

    /// This process as the owner of a run.
    pub(crate) fn owner(&self) -> Owner {
        let host = host();
        Owner { user: self.settings.caller.user(&host), host, pid: std::process::id() }
    }

    /// What the engine is told.
    pub(crate) fn engine(&self, keep_going: bool, keep_work: bool) -> EngineSettings {
        let settings = &self.settings;
        EngineSettings {
            runs: self.home.runs(),
            jobs: settings.jobs,
            cpu: settings.cpu,
            memory: settings.memory,
            gpus: settings.graphics.clone(),
            keep_going,
            log_cap: settings.log_cap,
            host: host(),
            pass_env: passed_to_stages(settings),
            environment: environment(&self.home, &settings.caller),
            keep_work,
        }
    }
}

/// Opens the store alone.
pub(crate) fn open_store(settings: &Settings) -> Result<DirStore, CliError> {
    let home = Home::open(&settings.home)?;
    Ok(DirStore::open(&settings.store, &home.temporary())?)
}

/// What the source is told.
pub(crate) fn source(home: &Home, caller: &Caller) -> SourceSettings {
    SourceSettings {
        mirrors: home.mirrors(),
        home: home.root().to_owned(),
        env: caller.picked(is_for_git).into_iter().collect(),
    }
}

/// What the environment builder is told.
pub(crate) fn environment(home: &Home, caller: &Caller) -> EnvironmentSettings {
    EnvironmentSettings {
        folder: home.environments(),
        path: caller.variable("PATH").unwrap_or("/usr/local/bin:/usr/bin:/bin").to_owned(),
        env: caller.picked(is_for_index),
    }
}

/// This machine's name.
pub(crate) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn passed_to_stages(settings: &Settings) -> BTreeMap<String, String> {
    let own = ["PATH", "USER", "LOGNAME", "TZ"];
    settings
        .caller
        .picked(|name| own.contains(&name) || settings.pass_env.iter().any(|passed| passed == name))
}

fn is_network(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    upper.ends_with("_PROXY") || upper.starts_with("SSL_CERT_") || upper.ends_with("_CA_BUNDLE")
}

/// Paths, ssh, credentials and the network; never `GIT_DIR` and its kin, which a git hook sets and which would point
/// git at the wrong repo.
fn is_for_git(name: &str) -> bool {
    let plain =
        ["PATH", "HOME", "USER", "LOGNAME", "LANG", "TMPDIR", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"];
    let git = [
        "GIT_ASKPASS",
        "GIT_TERMINAL_PROMPT",
        "GIT_PROXY_COMMAND",
        "GIT_SSL_CAINFO",
        "GIT_SSL_CAPATH",
    ];
    plain.contains(&name)
        || git.contains(&name)
        || name.starts_with("SSH_")
        || name.starts_with("GIT_SSH")
        || name.starts_with("GIT_CONFIG_")
        || is_network(name)
}

/// Index, proxy and CA settings, and where caches and credentials of pip and uv lie.
fn is_for_index(name: &str) -> bool {
    let plain = ["HOME", "NETRC", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "TMPDIR"];
    plain.contains(&name) || name.starts_with("PIP_") || name.starts_with("UV_") || is_network(name)
}

/// What to start to get another process of this program: on Linux the very file that runs, also when it was replaced or removed since.
#[cfg(target_os = "linux")]
#[expect(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
fn own_program() -> std::io::Result<PathBuf> {
    Ok("/proc/self/exe".into())
}

#[cfg(not(target_os = "linux"))]
fn own_program() -> std::io::Result<PathBuf> {
    std::env::current_exe()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_gets_what_it_needs_and_no_repo() {
        for name in ["SSH_AUTH_SOCK", "GIT_SSH_COMMAND", "https_proxy", "HOME"] {
            assert!(is_for_git(name), "{name}");
        }
        for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "AWS_SECRET_ACCESS_KEY"] {
            assert!(!is_for_git(name), "{name}");
        }
    }

    #[test]
    fn the_builder_gets_the_index() {
        for name in
            ["PIP_INDEX_URL", "UV_INDEX_URL", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NO_PROXY"]
        {
            assert!(is_for_index(name), "{name}");
        }
        assert!(!is_for_index("AWS_SECRET_ACCESS_KEY"));
        assert!(!is_for_index("PYTHONPATH"));
    }
}
