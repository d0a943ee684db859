//! Waiting for what happens in another process.

use std::time::{Duration, Instant};

/// No event of these tests takes longer than this on the slowest machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(3);

/// Asks again until there is an answer.
pub(crate) fn await_that<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "{what}: never came");
        std::thread::sleep(Duration::from_millis(30));
    }
}
