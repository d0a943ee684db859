//! One service as a pure state machine: what happened → what to do. No IO, no clock: times are milliseconds from any start.
//!
//! A **replica** has a role: it is live, belongs to the candidate, or is old and on its way out. What the gateway leads to is
//! always the ready replicas with the role *live*, and those are all of one release: roles change together, in one step.

mod candidate;
mod replica;
mod supervise;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub(super) use candidate::{Adopted, Kind};
use candidate::{Candidate, Step};
pub(super) use replica::{Phase, Replica, Role, Slot};

use crate::event::JobEnd;
use crate::names::ReleaseId;
use crate::release::ServiceState;

/// What the machine needs to know of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Terms {
    /// How long a replica may take to become ready, milliseconds.
    pub(super) within: u64,
    /// One replica at most, and none beside it.
    pub(super) in_place: bool,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Input {
    /// A release shall be made ready. Only when nothing else is ([`Machine::candidate`]).
    Prepare {
        /// It.
        release: ReleaseId,
        /// Of it.
        terms: Terms,
        /// How many replicas.
        replicas: u32,
        /// A new release, or the live one again.
        kind: Kind,
    },
    /// The candidate is written down and its listeners are bound.
    Recorded,
    /// The candidate cannot be written down, or its port cannot be had.
    NotRecorded,
    /// The candidate shall go live.
    Promote,
    /// The state says that the candidate is live.
    Swapped,
    /// The state says that another one is live, or says nothing.
    NotSwapped,
    /// The candidate will not go live.
    Abandon,
    /// So many from now on.
    Scale(u32),
    /// Everything shall end.
    Down,
    /// Something about one start of a replica.
    Replica(Slot, u64, Fact),
    /// Time has passed.
    Tick,
}

/// What happened to one start of a replica.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Fact {
    /// Its program runs.
    Started,
    /// Its program could not be started. The answer for a person.
    NotStarted(String),
    /// The probe's last answer, while it is not ready.
    Answered(String),
    /// It is ready.
    Ready,
    /// It was ready and does not answer any more; what the probe said.
    Stuck(String),
    /// It is over, as asked or by itself. Always the last of a start.
    Ended(JobEnd),
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Command {
    /// Start a replica; what is told of it carries this turn.
    Start(Slot, u64),
    /// Look after one that was found running.
    Watch(Slot, u64),
    /// Let it finish its requests, then stop it.
    Drain(Slot),
    /// Stop it.
    Stop(Slot),
    /// The live pool is exactly these.
    Backends(Vec<Slot>),
    /// The candidate's pool is exactly these.
    CandidateBackends(Vec<Slot>),
    /// Write the candidate down and bind what it needs; [`Input::Recorded`] follows.
    Record(ReleaseId),
    /// Something to show who waits for the candidate.
    Progress(String),
    /// All replicas of the candidate are ready.
    Prepared(ReleaseId),
    /// The candidate will not become ready; its replicas are being stopped. The replica whose log tells more.
    PrepareFailed(ReleaseId, Option<Slot>, String),
    /// Ask the state to make it live; [`Input::Swapped`] follows.
    Swap(ReleaseId),
    /// It is live.
    Switched(ReleaseId),
    /// It cannot be promoted; its replicas are being stopped.
    PromoteFailed(ReleaseId, Option<Slot>, String),
    /// The candidate's replicas are being stopped.
    Abandoned(ReleaseId),
    /// A live replica ended by itself.
    Journal(Slot, Event),
    /// Nothing is left of the service: no live release, no candidate, no replica.
    Gone,
}

/// What is worth the journal.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Event {
    /// It ended by itself.
    Ended(JobEnd),
    /// It ends again and again; the next start in milliseconds.
    CrashLooping { restarts: u32, pause: u64 },
    /// It is well again.
    Recovered,
}

/// One service.
#[derive(Debug)]
pub(super) struct Machine {
    /// What is live, with its terms.
    live: Option<(ReleaseId, Terms)>,
    wanted: u32,
    candidate: Option<Candidate>,
    replicas: BTreeMap<Slot, Replica>,
    turns: u64,
    ending: bool,
    /// What the gateway was told last.
    backends: Vec<Slot>,
    candidate_backends: Vec<Slot>,
    /// `Gone` was said.
    gone: bool,
}

impl Machine {
    /// Nothing is live and nothing runs.
    pub(super) fn new() -> Self {
        Self {
            live: None,
            wanted: 0,
            candidate: None,
            replicas: BTreeMap::new(),
            turns: 0,
            ending: false,
            backends: Vec::new(),
            candidate_backends: Vec::new(),
            gone: false,
        }
    }

    /// Takes in what happened at `now` and says what to do, in order.
    pub(super) fn step(&mut self, now: u64, input: Input) -> Vec<Command> {
        let mut commands = Vec::new();
        let to = &mut commands;
        match input {
            Input::Prepare { release, terms, replicas, kind } => {
                self.prepare(release, terms, replicas, kind, to);
            }
            Input::Recorded => self.recorded(now, to),
            Input::NotRecorded => self.drop_candidate(to),
            Input::Promote => self.promote(to),
            Input::Swapped => self.switch(to),
            Input::NotSwapped => self.not_swapped(),
            Input::Abandon => self.abandon(to),
            Input::Scale(wanted) => self.wanted = wanted,
            Input::Down => self.down(to),
            Input::Replica(slot, turn, fact) => {
                if self.replicas.get(&slot).is_some_and(|replica| replica.turn == turn) {
                    self.heard(now, slot, fact, to);
                }
            }
            Input::Tick => {}
        }
        self.settle(now, &mut commands);
        commands
    }

