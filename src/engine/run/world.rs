//! A made-up world for the machine: random graphs, answers and mishaps, and an observer that knows the promises
//! only from the events.

mod graphs;
mod services;

pub(super) use graphs::{Builder, Dice, random_graph};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::digest::Digest;
use crate::event::{Failure, JobEnd, Moved, Reason, RunEvent, RunOutcome, Usage, testing};
use crate::names::{Owner, RunId, TaskId};
use crate::plan::{Graph, TaskIndex};
use crate::state::Recorded;
use services::{SeenRollouts, Server};

use super::{
    Circumstance, ClaimAnswer, Command, Facts, Input, Product, Resolution, Reused, Run, Step,
};

pub(super) fn created() -> RunEvent {
    RunEvent::Created(Box::new(testing::created()))
}

pub(super) fn owner() -> Owner {
    Owner { host: "here".to_owned(), pid: 1, user: "me@here".to_owned() }
}

pub(super) fn recorded(events: impl IntoIterator<Item = RunEvent>) -> Vec<Recorded> {
    (1..).zip(events).map(|(seq, event)| Recorded { seq, at: 0, epoch: 1, event }).collect()
}

/// What the world does, by chance in percent. The same task fares the same in every life of a run.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fate {
    pub(super) seed: u64,
    pub(super) hit: u64,
    pub(super) skip: u64,
    pub(super) refuse: u64,
    pub(super) bad_end: u64,
    pub(super) lost: u64,
    pub(super) bad_collect: u64,
    pub(super) claim_held: u64,
    pub(super) stop: u64,
    pub(super) time_out: u64,
    pub(super) twice: u64,
    pub(super) keep: u64,
    pub(super) live_is: u64,
    pub(super) bad_rollout: u64,
}

impl Fate {
    pub(super) fn kind(seed: u64) -> Self {
        let (keep, live_is) = (15, 10);
        Self { seed, hit: 20, claim_held: 20, twice: 5, lost: 5, keep, live_is, ..Self::default() }
    }

    pub(super) fn cruel(seed: u64) -> Self {
        Self {
            skip: 5,
            refuse: 4,
            bad_end: 25,
            lost: 10,
            bad_collect: 5,
            stop: 3,
            time_out: 2,
            bad_rollout: 15,
            ..Self::kind(seed)
        }
    }

    fn of(&self, task: TaskIndex, attempt: u32, salt: u64) -> Dice {
        let mut dice = Dice::new(self.seed ^ salt);
        dice.0 ^= dice.roll().wrapping_add(task as u64 * 1_000_003 + u64::from(attempt) * 7919);
        dice
    }
}

/// A run, its journal, what it waits for, and what was seen of it.
pub(super) struct World {
    pub(super) run: Run,
    pub(super) journal: Vec<Recorded>,
    asked: Vec<Command>,
    stopped: BTreeSet<(TaskIndex, u32)>,
    /// Jobs that really exist, in every life.
    pub(super) jobs: BTreeSet<(TaskIndex, u32)>,
    /// What rolls releases out, in every life.
    pub(super) server: Server,
    facts: Facts,
    fate: Fate,
    dice: Dice,
    keep_going: bool,
    jobs_allowed: usize,
    seen: Seen,
}

/// What the events said.
#[derive(Default)]
struct Seen {
    live: BTreeSet<TaskId>,
    ended: BTreeMap<TaskId, bool>,
    rollouts: SeenRollouts,
    closing: bool,
    /// Also what runs is to stop.
    stopping: bool,
    outcome: Option<RunOutcome>,
}

impl World {
    /// Recovers from `journal` and watches from there on.
    pub(super) fn new(
        graph: &Arc<Graph>,
        facts: &Facts,
        journal: Vec<Recorded>,
        fate: Fate,
        life: u64,
    ) -> Self {
        let (run, step) = Run::recover(Arc::clone(graph), facts.clone(), &journal).unwrap();
        let mut world = Self {
            run,
            journal: Vec::new(),
            asked: Vec::new(),
            stopped: BTreeSet::new(),
            jobs: BTreeSet::new(),
            server: Server::of(life),
            facts: facts.clone(),
            fate,
            dice: Dice::new(fate.seed ^ life.wrapping_mul(0x1234_5678_9abc_def1)),
            keep_going: facts.keep_going,
            jobs_allowed: facts.jobs as usize,
            seen: Seen::default(),
        };
        for record in journal {
            world.see(record.event, false);
        }
        world.hear(step);
        world
    }

