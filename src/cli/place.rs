//! Opens the parts of a place: state, store, runtime; and what they are told of the settings.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;

use super::error::CliError;
use super::ground::RuntimeKind;
use super::home::Home;
use super::settings::{Caller, Settings, StoreChoice};
use crate::engine::EngineSettings;
use crate::environment::EnvironmentSettings;
use crate::names::{Owner, RunId};
use crate::outside::{OutsideSettings, Patience};
use crate::rollout::SupervisorSettings;
use crate::runtime::Runtime;
use crate::runtime::docker::{Docker, DockerRuntime, DockerSettings};
use crate::runtime::local::{LocalRuntime, LocalSettings};
use crate::secret::SecretText;
use crate::server::WorksWith;
use crate::server::client::{Client, ServerPlace};
use crate::source::SourceSettings;
use crate::state::State;
use crate::store::Store;
use crate::store::beside::BesideStore;
use crate::store::dir::DirStore;
use crate::store::s3::S3Store;
use crate::vault::{Vault, VaultError};

/// The variable with the key that opens secrets.
const KEY: &str = "FLOWRUN_KEY";

/// The variable with the place of the state, which may hold a password.
const STATE: &str = "FLOWRUN_STATE";

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
    engine: DockerSettings,
}

impl Place {
    /// Opens the home, its state and the store, making what is not there.
    pub(crate) async fn open(settings: &Settings) -> Result<Self, CliError> {
        let home = Home::open(&settings.home)?;
        let state = State::open_at(home.root(), &settings.state).await?;
        let engine = engine(&settings.caller, state.installation().to_owned());
        let store = open_store(settings)?;
        Ok(Self { home, settings: settings.clone(), state, store, engine })
    }

    /// Who works here, `user@host`.
    pub(crate) fn who(&self) -> String {
        self.settings.caller.user(&host())
    }

    /// Whether other homes may use the store too: it is not the one in this home.
    pub(crate) fn shares_store(&self) -> bool {
        self.settings.store != StoreChoice::Folder(self.settings.home.join("store"))
    }

    /// A way to the caller's Docker Engine; says nothing to it yet.
    pub(crate) fn docker(&self) -> Result<Docker, CliError> {
        Ok(Docker::open(self.engine.clone())?)
    }

    /// The runtime of a run of this kind.
    pub(crate) fn runtime(
        &self,
        run: RunId,
        kind: RuntimeKind,
    ) -> Result<Arc<dyn Runtime>, CliError> {
        let folder = self.home.run(run);
        Ok(match kind {
            RuntimeKind::Local => {
                Arc::new(LocalRuntime::new(program()?, folder, LocalSettings::default()))
            }
            RuntimeKind::Docker => Arc::new(DockerRuntime::new(self.docker()?)),
        })
    }

    /// The way to the key that opens secrets; an error when what `FLOWRUN_KEY` holds is none.
    pub(crate) fn vault(&self) -> Result<Arc<Vault>, VaultError> {
        let given = self.settings.caller.variable(KEY).map(|key| SecretText::new(key.to_owned()));
        Ok(Arc::new(Vault::open(given.as_ref(), &self.home.key())?))
    }

    /// This process as the owner of a run.
    pub(crate) fn owner(&self) -> Owner {
        let host = host();
        Owner { user: self.settings.caller.user(&host), host, pid: std::process::id() }
    }

    /// What its state and its store are called, without passwords.
    pub(crate) fn works_with(&self) -> WorksWith {
        let (state, store) = (self.settings.state.to_string(), self.store.place_name());
        WorksWith { state, store }
    }

    /// What the supervisor of services is told.
    pub(crate) fn supervisor(&self) -> SupervisorSettings {
        let settings = &self.settings;
        SupervisorSettings {
            services: self.home.services(),
            volumes: self.home.volumes(),
            runs: self.home.runs(),
            gateway: settings.gateway,
            address: settings.gateway.ip(),
            replica_ports: settings.replica_ports.clone(),
            graphics: settings.graphics.clone(),
            log_cap: settings.log_cap,
            environment: environment(&self.home, &settings.caller),
            source: source(&self.home, &settings.caller),
            docker: None,
            // Where it is an error, each start that needs it says so.
            vault: self.vault().ok(),
        }
    }

    /// The way to the server of this home, which is started when it is first needed; `told` gets a line then.
    pub(crate) fn client(&self, told: UnboundedSender<String>) -> Result<Client, CliError> {
        let settings = &self.settings;
        let access = if settings.read_only_store { "read-only" } else { "read-write" };
        let ports = &settings.replica_ports;
        let arguments = [
            "server".to_owned(),
            format!("--home={}", self.home.root().display()),
            format!("--store={}", settings.store.address()),
            format!("--store-access={access}"),
            format!("--state-patience={}ms", settings.state.patience().as_millis()),
            format!("--gateway={}", settings.gateway),
            format!("--replica-ports={}-{}", ports.start(), ports.end()),
        ];
        let mut variables = settings.caller.picked(is_for_server);
        let cap = settings.log_cap;
        // Exactly so many bytes, in a unit that the setting knows.
        let cap = format!("{}.{:03}K", cap / 1000, cap % 1000);
        variables.insert("FLOWRUN_LOG_CAP".to_owned(), cap);
        // Not as an argument, which everybody on the machine can see: it may hold a password.
        variables.insert(STATE.to_owned(), settings.state.reveal().to_owned());
        let place = ServerPlace {
            home: self.home.root().to_owned(),
            program: program()?,
            arguments: arguments.into(),
            variables,
            gateway: settings.gateway_is_set.then_some(settings.gateway),
            works_with: Some(self.works_with()),
        };
        Ok(Client::new(place, told))
    }

