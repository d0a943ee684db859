//! What a key is the digest of.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Key};
use crate::names::{AxisName, InputName, OutputName, ParamName};
use crate::scalar::Scalar;

/// The version of [`KeyParts`]; raising it makes every stage run again.
pub const KEY_FORMAT: u32 = 1;

/// Everything that decides a task's result (ARCHITECTURE §4). Its digest is the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyParts {
    /// [`KEY_FORMAT`].
    pub format: u32,
    /// The expanded command: `["sh", "-e", "-c", text]` for a string.
    pub command: Vec<String>,
    /// Declared `env`, expanded.
    pub env: BTreeMap<String, String>,
    /// Digest of the environment's definition.
    pub environment: Digest,
    /// `os/arch` and interpreter version on local; image digest elsewhere.
    pub platform: String,
    /// Digest over (path, mode, blob id) of the stage's files.
    pub files: Digest,
    /// Inputs: where they lie and what they are.
    pub inputs: BTreeMap<InputName, InputPart>,
    /// The params the stage names.
    pub params: BTreeMap<ParamName, Scalar>,
    /// The values of this matrix copy.
    pub matrix: BTreeMap<AxisName, Scalar>,
    /// Output names and paths.
    pub outputs: BTreeMap<OutputName, String>,
    /// The metrics file.
    pub metrics: Option<String>,
    /// The values file.
    pub values: Option<String>,
    /// The current directory below the base.
    pub workdir: String,
    /// `container.network`.
    pub network: String,
    /// Names of secrets, never values.
    pub secrets: BTreeMap<String, String>,
    /// Arguments of the image's own program, expanded, where the stage gives them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
}

/// One input in a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputPart {
    /// Digest of the artifact.
    pub digest: Digest,
    /// Where it is placed below the base, or else the name it keeps in the inputs folder.
    pub path: String,
}

impl KeyParts {
    /// Of something that flowrun itself does and keeps the result of under a key. No stage has such a key: each has a platform.
    pub fn of_no_stage(command: Vec<String>) -> Self {
        let nothing = Digest::of(b"");
        Self {
            format: KEY_FORMAT,
            command,
            env: BTreeMap::new(),
            environment: nothing,
            platform: String::new(),
            files: nothing,
            inputs: BTreeMap::new(),
            params: BTreeMap::new(),
            matrix: BTreeMap::new(),
            outputs: BTreeMap::new(),
            metrics: None,
            values: None,
            workdir: String::new(),
            network: String::new(),
            secrets: BTreeMap::new(),
            args: None,
        }
    }

    /// The key: the digest of the canonical JSON of these parts.
    pub fn key(&self) -> Key {
        // A struct of maps and texts always serialises; the order of fields is fixed by the type.
        Digest::of(serde_json::to_string(self).unwrap_or_default().as_bytes())
    }
}
