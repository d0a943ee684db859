//! Every place where a setting may stand, and what is said of a value that cannot be.

use std::fmt;
use std::path::{Path, PathBuf};

use super::values::time;
use super::{Caller, SettingsFile, StoreChoice, named};
use crate::cli::args::SettingFlags;
use crate::cli::error::CliError;
use crate::engine::STORE_PATIENCE;
use crate::state::StatePlace;
use crate::store::s3::bucket::BucketPlace;

/// Where a value came from, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    Flag(&'static str),
    Variable(&'static str),
    File(PathBuf, usize),
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(formatter, "the flag `{flag}`"),
            Self::Variable(variable) => write!(formatter, "the variable `{variable}`"),
            Self::File(path, line) => write!(formatter, "{}:{line}", path.display()),
        }
    }
}

impl Origin {
    /// What a sentence about the setting `name` begins with.
    fn subject(&self, name: &str) -> String {
        match self {
            Self::File(..) => format!("{self}: `{name}`"),
            Self::Flag(_) | Self::Variable(_) => self.to_string(),
        }
    }

    /// The error of a value that stands here: its file is not valid, or flowrun is used wrongly.
    fn refusal(&self, message: String, help: Option<String>) -> CliError {
        match self {
            Self::File(..) => CliError::Invalid { message, help },
            Self::Flag(_) | Self::Variable(_) => CliError::Usage { message, help },
        }
    }
}

/// A value that was found.
pub(super) struct Found {
    /// As it was written.
    pub(super) text: String,
    origin: Origin,
}

/// Every place where settings are looked for, first one first.
pub(super) struct Layers<'a> {
    pub(super) flags: &'a SettingFlags,
    pub(super) caller: &'a Caller,
    pub(super) files: Vec<SettingsFile>,
}

impl Layers<'_> {
    pub(super) fn find(&self, name: &str) -> Option<Found> {
        let setting = named(name)?;
        if let Some(text) = self.flags.get(name) {
            return Some(Found { text: text.clone(), origin: Origin::Flag(setting.flag) });
        }
        if let Some(text) = self.caller.variable(setting.variable) {
            let origin = Origin::Variable(setting.variable);
            return Some(Found { text: text.to_owned(), origin });
        }
        self.files.iter().find_map(|file| {
            let (text, line) = file.entries.get(name)?;
            Some(Found { text: text.clone(), origin: Origin::File(file.path.clone(), *line) })
        })
    }

    pub(super) fn read<T>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, &'static str>,
    ) -> Result<Option<T>, CliError> {
        let Some(found) = self.find(name) else { return Ok(None) };
        parse(&found.text).map(Some).map_err(|wanted| refuse(name, &found, wanted))
    }

    pub(super) fn store(&self, home: &Path) -> Result<StoreChoice, CliError> {
        let Some(found) = self.find("store").filter(|found| found.text.contains("://")) else {
            let folder = self.folder("store")?.unwrap_or_else(|| home.join("store"));
            return Ok(StoreChoice::Folder(folder));
        };
        match found.text.parse() {
            Ok(place) => {
                let place: BucketPlace = place;
                let patience = self.read("store.patience", time)?.unwrap_or(STORE_PATIENCE);
                let place = place.with_patience(patience);
                Ok(StoreChoice::Bucket { address: found.text, place })
            }
            // What was written may hold a password, so it is not shown whole.
            Err(error) => Err(found.origin.refusal(
                format!("{}: {error}", found.origin),
                Some("give a folder, or `s3://bucket/prefix`".to_owned()),
            )),
        }
    }

    /// The place of the state. Its text may hold a password and is never shown.
    pub(super) fn state(&self) -> Result<StatePlace, CliError> {
        let Some(found) = self.find("state") else { return Ok(StatePlace::default()) };
        let refused = |why: String| {
            found.origin.refusal(
                format!("{} cannot be used: {why}", found.origin.subject("state")),
                Some("give `sqlite` or `postgres://…`; see docs/postgres.md".to_owned()),
            )
        };
        let place: StatePlace = found.text.parse().map_err(refused)?;
        Ok(match self.read("state.patience", time)? {
            Some(patience) => place.with_patience(patience),
            None => place,
        })
    }

    /// A folder: relative to the caller's folder, or to the file that names it.
    pub(super) fn folder(&self, name: &str) -> Result<Option<PathBuf>, CliError> {
        let Some(found) = self.find(name) else { return Ok(None) };
        if found.text.is_empty() {
            return Err(refuse(name, &found, "a folder"));
        }
        let base = match &found.origin {
            Origin::File(path, _) => {
                self.caller.folder.join(path.parent().unwrap_or(Path::new("")))
            }
            Origin::Flag(_) | Origin::Variable(_) => self.caller.folder.clone(),
        };
        // Without the `.` parts that a relative name brings along.
        Ok(Some(base.join(&found.text).components().collect()))
    }
}

/// Says where a value stands that cannot be, and what can.
fn refuse(name: &str, found: &Found, wanted: &str) -> CliError {
    let help = named(name).map(|setting| format!("give {wanted} (default: {})", setting.default));
    found.origin.refusal(format!("{} is `{}`", found.origin.subject(name), found.text), help)
}
