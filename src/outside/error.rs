//! Why something outside cannot be had, and what to do.

use crate::address::Address;
use crate::store::StoreError;

/// What lies outside cannot be had.
#[expect(missing_docs, reason = "the doc of a variant names its fields")]
#[derive(Debug, thiserror::Error)]
pub enum OutsideError {
    /// The address does not give what is wanted. `why` is a fragment that follows the address, `help` one imperative sentence.
    #[error("`{address}` {why}")]
    Source { address: String, why: String, help: String },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The disk; the error names the path.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl OutsideError {
    /// What to do.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Source { help, .. } | Self::Store(StoreError::Unreachable { help, .. }) => {
                Some(help.clone())
            }
            Self::Io(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                Some("free some space, then `flowrun resume`".to_owned())
            }
            Self::Store(_) | Self::Io(_) => None,
        }
    }

    /// The secret that is sent to this address cannot be had.
    pub fn without_token(address: &Address, why: &str, help: String) -> Self {
        let why = format!("takes a token, and {why}");
        Self::Source { address: address.to_string(), why, help }
    }

    /// Nobody waits any more.
    pub(super) fn given_up() -> Self {
        Self::Io(std::io::Error::other("the fetching was given up"))
    }
}
