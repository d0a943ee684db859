//! The life of a service in a run: *resolve* → unchanged, kept by its gate, or *release* → *prepare* → its `verify` task →
//! *promote*. Whatever goes wrong on the way leads to *abandon*.
//!
//! A service holds no place of the pool, so that its `verify` task finds one however few there are. That one is an ordinary task
//! beside the DAG: it is journalled like any, its retries and its timeout hold, and its end drives the service. What became of
//! it does not count for the run; the service's own end does.
//!
//! A wish to stop and the run's timeout abandon a release that is not being promoted yet. The failure of another task lets a
//! rollout that began finish, as it lets running jobs finish.

use crate::event::{Failure, FieldChange, RunEvent};
use crate::names::ReleaseId;
use crate::plan::TaskIndex;
use crate::plan::causes::failure_words;
use crate::rollout::{Promotion, RolloutFailure};

use super::Run;
use super::task::{Outcome, RolloutStep, TaskState, Then};
use super::vocabulary::{Asked, Command, Seen};

/// Why a release is abandoned, when it is not its own fault. Journalled, and read again by a recovery to know what follows.
const STOPPED: &str = "the run was stopped";
const TIMED_OUT: &str = "the run's `timeout` was over";
const NOT_EXPECTED: &str = "another release is live by now; the service is looked at again";
const JUDGED: &str = "another release is live by now, and an input of the one before was judged";

impl Then {
    /// What follows an abandonment that an earlier process journalled with these words. The log of a failure is known no more.
    pub(super) fn of(why: &str, service: &crate::names::StageName) -> Self {
        match why {
            STOPPED | NOT_EXPECTED => Self::Anew,
            TIMED_OUT => Self::Failed(Failure::RunTimedOut),
            JUDGED => Self::Failed(Failure::LiveChanged { service: service.clone() }),
            why => Self::Failed(Failure::Rollout { why: why.to_owned(), log: Vec::new() }),
        }
    }
}

impl Run {
    /// The service whose `verify` task this is.
    pub(super) fn verifies(&self, task: TaskIndex) -> Option<TaskIndex> {
        self.verifies.get(&task).copied()
    }

    /// The release of a service that is being rolled out.
    pub fn rolls_out(&self, task: TaskIndex) -> Option<ReleaseId> {
        match self.tasks[task].state {
            TaskState::RollingOut { release, .. } => Some(release),
            _ => None,
        }
    }

    fn verify_of(&self, service: TaskIndex) -> Option<TaskIndex> {
        self.facts.services.get(&service).and_then(|facts| facts.verify)
    }

    /// Says which live releases the task sees from here on, unless that was said already.
    pub(super) fn saw_live(&mut self, task: TaskIndex, live: Seen) {
        if live.is_empty() || self.live_seen.get(&task) == Some(&live) {
            return;
        }
        self.said.events.push(RunEvent::LiveSeen { task: self.id(task), live: live.clone() });
        self.live_seen.insert(task, live);
    }

    pub(super) fn keep(&mut self, task: TaskIndex, asked: Asked) {
        let event = self.gate_decided(task, false, asked);
        self.end(task, Outcome::Kept, event);
    }

    /// A new release is due.
    pub(super) fn release(
        &mut self,
        task: TaskIndex,
        why: Vec<FieldChange>,
        asked: Option<Box<Asked>>,
    ) {
        if let Some(why) = self.facts.tasks[task].reuse_only {
            self.fail(task, Failure::NotReusable { why: why.to_owned() });
            return;
        }
        if let Some(asked) = asked {
            let event = self.gate_decided(task, true, *asked);
            self.said.events.push(event);
        }
        self.tasks[task].state = TaskState::Releasing { why };
        self.said.commands.push(Command::Release { task });
    }

    fn gate_decided(&self, task: TaskIndex, passed: bool, asked: Asked) -> RunEvent {
        let Asked { failed, values, live } = asked;
        RunEvent::GateDecided { task: self.id(task), passed, failed, values, live }
    }

    pub(super) fn release_made(
        &mut self,
        task: TaskIndex,
        made: Result<(ReleaseId, u64), Failure>,
    ) {
        let nothing_new = self.nothing_new(task);
        let TaskState::Releasing { why } = &mut self.tasks[task].state else { return };
        match made {
            Ok(_) if nothing_new => self.tasks[task].state = TaskState::Waiting { unmet: 0 },
            Ok((release, number)) => {
                let why = std::mem::take(why);
                let task_id = self.id(task);
                self.said.events.push(RunEvent::RolloutStarted {
                    task: task_id,
                    release,
                    number,
                    why,
                });
                self.live += 1;
                self.set_step(task, release, RolloutStep::Preparing);
                self.said.commands.push(Command::Prepare { task, release });
            }
            Err(failure) => self.fail(task, failure),
        }
    }