    pub(super) fn fresh(graph: &Arc<Graph>, facts: &Facts, fate: Fate) -> Self {
        Self::new(graph, facts, recorded([created()]), fate, 0)
    }

    /// Answers in random order until the run ends.
    pub(super) fn go(&mut self) -> RunOutcome {
        for _ in 0..10_000 {
            if let Some(outcome) = self.run.outcome() {
                assert_eq!(self.seen.outcome, Some(outcome));
                assert!(matches!(self.journal.last().unwrap().event, RunEvent::Ended { .. }));
                return outcome;
            }
            let input = if self.dice.percent(self.fate.stop) {
                Input::StopWished { by: "me".to_owned(), kill: self.dice.percent(30) }
            } else if self.dice.percent(self.fate.time_out) {
                Input::RunTimedOut
            } else {
                assert!(!self.asked.is_empty(), "stuck: {:?}", self.run);
                let chosen = self.dice.below(self.asked.len());
                let command = self.asked.swap_remove(chosen);
                let Some(input) = self.answer(&command) else { continue };
                if self.dice.percent(self.fate.twice) {
                    let step = self.run.step(input.clone());
                    self.hear(step);
                }
                input
            };
            let step = self.run.step(input);
            self.hear(step);
        }
        panic!("the run does not end: {:?}", self.run);
    }

    fn hear(&mut self, step: Step) {
        if let Err(why) = self.run.check() {
            let journal: Vec<&RunEvent> = self.journal[1..].iter().map(|r| &r.event).collect();
            panic!("{why}\nafter {journal:#?}\nsaid {step:#?}\n{:?}", self.run.phase);
        }
        for event in step.events {
            self.see(event, true);
        }
        for command in step.commands {
            match &command {
                Command::StopJob { task, attempt, .. } => {
                    self.stopped.insert((*task, *attempt));
                    continue;
                }
                Command::Tell { .. } => continue,
                Command::Start { task, attempt, .. } => {
                    assert!(self.jobs.insert((*task, *attempt)), "a job was started twice");
                }
                _ => {}
            }
            self.asked.push(command);
        }
    }

