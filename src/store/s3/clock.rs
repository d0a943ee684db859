//! The one place where the store in a bucket asks for the time: to tell how old an object is.

/// Now, Unix milliseconds.
#[expect(clippy::disallowed_methods, reason = "this is where the store takes the time from")]
pub(super) fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
