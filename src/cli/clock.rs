//! The command line's clock and randomness; everything below gets them as values.

use std::io::Read;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::names::RunId;

/// Unix milliseconds.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place of the command line that reads the clock"
)]
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A fresh identifier for a run made now.
pub(crate) fn fresh_run_id() -> std::io::Result<RunId> {
    let mut random = [0; 16];
    fs_err::File::open("/dev/urandom")?.read_exact(&mut random)?;
    Ok(RunId::new(now(), u128::from_le_bytes(random)))
}
