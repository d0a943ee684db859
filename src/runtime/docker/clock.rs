//! The time at which a line of a container comes, and how the engine writes times.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Unix milliseconds now.
#[expect(
    clippy::disallowed_methods,
    reason = "a container is followed for as long as it lives, and nobody gives the time at which a line comes"
)]
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// How long ago that was; nothing for what is yet to come.
pub(super) fn since(moment: SystemTime) -> Option<Duration> {
    (UNIX_EPOCH + Duration::from_millis(now())).duration_since(moment).ok()
}

/// Unix milliseconds of a time as the engine writes it; nothing for its `0001-01-01T00:00:00Z`, which means never.
pub(super) fn milliseconds(text: &str) -> Option<u64> {
    let time: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(time.as_millisecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_the_engine_are_read() {
        assert_eq!(milliseconds("1970-01-01T00:00:01.234567891Z"), Some(1234));
        assert_eq!(milliseconds("0001-01-01T00:00:00Z"), None);
        assert_eq!(milliseconds(""), None);
    }
}
