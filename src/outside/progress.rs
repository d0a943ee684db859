//! How far a download is, in lines for people.

use std::time::{Duration, Instant};

use crate::words::{bytes, duration, millis};

/// The first line comes after this long, so that what is quick says nothing.
const FIRST: Duration = Duration::from_secs(1);
/// Then one comes each time.
const NEXT: Duration = Duration::from_secs(5);

/// Says how far it is.
pub(super) struct Progress<'a> {
    what: String,
    tell: &'a (dyn Fn(String) + Send + Sync),
    began: Instant,
    next: Duration,
    /// Bytes that came since it began.
    came: u64,
}

impl<'a> Progress<'a> {
    pub(super) fn new(what: String, tell: &'a (dyn Fn(String) + Send + Sync)) -> Self {
        Self { what, tell, began: Instant::now(), next: FIRST, came: 0 }
    }

    /// So many bytes came; `here` of `total` are here.
    pub(super) fn moved(&mut self, came: u64, here: u64, total: Option<u64>) {
        self.came += came;
        let passed = self.began.elapsed();
        if passed >= self.next {
            self.next = passed + NEXT;
            let line = self.words(passed, here, total);
            (self.tell)(line);
        }
    }

    /// Something it waits for.
    pub(super) fn waits(&mut self, why: &str) {
        (self.tell)(format!("fetching `{}`: {why}", self.what));
    }

    fn words(&self, passed: Duration, here: u64, total: Option<u64>) -> String {
        let rate = u128::from(self.came) * 1000 / passed.as_millis().max(1);
        let rate = u64::try_from(rate).unwrap_or(u64::MAX);
        let left = total
            .map(|total| total.saturating_sub(here))
            .filter(|_| rate > 0)
            .map(|left| format!(", {} to go", duration(millis(Duration::from_secs(left / rate)))))
            .unwrap_or_default();
        let of = total.map(|total| format!(" of {}", bytes(total))).unwrap_or_default();
        format!("fetching `{}`: {}{of}, {}/s{left}", self.what, bytes(here), bytes(rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_a_rate() {
        let tell = |_: String| {};
        let mut progress = Progress::new("https://x.org/a".to_owned(), &tell);
        progress.came = 10 << 20;
        let passed = Duration::from_secs(2);
        assert_eq!(
            progress.words(passed, 15 << 20, Some(20 << 20)),
            "fetching `https://x.org/a`: 15 MiB of 20 MiB, 5 MiB/s, 1.0s to go"
        );
        let unknown = progress.words(passed, 15 << 20, None);
        assert_eq!(unknown, "fetching `https://x.org/a`: 15 MiB, 5 MiB/s");
    }
}
