//! Rules one by one, then a made-up world in which everything happens at random and the promises are checked after every step.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::names::ReleaseId;

/// A made-up world: it does what it is told, sometimes, and knows the promises.
struct World {
    machine: Machine,
    now: u64,
    /// What runs (or is being started): turn, whether it was told to stop.
    running: BTreeMap<Slot, (u64, bool)>,
    backends: BTreeSet<Slot>,
    candidates: BTreeSet<Slot>,
    recording: Option<ReleaseId>,
    swapping: Option<ReleaseId>,
    said: Vec<Command>,
}

const WITHIN: u64 = 60_000;

fn release(number: u64) -> ReleaseId {
    ReleaseId::new(number, 1)
}

fn terms(in_place: bool) -> Terms {
    Terms { within: WITHIN, in_place }
}

fn roll_out(number: u64, replicas: u32, in_place: bool) -> Input {
    let kind = Kind::Rollout;
    Input::Prepare { release: release(number), terms: terms(in_place), replicas, kind }
}

impl World {
    fn new() -> Self {
        Self {
            machine: Machine::new(),
            now: 0,
            running: BTreeMap::new(),
            backends: BTreeSet::new(),
            candidates: BTreeSet::new(),
            recording: None,
            swapping: None,
            said: Vec::new(),
        }
    }

    fn step(&mut self, input: Input) {
        let commands = self.machine.step(self.now, input);
        self.obey(commands);
    }

    fn obey(&mut self, commands: Vec<Command>) {
        for command in commands {
            match &command {
                Command::Start(slot, turn) | Command::Watch(slot, turn) => {
                    let before = self.running.insert(*slot, (*turn, false));
                    assert_eq!(before, None, "started while an earlier start of it is not over");
                }
                Command::Drain(slot) | Command::Stop(slot) => {
                    assert!(!self.backends.contains(slot), "stopped while requests are led to it");
                    self.running.get_mut(slot).expect("only what runs is stopped").1 = true;
                }
                Command::Backends(slots) => self.backends = slots.iter().copied().collect(),
                Command::CandidateBackends(slots) => {
                    self.candidates = slots.iter().copied().collect();
                }
                Command::Record(release) => self.recording = Some(*release),
                Command::Swap(release) => self.swapping = Some(*release),
                Command::Gone => assert!(self.running.is_empty()),
                _ => {}
            }
            self.said.push(command);
        }
        self.check();
    }

    fn check(&self) {
        let releases: BTreeSet<ReleaseId> = self.backends.iter().map(|slot| slot.release).collect();
        assert!(releases.len() <= 1, "two releases answer");
        assert!(releases.iter().all(|one| Some(*one) == self.machine.live()));
        assert!(self.backends.is_disjoint(&self.candidates), "a candidate answers");
        for slot in &self.backends {
            assert!(self.running.contains_key(slot), "requests are led to what does not run");
            let replica = &self.machine.replicas()[slot];
            assert_eq!(replica.role, Role::Live);
        }
        for slot in self.running.keys() {
            assert!(self.machine.replicas().contains_key(slot), "{slot:?} is forgotten");
        }
        let in_place = |slot: &&Slot| self.machine.replicas()[*slot].terms.in_place;
        if self.running.keys().any(|slot| in_place(&slot)) {
            let alike = self.running.keys().filter(in_place).count();
            assert!(alike <= 1, "two replicas of a service that is replaced in place");
        }
        assert!(self.machine.replicas().len() < 40, "it grows");
    }

    fn tell(&mut self, slot: Slot, fact: Fact) {
        let Some((turn, _)) = self.running.get(&slot).copied() else { return };
        if matches!(fact, Fact::Ended(_) | Fact::NotStarted(_)) {
            self.running.remove(&slot);
            self.backends.remove(&slot);
            self.candidates.remove(&slot);
        }
        self.step(Input::Replica(slot, turn, fact));
    }

    fn record(&mut self) {
        if self.recording.take().is_some() {
            self.step(Input::Recorded);
        }
    }

    fn swap(&mut self) {
        if self.swapping.take().is_some() {
            self.step(Input::Swapped);
        }
    }

    /// Everything that runs becomes ready, and what was told to stop ends, until nothing changes.
    fn calm(&mut self) {
        for _ in 0..10 {
            self.record();
            self.swap();
            for (slot, (_, stopped)) in self.running.clone() {
                if stopped {
                    self.tell(slot, Fact::Ended(JobEnd::Cancelled));
                } else {
                    self.tell(slot, Fact::Started);
                    self.tell(slot, Fact::Ready);
                }
            }
        }
    }

    fn slots(&self, number: u64) -> Vec<Slot> {
        self.running.keys().filter(|slot| slot.release == release(number)).copied().collect()
    }