    pub(super) fn prepared(
        &mut self,
        task: TaskIndex,
        release: ReleaseId,
        result: Result<(), RolloutFailure>,
    ) {
        if !self.is_at(task, release, |step| matches!(step, RolloutStep::Preparing)) {
            return;
        }
        if let Err(failure) = result {
            self.rollout_failed(task, release, failure);
            return;
        }
        self.said.events.push(RunEvent::RolloutPrepared { task: self.id(task), release });
        match self.verify_of(task) {
            Some(verify) => self.verify(task, release, verify),
            None => self.promote(task, release),
        }
    }

    /// Begins the `verify` task; of an earlier rollout only the number of its last attempt counts.
    pub(super) fn verify(&mut self, task: TaskIndex, release: ReleaseId, verify: TaskIndex) {
        self.set_step(task, release, RolloutStep::Verifying);
        let entry = &mut self.tasks[verify];
        (entry.spent, entry.lost, entry.out_of_memory) = (0, 0, 0);
        self.make_ready(verify);
    }

    /// The `verify` task has ended. One that was skipped by its `when` has nothing against the release.
    pub(super) fn verify_over(&mut self, task: TaskIndex, verify: TaskIndex, outcome: Outcome) {
        let TaskState::RollingOut { release, step: RolloutStep::Verifying } =
            self.tasks[task].state
        else {
            return;
        };
        let failure = self.verify_failures.remove(&verify);
        match outcome {
            Outcome::Done | Outcome::Reused | Outcome::Skipped { .. } => {
                self.said.events.push(RunEvent::Verified {
                    task: self.id(task),
                    release,
                    passed: true,
                });
                if self.stopping() {
                    self.give_up(task, release);
                } else {
                    self.promote(task, release);
                }
            }
            Outcome::Failed if failure != Some(Failure::RunTimedOut) => {
                self.said.events.push(RunEvent::Verified {
                    task: self.id(task),
                    release,
                    passed: false,
                });
                self.not_passed(task, release, verify, failure.as_ref());
            }
            Outcome::Failed | Outcome::Cancelled | Outcome::Kept | Outcome::Blocked { .. } => {
                self.give_up(task, release);
            }
        }
    }

    /// The release did not pass its `verify` task.
    pub(super) fn not_passed(
        &mut self,
        task: TaskIndex,
        release: ReleaseId,
        verify: TaskIndex,
        cause: Option<&Failure>,
    ) {
        let mut why = format!("`{}` did not pass", self.graph.tasks[verify].label);
        if let Some(cause) = cause {
            why += ": ";
            why += &failure_words(cause).0;
        }
        let attempts = self.tasks[verify].attempts;
        let log_of = (attempts > 0).then_some((verify, attempts));
        let failure = Failure::Rollout { why: why.clone(), log: Vec::new() };
        self.abandon(task, release, why, Then::Failed(failure), log_of);
    }

    pub(super) fn promote(&mut self, task: TaskIndex, release: ReleaseId) {
        self.set_step(task, release, RolloutStep::Promoting);
        let seen = self.live_seen.get(&task);
        let if_live_is = seen.and_then(|seen| *seen.get(&self.graph.tasks[task].id.stage)?);
        self.said.commands.push(Command::Promote { task, release, if_live_is });
    }

    pub(super) fn promotion_ended(
        &mut self,
        task: TaskIndex,
        release: ReleaseId,
        promotion: Promotion,
    ) {
        if !self.is_at(task, release, |step| matches!(step, RolloutStep::Promoting)) {
            return;
        }
        match promotion {
            Promotion::Promoted(replaced) => {
                self.live -= 1;
                let event = RunEvent::RolloutPromoted { task: self.id(task), release, replaced };
                self.end(task, Outcome::Done, event);
            }
            Promotion::LiveIs(_) if self.was_judged(task) => {
                let service = self.graph.tasks[task].id.stage.clone();
                let then = Then::Failed(Failure::LiveChanged { service });
                self.abandon(task, release, JUDGED.to_owned(), then, None);
            }
            Promotion::LiveIs(_) => {
                self.abandon(task, release, NOT_EXPECTED.to_owned(), Then::Anew, None);
            }
            Promotion::Failed(failure) => self.rollout_failed(task, release, failure),
        }
    }

