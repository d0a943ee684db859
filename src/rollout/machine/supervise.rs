//! What happens to replicas, and what is done about it.

use super::replica::ENDS;
use super::{Command, Event, Fact, Machine, Phase, Role, Slot};
use crate::event::JobEnd;
use crate::rollout::texts;

/// Between two words about what a probe answers, milliseconds.
const TELL_EVERY: u64 = 3_000;

impl Machine {
    pub(super) fn heard(&mut self, now: u64, slot: Slot, fact: Fact, commands: &mut Vec<Command>) {
        let Some(replica) = self.replicas.get_mut(&slot) else { return };
        match fact {
            Fact::Started => {
                if replica.phase == Phase::Starting {
                    replica.phase = Phase::Running { since: now };
                }
            }
            Fact::Answered(text) => {
                replica.answer = Some(text);
                self.tell_answer(now, slot, commands);
            }
            Fact::Ready => {
                if matches!(replica.phase, Phase::Running { .. }) {
                    replica.phase = Phase::Ready { since: now };
                    replica.answer = None;
                    if replica.role == Role::Candidate {
                        self.tell_ready(commands);
                    }
                }
            }
            Fact::Stuck(text) => {
                // A candidate is judged by `verify`; what is old goes anyway.
                if replica.role == Role::Live && matches!(replica.phase, Phase::Ready { .. }) {
                    replica.why = Some(format!("it did not answer any more: {text}"));
                    self.stop_and_count(now, slot, commands);
                }
            }
            Fact::NotStarted(why) => {
                replica.why = Some(why);
                self.over(now, slot, None, commands);
            }
            Fact::Ended(end) => self.over(now, slot, Some(end), commands),
        }
    }

    /// A live replica is stopped to be started anew.
    fn stop_and_count(&mut self, now: u64, slot: Slot, commands: &mut Vec<Command>) {
        let Some(replica) = self.replicas.get_mut(&slot) else { return };
        replica.note_lasted(now);
        replica.phase = Phase::Stopping;
        commands.push(Command::Stop(slot));
    }

    /// A start of a replica is over.
    fn over(&mut self, now: u64, slot: Slot, end: Option<JobEnd>, commands: &mut Vec<Command>) {
        let Some(replica) = self.replicas.get_mut(&slot) else { return };
        match replica.role {
            Role::Old => {
                self.replicas.remove(&slot);
            }
            Role::Candidate => {
                let told = replica.why.take();
                let was_ready = matches!(replica.phase, Phase::Ready { .. });
                self.replicas.remove(&slot);
                let why = match (told, end) {
                    (Some(why), _) => format!("replica {} {why}", slot.replica),
                    (None, end) => {
                        let end = end.as_ref().map_or_else(|| "ended".to_owned(), texts::end);
                        let when = if was_ready { "after" } else { "before" };
                        format!("replica {} {end} {when} it was ready", slot.replica)
                    }
                };
                self.fail_candidate(slot, why, commands);
            }
            Role::Live => self.start_anew(now, slot, end, commands),
        }
    }

    fn start_anew(
        &mut self,
        now: u64,
        slot: Slot,
        end: Option<JobEnd>,
        commands: &mut Vec<Command>,
    ) {
        let Some(replica) = self.replicas.get_mut(&slot) else { return };
        let asked = replica.phase == Phase::Stopping;
        replica.note_lasted(now);
        let pause = replica.ended();
        replica.phase = Phase::Waiting { until: now.saturating_add(pause) };
        replica.restarts = replica.restarts.saturating_add(1);
        replica.answer = None;
        if let Some(end) = end {
            if !asked {
                replica.why = Some(texts::end(&end));
            }
            if replica.crashes <= ENDS {
                commands.push(Command::Journal(slot, Event::Ended(end.clone())));
            }
            replica.last_end = Some(end);
        }
        if replica.crashes >= ENDS && !replica.looping {
            replica.looping = true;
            let restarts = replica.restarts;
            commands.push(Command::Journal(slot, Event::CrashLooping { restarts, pause }));
        }
    }

