//! Jobs as containers of a Docker Engine. Owns everything that is said to the engine: images, containers, networks, volumes.
//! Knows nothing of pipelines, artifacts or retries.
//!
//! The engine keeps a container when flowrun dies; whoever comes next finds it by its name, goes on with its log where the log in
//! the job's folder ends, and writes the same `end.json`. Everything that is made carries the label `flowrun.installation`.

mod ask;
mod asking;
mod build;
mod clean;
mod clock;
mod container;
mod create;
mod end;
mod error;
mod follower;
mod give_back;
pub mod image;
mod login;
pub mod network;
mod output;
mod pull;
mod reference;
pub mod runtime;
mod sampler;
mod secrets;
pub mod tool;
mod uptime;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::OnceCell;

pub use build::BuiltImage;
pub use clean::{FoundContainer, FoundVolume, IdleNetwork};
pub use error::DockerError;
pub use runtime::DockerRuntime;

/// The label that everything flowrun makes carries, with the id of the installation.
pub const INSTALLATION: &str = "flowrun.installation";

/// How the engine is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerSettings {
    /// `unix:///…`, `tcp://…` (`DOCKER_HOST`); none: the usual socket.
    pub host: Option<String>,
    /// The folder with the user's `config.json` (`DOCKER_CONFIG`, else `~/.docker`).
    pub config: Option<PathBuf>,
    /// Variables for credential helpers: `PATH`, `HOME`.
    pub env: BTreeMap<String, String>,
    /// The id of this installation: only what carries it is adopted and removed.
    pub installation: String,
}

/// A way to one engine. Cheap to clone.
#[derive(Clone)]
pub struct Docker {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Docker {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Docker").field("settings", self.settings()).finish()
    }
}

struct Inner {
    settings: DockerSettings,
    engine: OnceCell<bollard::Docker>,
    traits: OnceCell<EngineTraits>,
}

/// What must be known of an engine to make containers of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct EngineTraits {
    about: About,
    /// It gives containers users of their own; the caller is the caller only outside of that.
    remaps_users: bool,
    /// Its containers live on while it is restarted.
    keeps_containers: bool,
    /// Memory of its machine, bytes.
    memory: u64,
}

/// The socket of an engine where nothing else is said.
const USUAL_SOCKET: &str = "unix:///var/run/docker.sock";
/// How long the engine may take to begin an answer, seconds.
const PATIENCE: u64 = 120;

/// What the engine says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// Its version.
    pub version: String,
    /// It runs without root: its root user is the caller.
    pub rootless: bool,
    /// `overlay2`, …
    pub storage: String,
    /// `1` or `2`.
    pub cgroups: String,
}

impl Docker {
    /// A way to the engine; says nothing to it yet.
    pub fn open(settings: DockerSettings) -> Result<Self, DockerError> {
        let host = settings.host.as_deref().unwrap_or(USUAL_SOCKET);
        if !["unix://", "tcp://", "http://"].iter().any(|scheme| host.starts_with(scheme)) {
            let uri = host.to_owned();
            let error = bollard::errors::Error::UnsupportedURISchemeError { uri };
            return Err(DockerError::of("be found", &error));
        }
        let inner = Inner { settings, engine: OnceCell::new(), traits: OnceCell::new() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// How it was found.
    pub fn settings(&self) -> &DockerSettings {
        &self.inner.settings
    }

    /// Asks the engine what it is; an error when none answers.
    pub async fn about(&self) -> Result<About, DockerError> {
        let error = |error| DockerError::of("say what it is", &error);
        self.engine().await?.ping().await.map_err(error)?;
        Ok(self.traits().await?.about.clone())
    }

    /// The engine's client, which speaks the newest version that both sides know.
    async fn engine(&self) -> Result<&bollard::Docker, DockerError> {
        let connect = || async {
            let host = self.settings().host.as_deref().unwrap_or(USUAL_SOCKET);
            let newest = bollard::API_DEFAULT_VERSION;
            let engine = if host.starts_with("unix://") {
                bollard::Docker::connect_with_unix(host, PATIENCE, newest)
            } else {
                bollard::Docker::connect_with_http(host, PATIENCE, newest)
            };
            let error = |error| DockerError::of("be spoken to", &error);
            engine.map_err(error)?.negotiate_version().await.map_err(error)
        };
        self.inner.engine.get_or_try_init(connect).await
    }

    async fn traits(&self) -> Result<&EngineTraits, DockerError> {
        let ask = || async {
            let info = self.engine().await?.info().await;
            let info = info.map_err(|error| DockerError::of("say what it is", &error))?;
            let has = |word: &str| {
                let options = info.security_options.as_deref().unwrap_or_default();
                options.iter().any(|option| option.split(',').any(|part| part == word))
            };
            let cgroups = info.cgroup_version.map_or_else(String::new, |it| it.to_string());
            Ok(EngineTraits {
                remaps_users: has("name=userns"),
                keeps_containers: info.live_restore_enabled == Some(true),
                memory: info.mem_total.and_then(|it| u64::try_from(it).ok()).unwrap_or_default(),
                about: About {
                    rootless: has("name=rootless"),
                    version: info.server_version.unwrap_or_default(),
                    storage: info.driver.unwrap_or_default(),
                    cgroups,
                },
            })
        };
        self.inner.traits.get_or_try_init(ask).await
    }

    /// The last eight letters of the installation, as they stand in names: the first of a ULID are those of everybody who began at the
    /// same time.
    fn short_installation(&self) -> String {
        let id = &self.settings().installation;
        let rest = id.char_indices().rev().nth(7).map_or(id.as_str(), |(at, _)| &id[at..]);
        rest.to_ascii_lowercase()
    }
}
