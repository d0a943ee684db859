//! Everything a command can end with, its sentence, its help and its exit code.

use super::exit::Exit;
use crate::engine::EngineError;
use crate::environment::EnvironmentError;
use crate::names::{InputName, StageName};
use crate::outside::OutsideError;
use crate::rollout::RolloutError;
use crate::runtime::RuntimeError;
use crate::runtime::docker::DockerError;
use crate::server::ServerError;
use crate::source::SourceError;
use crate::spec::Problems;
use crate::state::StateError;
use crate::store::StoreError;
use crate::vault::VaultError;
use crate::workspace::WorkspaceError;

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// Wrong usage, or a question that nobody is there to answer.
    #[error("{message}")]
    Usage { message: String, help: Option<String> },
    /// The pipeline file is not valid; shown by its own renderer.
    #[error("`{}` is not valid", .0.file)]
    Problems(Box<Problems>),
    /// A settings file is not valid.
    #[error("{message}")]
    Invalid { message: String, help: Option<String> },
    /// Part of the product, but not of this version.
    #[error("{what} is not available yet")]
    NotAvailable { what: String, help: Option<String> },
    /// The user's stage cannot be done as it is written.
    #[error("{message}")]
    Failed { message: String, help: Option<String> },
    /// Something of the place is missing or damaged.
    #[error("{message}")]
    Missing { message: String, help: Option<String> },
    /// Stopped from outside.
    #[error("{0}")]
    Interrupted(String),
    /// The environment of a stage.
    #[error("stage `{stage}`: {error}")]
    Environment { stage: StageName, error: EnvironmentError },
    /// The state.
    #[error(transparent)]
    State(#[from] StateError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The code.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The runtime.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The work folder.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A release did not become ready, or ended; the last lines of its log.
    #[error("{message}")]
    Rollout { message: String, log: String },
    /// The services, or the server that has them.
    #[error(transparent)]
    Services(#[from] RolloutError),
    /// The server, as which this process works.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// An input from outside.
    #[error("input `{input}` of stage `{stage}`: {error}")]
    Outside { stage: StageName, input: InputName, error: OutsideError },
    /// The disk.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl From<VaultError> for CliError {
    fn from(error: VaultError) -> Self {
        Self::Missing { message: error.to_string(), help: error.help() }
    }
}

impl From<DockerError> for CliError {
    fn from(error: DockerError) -> Self {
        Self::Runtime(error.into())
    }
}

impl CliError {
    /// Wrong usage, with what to do instead.
    pub(crate) fn usage(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), help: Some(help.into()) }
    }

    /// Something of the place is missing, with the mend.
    pub(crate) fn missing(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Missing { message: message.into(), help: Some(help.into()) }
    }

    /// The exit code of DESIGN §4.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Usage { .. }
            | Self::State(StateError::OtherOrigin { .. } | StateError::ServedElsewhere { .. })
            | Self::Services(RolloutError::Unknown(_)) => Exit::Usage,
            Self::Problems(_) | Self::Invalid { .. } | Self::NotAvailable { .. } => Exit::Invalid,
            Self::Failed { .. }
            | Self::Rollout { .. }
            | Self::Runtime(RuntimeError::Docker(DockerError::Build { .. }))
            | Self::Environment {
                error: EnvironmentError::Build { .. } | EnvironmentError::Definition { .. },
                ..
            } => Exit::Failed,
            Self::Interrupted(_)
            | Self::State(StateError::Fenced { .. })
            | Self::Engine(EngineError::Left | EngineError::State(StateError::Fenced { .. })) => {
                Exit::Interrupted
            }
            Self::Engine(EngineError::Stuck(_)) | Self::Server(ServerError::Panicked) => Exit::Bug,
            Self::Missing { .. }
            | Self::Environment { .. }
            | Self::State(_)
            | Self::Store(_)
            | Self::Source(_)
            | Self::Runtime(_)
            | Self::Workspace(_)
            | Self::Engine(_)
            | Self::Services(_)
            | Self::Server(_)
            | Self::Outside { .. }
            | Self::Io(_) => Exit::Unreachable,
        }
    }

    /// What to do, one imperative sentence.
    pub(crate) fn help(&self) -> Option<String> {
        match self {
            Self::Usage { help, .. }
            | Self::Invalid { help, .. }
            | Self::NotAvailable { help, .. }
            | Self::Failed { help, .. }
            | Self::Missing { help, .. } => help.clone(),
            Self::Source(error) | Self::Workspace(WorkspaceError::Source(error)) => {
                error.help.clone()
            }
            Self::State(error) | Self::Engine(EngineError::State(error)) => Some(state_help(error)),
            Self::Store(StoreError::Unreachable { help, .. })
            | Self::Workspace(WorkspaceError::Store(StoreError::Unreachable { help, .. }))
            | Self::Engine(
                EngineError::Store(StoreError::Unreachable { help, .. })
                | EngineError::Workspace(WorkspaceError::Store(StoreError::Unreachable {
                    help, ..
                })),
            ) => Some(help.clone()),
            Self::Store(StoreError::Damaged { .. })
            | Self::Engine(EngineError::Store(StoreError::Damaged { .. })) => {
                Some("run `flowrun store check`, then apply again with `--force`".into())
            }
            Self::Engine(EngineError::Index { .. })
            | Self::Environment { error: EnvironmentError::Index { .. }, .. } => Some(
                "check the network and the index settings (`PIP_INDEX_URL`, `HTTPS_PROXY`), then `flowrun resume`".into(),
            ),
            Self::Outside { error, .. } | Self::Engine(EngineError::Outside { error, .. }) => {
                error.help()
            }
            Self::Services(RolloutError::Server(_)) => {
                Some("run `flowrun doctor`; `flowrun server` shows in the foreground what it says".into())
            }
            Self::Runtime(RuntimeError::Docker(error))
            | Self::Engine(EngineError::Runtime(RuntimeError::Docker(error))) => {
                Some(error.help().to_owned())
            }
            Self::Runtime(_) | Self::Engine(EngineError::Runtime(_)) => {
                Some("run `flowrun doctor`, then `flowrun resume`".into())
            }
            _ => None,
        }
    }

    /// The last lines of the tool that refused, if one did.
    pub(crate) fn log(&self) -> Option<&str> {
        match self {
            Self::Runtime(RuntimeError::Docker(DockerError::Build { log, .. }))
            | Self::Engine(EngineError::Index { log })
            | Self::Environment {
                error: EnvironmentError::Build { log } | EnvironmentError::Index { log },
                ..
            }
            | Self::Rollout { log, .. } => Some(log),
            _ => None,
        }
    }
}

