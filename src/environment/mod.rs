//! An interpreter plus installed requirements: definition → digest → built folder and lock.
//! Knows nothing of stages or runs. A build is shared by everything with the same digest.

mod build;
mod interpreter;
mod outcome;
mod requirements;
mod tool;
mod variables;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize, Serializer};

use crate::digest::Digest;
use crate::source::redact;

/// What the builder reads from settings.
#[derive(Debug, Clone)]
pub struct EnvironmentSettings {
    /// `environments/` of the home.
    pub folder: PathBuf,
    /// The caller's `PATH`: where `uv`, `python3` and `python3.12` are looked for.
    pub path: String,
    /// Index, proxy and CA variables of the caller (`PIP_*`, `UV_*`, `SSL_CERT_FILE`, `HTTPS_PROXY`, …), and its
    /// `HOME`: the caches of the tools and pip's configuration lie there.
    pub env: BTreeMap<String, String>,
}

/// What defines an environment. Written out, shown and digested without the userinfo of addresses.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// Full version of the interpreter: `3.11.7`; `3.13.1t` without the global lock; other implementations by name,
    /// `pypy-3.10.14`.
    pub python: String,
    /// Path of the base interpreter (not in the digest).
    pub interpreter: PathBuf,
    /// pip lines in order, files and nested files already read in, comments dropped. A line of a constraints file
    /// begins with `-c `.
    #[serde(serialize_with = "without_userinfo")]
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
    /// `read` gives the text of a file below the base (for nested `-r` files); `-e` and local paths are refused.
    /// Cheap after the first call: the interpreter is looked for once per process, and run once until it changes.
    pub fn resolve(
        settings: &EnvironmentSettings,
        python: Option<&str>,
        requirements: &[String],
        requirements_file: Option<&str>,
        read: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, EnvironmentError> {
        let requirements = requirements::read_all(requirements, requirements_file, read)?;
        let found = interpreter::find(settings, python)?;
        Ok(Self { python: found.version, interpreter: found.base, requirements })
    }

    /// Over python version, os/arch and the requirement lines.
    pub fn digest(&self) -> Digest {
        let mut text = format!(
            "environment 1\n{}\n{}/{}\n",
            self.python,
            std::env::consts::OS,
            std::env::consts::ARCH
        );
        for line in &self.requirements {
            text += &redact(line);
            text.push('\n');
        }
        Digest::of(text.as_bytes())
    }
}

impl fmt::Debug for Definition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let requirements: Vec<String> = self.requirements.iter().map(|line| redact(line)).collect();
        formatter
            .debug_struct("Definition")
            .field("python", &self.python)
            .field("interpreter", &self.interpreter)
            .field("requirements", &requirements)
            .finish()
    }
}

fn without_userinfo<S: Serializer>(lines: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(lines.iter().map(|line| redact(line)))
}

/// Builds the environment unless it is there. One builder at a time per digest, also over processes; a crash midway
/// leaves nothing that the next call takes for whole. `progress` gets short texts to show.
pub async fn build(
    settings: &EnvironmentSettings,
    definition: &Definition,
    progress: &(dyn Fn(String) + Send + Sync),
) -> Result<Environment, EnvironmentError> {
    build::build(settings, definition, progress).await
}

#[cfg(test)]
mod tests;
