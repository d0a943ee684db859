//! Artifacts by digest, records by key, pins. Owns what ARCHITECTURE §6 draws. Knows nothing of stages or runs' meaning.

pub mod artifact;
pub mod beside;
pub mod dir;
pub mod hash;
pub mod holders;
pub mod inspect;
mod pin;
pub mod s3;
mod traffic;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Key};
pub use crate::event::Moved;
use crate::event::{KeyParts, Metrics, Outputs, Values};
use crate::names::{OutputName, RunId};
use crate::weather::Weather;
pub use pin::{PinLine, PinOwner};
pub use traffic::Traffic;

/// What a key produced. Written last: no record, no success.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// 1.
    pub format: u32,
    /// The key.
    pub key: Key,
    /// What the key is the digest of.
    pub parts: KeyParts,
    /// Artifacts by output name.
    pub outputs: Outputs,
    /// Flat numbers.
    pub metrics: Metrics,
    /// Flat scalars.
    pub values: Values,
    /// Wall time of the user's program, seconds.
    pub seconds: f64,
    /// Bytes, 0 where unknown.
    pub peak_memory: u64,
    /// The run that made it.
    pub made_by: RunId,
    /// Unix milliseconds.
    pub made_at: u64,
    /// Who made it, `user@host`; absent in records of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_on: Option<String>,
}

/// What a look-up by key found.
#[expect(missing_docs, reason = "the doc of a variant names its fields")]
#[derive(Debug, Clone, PartialEq)]
pub enum Lookup {
    /// A record whose artifacts are all there (existence and size, not content).
    Hit(Box<Record>),
    /// No record.
    Miss,
    /// A record, but these objects are missing or changed.
    Broken { missing: Vec<Digest> },
}

/// One entry of an artifact's manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Below the artifact, `/`-separated; empty for an artifact that is one file.
    pub path: String,
    /// What it is.
    pub kind: EntryKind,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// A regular file.
    File {
        /// Of its bytes.
        digest: Digest,
        /// Bytes.
        size: u64,
        /// Executable by its owner.
        exec: bool,
    },
    /// A folder (kept also when empty).
    Folder,
    /// A symbolic link that stays inside the artifact.
    Link {
        /// As written.
        target: String,
    },
}

/// Where a placed file came from, to see later whether somebody wrote into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The blob.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// The file in the work folder.
    pub path: PathBuf,
}

/// Why a path cannot become an artifact; the user's mishap.
#[expect(missing_docs, reason = "the doc of a variant names its fields")]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nothing is there.
    #[error("nothing is there")]
    Missing,
    /// A FIFO, device or socket, or a link that leaves the artifact; path below the artifact.
    #[error("`{path}` {why}")]
    Kind { path: String, why: String },
}