fn state_help(error: &StateError) -> String {
    match error {
        StateError::Fenced { run } => format!("see it with `flowrun status {run}`"),
        StateError::OtherOrigin { .. } => {
            "give the pipeline another `name`, or move the name here with `flowrun apply --rebind`"
                .into()
        }
        StateError::Active { run } => {
            format!("wait for it, or stop it with `flowrun cancel {run}`")
        }
        StateError::ServedElsewhere { service, .. } => {
            format!("do it there, or take `{service}` down there first")
        }
        StateError::Database { place, .. } if place.starts_with("postgres://") => {
            "see that the database runs and lets you in, with `flowrun doctor`".into()
        }
        StateError::Database { .. } => "run `flowrun doctor`".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_code() {
        let cases = [
            (CliError::usage("a", "b"), Exit::Usage),
            (CliError::Invalid { message: "a".into(), help: None }, Exit::Invalid),
            (CliError::NotAvailable { what: "`-t`".into(), help: None }, Exit::Invalid),
            (CliError::Failed { message: "a".into(), help: None }, Exit::Failed),
            (CliError::missing("a", "b"), Exit::Unreachable),
            (CliError::Interrupted("a".into()), Exit::Interrupted),
            (CliError::Engine(EngineError::Stuck("a".into())), Exit::Bug),
            (CliError::Engine(EngineError::Index { log: "a".into() }), Exit::Unreachable),
            (CliError::Rollout { message: "a".into(), log: "b".into() }, Exit::Failed),
            (CliError::Services(RolloutError::Unknown("a".into())), Exit::Usage),
            (CliError::Services(RolloutError::Server("a".into())), Exit::Unreachable),
            (CliError::Server(ServerError::Panicked), Exit::Bug),
            (CliError::Io(std::io::Error::other("a")), Exit::Unreachable),
        ];
        for (error, exit) in cases {
            assert_eq!(error.exit(), exit, "{error}");
        }
    }
}
