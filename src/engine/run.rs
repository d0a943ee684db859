//! What happens next in a run: a pure state machine. No IO, no clock, no async.
//!
//! [`Run::step`] takes what happened and gives back events (to be journalled first) and commands (to be done
//! after that). A new run is the recovery of a journal that holds just `Created`.
//!
//! A service goes another way from *resolve* on: `rollout.rs`.
//!
//! The life of a task: its needs are there → *resolve* (look its key up) → reused, skipped, failed, or queued
//! → fits → *claim* its key → *start* (journalled) → job ended → *collect* → done. A bad end leads to a pause
//! and back to *resolve*, or to failed.

mod attempts;
mod check;
mod ending;
mod facts;
mod journal;
mod outcomes;
mod pick;
mod recover;
mod rehearse;
mod rollout;
mod schedule;
mod task;
#[cfg(test)]
mod tests;
mod vocabulary;
#[cfg(test)]
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use facts::{Facts, ServiceFacts, TaskFacts};
pub use recover::Contradiction;
pub use rehearse::{Rehearsal, rehearse};
pub use schedule::Grant;
pub use vocabulary::{
    Asked, Circumstance, ClaimAnswer, Command, Input, Pins, Product, Resolution, Reused, Seen, Step,
};

use crate::event::{Failure, Reason, RunEvent, RunOutcome, Skip, Waiting};
use crate::names::JobName;
use crate::plan::{Graph, TaskIndex};
use pick::PickedStage;
use schedule::Pool;
use task::{Outcome, Task, TaskState};

/// A run in memory. Everything in it follows from the graph, the facts and the journal.
#[expect(clippy::struct_excessive_bools, reason = "each is an independent fact about the run")]
#[derive(Debug)]
pub struct Run {
    graph: Arc<Graph>,
    facts: Facts,
    tasks: Vec<Task>,
    /// Stages with `pick`, and for every task which of them it is a copy of.
    picked: Vec<PickedStage>,
    picked_of: Vec<Option<usize>>,
    pool: Pool,
    phase: Phase,
    /// The strongest wish so far: `Some(true)` is a kill.
    stop: Option<bool>,
    timed_out: bool,
    /// Some task of the DAG failed; some was cancelled; some service was kept by its gate.
    failed: bool,
    cancelled: bool,
    kept: bool,
    /// The queue was emptied because nothing new may start.
    drained: bool,
    /// Hooks were stopped by a wish.
    hooks_stopped: bool,
    /// Tasks of the DAG that have no outcome yet, and those of them with a live attempt or rollout.
    open: usize,
    live: usize,
    /// The services by their `verify` tasks, and why those of them that failed did.
    verifies: BTreeMap<TaskIndex, TaskIndex>,
    verify_failures: BTreeMap<TaskIndex, Failure>,
    /// What was journalled of live releases that tasks see.
    live_seen: BTreeMap<TaskIndex, Seen>,
    /// Queued since the last scheduling.
    fresh: Vec<TaskIndex>,
    said: Step,
}

/// Where the run stands as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// The DAG.
    Tasks,
    /// The DAG ended so; one hook after the other runs.
    Hooks { outcome: RunOutcome, now: Option<TaskIndex>, left: Vec<TaskIndex> },
    /// `Ended` was said.
    Ended(RunOutcome),
}

impl Run {
    /// Takes in one thing that happened. What does not fit the present state (a second answer, an end after a
    /// stop) says nothing.
    pub fn step(&mut self, input: Input) -> Step {
        self.steps([input])
    }

    /// Takes in things that happened at once, then schedules, so that the longest path among all of them goes first.
    pub fn steps(&mut self, inputs: impl IntoIterator<Item = Input>) -> Step {
        for input in inputs {
            if !matches!(self.phase, Phase::Ended(_)) {
                self.take(input);
            }
        }
        self.advance();
        std::mem::take(&mut self.said)
    }

    /// How the run ended, once it has.
    pub fn outcome(&self) -> Option<RunOutcome> {
        match self.phase {
            Phase::Ended(outcome) => Some(outcome),
            Phase::Tasks | Phase::Hooks { .. } => None,
        }
    }

    /// Whether an attempt of the task is live (started and not yet collected), or its rollout.
    pub fn is_live(&self, task: TaskIndex) -> bool {
        self.tasks[task].state.is_live()
    }

    /// The number of the task's last attempt.
    pub fn attempts(&self, task: TaskIndex) -> u32 {
        self.tasks[task].attempts
    }

