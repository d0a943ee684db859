//! The end of an attempt, and whether another one follows.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use crate::event::{Failure, JobEnd, RunEvent, Usage, Waiting};
use crate::plan::TaskIndex;

use super::Run;
use super::task::{Outcome, TaskState};
use super::vocabulary::{Circumstance, Command, Product};

/// So many attempts in a row may be lost before the task fails; they do not use up `retries`.
const LOST_IN_A_ROW: u32 = 5;

/// A pause never doubles beyond this.
const LONGEST_BACKOFF: Duration = Duration::from_mins(5);

impl Run {
    pub(super) fn launch_failed(&mut self, task: TaskIndex, attempt: u32, failure: Failure) {
        if self.is_running(task, attempt) {
            self.let_go(task);
            self.fail(task, failure);
        }
    }

    pub(super) fn job_ended(
        &mut self,
        task: TaskIndex,
        attempt: u32,
        end: JobEnd,
        usage: Usage,
        at: u64,
        beside: Circumstance,
    ) {
        self.said.events.push(RunEvent::AttemptEnded {
            task: self.id(task),
            attempt,
            end: end.clone(),
            usage,
        });
        if end.is_success() {
            self.collect(task, usage);
            return;
        }
        // Whoever stopped the job wants no verdict on it.
        let stopped = self.nothing_new(task) && end == JobEnd::Cancelled;
        match beside {
            Circumstance::SpoiltInput(input) if !stopped => {
                self.attempt_over(task, Failure::InputChanged { input }, at);
            }
            Circumstance::Unseen => self.over_or_again(task, Failure::Job(end), at, true),
            Circumstance::Usual | Circumstance::SpoiltInput(_) => {
                self.attempt_over(task, Failure::Job(end), at);
            }
        }
    }

    /// From running to collecting; the attempt keeps what it holds.
    pub(super) fn collect(&mut self, task: TaskIndex, usage: Usage) {
        let state = std::mem::replace(&mut self.tasks[task].state, TaskState::Resolving);
        let TaskState::Running { attempt, key, grant } = state else {
            self.tasks[task].state = state;
            return;
        };
        self.tasks[task].state = TaskState::Collecting { attempt, grant };
        self.said.commands.push(Command::Collect { task, attempt, key, usage });
    }

    pub(super) fn collected(
        &mut self,
        task: TaskIndex,
        attempt: u32,
        result: Result<Product, Failure>,
        at: u64,
    ) {
        if !matches!(self.tasks[task].state, TaskState::Collecting { attempt: live, .. } if live == attempt)
        {
            return;
        }
        match result {
            Ok(product) => {
                self.let_go(task);
                let metrics = product.metrics.clone();
                let event = RunEvent::TaskDone {
                    task: self.id(task),
                    key: product.key,
                    outputs: product.outputs,
                    metrics: product.metrics,
                    values: product.values,
                    moved: product.moved,
                };
                self.succeed(task, Outcome::Done, event, metrics);
            }
            Err(failure) => self.attempt_over(task, failure, at),
        }
    }

    /// The attempt ended badly: another one, or the end of the task.
    ///
    /// A lost attempt (and one that somebody else stopped) does not use up `retries`. A stage that wrote into
    /// its input would do so again. Once nothing new may start, no attempt follows.
    pub(super) fn attempt_over(&mut self, task: TaskIndex, cause: Failure, at: u64) {
        self.over_or_again(task, cause, at, false);
    }

    /// The same; an end that nobody saw is followed by another attempt also when `retries` are used up. Not of a hook.
    fn over_or_again(&mut self, task: TaskIndex, cause: Failure, at: u64, unseen: bool) {
        self.let_go(task);
        let unseen = unseen && !self.is_hook(task);
        let nothing_new = self.nothing_new(task);
        let entry = &mut self.tasks[task];
        let pause = match &cause {
            Failure::Job(JobEnd::Lost { .. } | JobEnd::Cancelled) => {
                entry.lost += 1;
                if nothing_new {
                    self.cut_short(task);
                    return;
                }
                // The first one is tried again at once, then 1 s, 2 s, 4 s pass.
                (entry.lost < LOST_IN_A_ROW).then(|| match entry.lost {
                    1 => 0,
                    lost => 1000 << (lost - 2).min(8),
                })
            }
            cause => {
                entry.lost = 0;
                entry.spent += 1;
                if matches!(cause, Failure::Job(JobEnd::OutOfMemory { .. })) {
                    entry.out_of_memory += 1;
                }
                if nothing_new || matches!(cause, Failure::InputChanged { .. }) {
                    None
                } else if entry.spent <= self.facts.tasks[task].retries.max {
                    Some(self.backoff(task))
                } else {
                    unseen.then_some(0)
                }
            }
        };
        match pause {
            Some(pause) => self.pause(task, at.saturating_add(pause)),
            None => self.fail(task, cause),
        }
    }

    fn pause(&mut self, task: TaskIndex, until: u64) {
        self.tasks[task].state = TaskState::BackingOff;
        self.said.events.push(RunEvent::RetryScheduled { task: self.id(task), not_before: until });
        self.said.commands.push(Command::Tell { task, why: Waiting::Backoff { until } });
        self.said.commands.push(Command::Sleep { task, until });
    }

    /// Milliseconds: the asked pause, doubled for every further retry, up to 5 minutes, then off by up to a fifth,
    /// so that copies that failed together do not come back together. The same for the same attempt.
    fn backoff(&self, task: TaskIndex) -> u64 {
        let entry = &self.tasks[task];
        let first = self.facts.tasks[task].retries.backoff.min(LONGEST_BACKOFF);
        let doubled = first.saturating_mul(1 << (entry.spent - 1).min(20)).min(LONGEST_BACKOFF);
        let pause = u64::try_from(doubled.as_millis()).unwrap_or(u64::MAX);
        let mut hasher = DefaultHasher::new();
        self.job(task, entry.attempts).hash(&mut hasher);
        pause - pause / 5 + hasher.finish() % (pause / 5 * 2 + 1)
    }

    /// Gives back what a live attempt holds; the caller sets the next state.
    fn let_go(&mut self, task: TaskIndex) {
        let state = std::mem::replace(&mut self.tasks[task].state, TaskState::Resolving);
        if let Some(grant) = state.grant() {
            self.pool.release(grant);
            if self.counts(task) {
                self.live -= 1;
            }
        }
    }
}