    fn live(number: u64, replicas: u32, in_place: bool) -> Self {
        let mut world = Self::new();
        world.step(roll_out(number, replicas, in_place));
        world.calm();
        world.step(Input::Promote);
        world.calm();
        assert_eq!(world.backends.len(), replicas as usize);
        world.said.clear();
        world
    }

    fn said(&self, wanted: impl Fn(&Command) -> bool) -> usize {
        self.said.iter().filter(|command| wanted(command)).count()
    }
}

#[test]
fn the_switch_leads_to_all_new_replicas_before_an_old_one_drains() {
    let mut world = World::live(1, 2, false);
    let old = world.backends.clone();
    world.step(roll_out(2, 2, false));
    world.record();
    for slot in world.slots(2) {
        world.tell(slot, Fact::Started);
        world.tell(slot, Fact::Ready);
    }
    assert_eq!(world.said(|command| *command == Command::Prepared(release(2))), 1);
    assert_eq!(world.backends, old, "a prepared release does not answer yet");
    world.step(Input::Promote);
    assert_eq!(world.backends, old, "nothing is switched before the state says so");
    world.said.clear();
    world.swap();
    let place = |wanted: &dyn Fn(&Command) -> bool| world.said.iter().position(wanted).unwrap();
    let new = world.slots(2);
    let switched = place(&|command| *command == Command::Backends(new.clone()));
    assert!(switched < place(&|command| matches!(command, Command::Drain(_))));
    assert_eq!(world.said(|command| matches!(command, Command::Drain(_))), 2);
}

#[test]
fn a_replica_that_ends_before_it_is_ready_fails_the_release_and_the_live_one_stays() {
    let mut world = World::live(1, 2, false);
    let live = world.backends.clone();
    world.step(roll_out(2, 2, false));
    world.record();
    let slots = world.slots(2);
    world.tell(slots[0], Fact::Started);
    world.tell(slots[0], Fact::Ended(JobEnd::Exited(3)));
    let why = "replica 1 exited with code 3 before it was ready".to_owned();
    let failed = Command::PrepareFailed(release(2), Some(slots[0]), why);
    assert_eq!(world.said(|command| *command == failed), 1);
    world.calm();
    assert_eq!(world.backends, live);
    assert_eq!(world.running.len(), 2);
    assert_eq!(world.machine.candidate(), None);
}

#[test]
fn a_replica_that_is_not_ready_in_time_fails_with_its_last_answer() {
    let mut world = World::new();
    world.step(roll_out(1, 1, false));
    world.record();
    let slot = world.slots(1)[0];
    world.tell(slot, Fact::Started);
    world.tell(slot, Fact::Answered("GET /readyz answered 503".to_owned()));
    assert_eq!(world.machine.next_deadline(), Some(WITHIN));
    world.now = WITHIN;
    world.step(Input::Tick);
    let why = "replica 1 was not ready within 60s: GET /readyz answered 503".to_owned();
    assert_eq!(
        world.said(|command| *command == Command::PrepareFailed(release(1), Some(slot), why.clone())),
        1
    );
    world.calm();
    assert_eq!(world.said(|command| *command == Command::Gone), 1);
}

#[test]
fn a_candidate_that_ends_after_it_was_ready_fails_the_promotion_and_is_not_started_again() {
    let mut world = World::live(1, 1, false);
    world.step(roll_out(2, 1, false));
    world.calm();
    let slot = world.slots(2)[0];
    world.tell(slot, Fact::Ended(JobEnd::Exited(1)));
    assert!(world.slots(2).is_empty());
    world.step(Input::Promote);
    let why = "replica 1 exited with code 1 after it was ready".to_owned();
    let failed = Command::PromoteFailed(release(2), Some(slot), why);
    assert_eq!(world.said(|command| *command == failed), 1);
    assert_eq!(world.machine.live(), Some(release(1)));
    assert_eq!(world.backends.len(), 1);
}

#[test]
fn one_that_ends_while_the_state_is_asked_is_started_anew_when_it_is_live() {
    let mut world = World::live(1, 1, false);
    world.step(roll_out(2, 1, false));
    world.calm();
    world.step(Input::Promote);
    let slot = world.slots(2)[0];
    world.tell(slot, Fact::Ended(JobEnd::Exited(1)));
    world.swap();
    assert_eq!(world.slots(2).len(), 1);
    world.calm();
    assert_eq!(world.backends.len(), 1);
    assert_eq!(world.machine.live(), Some(release(2)));
}

