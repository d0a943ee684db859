//! Tells how far bytes are that go to the store's place or come from there.

use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::event::{Movement, Notice};
use crate::plan::TaskIndex;
use crate::words::millis;

use super::Attempts;

/// Between two looks at how far it is. What takes less is not told of.
const LOOK: Duration = Duration::from_secs(1);

/// What did not begin to move for so long is told of as well.
const STILL: Duration = Duration::from_secs(5);

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// To the store.
    Up,
    /// From the store.
    Down,
}

/// How fast bytes go, look by look.
struct Pace {
    /// Bytes at the last look, and when that was.
    looked: (u64, Instant),
    /// When there were last more than before.
    grew: Instant,
    /// Bytes when they began to move, also after a silence: a rate over that would tell nothing of what is left.
    since: (u64, Instant),
}

impl Pace {
    fn new(began: Instant) -> Self {
        Self { looked: (0, began), grew: began, since: (0, began) }
    }

    /// Bytes a second, and for how long none moved.
    fn look(&mut self, bytes: u64, now: Instant) -> (u64, Duration) {
        if bytes > self.looked.0 {
            if now - self.grew >= STILL {
                self.since = self.looked;
            }
            self.grew = now;
        }
        self.looked = (bytes, now);
        let took = millis(now - self.since.1).max(1);
        ((bytes - self.since.0).saturating_mul(1000) / took, now - self.grew)
    }
}

impl Attempts {
    /// Does `work`, which moves bytes of this task, and says meanwhile how far they are.
    pub(super) async fn watch<T>(
        &self,
        task: TaskIndex,
        way: Way,
        work: impl Future<Output = T>,
    ) -> T {
        let mut work = pin!(work);
        let began = Instant::now();
        let mut look = interval_at(began + LOOK, LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let before = self.traffic_of(task, way);
        let expected = self.expected_of(task, way);
        let mut pace = Pace::new(began);
        let mut told = false;
        loop {
            tokio::select! {
                done = &mut work => {
                    if told {
                        self.tell(task, None);
                    }
                    return done;
                }
                _ = look.tick() => {
                    let bytes = self.traffic_of(task, way) - before;
                    let total = self.expected_of(task, way).saturating_sub(expected).max(bytes);
                    let (per_second, still_for) = pace.look(bytes, Instant::now());
                    if bytes > 0 || (total > 0 && still_for >= STILL) {
                        let up = way == Way::Up;
                        self.tell(task, Some(Movement { up, bytes, total, per_second, still_for }));
                        told = true;
                    }
                }
            }
        }
    }

    fn traffic_of(&self, task: TaskIndex, way: Way) -> u64 {
        let moved = self.traffic[task].moved();
        match way {
            Way::Up => moved.sent,
            Way::Down => moved.received,
        }
    }

    fn expected_of(&self, task: TaskIndex, way: Way) -> u64 {
        let (up, down) = self.traffic[task].expected();
        match way {
            Way::Up => up,
            Way::Down => down,
        }
    }

    fn tell(&self, task: TaskIndex, how_far: Option<Movement>) {
        let task = self.graph.tasks[task].id.clone();
        // Nobody listens any more once the run is over; then there is nothing to show.
        drop(self.notices.send(Notice::Moving { task, how_far }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_forgets_a_silence() {
        let began = Instant::now();
        let mut pace = Pace::new(began);
        let at = |seconds| began + Duration::from_secs(seconds);
        assert_eq!(pace.look(10, at(1)), (10, Duration::ZERO));
        assert_eq!(pace.look(30, at(2)), (15, Duration::ZERO));
        for second in 3..62 {
            pace.look(30, at(second));
        }
        assert_eq!(pace.look(30, at(62)).1, Duration::from_mins(1));
        assert_eq!(pace.look(50, at(63)), (20, Duration::ZERO), "counted from the last look on");
        assert_eq!(pace.look(90, at(65)), (20, Duration::ZERO));
    }
}