    /// Whether a result of this run says something of the live release that was expected.
    fn was_judged(&self, task: TaskIndex) -> bool {
        let judges = self.facts.services.get(&task).map(|facts| facts.judges.as_slice());
        judges.unwrap_or_default().iter().any(|&judge| self.tasks[judge].state.has_result())
    }

    fn rollout_failed(&mut self, task: TaskIndex, release: ReleaseId, failure: RolloutFailure) {
        let RolloutFailure { why, log } = failure;
        let then = Then::Failed(Failure::Rollout { why: why.clone(), log });
        self.abandon(task, release, why, then, None);
    }

    /// Abandons a release because the run is to stop.
    pub(super) fn give_up(&mut self, task: TaskIndex, release: ReleaseId) {
        let (why, then) = if self.stop.is_some() {
            (STOPPED, Then::Anew)
        } else {
            (TIMED_OUT, Then::Failed(Failure::RunTimedOut))
        };
        self.abandon(task, release, why.to_owned(), then, None);
    }

    fn abandon(
        &mut self,
        task: TaskIndex,
        release: ReleaseId,
        why: String,
        then: Then,
        log_of: Option<(TaskIndex, u32)>,
    ) {
        let event = RunEvent::RolloutAbandoned { task: self.id(task), release, why: why.clone() };
        self.said.events.push(event);
        self.set_step(task, release, RolloutStep::Abandoning { then });
        self.said.commands.push(Command::Abandon { task, release, why, log_of });
    }

    pub(super) fn abandoned(&mut self, task: TaskIndex, release: ReleaseId, tail: Vec<String>) {
        if !self.is_at(task, release, |step| matches!(step, RolloutStep::Abandoning { .. })) {
            return;
        }
        let state = std::mem::replace(&mut self.tasks[task].state, TaskState::Resolving);
        let TaskState::RollingOut { step: RolloutStep::Abandoning { then }, .. } = state else {
            return;
        };
        self.live -= 1;
        match then {
            Then::Failed(Failure::Rollout { why, log }) if log.is_empty() => {
                self.fail(task, Failure::Rollout { why, log: tail });
            }
            Then::Failed(failure) => self.fail(task, failure),
            Then::Anew if self.nothing_new(task) => self.cut_short(task),
            Then::Anew => self.make_ready(task),
        }
    }

    /// The run is to stop: what is not being promoted yet is abandoned, at once or when the job of its `verify` task is over.
    pub(super) fn stop_rollouts(&mut self) {
        let services: Vec<TaskIndex> = self.facts.services.keys().copied().collect();
        for task in services {
            let TaskState::RollingOut { release, step } = &self.tasks[task].state else { continue };
            let release = *release;
            match step {
                RolloutStep::Preparing => self.give_up(task, release),
                RolloutStep::Verifying => {
                    if let Some(verify) = self.verify_of(task) {
                        self.stop_verify(task, release, verify);
                    }
                }
                RolloutStep::Promoting | RolloutStep::Abandoning { .. } => {}
            }
        }
    }

    pub(super) fn stop_verify(&mut self, task: TaskIndex, release: ReleaseId, verify: TaskIndex) {
        if self.tasks[verify].state.is_live() {
            return;
        }
        // Nothing else of the queue may start either.
        self.pool.clear_queue();
        let entry = &mut self.tasks[verify];
        let begun = entry.spent + entry.lost > 0;
        let state = std::mem::replace(&mut entry.state, TaskState::Out);
        if let Some(grant) = state.grant() {
            self.pool.release(grant);
        }
        if begun {
            self.cut_short(verify);
        } else {
            self.give_up(task, release);
        }
    }

    /// The queue was emptied because nothing new may start; a rollout that began may finish all the same.
    pub(super) fn enqueue_verifies_again(&mut self) {
        for &verify in self.verifies.keys() {
            if matches!(self.tasks[verify].state, TaskState::Queued { .. }) {
                let request = self.facts.request(verify, self.tasks[verify].out_of_memory);
                self.pool.push(verify, self.graph.tasks[verify].depth, request);
            }
        }
    }

    fn set_step(&mut self, task: TaskIndex, release: ReleaseId, step: RolloutStep) {
        self.tasks[task].state = TaskState::RollingOut { release, step };
    }

    fn is_at(
        &self,
        task: TaskIndex,
        release: ReleaseId,
        at: impl Fn(&RolloutStep) -> bool,
    ) -> bool {
        matches!(&self.tasks[task].state,
            TaskState::RollingOut { release: now, step } if *now == release && at(step))
    }
}
