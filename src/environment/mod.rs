//! An interpreter plus installed requirements: definition → digest → built folder and lock.
//! Knows nothing of stages or runs. A build is shared by everything with the same digest.

mod build;
pub mod certificates;
mod container_variables;
mod in_image;
mod interpreter;
mod lists;
mod on_machine;
mod order;
mod outcome;
mod requirements;
mod tool;
mod variables;
mod whole;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, Serializer};

use crate::digest::Digest;
use crate::runtime::docker::{Docker, DockerError};
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
    /// The engine that builds environments of images; none: there are none.
    pub docker: Option<Docker>,
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
    /// The image (by id) whose interpreter it is; none: one of this machine. Then `python` is what the stage asks for (empty: what the image has)
    /// and `interpreter` is `python3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

/// Where a container sees its environment, while it is built and later.
pub const INSIDE: &str = "/flowrun/environment";

/// A ready environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// Digest of its definition.
    pub digest: Digest,
    /// Put before the `PATH` of the caller, or of the image.
    pub bin: PathBuf,
    /// Its root on this machine (`VIRTUAL_ENV` for processes).
    pub root: PathBuf,
    /// It is one of an image: `bin` lies below [`INSIDE`], where `root` must be mounted, read-only. Not so when nothing was
    /// installed: then `bin` and `root` are empty, and the image's own interpreter is all there is.
    pub inside: bool,
    /// Resolved versions, `name==version` a line.
    pub lock: String,
}

impl Environment {
    /// The folder of this machine that containers see at [`INSIDE`], if there is one.
    pub fn mounted(&self) -> Option<&Path> {
        let there = self.inside && !self.root.as_os_str().is_empty();
        there.then_some(self.root.as_path())
    }
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
    /// The Docker Engine does not answer, or refuses (exit 5).
    #[error(transparent)]
    Docker(Box<DockerError>),
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
        Ok(Self { python: found.version, interpreter: found.base, requirements, image: None })
    }

    /// The same for containers of an image (by id): no interpreter is looked for. `python` is compared with the image's when it is
    /// built.
    pub fn in_image(
        image: &str,
        python: Option<&str>,
        requirements: &[String],
        requirements_file: Option<&str>,
        read: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, EnvironmentError> {
        let requirements = requirements::read_all(requirements, requirements_file, read)?;
        Ok(Self {
            python: python.unwrap_or_default().to_owned(),
            interpreter: "python3".into(),
            requirements,
            image: Some(image.to_owned()),
        })
    }

    /// Over python version, os/arch (or the image) and the requirement lines.
    pub fn digest(&self) -> Digest {
        let platform = match &self.image {
            Some(image) => format!("image {image}"),
            None => format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
        };
        let mut text = format!("environment 1\n{}\n{platform}\n", self.python);
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
            .field("image", &self.image)
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
    build::build(settings, definition, &definition.requirements, progress).await
}

/// The same for an environment that was built before and may be gone: it gets the versions of its lock, so that it is what it was,
/// whatever the index has by now. Options among the requirements (`--index-url …`) hold. Without a lock it is built as the definition says.
pub async fn build_locked(
    settings: &EnvironmentSettings,
    definition: &Definition,
    lock: &str,
    progress: &(dyn Fn(String) + Send + Sync),
) -> Result<Environment, EnvironmentError> {
    let mut wanted: Vec<String> = definition.requirements.clone();
    if !lock.trim().is_empty() {
        wanted.retain(|line| line.starts_with('-') && !line.starts_with("-c "));
        wanted
            .extend(lock.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned));
    }
    build::build(settings, definition, &wanted, progress).await
}

#[cfg(test)]
mod tests;
