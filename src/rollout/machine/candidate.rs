//! A release on its way to be live: prepare → promote | abandon. Also the live release started anew, which is the same with
//! nobody to ask in between.

use super::{Command, Machine, Phase, Replica, Role, Slot, Terms};
use crate::names::ReleaseId;

/// What the candidate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::rollout) enum Kind {
    /// A release that waits to be promoted once it is ready.
    Rollout,
    /// The live release again: it goes live as soon as it is ready.
    Restart,
}

/// A release on its way.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) release: ReleaseId,
    pub(super) terms: Terms,
    /// How many replicas.
    pub(super) replicas: u32,
    pub(super) kind: Kind,
    pub(super) step: Step,
    /// When something was last said about what its probes answer.
    pub(super) told: Option<u64>,
}

/// How far it is.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// It is being written down.
    Recording,
    /// In place: the live replica is on its way out.
    Clearing,
    /// Its replicas are being started.
    Starting,
    /// All of them are ready.
    Ready,
    /// One of them ended after that.
    Broken(Slot, String),
    /// The state is being asked; what ended meanwhile.
    Switching(Option<(Slot, String)>),
}

/// A replica that was found running when the server started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::rollout) struct Adopted {
    /// Which.
    pub(in crate::rollout) slot: Slot,
    /// It was ready once.
    pub(in crate::rollout) ready: bool,
    /// Its starts after the first.
    pub(in crate::rollout) restarts: u32,
}

/// As many replicas as a release can have: one where it is replaced in place.
fn at_most(replicas: u32, terms: Terms) -> u32 {
    if terms.in_place { replicas.min(1) } else { replicas }
}

impl Machine {
    /// A service as it is found: what is live, what was on its way, what runs. Replicas of other releases are stopped.
    pub(in crate::rollout) fn adopt(
        now: u64,
        live: Option<(ReleaseId, Terms)>,
        wanted: u32,
        candidate: Option<(ReleaseId, Terms, u32)>,
        running: &[Adopted],
    ) -> (Self, Vec<Command>) {
        let mut machine = Self::new();
        let mut commands = Vec::new();
        machine.live = live;
        machine.wanted = wanted;
        machine.candidate = candidate.map(|(release, terms, replicas)| Candidate {
            release,
            terms,
            replicas: at_most(replicas, terms),
            kind: Kind::Rollout,
            step: Step::Recording,
            told: None,
        });
        for found in running {
            let of =
                |release, terms, role| (release == found.slot.release).then_some((terms, role));
            let live = live.and_then(|(release, terms)| of(release, terms, Role::Live));
            let next =
                candidate.and_then(|(release, terms, _)| of(release, terms, Role::Candidate));
            let other = (Terms { within: 0, in_place: false }, Role::Old);
            let (terms, role) = live.or(next).unwrap_or(other);
            let turn = machine.next_turn();
            let mut replica = Replica::new(role, terms, now);
            replica.turn = turn;
            replica.restarts = found.restarts;
            replica.phase = match role {
                Role::Old => Phase::Stopping,
                _ if found.ready => Phase::Ready { since: now },
                _ => Phase::Running { since: now },
            };
            machine.replicas.insert(found.slot, replica);
            commands.push(Command::Watch(found.slot, turn));
            if role == Role::Old {
                commands.push(Command::Stop(found.slot));
            }
        }
        if let Some(candidate) = &machine.candidate {
            commands.push(Command::Record(candidate.release));
        }
        machine.settle(now, &mut commands);
        (machine, commands)
    }

    pub(super) fn prepare(
        &mut self,
        release: ReleaseId,
        terms: Terms,
        replicas: u32,
        kind: Kind,
        commands: &mut Vec<Command>,
    ) {
        if self.candidate.is_some() || self.ending {
            let why = "another release is being rolled out".to_owned();
            commands.push(Command::PrepareFailed(release, None, why));
            return;
        }
        let replicas = at_most(replicas, terms);
        let step = Step::Recording;
        self.candidate = Some(Candidate { release, terms, replicas, kind, step, told: None });
        commands.push(Command::Record(release));
    }

    pub(super) fn recorded(&mut self, now: u64, commands: &mut Vec<Command>) {
        let Some(candidate) = &mut self.candidate else { return };
        if candidate.step != Step::Recording {
            return;
        }
        let in_place = candidate.terms.in_place || self.live.is_some_and(|(_, live)| live.in_place);
        if in_place {
            candidate.step = Step::Clearing;
            for slot in self.slots_with(Role::Live) {
                self.retire(slot, commands);
            }
        } else {
            candidate.step = Step::Starting;
            self.start_candidate(now);
        }
    }

