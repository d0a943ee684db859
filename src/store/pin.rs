//! Who keeps artifacts in a store, and how it is written: under `run/ID` or `release/ID`, a JSON line for each artifact.

use std::fmt;
use std::io;

use crate::digest::Digest;
use crate::names::{ReleaseId, RunId};

/// A pin as it lies in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinLine {
    /// Who pins.
    pub owner: PinOwner,
    /// What it names.
    pub artifacts: Vec<Digest>,
}

/// Who pins artifacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PinOwner {
    /// A run, as long as it is kept.
    Run(RunId),
    /// A release, as long as it is kept.
    Release(ReleaseId),
}

impl PinOwner {
    /// Whose pin lies under this name; none where no pin of ours does.
    pub(super) fn of(name: &str) -> Option<Self> {
        match name.split_once('/')? {
            ("run", id) => id.parse().ok().map(Self::Run),
            ("release", id) => id.parse().ok().map(Self::Release),
            _ => None,
        }
    }
}

/// The name of its pin: `run/ID` or `release/ID`.
impl fmt::Display for PinOwner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(id) => write!(formatter, "run/{id}"),
            Self::Release(id) => write!(formatter, "release/{id}"),
        }
    }
}

/// What a pin holds, as it is written.
pub(super) fn lines<'a>(artifacts: impl IntoIterator<Item = &'a Digest>) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    for artifact in artifacts {
        serde_json::to_writer(&mut text, artifact)?;
        text.push(b'\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_read_from_names() {
        for owner in [PinOwner::Run(RunId::new(1, 2)), PinOwner::Release(ReleaseId::new(1, 2))] {
            assert_eq!(PinOwner::of(&owner.to_string()), Some(owner));
        }
        for foreign in ["other/x", "run/x", "run"] {
            assert_eq!(PinOwner::of(foreign), None, "{foreign}");
        }
    }
}
