//! An interpreter plus installed requirements: definition → digest → built folder and lock.
//! Knows nothing of stages or runs. A build is shared by everything with the same digest.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// What the builder reads from settings.
#[derive(Debug, Clone)]
pub struct EnvironmentSettings {
    /// `environments/` of the home.
    pub folder: PathBuf,
    /// The caller's `PATH`: where `uv`, `python3` and `python3.12` are looked for.
    pub path: String,
    /// Index, proxy and CA variables of the caller (`PIP_*`, `UV_*`, `SSL_CERT_FILE`, `HTTPS_PROXY`, …).
    pub env: BTreeMap<String, String>,
}

/// What defines an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// Full version of the interpreter: `3.11.7`.
    pub python: String,
    /// Path of the base interpreter (not in the digest).
    pub interpreter: PathBuf,
    /// pip lines in order, files and nested files already read in, comments dropped.
    pub requirements: Vec<String>,
}

/// A ready environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// Digest of its definition.
    pub digest: Digest,
    /// Put before the caller's `PATH`.
    pub bin: PathBuf,
    /// Its root (`VIRTUAL_ENV`).
    pub root: PathBuf,
    /// Resolved versions, `name==version` a line.
    pub lock: String,
}

/// Why there is no environment.
#[expect(missing_docs, reason = "the doc of a variant names its fields")]
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// The build tool refused; its own last lines. The user's mishap (exit 4).
    #[error("the environment could not be built")]
    Build { log: String },
    /// No such interpreter, a requirements line that is refused, a file that is missing (exit 4).
    #[error("{message}")]
    Definition { message: String, help: String },
    /// The index cannot be reached (exit 5); the tool's own last lines.
    #[error("the package index cannot be reached")]
    Index { log: String },
    /// The home cannot be written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Definition {
    /// Resolves `python` ("3.12", none: the caller's `python3`) and reads the requirement lines.
    ///
    /// `read` gives the text of a file below the base (for nested `-r` files); `-e` and paths outside the base are refused.
    pub fn resolve(
        settings: &EnvironmentSettings,
        python: Option<&str>,
        requirements: &[String],
        requirements_file: Option<&str>,
        read: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, EnvironmentError> {
        let _ = (settings, python, requirements, requirements_file, read);
        todo!()
    }

    /// Over python version, os/arch and the requirement lines.
    pub fn digest(&self) -> Digest {
        todo!()
    }
}

/// Builds the environment unless it is there. One builder at a time per digest, also over processes; a crash midway
/// leaves nothing that the next call takes for whole. `progress` gets short texts to show.
pub async fn build(
    settings: &EnvironmentSettings,
    definition: &Definition,
    progress: &(dyn Fn(String) + Send + Sync),
) -> Result<Environment, EnvironmentError> {
    let _ = (settings, definition, progress);
    todo!()
}