    /// Adds what the candidate lacks; some may have been found running.
    fn start_candidate(&mut self, now: u64) {
        let Some(candidate) = &self.candidate else { return };
        let (release, terms, replicas) = (candidate.release, candidate.terms, candidate.replicas);
        let there = self.slots_with(Role::Candidate).len();
        for _ in there..replicas as usize {
            self.add(now, release, terms, Role::Candidate);
        }
    }

    /// In place: once the old is gone, the new is started.
    pub(super) fn go_on_in_place(&mut self) {
        let old = self.replicas.values().any(|replica| replica.role != Role::Candidate);
        if let Some(candidate) = &mut self.candidate
            && candidate.step == Step::Clearing
            && !old
        {
            candidate.step = Step::Starting;
            self.start_candidate(0);
        }
    }

    /// Whether all are ready by now.
    pub(super) fn go_on_with_candidate(&mut self, commands: &mut Vec<Command>) {
        let ready = self.ready_with(Role::Candidate).len();
        let Some(candidate) = &mut self.candidate else { return };
        if candidate.step != Step::Starting || ready < candidate.replicas as usize {
            return;
        }
        candidate.step = Step::Ready;
        let release = candidate.release;
        match candidate.kind {
            Kind::Rollout => commands.push(Command::Prepared(release)),
            Kind::Restart => self.switch(commands),
        }
    }

    pub(super) fn promote(&mut self, commands: &mut Vec<Command>) {
        let Some(candidate) = &mut self.candidate else { return };
        let release = candidate.release;
        match &candidate.step {
            Step::Ready => {
                candidate.step = Step::Switching(None);
                commands.push(Command::Swap(release));
            }
            Step::Switching(_) => {}
            Step::Broken(slot, why) => {
                let failed = Command::PromoteFailed(release, Some(*slot), why.clone());
                commands.push(failed);
                self.drop_candidate(commands);
            }
            Step::Recording | Step::Clearing | Step::Starting => {
                let why = "its replicas are not ready yet".to_owned();
                commands.push(Command::PromoteFailed(release, None, why));
            }
        }
    }

    /// The candidate's replicas become the live ones, all in one step, and the live ones old.
    pub(super) fn switch(&mut self, commands: &mut Vec<Command>) {
        let Some(candidate) = self.candidate.take() else { return };
        for slot in self.slots_with(Role::Live) {
            self.retire(slot, commands);
        }
        for replica in self.replicas.values_mut().filter(|one| one.role == Role::Candidate) {
            replica.role = Role::Live;
        }
        self.live = Some((candidate.release, candidate.terms));
        if candidate.kind == Kind::Rollout {
            self.wanted = candidate.replicas;
        }
        commands.push(Command::Switched(candidate.release));
    }

    pub(super) fn not_swapped(&mut self) {
        let Some(candidate) = &mut self.candidate else { return };
        if let Step::Switching(broken) = &mut candidate.step {
            candidate.step = match broken.take() {
                Some((slot, why)) => Step::Broken(slot, why),
                None => Step::Ready,
            };
        }
    }

    pub(super) fn abandon(&mut self, commands: &mut Vec<Command>) {
        let Some(candidate) = &self.candidate else { return };
        // The state decides who is live; it is being asked.
        if !matches!(candidate.step, Step::Switching(_)) {
            commands.push(Command::Abandoned(candidate.release));
            self.drop_candidate(commands);
        }
    }

    /// The candidate is none any more; its replicas are stopped.
    pub(super) fn drop_candidate(&mut self, commands: &mut Vec<Command>) {
        self.candidate = None;
        for slot in self.slots_with(Role::Candidate) {
            let Some(replica) = self.replicas.get_mut(&slot) else { continue };
            replica.role = Role::Old;
            match replica.phase {
                Phase::Waiting { .. } => {
                    self.replicas.remove(&slot);
                }
                Phase::Stopping | Phase::Draining => {}
                Phase::Starting | Phase::Running { .. } | Phase::Ready { .. } => {
                    replica.phase = Phase::Stopping;
                    commands.push(Command::Stop(slot));
                }
            }
        }
    }

    /// The candidate cannot become ready.
    pub(super) fn fail_candidate(&mut self, slot: Slot, why: String, commands: &mut Vec<Command>) {
        let Some(candidate) = &mut self.candidate else { return };
        match candidate.step {
            Step::Starting | Step::Recording | Step::Clearing => {
                let release = candidate.release;
                commands.push(Command::PrepareFailed(release, Some(slot), why));
                self.drop_candidate(commands);
            }
            Step::Ready => candidate.step = Step::Broken(slot, why),
            // Once it is live, it is started anew.
            Step::Switching(None) => candidate.step = Step::Switching(Some((slot, why))),
            Step::Broken(..) | Step::Switching(Some(_)) => {}
        }
    }
}
