//! Code and a run of it, for the unit tests of every module.

use std::collections::BTreeMap;

use super::{Created, JOURNAL_VERSION, Selection, SnapshotId};
use crate::digest::Digest;

/// A clean commit of `main`.
pub(crate) fn snapshot() -> SnapshotId {
    SnapshotId {
        tree: "7".repeat(40),
        commit: Some("1a2b3c4d5e6f".repeat(4)[..40].to_owned()),
        reference: Some("main".to_owned()),
        dirty: false,
        base: String::new(),
        origin: "/repo".to_owned(),
    }
}

/// The whole of `iris`, without params, from the command line.
pub(crate) fn created() -> Created {
    Created {
        version: JOURNAL_VERSION,
        pipeline: "iris".parse().unwrap(),
        snapshot: snapshot(),
        file: Digest::of(b"file"),
        params: BTreeMap::new(),
        selection: Selection::default(),
        cause: "cli".to_owned(),
        kept: None,
    }
}