    /// The tasks of the run.
    pub fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }

    /// What is wrong when nothing is under way and the run has not ended: a bug.
    pub fn stuck(&self) -> Option<String> {
        if self.outcome().is_some() || self.tasks.iter().any(|task| task.state.is_under_way()) {
            return None;
        }
        let waiting: Vec<&str> = self
            .tasks
            .iter()
            .zip(&self.graph.tasks)
            .filter(|(task, _)| !matches!(task.state, TaskState::Out | TaskState::Ended(_)))
            .map(|(_, planned)| planned.label.as_str())
            .take(5)
            .collect();
        Some(format!("nothing is under way and these tasks wait: {}", waiting.join(", ")))
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Resolved { task, resolution, live } => self.resolved(task, resolution, live),
            Input::Pinned { task, inputs } => self.pinned(task, inputs),
            Input::Claimed { task, answer } => self.claimed(task, answer),
            Input::ClaimFree { task } => {
                if matches!(self.tasks[task].state, TaskState::AwaitingClaim) {
                    self.make_ready(task);
                }
            }
            Input::LaunchFailed { task, attempt, failure } => {
                self.launch_failed(task, attempt, failure);
            }
            Input::JobEnded { task, attempt, end, usage, at, beside } => {
                if self.is_running(task, attempt) {
                    self.job_ended(task, attempt, end, usage, at, beside);
                }
            }
            Input::Collected { task, attempt, result, at } => {
                self.collected(task, attempt, result, at);
            }
            Input::BackoffOver { task } => {
                if matches!(self.tasks[task].state, TaskState::BackingOff) {
                    self.make_ready(task);
                }
            }
            Input::ReleaseMade { task, made } => self.release_made(task, made),
            Input::Prepared { task, release, result } => self.prepared(task, release, result),
            Input::PromotionEnded { task, release, promotion } => {
                self.promotion_ended(task, release, promotion);
            }
            Input::Abandoned { task, release, log } => self.abandoned(task, release, log),
            Input::StopWished { by, kill } => self.stop_wished(by, kill),
            Input::RunTimedOut => self.run_timed_out(),
        }
    }

    /// Goes on as far as possible without news: stops the queue when nothing new may start, starts what fits,
    /// calls hooks, ends.
    fn advance(&mut self) {
        loop {
            self.drain_if_due();
            self.schedule();
            if !self.advance_phase() {
                break;
            }
        }
        // A new run that has nothing to do ends within the recovery; its queue is empty then.
        for task in std::mem::take(&mut self.fresh) {
            if matches!(self.tasks[task].state, TaskState::Queued { .. }) {
                let why = if self.pool.slot_free() { Waiting::Resources } else { Waiting::Slot };
                self.said.commands.push(Command::Tell { task, why });
            }
        }
    }

    /// Gives free places to queued tasks: the longest remaining path first, then file order.
    fn schedule(&mut self) {
        while let Some((task, grant)) = self.pool.next() {
            let state = std::mem::replace(&mut self.tasks[task].state, TaskState::Resolving);
            let TaskState::Queued { key, why } = state else {
                // The queue holds queued tasks only (`check` says so).
                self.tasks[task].state = state;
                self.pool.release(&grant);
                continue;
            };
            match key {
                Some(key) => {
                    self.tasks[task].state = TaskState::Claiming { key, why, grant };
                    self.said.commands.push(Command::Claim { task, key });
                }
                None => self.start(task, None, why, grant),
            }
        }
    }

    /// All needs are there (or a pause is over): look the key up, unless nothing new may start.
    fn make_ready(&mut self, task: TaskIndex) {
        if self.nothing_new(task) {
            self.tasks[task].state = TaskState::Waiting { unmet: 0 };
        } else {
            self.tasks[task].state = TaskState::Resolving;
            self.said.commands.push(Command::Resolve { task });
        }
    }

    /// Says what a task's inputs from outside hold from here on.
    fn pinned(&mut self, task: TaskIndex, inputs: Pins) {
        if matches!(self.tasks[task].state, TaskState::Resolving) && !inputs.is_empty() {
            self.said.events.push(RunEvent::OutsidePinned { task: self.id(task), inputs });
        }
    }

    fn resolved(&mut self, task: TaskIndex, resolution: Resolution, live: Seen) {
        if !matches!(self.tasks[task].state, TaskState::Resolving) {
            return;
        }
        self.saw_live(task, live);
        match resolution {
            Resolution::Hit(reused) => self.reuse(task, *reused),
            Resolution::Skip { when } => self.end(
                task,
                Outcome::Skipped { kept: false },
                RunEvent::TaskSkipped { task: self.id(task), why: Skip::When(when) },
            ),
            Resolution::Failed(failure) => self.fail(task, failure),
            Resolution::Miss { key, why } => self.enqueue(task, key, why),
            Resolution::Unchanged { release, number, changed } => {
                let id = self.id(task);
                let event = RunEvent::RolloutUnchanged { task: id, release, number, changed };
                self.end(task, Outcome::Reused, event);
            }
            Resolution::Kept(asked) => self.keep(task, *asked),
            Resolution::Release { why, asked } => self.release(task, why, asked),
        }
    }

    fn enqueue(&mut self, task: TaskIndex, key: Option<crate::digest::Key>, why: Reason) {
        if let Some(why) = self.facts.tasks[task].reuse_only {
            self.fail(task, Failure::NotReusable { why: why.to_owned() });
            return;
        }
        let request = self.facts.request(task, self.tasks[task].out_of_memory);
        if let Some(why) = self.pool.impossible(&request) {
            self.fail(task, Failure::Resources { why });
            return;
        }
        let of = self.tasks[task].attempts;
        let why = if of > 0 { Reason::Retry { of } } else { why };
        self.tasks[task].state = TaskState::Queued { key, why };
        self.pool.push(task, self.graph.tasks[task].depth, request);
        self.fresh.push(task);
    }

    fn claimed(&mut self, task: TaskIndex, answer: ClaimAnswer) {
        if !matches!(self.tasks[task].state, TaskState::Claiming { .. }) {
            return;
        }
        let state = std::mem::replace(&mut self.tasks[task].state, TaskState::Resolving);
        let TaskState::Claiming { key, why, grant } = state else { return };
        match answer {
            ClaimAnswer::Ours => self.start(task, Some(key), why, grant),
            ClaimAnswer::Held { by } => {
                self.pool.release(&grant);
                self.tasks[task].state = TaskState::AwaitingClaim;
                self.said.commands.push(Command::Tell { task, why: Waiting::Claim { by } });
                self.said.commands.push(Command::AwaitClaim { task, key });
            }
            ClaimAnswer::Hit(reused) => {
                self.pool.release(&grant);
                self.reuse(task, *reused);
            }
        }
    }

    fn start(
        &mut self,
        task: TaskIndex,
        key: Option<crate::digest::Key>,
        why: Reason,
        grant: Grant,
    ) {
        let entry = &mut self.tasks[task];
        entry.attempts += 1;
        let attempt = entry.attempts;
        entry.state = TaskState::Running { attempt, key, grant: grant.clone() };
        if self.counts(task) {
            self.live += 1;
        }
        let outcome = match self.phase {
            Phase::Hooks { outcome, .. } if self.is_hook(task) => Some(outcome),
            Phase::Tasks | Phase::Hooks { .. } | Phase::Ended(_) => None,
        };
        self.said.events.push(RunEvent::AttemptStarted {
            task: self.id(task),
            attempt,
            key,
            why,
            job: self.job(task, attempt),
            host: self.facts.host.clone(),
        });
        self.said.commands.push(Command::Start { task, attempt, key, grant, outcome });
    }

    fn reuse(&mut self, task: TaskIndex, reused: Reused) {
        let metrics = reused.metrics.clone();
        let event = RunEvent::TaskReused {
            task: self.id(task),
            key: reused.key,
            from: reused.from,
            outputs: reused.outputs,
            metrics: reused.metrics,
            values: reused.values,
            made: reused.made,
            moved: reused.moved,
        };
        self.succeed(task, Outcome::Reused, event, metrics);
    }

    /// Whether this very attempt runs; an answer of another one comes too late.
    fn is_running(&self, task: TaskIndex, attempt: u32) -> bool {
        matches!(self.tasks[task].state, TaskState::Running { attempt: live, .. } if live == attempt)
    }

    fn is_hook(&self, task: TaskIndex) -> bool {
        self.graph.on_failure == Some(task) || self.graph.on_exit == Some(task)
    }

    /// Whether the task is one of the DAG, so that the outcome of the run hangs on it.
    fn counts(&self, task: TaskIndex) -> bool {
        !self.is_hook(task) && self.verifies(task).is_none()
    }

    fn id(&self, task: TaskIndex) -> crate::names::TaskId {
        self.graph.tasks[task].id.clone()
    }

    fn job(&self, task: TaskIndex, attempt: u32) -> JobName {
        JobName::new(self.facts.run, task_number(task), attempt)
    }
}

/// A task's number: its position over the whole file, from 1.
pub fn task_number(task: TaskIndex) -> u32 {
    u32::try_from(task).unwrap_or(u32::MAX - 1) + 1
}
