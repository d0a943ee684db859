//! What machines that share a store tell each other, and the bytes it costs.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// Artifacts that the run pins from its start on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptParts {
    /// The tree, its files as they are; none when it cannot be an artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Digest>,
    /// The pipeline file, how the run was launched, and its images: what lies in the run's folder.
    pub definition: Digest,
}

impl KeptParts {
    /// All of them.
    pub fn artifacts(&self) -> Vec<Digest> {
        self.code.into_iter().chain([self.definition]).collect()
    }
}

/// Who made a result that is reused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maker {
    /// `user@host`; none in records of older versions.
    pub on: Option<String>,
    /// Unix milliseconds.
    pub at: u64,
}

/// What went to the store's place and came from there for a task, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// To the store's place.
    #[serde(default)]
    pub sent: u64,
    /// From there.
    #[serde(default)]
    pub received: u64,
    /// Not moved, since they were where they were needed already.
    #[serde(default)]
    pub spared: u64,
}

impl Moved {
    /// Whether there is nothing to tell.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            sent: self.sent + other.sent,
            received: self.received + other.received,
            spared: self.spared + other.spared,
        }
    }
}

/// How far bytes are that are under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Movement {
    /// To the store's place; else from there.
    pub up: bool,
    /// Until now.
    pub bytes: u64,
    /// As far as it is known, with what has moved: more may be found out on the way. Never less than `bytes`.
    pub total: u64,
    /// Since they began to move, or moved again after a silence.
    pub per_second: u64,
    /// Since the last one moved, or since they were to begin.
    pub still_for: Duration,
}
