//! How much, how many and how long: the numbers behind a bucket.

use std::time::Duration;

/// What memory for parts is counted in, bytes.
pub(super) const UNIT: u64 = 1 << 20;

/// The numbers; tests take smaller ones.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    /// Bytes of a part; larger only where a file would have too many.
    pub part: u64,
    /// Files up to this size go in one piece, bytes.
    pub whole: u64,
    /// Bytes of parts in memory at once, for all calls together.
    pub memory: u64,
    /// Parts of one file at once.
    pub at_once: usize,
    /// S3's own: parts of one upload.
    pub most_parts: u64,

    /// Small requests under way at once.
    pub requests: usize,
    /// Parts and ranges under way at once, for all calls together.
    pub bulk: usize,
    /// Until a connection stands.
    pub connect: Duration,
    /// Without a byte in either direction.
    pub quiet: Duration,
    /// Until an answer to what the server may work on for long: a copy, or putting parts together.
    pub slow_answer: Duration,
    /// From the first failure of a request until it is given up.
    pub give_up: Duration,
    /// The same where the server never answered yet: a wrong address is likelier than a restart.
    pub give_up_first: Duration,
    /// Before the second try; doubles.
    pub pause: Duration,
    /// After it the server's clock shows another second.
    pub tick: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            part: 8 << 20,
            whole: 16 << 20,
            memory: 64 << 20,
            at_once: 8,
            most_parts: 10_000,

            requests: 64,
            bulk: 16,
            connect: Duration::from_secs(10),
            quiet: Duration::from_secs(30),
            slow_answer: Duration::from_mins(5),
            give_up: Duration::from_mins(2),
            give_up_first: Duration::from_secs(15),
            pause: Duration::from_millis(100),
            tick: Duration::from_millis(1100),
            longest_pause: Duration::from_secs(8),
        }
    }
}

impl Limits {
    /// The same; a server that went away is given up after `patience` at the latest.
    pub(super) fn within(self, patience: Duration) -> Self {
        Self { give_up: self.give_up.min(patience), ..self }
    }

    /// All the memory for parts, in [`UNIT`]s.
    pub(super) fn units(&self) -> u32 {
        u32::try_from(self.memory.div_ceil(UNIT).max(1)).unwrap_or(u32::MAX)
    }

    /// What `bytes` take of it; all of it where they are more.
    pub(super) fn units_of(&self, bytes: u64) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).clamp(1, self.units())
    }

    /// Bytes of each part of a file of `size` bytes but the last.
    pub(super) fn part_of(&self, size: u64) -> u64 {
        let least = size.div_ceil(self.most_parts);
        if least <= self.part { self.part } else { least.next_multiple_of(UNIT) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_grow_so_that_the_largest_object_fits() {
        let limits = Limits::default();
        for size in [1, 8 << 20, 80 << 30, 5 << 40_u64] {
            let part = limits.part_of(size);
            assert!(size.div_ceil(part) <= limits.most_parts, "{size}");
            assert!(part <= 5 << 30, "{size}");
        }
        assert_eq!(limits.part_of(1 << 30), 8 << 20);
    }
}