    /// What fetches inputs from outside.
    pub(crate) fn outside(&self) -> OutsideSettings {
        let caller = &self.settings.caller;
        let own = || Some(Path::new(caller.variable("HOME")?).join(".netrc"));
        let netrc = caller.variable("NETRC").map(PathBuf::from).or_else(own);
        OutsideSettings { folder: self.home.temporary(), patience: Patience::default(), netrc }
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
            who: self.who(),
            shared_store: self.shares_store(),
            store_patience: settings.store_patience,
            pass_env: passed_to_stages(settings),
            environment: environment(&self.home, &settings.caller),
            keep_work,
            docker: None,
            outside: self.outside(),
            // Who needs it has been told before the run, if it is an error.
            vault: self.vault().ok(),
        }
    }
}

/// A way to the caller's Docker Engine to ask it how it is; nothing may be made with it.
pub(crate) fn docker_to_ask(settings: &Settings) -> Result<Docker, CliError> {
    Ok(Docker::open(engine(&settings.caller, String::new()))?)
}

/// Opens the store alone. What a store that is only read lacks is kept in a folder of the home.
pub(crate) fn open_store(settings: &Settings) -> Result<Arc<dyn Store>, CliError> {
    let home = Home::open(&settings.home)?;
    let folder = DirStore::open(&settings.store_folder(), &home.temporary())?;
    let is_read_only = settings.read_only_store;
    let store: Arc<dyn Store> = match &settings.store {
        StoreChoice::Folder(_) => Arc::new(folder),
        StoreChoice::Bucket { place, .. } if is_read_only => {
            Arc::new(S3Store::open_read_only(place, folder))
        }
        StoreChoice::Bucket { place, .. } => Arc::new(S3Store::open(place, folder)),
    };
    if !is_read_only {
        return Ok(store);
    }
    let own = DirStore::open(&home.unshared(), &home.temporary())?;
    Ok(Arc::new(BesideStore::new(store, own)))
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
        docker: None,
    }
}

/// How the engine is found.
fn engine(caller: &Caller, installation: String) -> DockerSettings {
    let own = || Some(Path::new(caller.variable("HOME")?).join(".docker"));
    DockerSettings {
        host: caller.variable("DOCKER_HOST").map(str::to_owned),
        config: caller.variable("DOCKER_CONFIG").map(PathBuf::from).or_else(own),
        env: caller.picked(|name| ["PATH", "HOME"].contains(&name)),
        installation,
    }
}

/// This machine's name.
pub(crate) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn passed_to_stages(settings: &Settings) -> BTreeMap<String, String> {
    let own = ["PATH", "USER", "LOGNAME", "TZ"];
    // The key would open every secret of the home for a stage that shall have one, and the state lets everything be written.
    let mut passed = settings.caller.picked(|name| {
        name != KEY
            && name != STATE
            && name != "PGPASSWORD"
            && (own.contains(&name) || settings.pass_env.iter().any(|passed| passed == name))
    });
    let named = ["USER", "LOGNAME"].into_iter().find_map(|name| settings.caller.variable(name));
    let user = named.map_or_else(user_name, str::to_owned);
    for name in ["USER", "LOGNAME"] {
        passed.entry(name.to_owned()).or_insert_with(|| user.clone());
    }
    passed
}

/// What the machine calls the caller, who was given no name (as under cron); else the number.
fn user_name() -> String {
    let number = rustix::process::geteuid().as_raw().to_string();
    let users = fs_err::read_to_string("/etc/passwd").unwrap_or_default();
    let mut lines = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let own = lines.find(|fields| fields.get(2).is_some_and(|uid| *uid == number));
    own.map_or(number, |fields| fields[0].to_owned())
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

/// Credentials, regions and endpoints, as all tools for S3 take them.
fn is_for_bucket(name: &str) -> bool {
    name.starts_with("AWS_")
}

/// What git, the builder of environments and the ways to the Docker Engine, to Postgres and to a bucket need, the key of the secrets, and what programs are told of
/// people's language and time. Nothing else: a server outlives its caller by far.
fn is_for_server(name: &str) -> bool {
    let plain = ["TZ", "LANGUAGE", "RUST_BACKTRACE", KEY];
    let engine = name == "DOCKER_HOST" || name == "DOCKER_CONFIG";
    let postgres =
        ["PGPASSWORD", "PGPASSFILE", "PGSSLMODE", "PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY"];
    let engine = engine || postgres.contains(&name);
    let own = plain.contains(&name) || name.starts_with("LC_") || engine || is_for_bucket(name);
    own || is_for_git(name) || is_for_index(name)
}

/// The program that becomes monitors and the server.
pub(crate) fn program() -> Result<PathBuf, CliError> {
    own_program().map_err(|error| {
        CliError::missing(
            format!("flowrun cannot find its own program: {error}"),
            "start it by its full path",
        )
    })
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
    fn the_server_gets_what_it_needs_and_no_more() {
        let wanted = [
            "PATH",
            "HOME",
            "TZ",
            "LC_ALL",
            "LANG",
            "HTTPS_PROXY",
            "PIP_INDEX_URL",
            "FLOWRUN_KEY",
            "DOCKER_HOST",
            "DOCKER_CONFIG",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_PROFILE",
        ];
        for name in wanted {
            assert!(is_for_server(name), "{name}");
        }
        for name in ["FLOWRUN_STORE", "GIT_DIR", "PYTHONPATH", "OLDPWD"] {
            assert!(!is_for_server(name), "{name}");
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
