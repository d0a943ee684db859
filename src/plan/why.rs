//! The difference of two [`KeyParts`], and reasons as words.

use crate::event::{FieldChange, KeyParts, Reason};

/// Every field that differs, in the order of the type; maps entry by entry.
pub fn changes(was: &KeyParts, is: &KeyParts) -> Vec<FieldChange> {
    let _ = (was, is);
    todo!()
}

/// A reason as a fragment: `params.seed: 7 → 8`, `first time`, `files changed`.
pub fn words(reason: &Reason) -> String {
    let _ = reason;
    todo!()
}
