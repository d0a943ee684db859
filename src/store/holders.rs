//! What keeps bytes in a store: pins of runs and releases, and records, by the artifacts they name.

use std::collections::{BTreeMap, BTreeSet};

use super::{Entry, EntryKind, PinOwner, Store, StoreError};
use crate::digest::{Digest, Key};
use crate::names::{OutputName, RunId};

/// What somebody asked for by the beginning of its digest, and what keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holders {
    /// The artifacts or files that have such a digest. Several: more of it has to be given.
    pub found: BTreeSet<Digest>,
    /// An entry per artifact that is or has it.
    pub artifacts: Vec<HeldArtifact>,
}

/// An artifact that is what was asked for, or has it as a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldArtifact {
    /// The artifact.
    pub artifact: Digest,
    /// Its files that are what was asked for; empty when the artifact itself is.
    pub paths: Vec<String>,
    /// Who pins it.
    pub pins: Vec<PinOwner>,
    /// The records that name it.
    pub records: Vec<HoldingRecord>,
}

/// A record that names an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldingRecord {
    /// Its key.
    pub key: Key,
    /// As which output.
    pub output: OutputName,
    /// The run that made it.
    pub made_by: RunId,
    /// Who made it, `user@host`.
    pub made_on: Option<String>,
    /// Unix milliseconds.
    pub made_at: u64,
}

/// Finds what keeps the artifact or the file whose 64 digits begin with `digits` (a `b3:` in front is fine).
///
/// Reads every pin and record, and the manifest of every artifact that they name.
pub async fn holders(store: &dyn Store, digits: &str) -> Result<Holders, StoreError> {
    let digits = digits.strip_prefix("b3:").unwrap_or(digits);
    let mut held: BTreeMap<Digest, (Vec<PinOwner>, Vec<HoldingRecord>)> = BTreeMap::new();
    for line in store.pins().await? {
        for artifact in line.artifacts {
            held.entry(artifact).or_default().0.push(line.owner);
        }
    }
    for line in store.records().await? {
        let record = line.record;
        for (output, artifact) in record.outputs {
            held.entry(artifact).or_default().1.push(HoldingRecord {
                key: record.key,
                output,
                made_by: record.made_by,
                made_on: record.made_on.clone(),
                made_at: record.made_at,
            });
        }
    }
    let mut holders = Holders { found: BTreeSet::new(), artifacts: Vec::new() };
    for (artifact, (mut pins, records)) in held {
        pins.sort_unstable();
        let is_it = artifact.hex().starts_with(digits);
        let entries = match store.entries(&artifact).await {
            Ok(entries) => entries,
            // It holds nothing any more.
            Err(StoreError::Damaged { .. }) => Vec::new(),
            Err(error) => return Err(error),
        };
        let mut paths = Vec::new();
        for (path, digest) in files(entries).filter(|(_, one)| one.hex().starts_with(digits)) {
            holders.found.insert(digest);
            paths.push(path);
        }
        if is_it {
            holders.found.insert(artifact);
        }
        if is_it || !paths.is_empty() {
            holders.artifacts.push(HeldArtifact { artifact, paths, pins, records });
        }
    }
    Ok(holders)
}

fn files(entries: Vec<Entry>) -> impl Iterator<Item = (String, Digest)> {
    entries.into_iter().filter_map(|entry| match entry.kind {
        EntryKind::File { digest, .. } => Some((entry.path, digest)),
        EntryKind::Folder | EntryKind::Link { .. } => None,
    })
}