/// The store does not work.
#[expect(missing_docs, reason = "the doc of a variant names its fields")]
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// An object is missing or damaged.
    #[error("`{digest}` is {what} in the store at `{place}`")]
    Damaged { digest: Digest, what: &'static str, place: String },
    /// The place does not answer, or refuses.
    #[error("the store at `{place}` {why}")]
    Unreachable {
        /// As people know it, without passwords.
        place: String,
        /// What it did or said: `cannot be reached: …`.
        why: String,
        /// What to do.
        help: String,
        /// It may mend by itself, so that trying again is worth it.
        passes: bool,
    },
    /// Disk full, permission denied, …; the error names the path.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// A store. The conformance suite in `tests/` holds for every one.
#[async_trait]
pub trait Store: Send + Sync {
    /// Where it lies, as people know it: a folder, or `s3://bucket/prefix`. No passwords.
    fn place_name(&self) -> String;

    /// Whether it is away, and is waited for. One that says nothing of it never changes; others may tell it in its place.
    fn weather(&self) -> Weather {
        Weather::default()
    }

    /// Looks a key up. What is found is renewed, so that gc leaves it alone for a day at least.
    async fn look_up(&self, key: &Key) -> Result<Lookup, StoreError>;

    /// Writes a record; the first one per key whose artifacts are whole wins unless `replace`. Returns the one that holds now.
    /// Two writers at once get the same one. Its artifacts are in the store; a key that is not the digest of its parts is an error.
    async fn put_record(&self, record: Record, replace: bool) -> Result<Record, StoreError>;

    /// Takes the file or folder at `path` into the store, where possible without copying a byte: the file gets a second name there and
    /// becomes read-only. `path` stays, for the caller to remove; nobody may write into it any more. A crash midway leaves it
    /// whole, and a second call gives the same artifact. A refused one is as it was.
    async fn take_in(
        &self,
        path: &Path,
        traffic: &Traffic,
    ) -> Result<Result<Digest, Refused>, StoreError>;

    /// Sees to it that what was taken in becomes durable, without waiting for it. What the power takes before that is found out at its next
    /// use and never taken for whole. An error is one of an earlier call.
    async fn sync(&self) -> Result<(), StoreError>;

    /// Places an artifact at `target` (which must not exist; its parents do): reflinks, else read-only hard links, else copies. With
    /// `own`, always reflinks or copies, writable. Returns what was hard-linked. Each object is verified; one that is missing or damaged
    /// is [`StoreError::Damaged`] and never placed. On an error part of `target` may be there.
    async fn place(
        &self,
        artifact: &Digest,
        target: &Path,
        own: bool,
        traffic: &Traffic,
    ) -> Result<Vec<Placed>, StoreError>;

    /// Of what was hard-linked, the blobs that were written into; those are moved to quarantine. Files that were not hard-linked, or that
    /// the stage removed, may be named too: only blobs count.
    async fn changed(&self, placed: &[Placed]) -> Result<Vec<Placed>, StoreError>;

    /// The manifest of an artifact, sorted by path.
    async fn entries(&self, artifact: &Digest) -> Result<Vec<Entry>, StoreError>;

    /// Says that these artifacts are needed as long as their owner is kept. Replaces its earlier pin. That of a release is durable: the
    /// release is of no use without them.
    async fn pin(&self, owner: PinOwner, artifacts: &[Digest]) -> Result<(), StoreError>;

    /// Removes the pin of an owner, if it has one.
    async fn unpin(&self, owner: PinOwner) -> Result<(), StoreError>;

    /// Claims the key, or `Err(holder)` at once when somebody else computes it (also in this process).
    async fn claim(&self, key: &Key, holder: &str) -> Result<Result<Claim, String>, StoreError>;

    /// Removes what no pin and no record younger than `keep_records` needs, and is older than `grace`.
    async fn collect_garbage(
        &self,
        keep_records: Duration,
        grace: Duration,
        dry_run: bool,
    ) -> Result<Swept, StoreError>;

    /// Reads everything and compares it with its digest.
    async fn check(
        &self,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<CheckReport, StoreError>;

    /// How much lies in the store.
    async fn summary(&self) -> Result<Summary, StoreError>;

    /// Every record with the sizes of its outputs, newest first.
    async fn records(&self) -> Result<Vec<RecordLine>, StoreError>;

    /// Every pin of a run or a release, for [`holders`]. Asked by people only, so it may list and read one object per pin.
    async fn pins(&self) -> Result<Vec<PinLine>, StoreError>;

    /// The artifacts whose 64 digits start with `digits` (a `b3:` in front is fine), at most `most` of them.
    async fn find_artifacts(&self, digits: &str, most: usize) -> Result<Vec<Digest>, StoreError>;

    /// Copies an artifact out, writable, to `target`, which must not exist. It appears there whole or not at all.
    async fn export(
        &self,
        artifact: &Digest,
        target: &Path,
        traffic: &Traffic,
    ) -> Result<(), StoreError>;
}

/// The right to compute a key; given back when dropped.
pub struct Claim {
    /// Whatever the store holds it with.
    pub hold: Box<dyn Send + Sync>,
}

/// What gc removed (or would).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Objects removed.
    pub removed: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects kept.
    pub kept: u64,
}

/// What `check` found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Objects read.
    pub objects: u64,
    /// Bytes read.
    pub bytes: u64,
    /// What is wrong, a line each, with path and mend.
    pub broken: Vec<String>,
}

/// How much lies in a store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Keys that have a result.
    pub records: u64,
    /// Artifacts.
    pub artifacts: u64,
    /// Different files.
    pub files: u64,
    /// Bytes of these files.
    pub bytes: u64,
    /// Damaged objects that were put out of reach.
    pub quarantined: u64,
}

/// One record of a store.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordLine {
    /// What it says: key, `made_at`, `made_by`, outputs, metrics.
    pub record: Record,
    /// Bytes of each output's files; none where its manifest is gone.
    pub bytes: BTreeMap<OutputName, Option<u64>>,
}