#[test]
fn in_place_the_old_is_gone_before_the_new_starts_and_comes_back_after_a_failure() {
    let mut world = World::live(1, 1, true);
    world.step(roll_out(2, 1, true));
    world.record();
    assert!(world.backends.is_empty());
    assert!(world.slots(2).is_empty(), "the old one still runs");
    let old = world.slots(1)[0];
    world.tell(old, Fact::Ended(JobEnd::Cancelled));
    let new = world.slots(2)[0];
    world.tell(new, Fact::Started);
    world.tell(new, Fact::Ended(JobEnd::Exited(3)));
    assert_eq!(world.slots(1).len(), 1, "the old one is started again");
    world.calm();
    assert_eq!(world.backends.len(), 1);
    assert_eq!(world.machine.live(), Some(release(1)));
}

#[test]
fn in_place_an_abandoned_release_is_gone_before_the_old_starts() {
    let mut world = World::live(1, 1, true);
    world.step(roll_out(2, 1, true));
    world.calm();
    assert!(world.machine.is_prepared());
    world.step(Input::Abandon);
    assert!(world.slots(1).is_empty(), "the new one still runs");
    world.calm();
    assert_eq!(world.machine.live(), Some(release(1)));
    assert_eq!(world.backends.len(), 1);
}

#[test]
fn a_restart_switches_by_itself_and_keeps_the_number() {
    let mut world = World::live(1, 2, false);
    let before = world.backends.clone();
    let kind = Kind::Restart;
    world.step(Input::Prepare { release: release(1), terms: terms(false), replicas: 2, kind });
    world.calm();
    assert_eq!(world.backends.len(), 2);
    assert!(world.backends.is_disjoint(&before));
    assert_eq!(world.running.len(), 2);
    assert_eq!(world.said(|command| *command == Command::Switched(release(1))), 1);
}

#[test]
fn a_restart_of_what_is_not_wanted_any_more_ends_with_nothing() {
    let mut world = World::live(1, 1, true);
    let old = world.slots(1)[0];
    let kind = Kind::Restart;
    world.step(Input::Prepare { release: release(1), terms: terms(true), replicas: 1, kind });
    world.record();
    world.tell(old, Fact::Ended(JobEnd::Cancelled));
    world.step(Input::Scale(0));
    let new = world.slots(1)[0];
    world.tell(new, Fact::Started);
    // Nothing else will happen by itself.
    world.tell(new, Fact::Ready);
    assert!(world.backends.is_empty());
    assert!(world.running[&new].1, "it was not told to stop");
}

#[test]
fn ten_thousand_restarts_need_no_memory_and_few_words() {
    let mut world = World::live(1, 2, false);
    for _ in 0..5_000 {
        for slot in world.slots(1) {
            world.tell(slot, Fact::Started);
            world.tell(slot, Fact::Ended(JobEnd::Exited(1)));
        }
        assert_eq!(world.machine.replicas().len(), 2);
        world.now = world.machine.next_deadline().unwrap_or(world.now);
        world.step(Input::Tick);
        world.now += 100;
        world.step(Input::Tick);
    }
    assert_eq!(world.machine.state(), ServiceState::Crashing);
    let words = world.said(|command| matches!(command, Command::Journal(..)));
    assert_eq!(words, 2 * 6, "five ends and one loop for each replica");
    world.now += 120_000;
    world.step(Input::Tick);
    world.calm();
    assert_eq!(world.machine.state(), ServiceState::Crashing, "not well for long enough");
    world.now += 10_000;
    world.step(Input::Tick);
    assert_eq!(world.machine.state(), ServiceState::Ready);
    assert_eq!(world.said(|command| matches!(command, Command::Journal(_, Event::Recovered))), 2);
}

#[test]
fn one_that_does_not_answer_any_more_is_stopped_and_started_anew() {
    let mut world = World::live(1, 2, false);
    let slot = world.slots(1)[0];
    world.tell(slot, Fact::Stuck("GET /livez did not answer within 1s".to_owned()));
    assert_eq!(world.backends.len(), 1);
    assert_eq!(world.said(|command| *command == Command::Stop(slot)), 1);
    world.calm();
    assert_eq!(world.backends.len(), 2);
}

#[test]
fn fewer_replicas_drain_and_more_are_started() {
    let mut world = World::live(1, 3, false);
    world.step(Input::Scale(1));
    assert_eq!(world.backends.len(), 1);
    assert_eq!(world.said(|command| matches!(command, Command::Drain(_))), 2);
    world.calm();
    world.step(Input::Scale(0));
    world.calm();
    assert!(world.running.is_empty());
    assert_eq!(world.machine.state(), ServiceState::Stopped);
    assert_eq!(world.said(|command| *command == Command::Gone), 0);
    world.step(Input::Scale(2));
    world.calm();
    assert_eq!(world.backends.len(), 2);
}

