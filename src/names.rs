//! Names and identifiers, parsed once. Knows the rules of ARCHITECTURE §10 and nothing else.
//!
//! A value of these types is valid by construction; nothing later checks a name again.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use ulid::Ulid;

/// Words that expressions use themselves; no stage, input, output, param or axis may have them.
pub const RESERVED: &[&str] = &[
    "params", "matrix", "live", "run", "stages", "inputs", "outputs", "port", "target", "services",
    "env", "secrets", "true", "false", "none", "and", "or", "not", "in", "is", "if", "else",
];

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty.
    #[error("a name cannot be empty")]
    Empty,
    /// The text is longer than 40 characters.
    #[error("`{0}` is longer than 40 characters")]
    TooLong(String),
    /// A character that the kind of name does not allow, or not at this place.
    #[error(
        "`{text}` must be lower-case letters, digits and `{joiner}`, begin with a letter and end with a letter or digit"
    )]
    Shape {
        /// The refused text.
        text: String,
        /// The one punctuation character this kind of name allows.
        joiner: char,
    },
    /// A hyphen in a name that expressions can use.
    #[error("`{0}` holds a hyphen, which is a minus sign in expressions")]
    Hyphen(String),
    /// A word that expressions use themselves.
    #[error("`{0}` is a reserved word")]
    Reserved(String),
}

fn check(text: &str, joiner: char) -> Result<(), NameError> {
    let Some(first) = text.chars().next() else {
        return Err(NameError::Empty);
    };
    if text.chars().count() > 40 {
        return Err(NameError::TooLong(text.to_owned()));
    }
    if joiner == '_' && text.contains('-') {
        return Err(NameError::Hyphen(text.to_owned()));
    }
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let last_is_word = text.chars().next_back().is_some_and(word);
    if !first.is_ascii_lowercase() || !last_is_word || !text.chars().all(|c| word(c) || c == joiner)
    {
        return Err(NameError::Shape { text: text.to_owned(), joiner });
    }
    if joiner == '_' && RESERVED.contains(&text) {
        return Err(NameError::Reserved(text.to_owned()));
    }
    Ok(())
}

macro_rules! name_type {
    ($(#[$doc:meta])* $type:ident, $joiner:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The name as it stands in a `FLOWRUN_…_<NAME>` variable: upper case, `-` as `_`.
            pub fn variable(&self) -> String {
                self.0.to_ascii_uppercase().replace('-', "_")
            }
        }

        impl FromStr for $type {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                check(text, $joiner)?;
                Ok(Self(text.into()))
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.pad(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name_type!(
    /// The name of a pipeline, also a part of host names: `^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$`.
    PipelineName,
    '-'
);
name_type!(
    /// The name of a stage; expressions use it.
    StageName,
    '_'
);
name_type!(
    /// The name of an input of a stage.
    InputName,
    '_'
);
name_type!(
    /// The name of an output of a stage.
    OutputName,
    '_'
);
name_type!(
    /// The name of a pipeline parameter.
    ParamName,
    '_'
);
name_type!(
    /// The name of a matrix axis.
    AxisName,
    '_'
);

name_type!(
    /// The name of a volume of a pipeline.
    VolumeName,
    '_'
);
name_type!(
    /// The name of a further port of a service.
    PortName,
    '_'
);

/// A service of a pipeline: `iris/serve`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServiceId {
    /// The pipeline.
    pub pipeline: PipelineName,
    /// The stage.
    pub stage: StageName,
}

impl fmt::Display for ServiceId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&format!("{}/{}", self.pipeline, self.stage))
    }
}

/// One release of a service; sorts by the time it was made. People know it as `serve@3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReleaseId(Ulid);

impl ReleaseId {
    /// A fresh identifier for a release made at `unix_ms` (Unix milliseconds), with 80 random bits.
    pub fn new(unix_ms: u64, random: u128) -> Self {
        Self(Ulid::from_parts(unix_ms, random))
    }
}

impl fmt::Display for ReleaseId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0.to_string())
    }
}

impl FromStr for ReleaseId {
    type Err = ulid::DecodeError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ulid::from_string(text).map(Self)
    }
}

/// One execution of a pipeline. Sorts by the time it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(Ulid);

impl RunId {
    /// A fresh identifier for a run made at `unix_ms` (Unix milliseconds), with 80 random bits.
    pub fn new(unix_ms: u64, random: u128) -> Self {
        Self(Ulid::from_parts(unix_ms, random))
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0.to_string())
    }
}

impl FromStr for RunId {
    type Err = ulid::DecodeError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ulid::from_string(text).map(Self)
    }
}

/// One matrix copy of one stage. A stage without a matrix has the one copy 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskId {
    /// The stage.
    pub stage: StageName,
    /// The copy's place in matrix order, from 1.
    pub copy: u32,
}

impl StageName {
    /// The name under which containers reach the service: host names have no `_`.
    pub fn host_name(&self) -> String {
        self.0.replace('_', "-")
    }
}

/// The name under which a runtime knows one attempt: `flowrun-<run, lower case>-<task number>-<attempt>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobName(String);

impl JobName {
    /// The job of attempt `attempt` (from 1) of the task with this number (from 1, over the file).
    pub fn new(run: RunId, task_number: u32, attempt: u32) -> Self {
        Self(format!("flowrun-{}-{task_number}-{attempt}", run.to_string().to_ascii_lowercase()))
    }

    /// Start `start` (from 1) of replica `replica` (from 1) of a release.
    pub fn of_replica(release: ReleaseId, replica: u32, start: u32) -> Self {
        Self(format!("flowrun-{}-{replica}-{start}", release.to_string().to_ascii_lowercase()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

/// Who holds a run: a process of this host, told apart from a later process with the same pid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Host name.
    pub host: String,
    /// Process id.
    pub pid: u32,
    /// Who asked, `user@host` of the caller.
    pub user: String,
}

/// The nearest of `candidates` to a mistyped `name`, when one is near enough to be meant.
pub fn suggest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().min(name.len()) / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_rules() {
        assert!("iris-2".parse::<PipelineName>().is_ok());
        assert!("iris_2".parse::<PipelineName>().is_err());
        assert!("train_big2".parse::<StageName>().is_ok());
        assert!(matches!("train-big".parse::<StageName>(), Err(NameError::Hyphen(_))));
        assert!(matches!("matrix".parse::<StageName>(), Err(NameError::Reserved(_))));
        assert!(matches!("".parse::<StageName>(), Err(NameError::Empty)));
        assert!("a_".parse::<StageName>().is_err());
        assert!("2a".parse::<StageName>().is_err());
        assert!("a".repeat(40).parse::<StageName>().is_ok());
        assert!("a".repeat(41).parse::<StageName>().is_err());
    }

    #[test]
    fn suggestions_are_near() {
        assert_eq!(suggest("trian", ["train", "prepare"]), Some("train"));
        assert_eq!(suggest("zzz", ["train", "prepare"]), None);
    }
}