    pub(super) fn pass_deadlines(&mut self, now: u64, commands: &mut Vec<Command>) {
        let due = |(slot, replica): (&Slot, &super::Replica)| {
            let deadline = replica.deadline()?;
            (deadline <= now).then_some(*slot)
        };
        let due: Vec<Slot> = self.replicas.iter().filter_map(due).collect();
        for slot in due {
            let Some(replica) = self.replicas.get_mut(&slot) else { continue };
            match (replica.phase, replica.role) {
                (Phase::Running { .. }, Role::Live | Role::Candidate) => {
                    let why = texts::not_ready(replica.terms.within, replica.answer.as_deref());
                    if replica.role == Role::Live {
                        replica.why = Some(why);
                        self.stop_and_count(now, slot, commands);
                    } else {
                        self.fail_candidate(
                            slot,
                            format!("replica {} {why}", slot.replica),
                            commands,
                        );
                    }
                }
                (Phase::Ready { .. }, Role::Live) => {
                    replica.looping = false;
                    replica.crashes = 0;
                    commands.push(Command::Journal(slot, Event::Recovered));
                }
                _ => {}
            }
        }
    }

    /// Brings the live replicas to the number that is wanted.
    pub(super) fn fill(&mut self, now: u64, commands: &mut Vec<Command>) {
        let Some((release, terms)) = self.live else { return };
        let wanted = self.wanted() as usize;
        let mut there = self.slots_with(Role::Live);
        if there.len() > wanted {
            // Those that answer stay, and of those the first.
            let is_ready = |slot: &Slot| matches!(self.replicas[slot].phase, Phase::Ready { .. });
            there.sort_by_key(|slot| (!is_ready(slot), *slot));
            for slot in there.split_off(wanted) {
                self.retire(slot, commands);
            }
            return;
        }
        if self.is_held_back() {
            return;
        }
        for _ in there.len()..wanted {
            self.add(now, release, terms, Role::Live);
        }
    }

    /// Nothing live may be started now: something that must not stand beside it is there or on its way.
    fn is_held_back(&self) -> bool {
        let live_in_place = self.live.is_some_and(|(_, terms)| terms.in_place);
        let clearing = self
            .candidate
            .as_ref()
            .is_some_and(|candidate| candidate.terms.in_place || live_in_place);
        let old = |replica: &super::Replica| {
            replica.role == Role::Old && (replica.terms.in_place || live_in_place)
        };
        clearing || self.replicas.values().any(old)
    }

    pub(super) fn start_waiting(&mut self, now: u64, commands: &mut Vec<Command>) {
        let due = |(slot, replica): (&Slot, &super::Replica)| match replica.phase {
            Phase::Waiting { until } if until <= now => Some(*slot),
            _ => None,
        };
        let due: Vec<Slot> = self.replicas.iter().filter_map(due).collect();
        for slot in due {
            let turn = self.next_turn();
            if let Some(replica) = self.replicas.get_mut(&slot) {
                replica.turn = turn;
                replica.phase = Phase::Starting;
                commands.push(Command::Start(slot, turn));
            }
        }
    }

    fn tell_ready(&mut self, commands: &mut Vec<Command>) {
        let ready = self.ready_with(Role::Candidate).len();
        if let Some(candidate) = &self.candidate {
            let text = texts::ready_of(ready, candidate.replicas);
            commands.push(Command::Progress(text));
        }
    }

    fn tell_answer(&mut self, now: u64, slot: Slot, commands: &mut Vec<Command>) {
        let Some(replica) = self.replicas.get(&slot) else { return };
        let (Role::Candidate, Some(answer)) = (replica.role, &replica.answer) else { return };
        let Some(candidate) = &mut self.candidate else { return };
        if candidate.told.is_none_or(|told| now.saturating_sub(told) >= TELL_EVERY) {
            candidate.told = Some(now);
            let text = format!("waiting for replica {}: {answer}", slot.replica);
            commands.push(Command::Progress(text));
        }
    }
}
