//! The engine's one look at the clock.

use std::time::{Duration, SystemTime};

/// Unix milliseconds.
pub(super) fn now() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "this is where the engine takes the time from")]
    let now = SystemTime::now();
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// From now until a moment in Unix milliseconds; zero when it has passed.
pub(super) fn until(moment: u64) -> Duration {
    Duration::from_millis(moment.saturating_sub(now()))
}