    /// When [`Input::Tick`] is due, if nothing happens before.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.replicas.values().filter_map(Replica::deadline).min()
    }

    /// The release that is being rolled out or started anew.
    pub(super) fn candidate(&self) -> Option<ReleaseId> {
        self.candidate.as_ref().map(|candidate| candidate.release)
    }

    /// All replicas of the candidate were ready.
    pub(super) fn is_prepared(&self) -> bool {
        self.candidate.as_ref().is_some_and(|candidate| {
            matches!(candidate.step, Step::Ready | Step::Broken(..) | Step::Switching(_))
        })
    }

    /// The candidate is the live release, started anew.
    pub(super) fn is_restarting(&self) -> bool {
        self.candidate.as_ref().is_some_and(|candidate| candidate.kind == Kind::Restart)
    }

    /// What is live.
    pub(super) fn live(&self) -> Option<ReleaseId> {
        self.live.map(|(release, _)| release)
    }

    /// How many shall run.
    pub(super) fn wanted(&self) -> u32 {
        let in_place = self.live.is_some_and(|(_, terms)| terms.in_place);
        if in_place { self.wanted.min(1) } else { self.wanted }
    }

    /// All that are there.
    pub(super) fn replicas(&self) -> &BTreeMap<Slot, Replica> {
        &self.replicas
    }

    /// How many of the live release are ready.
    pub(super) fn ready(&self) -> u32 {
        u32::try_from(self.live_ready().len()).unwrap_or(u32::MAX)
    }

    /// The service as a whole, as far as replicas tell.
    pub(super) fn state(&self) -> ServiceState {
        let ready = self.ready();
        let looping =
            self.replicas.values().any(|replica| replica.role == Role::Live && replica.looping);
        if self.live.is_some() && self.wanted == 0 {
            ServiceState::Stopped
        } else if self.live.is_some() && ready >= self.wanted() && !looping {
            ServiceState::Ready
        } else if looping {
            ServiceState::Crashing
        } else if ready > 0 {
            ServiceState::Degraded
        } else {
            ServiceState::Starting
        }
    }

    fn live_ready(&self) -> Vec<Slot> {
        self.ready_with(Role::Live)
    }

    fn ready_with(&self, role: Role) -> Vec<Slot> {
        let ready = |(slot, replica): (&Slot, &Replica)| {
            (replica.role == role && matches!(replica.phase, Phase::Ready { .. })).then_some(*slot)
        };
        self.replicas.iter().filter_map(ready).collect()
    }

    fn slots_with(&self, role: Role) -> Vec<Slot> {
        let with = |(slot, replica): (&Slot, &Replica)| (replica.role == role).then_some(*slot);
        self.replicas.iter().filter_map(with).collect()
    }

    /// What follows from everything else: deadlines, missing and superfluous replicas, what the gateway leads to.
    fn settle(&mut self, now: u64, commands: &mut Vec<Command>) {
        self.pass_deadlines(now, commands);
        self.go_on_in_place();
        // A restart ends here, and so many replicas may not be wanted any more.
        self.go_on_with_candidate(commands);
        self.fill(now, commands);
        self.start_waiting(now, commands);
        let live = self.live_ready();
        let candidate = match &self.candidate {
            Some(_) => self.ready_with(Role::Candidate),
            None => Vec::new(),
        };
        // Who is told to drain or stop must get nothing new, so the gateway hears of it first.
        if candidate != self.candidate_backends {
            commands.insert(0, Command::CandidateBackends(candidate.clone()));
            self.candidate_backends = candidate;
        }
        if live != self.backends {
            commands.insert(0, Command::Backends(live.clone()));
            self.backends = live;
        }
        let empty = self.live.is_none() && self.candidate.is_none() && self.replicas.is_empty();
        if empty && !self.gone {
            commands.push(Command::Gone);
        }
        self.gone = empty;
    }

    fn down(&mut self, commands: &mut Vec<Command>) {
        self.ending = true;
        if let Some(candidate) = &self.candidate {
            let release = candidate.release;
            let why = "the service was taken down".to_owned();
            commands.push(Command::PrepareFailed(release, None, why));
        }
        self.drop_candidate(commands);
        for slot in self.slots_with(Role::Live) {
            self.retire(slot, commands);
        }
        self.live = None;
        self.wanted = 0;
    }

    /// A replica is not needed any more: it drains when it answers, else it is stopped; one that waits for its start goes at once.
    fn retire(&mut self, slot: Slot, commands: &mut Vec<Command>) {
        let Some(replica) = self.replicas.get_mut(&slot) else { return };
        replica.role = Role::Old;
        match replica.phase {
            Phase::Waiting { .. } => {
                self.replicas.remove(&slot);
            }
            Phase::Ready { .. } => {
                replica.phase = Phase::Draining;
                commands.push(Command::Drain(slot));
            }
            Phase::Starting | Phase::Running { .. } => {
                replica.phase = Phase::Stopping;
                commands.push(Command::Stop(slot));
            }
            Phase::Draining | Phase::Stopping => {}
        }
    }

    fn next_turn(&mut self) -> u64 {
        self.turns += 1;
        self.turns
    }

    /// Makes a replica of a release under the lowest free number, to be started now.
    fn add(&mut self, now: u64, release: ReleaseId, terms: Terms, role: Role) {
        let is_free =
            |number: &u32| !self.replicas.contains_key(&Slot { release, replica: *number });
        let replica = (1..=u32::MAX).find(is_free).unwrap_or(u32::MAX);
        self.replicas.insert(Slot { release, replica }, Replica::new(role, terms, now));
    }
}