    /// The promises, from events alone. `live` is false while an old journal is read.
    fn see(&mut self, event: RunEvent, live: bool) {
        let graph = Arc::clone(self.run.graph());
        let hook = |task: &TaskId| {
            let index = graph.find(task);
            index == graph.on_failure || index == graph.on_exit
        };
        let services = self.run.verifies.clone();
        let verified = |task: &TaskId| {
            let service = *services.get(&graph.find(task)?)?;
            Some(graph.tasks[service].id.clone())
        };
        assert!(
            self.seen.outcome.is_none() || matches!(event, RunEvent::Reopened { .. }),
            "after the end: {event:?}"
        );
        if let RunEvent::AttemptStarted { task, .. }
        | RunEvent::TaskReused { task, .. }
        | RunEvent::TaskSkipped { task, .. }
        | RunEvent::TaskFailed { task, .. }
        | RunEvent::TaskCancelled { task } = &event
            && hook(task)
        {
            self.rollouts_are_over(live);
        }
        match &event {
            RunEvent::AttemptStarted { task, .. } => {
                assert!(!self.seen.ended.contains_key(task), "{task:?} had ended");
                assert!(self.seen.live.insert(task.clone()), "{task:?} ran already");
                if let Some(service) = verified(task) {
                    assert!(!self.seen.stopping || !live, "{task:?} is new");
                    assert!(self.seen.rollouts.is_verifying(&service), "{service:?} waits not");
                    self.assert_needs(&graph, task);
                } else if !hook(task) {
                    assert!(!self.seen.closing || !live, "{task:?} is new");
                    self.assert_needs(&graph, task);
                }
                if live {
                    assert!(
                        self.seen.live.len() <= self.jobs_allowed
                            || self.asked.iter().any(|c| matches!(c, Command::Adopt { .. })),
                        "more jobs than allowed"
                    );
                }
            }
            RunEvent::TaskReused { task, .. } => {
                self.assert_needs(&graph, task);
                self.ended(task, true);
            }
            RunEvent::TaskDone { task, .. } => self.ended(task, true),
            RunEvent::TaskFailed { task, .. } => {
                self.rollout_is_over(task, live);
                self.ended(task, false);
                let counts = !hook(task) && verified(task).is_none();
                self.seen.closing |= counts && !self.keep_going;
            }
            RunEvent::TaskSkipped { task, .. } | RunEvent::TaskBlocked { task, .. } => {
                self.ended(task, false);
            }
            RunEvent::TaskCancelled { task } => {
                self.rollout_is_over(task, live);
                self.ended(task, false);
            }
            RunEvent::RetryScheduled { task, .. } => {
                self.seen.live.remove(task);
            }
            RunEvent::RolloutStarted { task, .. }
            | RunEvent::RolloutUnchanged { task, .. }
            | RunEvent::GateDecided { task, .. } => {
                self.rollout_is_over(task, live);
                self.see_service(&event, live);
            }
            RunEvent::LiveSeen { .. }
            | RunEvent::OutsidePinned { .. }
            | RunEvent::RolloutPrepared { .. }
            | RunEvent::Verified { .. }
            | RunEvent::RolloutPromoted { .. }
            | RunEvent::RolloutAbandoned { .. } => self.see_service(&event, live),
            RunEvent::StopWished { .. } | RunEvent::RunTimedOut => {
                self.seen.closing = true;
                self.seen.stopping = true;
            }
            RunEvent::Ended { outcome } => {
                assert!(self.seen.live.is_empty(), "ended beside {:?}", self.seen.live);
                self.rollouts_are_over(live);
                self.seen.outcome = Some(*outcome);
            }
            RunEvent::Left { .. } => panic!("only the driver leaves a run"),
            RunEvent::TakenOver { .. } => {
                // What was cancelled by a wish that died with its process may come back.
                self.seen.closing = false;
                self.seen.stopping = false;
                let cancelled: Vec<TaskId> = self
                    .journal
                    .iter()
                    .filter_map(|record| match &record.event {
                        RunEvent::TaskCancelled { task } => Some(task.clone()),
                        _ => None,
                    })
                    .collect();
                self.seen.ended.retain(|task, _| !cancelled.contains(task));
            }
            RunEvent::Reopened { .. } => {
                let finished = std::mem::take(&mut self.seen.ended);
                let stays = finished
                    .into_iter()
                    .filter(|(task, good)| *good && !hook(task) && verified(task).is_none());
                self.seen = Seen { ended: stays.collect(), ..Seen::default() };
            }
            RunEvent::Created(_) | RunEvent::AttemptEnded { .. } | RunEvent::Picked { .. } => {}
        }
        let seq = self.journal.len() as u64 + 1;
        self.journal.push(Recorded { seq, at: 0, epoch: 1, event });
    }

    fn assert_needs(&self, graph: &Graph, task: &TaskId) {
        for &need in graph.tasks[graph.find(task).unwrap()].needs.iter() {
            let id = &graph.tasks[need].id;
            assert_eq!(self.seen.ended.get(id), Some(&true), "{task:?} went before {id:?}");
        }
    }

    fn ended(&mut self, task: &TaskId, good: bool) {
        self.seen.live.remove(task);
        assert!(self.seen.ended.insert(task.clone(), good).is_none(), "{task:?} ended twice");
    }

    /// Tasks that have a result.
    pub(super) fn finished(&self) -> BTreeSet<TaskId> {
        self.seen.ended.iter().filter(|(_, good)| **good).map(|(task, _)| task.clone()).collect()
    }

