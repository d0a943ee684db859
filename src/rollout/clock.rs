//! The one look at the clock of services.

use std::time::{Duration, SystemTime};

/// Unix milliseconds.
pub(super) fn now() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "this is where services take the time from")]
    let now = SystemTime::now();
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
