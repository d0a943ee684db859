//! The work folder of an attempt: made before, collected after. Knows the snapshot and the store, nothing of runtimes or runs.
//!
//! ```text
//! <attempt>/work/            the repo's files that the stage sees, from the repo's root
//! <attempt>/inputs/<name>/   inputs that are placed nowhere else: the folder itself, or the file under its own name
//! <attempt>/home/            HOME, empty at start
//! ```

mod below;
mod collect;
pub mod inside;
mod prepare;
mod reported;
pub mod temporary;
#[cfg(test)]
mod tests;
pub mod variables;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::event::{Metrics, Outputs, Values};
use crate::names::{InputName, OutputName};
use crate::source::{Snapshot, SourceFile};
use crate::store::{Placed, StoreError, Traffic};

pub use self::below::remove_folder;
pub use self::collect::{IsSecret, changed_input, collect};
pub use self::prepare::{prepare, remove};

/// What a work folder is made of.
#[derive(Debug, Clone)]
pub struct WorkOrder<'a> {
    /// The attempt's folder; exists.
    pub attempt: &'a Path,
    /// Where the repo files come from.
    pub snapshot: &'a Snapshot,
    /// The files the stage sees.
    pub files: &'a [&'a SourceFile],
    /// Inputs.
    pub inputs: &'a BTreeMap<InputName, InputPlace>,
    /// Output paths below the base; parents are made.
    pub outputs: &'a BTreeMap<OutputName, String>,
    /// The metrics file below the base; its parent is made.
    pub metrics: Option<&'a str>,
    /// The values file below the base; its parent is made.
    pub values: Option<&'a str>,
    /// Current directory below the base.
    pub workdir: &'a str,
    /// What artifacts cost on their way is counted here.
    pub traffic: &'a Traffic,
}

/// An input and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputPlace {
    /// The artifact.
    pub digest: Digest,
    /// Below the base (`{from, path}`), else in the inputs folder.
    pub path: Option<String>,
    /// The name a file keeps in the inputs folder.
    pub file_name: String,
}

/// A ready work folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkFolder {
    /// The base inside `work/`.
    pub base: PathBuf,
    /// The current directory.
    pub directory: PathBuf,
    /// `HOME`.
    pub home: PathBuf,
    /// Absolute paths for `FLOWRUN_INPUT_<NAME>`.
    pub inputs: BTreeMap<InputName, PathBuf>,
    /// Absolute paths for `FLOWRUN_OUTPUT_<NAME>`.
    pub outputs: BTreeMap<OutputName, PathBuf>,
    /// What was hard-linked, by input.
    pub placed: BTreeMap<InputName, Vec<Placed>>,
}

/// What an attempt left.
#[derive(Debug, Clone, PartialEq)]
pub struct Collected {
    /// Artifacts in the store.
    pub outputs: Outputs,
    /// From the metrics file.
    pub metrics: Metrics,
    /// From the values file.
    pub values: Values,
}

/// The machinery of a work folder failed.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The snapshot.
    #[error(transparent)]
    Source(#[from] crate::source::SourceError),
    /// Disk full, permission denied, …
    #[error(transparent)]
    Io(#[from] std::io::Error),
}
