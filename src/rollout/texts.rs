//! What people read about replicas: fragments that go on after `replica 1 …`.

use crate::event::JobEnd;
use crate::words;

/// `exited with code 3`
pub(super) fn end(end: &JobEnd) -> String {
    match end {
        JobEnd::Exited(code @ 129..=159) => {
            format!("exited with code {code} (signal {}, or its own code)", code - 128)
        }
        JobEnd::Exited(code) => format!("exited with code {code}"),
        JobEnd::Signalled(signal) => format!("was ended by signal {signal}"),
        JobEnd::OutOfMemory { limit } => {
            format!("ran out of memory (limit {})", words::bytes(*limit))
        }
        JobEnd::TimedOut { after } => format!("ran longer than {}", seconds(words::millis(*after))),
        JobEnd::Cancelled => "was stopped".to_owned(),
        JobEnd::Lost { why } => format!("is lost: {why}"),
    }
}

/// `was not ready within 60s: GET /readyz answered 503`
pub(super) fn not_ready(within: u64, answer: Option<&str>) -> String {
    let answer = answer.unwrap_or("it was not asked yet");
    format!("was not ready within {}: {answer}", seconds(within))
}

/// `1 of 2 replicas ready`
pub(super) fn ready_of(ready: usize, all: u32) -> String {
    format!("{ready} of {} ready", words::count(all as usize, "replica"))
}

/// `60s`, `0.5s`
pub(super) fn seconds(millis: u64) -> String {
    if millis.is_multiple_of(1000) {
        format!("{}s", millis / 1000)
    } else {
        format!("{}.{}s", millis / 1000, millis % 1000 / 100)
    }
}
