//! One replica as the machine knows it.

use super::Terms;
use crate::event::JobEnd;
use crate::names::ReleaseId;

/// Which replica. Its number may be used again when it is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::rollout) struct Slot {
    /// Its release.
    pub(in crate::rollout) release: ReleaseId,
    /// From 1.
    pub(in crate::rollout) replica: u32,
}

/// What a replica is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::rollout) enum Role {
    /// Answers, or is started anew until it does.
    Live,
    /// May become live.
    Candidate,
    /// On its way out.
    Old,
}

/// Where a replica is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::rollout) enum Phase {
    /// Nothing runs; started at this time.
    Waiting { until: u64 },
    /// Its work folder, environment and program are being brought up.
    Starting,
    /// Its program runs since then and is not ready.
    Running { since: u64 },
    /// Ready since then.
    Ready { since: u64 },
    /// Finishes its requests.
    Draining,
    /// Was told to stop.
    Stopping,
}

/// Ready for so long, it counts as well again; milliseconds.
pub(super) const WELL: u64 = 10_000;
/// Ready for so long, the pauses before a start begin anew; milliseconds.
const LONG: u64 = 60_000;
/// So many ends in a row without being well in between: it crashes.
pub(super) const ENDS: u32 = 5;
/// The longest pause, milliseconds.
const LONGEST: u64 = 60_000;

/// One replica.
#[derive(Debug, Clone)]
pub(in crate::rollout) struct Replica {
    /// What for.
    pub(in crate::rollout) role: Role,
    /// Where.
    pub(in crate::rollout) phase: Phase,
    /// Of its release.
    pub(super) terms: Terms,
    /// Its present start.
    pub(super) turn: u64,
    /// Starts after the first.
    pub(in crate::rollout) restarts: u32,
    /// Ends since it last was ready for long.
    streak: u32,
    /// Ends since it last was well.
    pub(super) crashes: u32,
    /// It ends again and again.
    pub(in crate::rollout) looping: bool,
    /// How it ended last.
    pub(in crate::rollout) last_end: Option<JobEnd>,
    /// Why it was stopped or ended last, for people.
    pub(in crate::rollout) why: Option<String>,
    /// How long its last start was ready, milliseconds.
    pub(super) lasted: u64,
    /// What its probe said last while it was not ready.
    pub(super) answer: Option<String>,
}

impl Replica {
    pub(super) fn new(role: Role, terms: Terms, now: u64) -> Self {
        Self {
            role,
            phase: Phase::Waiting { until: now },
            terms,
            turn: 0,
            restarts: 0,
            streak: 0,
            crashes: 0,
            looping: false,
            last_end: None,
            why: None,
            lasted: 0,
            answer: None,
        }
    }

    /// When something is due without anything happening.
    pub(super) fn deadline(&self) -> Option<u64> {
        match self.phase {
            Phase::Waiting { until } => Some(until),
            Phase::Running { since } => Some(since.saturating_add(self.terms.within)),
            Phase::Ready { since } if self.looping => Some(since.saturating_add(WELL)),
            _ => None,
        }
    }

    /// It stops being ready at `now`, if it was.
    pub(super) fn note_lasted(&mut self, now: u64) {
        if let Phase::Ready { since } = self.phase {
            self.lasted = now.saturating_sub(since);
        }
    }

    /// It ended: how long to wait before the next start, milliseconds.
    pub(super) fn ended(&mut self) -> u64 {
        let lasted = std::mem::take(&mut self.lasted);
        if lasted >= WELL {
            self.crashes = 0;
        }
        if lasted >= LONG {
            self.streak = 0;
        }
        self.crashes = self.crashes.saturating_add(1);
        self.streak = self.streak.saturating_add(1);
        let pause = match self.streak - 1 {
            _ if self.crashes >= ENDS => LONGEST,
            0 => 0,
            // 1 s, 2 s, 4 s, …
            more => (500_u64 << more.min(7)).min(LONGEST),
        };
        jittered(pause, self.turn)
    }
}

/// Up to a tenth shorter, so that many that ended together do not start together.
fn jittered(pause: u64, turn: u64) -> u64 {
    let mixed = turn.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    pause - (pause / 10) * (mixed % 1000) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_minute_and_begin_anew_after_a_minute_of_being_ready() {
        let terms = Terms { within: 1000, in_place: false };
        let mut replica = Replica::new(Role::Live, terms, 0);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            // Ready for more than ten seconds each time, so it never counts as crashing.
            replica.lasted = 20_000;
            pauses.push(replica.ended());
        }
        assert_eq!(pauses[0], 0);
        let longest = [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000];
        for (pause, longest) in pauses[1..].iter().zip(longest) {
            assert!(*pause <= longest && *pause >= longest * 9 / 10, "{pause} of {longest}");
        }
        replica.lasted = 70_000;
        assert_eq!(replica.ended(), 0);
    }
}
