//! Who calls: the variables and the folder of this process.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::layers::Layers;
use super::values;
use crate::cli::args::SettingFlags;
use crate::cli::error::CliError;
use crate::cli::screen::ColourChoice;

/// The caller: its variables and its folder.
#[derive(Debug, Clone, Default)]
pub(crate) struct Caller {
    /// Variables that are text.
    pub(crate) variables: BTreeMap<String, String>,
    /// The current folder, absolute.
    pub(crate) folder: PathBuf,
}

impl Caller {
    /// The caller of this process.
    pub(crate) fn of_process() -> Result<Self, CliError> {
        let folder = std::env::current_dir().map_err(|error| {
            CliError::usage(
                format!("the current folder cannot be used: {error}"),
                "go to another folder",
            )
        })?;
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Ok(Self { variables, folder })
    }

    /// A variable that is set and not empty.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The variables that pass `keep`.
    pub(crate) fn picked(&self, keep: impl Fn(&str) -> bool) -> BTreeMap<String, String> {
        let kept = self.variables.iter().filter(|(name, _)| keep(name));
        kept.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// Who asks, `user@host`.
    pub(crate) fn user(&self, host: &str) -> String {
        match self.variable("USER").or_else(|| self.variable("LOGNAME")) {
            Some(user) => format!("{user}@{host}"),
            None => format!("uid-{}@{host}", rustix::process::getuid().as_raw()),
        }
    }

    /// Colour as flags and variables have it, for what is said before the files were read.
    pub(crate) fn colour(&self, flags: &SettingFlags) -> ColourChoice {
        let layers = Layers { flags, caller: self, files: Vec::new() };
        layers.read("color", values::colour).ok().flatten().unwrap_or_default()
    }
}

/// Whether a panic is shown at length.
#[expect(
    clippy::disallowed_methods,
    reason = "a panic may come before or after the caller's variables were read"
)]
pub(crate) fn wants_backtrace() -> bool {
    std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0")
}