#[test]
fn what_runs_is_adopted_at_once_and_strangers_are_stopped() {
    let found = |number, replica, ready| Adopted {
        slot: Slot { release: release(number), replica },
        ready,
        restarts: 7,
    };
    let running = [found(1, 1, true), found(1, 2, false), found(3, 1, true)];
    let mut world = World::new();
    let live = Some((release(1), terms(false)));
    let (machine, commands) = Machine::adopt(5, live, 3, None, &running);
    assert_eq!(commands[0], Command::Backends(vec![running[0].slot]));
    world.machine = machine;
    // The world is told of what runs before it is told where requests go.
    world.obey(commands[1..].to_vec());
    world.obey(commands[..1].to_vec());
    assert_eq!(world.said(|command| *command == Command::Stop(running[2].slot)), 1);
    assert_eq!(world.slots(1).len(), 3, "the missing one is started");
    world.calm();
    assert_eq!(world.backends.len(), 3);
    assert_eq!(world.running.len(), 3);
}

#[test]
fn a_found_candidate_that_is_replaced_in_place_gets_no_second_replica() {
    let found =
        Adopted { slot: Slot { release: release(2), replica: 1 }, ready: true, restarts: 0 };
    let live = Some((release(1), terms(true)));
    let candidate = Some((release(2), terms(true), 2));
    let mut world = World::new();
    let (machine, commands) = Machine::adopt(5, live, 1, candidate, &[found]);
    world.machine = machine;
    world.obey(commands);
    world.calm();
    assert_eq!(world.slots(2).len(), 1);
    assert_eq!(world.said(|command| matches!(command, Command::PrepareFailed(..))), 0);
}

/// Splitmix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let place = self.below(from.len().max(1) as u64);
        from.get(usize::try_from(place).unwrap()).copied()
    }
}

#[test]
fn promises_hold_whatever_happens() {
    for seed in 0..400 {
        let mut dice = Dice(seed);
        let mut world = World::new();
        let in_place = seed % 3 == 0;
        let mut number = 0;
        for _ in 0..300 {
            world.now += dice.below(4_000);
            at_random(&mut world, &mut dice, in_place, &mut number);
        }
        // Whatever was going on comes to an end, and then exactly what is live runs.
        world.step(Input::Abandon);
        world.calm();
        world.now += 200_000;
        world.step(Input::Tick);
        world.calm();
        world.step(Input::Abandon);
        world.calm();
        let running: BTreeSet<Slot> = world.running.keys().copied().collect();
        assert_eq!(world.backends, running, "seed {seed}");
        let wanted = match world.machine.live() {
            None => 0,
            Some(_) if in_place => world.machine.wanted().min(1),
            Some(_) => world.machine.wanted(),
        };
        assert_eq!(running.len(), wanted as usize, "seed {seed}");
        world.step(Input::Down);
        world.calm();
        assert!(world.running.is_empty(), "seed {seed}");
        assert_eq!(world.said.last(), Some(&Command::Gone), "seed {seed}");
    }
}

fn at_random(world: &mut World, dice: &mut Dice, in_place: bool, number: &mut u64) {
    let slots: Vec<Slot> = world.running.keys().copied().collect();
    let slot = dice.pick(&slots);
    match dice.below(14) {
        0 => {
            *number += 1;
            if world.machine.candidate().is_none() {
                let replicas = u32::try_from(dice.below(4)).unwrap();
                world.step(roll_out(*number, replicas, in_place));
            }
        }
        1 | 2 => world.record(),
        3 => world.step(Input::Promote),
        4 => world.swap(),
        5 => {
            let (live, stays) = (world.machine.live(), world.backends.clone());
            world.step(Input::Abandon);
            assert_eq!(world.machine.live(), live);
            assert_eq!(world.backends, stays, "giving a release up touches no live replica");
        }
        6 => world.step(Input::Scale(u32::try_from(dice.below(4)).unwrap())),
        7 => {
            if world.swapping.take().is_some() {
                world.step(Input::NotSwapped);
            }
        }
        8 => {
            if let (Some(live), None) = (world.machine.live(), world.machine.candidate()) {
                let replicas = world.machine.wanted();
                let kind = Kind::Restart;
                world.step(Input::Prepare {
                    release: live,
                    terms: terms(in_place),
                    replicas,
                    kind,
                });
            }
        }
        9 => world.step(Input::Tick),
        kind => {
            let Some(slot) = slot else { return };
            let stopped = world.running[&slot].1;
            match (kind, stopped) {
                (_, true) => world.tell(slot, Fact::Ended(JobEnd::Cancelled)),
                (10, _) => world.tell(slot, Fact::Ended(JobEnd::Exited(1))),
                (11, _) => world.tell(slot, Fact::NotStarted("no disk".to_owned())),
                (12, _) => {
                    world.tell(slot, Fact::Started);
                    world.tell(slot, Fact::Ready);
                }
                _ => world.tell(slot, Fact::Stuck("no answer".to_owned())),
            }
        }
    }
}
