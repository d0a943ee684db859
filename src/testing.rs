//! What unit tests of several modules need.

use std::time::{Duration, Instant};

/// Whether this comes true. A lock that was just given back may be held for a moment by a child that another test forks: it has copies
/// of all descriptors until it becomes its program.
pub(crate) fn soon(mut holds: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_mins(1) {
        if holds() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}