    fn answer(&mut self, command: &Command) -> Option<Input> {
        let fate = self.fate;
        Some(match *command {
            Command::Resolve { task } => {
                let resolution = if self.facts.services.contains_key(&task) {
                    fate.release(task)
                } else {
                    fate.resolution(task)
                };
                Input::Resolved { task, resolution, live: self.live_seen_by(task) }
            }
            Command::Release { .. }
            | Command::Prepare { .. }
            | Command::Promote { .. }
            | Command::Abandon { .. } => return self.answer_of_server(command),
            Command::Claim { task, key } => Input::Claimed {
                task,
                answer: if self.dice.percent(fate.claim_held) {
                    ClaimAnswer::Held { by: "another run".to_owned() }
                } else if self.dice.percent(fate.claim_held / 4) {
                    ClaimAnswer::Hit(Box::new(reused(task, key)))
                } else {
                    ClaimAnswer::Ours
                },
            },
            Command::AwaitClaim { task, .. } => Input::ClaimFree { task },
            Command::Start { task, attempt, .. } => self.job_ended(task, attempt),
            Command::Adopt { task, attempt, .. } if self.jobs.contains(&(task, attempt)) => {
                let mut answer = self.job_ended(task, attempt);
                if let Input::JobEnded { beside, .. } = &mut answer
                    && self.dice.percent(50)
                {
                    *beside = Circumstance::Unseen;
                }
                answer
            }
            Command::Adopt { task, attempt, .. } => Input::JobEnded {
                task,
                attempt,
                end: JobEnd::Lost { why: "never started".to_owned() },
                usage: Usage::default(),
                at: 0,
                beside: Circumstance::Unseen,
            },
            Command::Collect { task, attempt, key, .. } => {
                let mut dice = fate.of(task, attempt, 3);
                let result = if dice.percent(fate.bad_collect) {
                    Err(if dice.percent(50) {
                        Failure::InputChanged { input: "data".parse().unwrap() }
                    } else {
                        Failure::MetricsInvalid { why: "no file".to_owned() }
                    })
                } else {
                    Ok(Product {
                        key,
                        outputs: BTreeMap::new(),
                        metrics: metrics(task),
                        values: BTreeMap::new(),
                        moved: Moved::default(),
                    })
                };
                Input::Collected { task, attempt, result, at: 0 }
            }
            Command::Sleep { task, .. } => Input::BackoffOver { task },
            Command::StopJob { .. } | Command::Tell { .. } => return None,
        })
    }

    fn job_ended(&mut self, task: TaskIndex, attempt: u32) -> Input {
        let mut dice = self.fate.of(task, attempt, 1);
        let stopped = self.stopped.contains(&(task, attempt)) && self.dice.percent(80);
        let end = if stopped {
            JobEnd::Cancelled
        } else if dice.percent(self.fate.lost) {
            JobEnd::Lost { why: "the monitor is gone".to_owned() }
        } else if dice.percent(self.fate.bad_end) {
            match dice.below(6) {
                0 => JobEnd::OutOfMemory { limit: 1 },
                1 => JobEnd::TimedOut { after: Duration::from_secs(1) },
                2 => JobEnd::Signalled(9),
                3 => {
                    let failure = Failure::Environment { log: "no such package".to_owned() };
                    return Input::LaunchFailed { task, attempt, failure };
                }
                _ => JobEnd::Exited(1),
            }
        } else {
            JobEnd::Exited(0)
        };
        let (usage, beside) = (Usage::default(), Circumstance::Usual);
        Input::JobEnded { task, attempt, end, usage, at: 0, beside }
    }
}

impl Fate {
    fn resolution(&self, task: TaskIndex) -> Resolution {
        let mut dice = self.of(task, 0, 2);
        let key = Digest::of(&task.to_le_bytes());
        if dice.percent(self.skip) {
            Resolution::Skip { when: "false".to_owned() }
        } else if dice.percent(self.refuse) {
            Resolution::Failed(Failure::Expression { why: "no such name".to_owned() })
        } else if dice.percent(self.hit) {
            Resolution::Hit(Box::new(reused(task, key)))
        } else {
            Resolution::Miss { key: dice.percent(70).then_some(key), why: Reason::FirstTime }
        }
    }
}

pub(super) fn reused(task: TaskIndex, key: Digest) -> Reused {
    Reused {
        key,
        from: RunId::new(0, 1),
        outputs: BTreeMap::new(),
        metrics: metrics(task),
        values: BTreeMap::new(),
        made: None,
        moved: Moved::default(),
    }
}

/// Some tasks report no score.
fn metrics(task: TaskIndex) -> BTreeMap<String, f64> {
    if task % 7 == 6 {
        return BTreeMap::new();
    }
    let score = f64::from(u32::try_from(task * 31 % 11).unwrap());
    BTreeMap::from([("score".to_owned(), score)])
}
