//! What the store remembers of what was fetched: a fetch is like a stage whose key is a digest or an address, and its record holds the
//! artifact. So it lives as long as other records, is shared by whoever shares the store, and is a miss when its artifact is gone.

use std::collections::BTreeMap;

use super::{Fetcher, Version};
use crate::address::{Address, Expected};
use crate::digest::{Digest, Key};
use crate::event::KeyParts;
use crate::names::OutputName;
use crate::scalar::Scalar;
use crate::store::{Entry, EntryKind, Lookup, Record, Store, StoreError};

/// The only output of a fetch.
const OUTPUT: &str = "data";
const ETAG: &str = "etag";
const MODIFIED: &str = "modified";
const SIZE: &str = "size";

/// What was fetched once, and is in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Memory {
    pub(super) artifact: Digest,
    pub(super) version: Version,
    /// Bytes.
    pub(super) size: u64,
}

/// What is to be remembered.
pub(super) struct Remembered<'a> {
    pub(super) artifact: Digest,
    /// Where it was found, unless a digest said what it must be.
    pub(super) address: Option<&'a Address>,
    pub(super) version: Version,
    /// Of a file.
    pub(super) sha256: Option<[u8; 32]>,
}

/// What is known by the digest of its content.
pub(super) async fn of_digest(
    store: &dyn Store,
    expected: &Expected,
) -> Result<Option<Memory>, StoreError> {
    look_up(store, &parts(&["digest", &expected.to_string()]).key()).await
}

/// What was found last at an address.
pub(super) async fn of_address(
    store: &dyn Store,
    id: &Digest,
) -> Result<Option<Memory>, StoreError> {
    look_up(store, &parts(&["address", &id.to_string()]).key()).await
}

async fn look_up(store: &dyn Store, key: &Key) -> Result<Option<Memory>, StoreError> {
    let Lookup::Hit(record) = store.look_up(key).await? else { return Ok(None) };
    let text = |name: &str| record.values.get(name).map(ToString::to_string);
    let memory = record.outputs.values().next().map(|artifact| Memory {
        artifact: *artifact,
        version: Version { etag: text(ETAG), modified: text(MODIFIED) },
        size: text(SIZE).and_then(|size| size.parse().ok()).unwrap_or(0),
    });
    Ok(memory)
}

/// Remembers by all digests, and by the address where there is one. What is known by a digest stays; an address holds what it holds now.
pub(super) async fn remember(
    store: &dyn Store,
    what: Remembered<'_>,
    fetcher: Fetcher,
) -> Result<(), StoreError> {
    let entries = store.entries(&what.artifact).await?;
    let size = entries.iter().map(size_of).sum();
    for digest in digests(&entries, &what) {
        let record = record(&["digest", &digest.to_string()], &what, size, fetcher);
        store.put_record(record, false).await?;
    }
    if let Some(address) = what.address {
        let record = record(&["address", &address.id().to_string()], &what, size, fetcher);
        store.put_record(record, true).await?;
    }
    Ok(())
}

/// An executable file is another artifact than the same bytes from a server.
fn digests(entries: &[Entry], what: &Remembered<'_>) -> Vec<Expected> {
    match entries {
        [Entry { path, kind: EntryKind::File { digest, exec, .. } }] if path.is_empty() => {
            let sha256 = what.sha256.map(Expected::Sha256);
            let both = sha256.into_iter().chain([Expected::Blake3(*digest)]);
            both.filter(|_| !exec).collect()
        }
        _ => vec![Expected::Blake3(what.artifact)],
    }
}

fn size_of(entry: &Entry) -> u64 {
    match entry.kind {
        EntryKind::File { size, .. } => size,
        EntryKind::Folder | EntryKind::Link { .. } => 0,
    }
}

fn record(words: &[&str], what: &Remembered<'_>, size: u64, fetcher: Fetcher) -> Record {
    let parts = parts(words);
    let mut values = BTreeMap::new();
    let mut note = |name: &str, text: Option<&String>| {
        if let Some(text) = text {
            values.insert(name.to_owned(), Scalar::Text(text.clone()));
        }
    };
    note(ETAG, what.version.etag.as_ref());
    note(MODIFIED, what.version.modified.as_ref());
    note(SIZE, Some(&size.to_string()));
    note("address", what.address.map(ToString::to_string).as_ref());
    Record {
        format: 1,
        key: parts.key(),
        parts,
        outputs: output().map(|name| (name, what.artifact)).into_iter().collect(),
        metrics: BTreeMap::new(),
        values,
        seconds: 0.0,
        peak_memory: 0,
        made_by: fetcher.run,
        made_at: fetcher.now,
        made_on: None,
    }
}

fn output() -> Option<OutputName> {
    OUTPUT.parse().ok()
}

fn parts(words: &[&str]) -> KeyParts {
    let command = ["flowrun", "fetch"].iter().chain(words).map(|word| (*word).to_owned());
    KeyParts {
        outputs: output().map(|name| (name, OUTPUT.to_owned())).into_iter().collect(),
        ..KeyParts::of_no_stage(command.collect())
    }
}
