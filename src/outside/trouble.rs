//! What goes wrong on the way to something outside, before it is known what address it is about.

use std::time::Duration;

use super::OutsideError;
use crate::address::{Address, Expected};
use crate::store::{Refused, StoreError};

/// What went wrong, before it is known what address it is about.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The source, or the way to it.
    Source {
        why: String,
        help: String,
        /// It may mend by itself.
        passes: bool,
        /// The server asks to wait that long.
        wait: Option<Duration>,
    },
    /// The store of a bucket.
    Bucket(StoreError),
    /// The disk.
    Io(std::io::Error),
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unreachable { why, help, passes, .. } => {
                Self::Source { why, help, passes, wait: None }
            }
            error => Self::Bucket(error),
        }
    }
}

impl Trouble {
    /// It stays so.
    pub(super) fn lasting(why: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Source { why: why.into(), help: help.into(), passes: false, wait: None }
    }

    /// It may mend by itself.
    pub(super) fn passing(why: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Source { why: why.into(), help: help.into(), passes: true, wait: None }
    }

    /// An answer that no well-behaved server gives.
    pub(super) fn odd(why: &str) -> Self {
        Self::lasting(why, "tell whoever runs that server, or fetch it from another address")
    }

    /// Another content than the file asks for.
    pub(super) fn wrong(expected: &Expected, is: &Expected) -> Self {
        Self::lasting(
            format!(
                "has another content: its digest is `{is}`, and the file asks for `{expected}`"
            ),
            "see who changed it; if the new content is right, write its digest into the file",
        )
    }

    pub(super) fn folder_with_sha256() -> Self {
        Self::lasting(
            "is a folder, which has no SHA-256",
            "remove `digest`; one that begins with `b3:` is that of the artifact",
        )
    }

    /// The store does not take it.
    pub(super) fn refused(refused: &Refused) -> Self {
        Self::lasting(
            format!("cannot be stored: {refused}"),
            "leave only files, folders and links that stay inside the folder",
        )
    }

    /// The same of a source that has been fetched before: with a digest nobody would have asked.
    pub(super) fn offline(self) -> Self {
        match self {
            Self::Source { why, passes: true, wait, .. } => Self::Source {
                why: format!("{why}, so nobody can tell whether it changed"),
                help: "give the input a `digest` to work without its source".to_owned(),
                passes: true,
                wait,
            },
            other => other,
        }
    }

    /// Of this address.
    pub(super) fn at(self, address: &Address) -> OutsideError {
        match self {
            Self::Source { why, help, .. } => {
                OutsideError::Source { address: address.to_string(), why, help }
            }
            Self::Bucket(error) => OutsideError::Store(error),
            Self::Io(error) => OutsideError::Io(error),
        }
    }
}
