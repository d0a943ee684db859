//! Everything a command can end with, its sentence, its help and its exit code.

use super::exit::Exit;
use crate::engine::EngineError;
use crate::environment::EnvironmentError;
use crate::names::StageName;
use crate::runtime::RuntimeError;
use crate::source::SourceError;
use crate::spec::Problems;
use crate::state::StateError;
use crate::store::StoreError;
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
    /// The disk.
    #[error(transparent)]
    Io(#[from] std::io::Error),
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
            Self::Usage { .. } | Self::State(StateError::OtherOrigin { .. }) => Exit::Usage,
            Self::Problems(_) | Self::Invalid { .. } | Self::NotAvailable { .. } => Exit::Invalid,
            Self::Failed { .. }
            | Self::Environment {
                error: EnvironmentError::Build { .. } | EnvironmentError::Definition { .. },
                ..
            } => Exit::Failed,
            Self::Interrupted(_)
            | Self::State(StateError::Fenced { .. })
            | Self::Engine(EngineError::State(StateError::Fenced { .. })) => Exit::Interrupted,
            Self::Engine(EngineError::Stuck(_)) => Exit::Bug,
            Self::Missing { .. }
            | Self::Environment { .. }
            | Self::State(_)
            | Self::Store(_)
            | Self::Source(_)
            | Self::Runtime(_)
            | Self::Workspace(_)
            | Self::Engine(_)
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
            Self::Environment { error: EnvironmentError::Definition { help, .. }, .. } => {
                Some(help.clone())
            }
            Self::Source(error) | Self::Workspace(WorkspaceError::Source(error)) => {
                error.help.clone()
            }
            Self::State(error) | Self::Engine(EngineError::State(error)) => Some(state_help(error)),
            Self::Store(StoreError::Damaged { .. })
            | Self::Engine(EngineError::Store(StoreError::Damaged { .. })) => {
                Some("run `flowrun store check`, then apply again with `--force`".into())
            }
            Self::Engine(EngineError::Index { .. })
            | Self::Environment { error: EnvironmentError::Index { .. }, .. } => Some(
                "check the network and the index settings (`PIP_INDEX_URL`, `HTTPS_PROXY`), then `flowrun resume`".into(),
            ),
            Self::Runtime(_) | Self::Engine(EngineError::Runtime(_)) => {
                Some("run `flowrun doctor`, then `flowrun resume`".into())
            }
            _ => None,
        }
    }

    /// The last lines of the tool that refused, if one did.
    pub(crate) fn log(&self) -> Option<&str> {
        match self {
            Self::Engine(EngineError::Index { log })
            | Self::Environment {
                error: EnvironmentError::Build { log } | EnvironmentError::Index { log },
                ..
            } => Some(log),
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
            (CliError::Io(std::io::Error::other("a")), Exit::Unreachable),
        ];
        for (error, exit) in cases {
            assert_eq!(error.exit(), exit, "{error}");
        }
    }
}
