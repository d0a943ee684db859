//! What this process knows to be in the bucket: it stored it, or saw it there a short while ago. All of it may be forgotten at any time.
//!
//! Nobody's gc removes what is younger than its grace, and what was older than a day was renewed when it was seen; so this stays true
//! unless somebody removes objects by hand.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::locked;
use super::names::Name;

/// What was seen so recently is believed to be there still.
const BELIEVED: Duration = Duration::from_mins(5);
/// Objects that are remembered at most (about 60 bytes each).
const MOST: usize = 500_000;

/// Objects by when they were stored or seen.
#[derive(Default)]
pub(super) struct Known {
    seen: Mutex<HashMap<Name, Instant>>,
}

impl Known {
    /// Whether the object is known to be there.
    pub(super) fn has(&self, name: &Name) -> bool {
        locked(&self.seen).get(name).is_some_and(|at| at.elapsed() < BELIEVED)
    }

    /// It is there.
    pub(super) fn saw(&self, name: Name) {
        let mut seen = locked(&self.seen);
        if seen.len() >= MOST {
            seen.clear();
        }
        seen.insert(name, Instant::now());
    }

    /// One object is not as it should be: then nothing is believed any more.
    pub(super) fn forget(&self) {
        locked(&self.seen).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::store::s3::names::Shelf;

    #[test]
    fn seen_and_forgotten() {
        let known = Known::default();
        let name = Name::new(Shelf::Blob, Digest::of(b"x"));
        known.saw(name);
        assert!(known.has(&name));
        assert!(!known.has(&Name::new(Shelf::Tree, Digest::of(b"x"))));
        known.forget();
        assert!(!known.has(&name));
    }
}
