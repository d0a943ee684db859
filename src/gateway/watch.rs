//! Coarse limits on what nearly always comes at once. A timer for each request would cost as much as all other glue: here the time
//! is counted in ticks, and whoever counts looks through all connections.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Limits;

/// The longest tick.
const LONGEST: Duration = Duration::from_millis(500);

/// The ticks of a gateway.
pub(super) struct Clock {
    tick: Duration,
    now: AtomicU64,
    head: u64,
    answer: u64,
}

impl Clock {
    /// Limits are kept to a quarter of themselves, those of seconds to half a second.
    pub(super) fn new(limits: &Limits) -> Self {
        let shortest = limits.head.min(limits.answer);
        let tick = LONGEST.min(shortest / 4).max(Duration::from_millis(1));
        // One more, as the tick that runs is of unknown age.
        let ticks = |limit: Duration| {
            u64::try_from(limit.as_nanos().div_ceil(tick.as_nanos())).unwrap_or(u64::MAX >> 3) + 1
        };
        Self {
            tick,
            now: AtomicU64::new(1),
            head: ticks(limits.head),
            answer: ticks(limits.answer),
        }
    }

    pub(super) fn tick(&self) -> Duration {
        self.tick
    }

    /// Counts one tick.
    pub(super) fn advance(&self) {
        self.now.fetch_add(1, Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }
}

const BUSY: u64 = 0;
const IDLE: u64 = 1;
const LATE: u64 = 2;
const HEAD: u64 = 3;
const ANSWER: u64 = 4;
const PAUSED: u64 = 5;

/// What is waited for on one connection: a kind in the low three bits, and the tick at which it is due above them.
pub(super) struct Watch(AtomicU64);

/// What has not come in time.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    Head,
    /// [`Watch::is_late`] is true from now on.
    Answer,
}

impl Default for Watch {
    fn default() -> Self {
        Self(AtomicU64::new(IDLE))
    }
}

impl Watch {
    /// A request is here.
    pub(super) fn set_busy(&self) {
        self.0.store(BUSY, Ordering::Relaxed);
    }

    /// Its answer is given: the next request is waited for.
    pub(super) fn set_idle(&self) {
        self.0.store(IDLE, Ordering::Relaxed);
    }

    /// The client does not take what is left of an answer: it cannot be expected to ask again.
    pub(super) fn pause(&self) {
        if matches!(self.0.load(Ordering::Relaxed) & 7, IDLE | HEAD) {
            self.0.store(PAUSED, Ordering::Relaxed);
        }
    }

    /// The client takes it again.
    pub(super) fn resume(&self) {
        if self.0.load(Ordering::Relaxed) == PAUSED {
            self.set_idle();
        }
    }

    /// The request is with the backend.
    pub(super) fn wait_for_answer(&self, clock: &Clock) {
        self.0.store((clock.now() + clock.answer) << 3 | ANSWER, Ordering::Relaxed);
    }

    /// The answer that was waited for is due.
    pub(super) fn is_late(&self) -> bool {
        self.0.load(Ordering::Relaxed) == LATE
    }

    /// To be asked at every tick. The wait for a head begins with the first.
    pub(super) fn due(&self, clock: &Clock) -> Option<Due> {
        let now = clock.now();
        let seen = self.0.load(Ordering::Relaxed);
        let (then, due) = match seen & 7 {
            IDLE => ((now + clock.head) << 3 | HEAD, None),
            HEAD if seen >> 3 <= now => (BUSY, Some(Due::Head)),
            ANSWER if seen >> 3 <= now => (LATE, Some(Due::Answer)),
            _ => return None,
        };
        // Not if something else came this moment.
        let changed = self.0.compare_exchange(seen, then, Ordering::Relaxed, Ordering::Relaxed);
        changed.ok().and(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(head: u64, answer: u64) -> Clock {
        let (head, answer) = (Duration::from_secs(head), Duration::from_secs(answer));
        Clock::new(&Limits { head, answer, ..Limits::default() })
    }

    /// Ticks until something is due.
    fn due(watch: &Watch, clock: &Clock) -> (u64, Due) {
        (1..10_000)
            .find_map(|ticks| {
                clock.advance();
                watch.due(clock).map(|due| (ticks, due))
            })
            .unwrap()
    }

    fn nothing_is_due(watch: &Watch, clock: &Clock) -> bool {
        (0..10_000).all(|_| {
            clock.advance();
            watch.due(clock).is_none()
        })
    }

    #[test]
    fn what_does_not_come_is_due_after_its_limit() {
        let clock = clock(15, 300);
        assert_eq!(clock.tick(), LONGEST);
        let watch = Watch::default();
        assert_eq!(due(&watch, &clock), (1 + 31, Due::Head));
        watch.set_busy();
        watch.wait_for_answer(&clock);
        assert!(!watch.is_late());
        assert_eq!(due(&watch, &clock), (601, Due::Answer));
        assert!(watch.is_late());
        assert!(nothing_is_due(&watch, &clock));
        watch.set_idle();
        assert_eq!(due(&watch, &clock), (1 + 31, Due::Head));
    }

    #[test]
    fn only_what_is_waited_for_is_due() {
        let clock = clock(1, 1);
        let watch = Watch::default();
        watch.set_busy();
        assert!(nothing_is_due(&watch, &clock));
        // A client that does not take its answer, before and after the wait for the next request began.
        watch.pause();
        watch.set_idle();
        watch.pause();
        assert!(nothing_is_due(&watch, &clock));
        watch.resume();
        assert_eq!(watch.due(&clock), None);
        watch.pause();
        assert!(nothing_is_due(&watch, &clock));
        watch.resume();
        assert_eq!(due(&watch, &clock), (6, Due::Head));
        watch.set_busy();
        watch.resume();
        assert!(nothing_is_due(&watch, &clock));
    }

    #[test]
    fn limits_without_end_are_never_due() {
        let clock = clock(u64::MAX >> 4, 1);
        assert!(nothing_is_due(&Watch::default(), &clock));
    }
}
