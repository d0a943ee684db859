//! How a run comes to its end: failures, wishes, its timeout, hooks.

use crate::event::{Failure, RunEvent, RunOutcome};
use crate::plan::TaskIndex;

use super::task::TaskState;
use super::vocabulary::Command;
use super::{Phase, Run};

impl Run {
    /// Whether this task may not go a step further towards an attempt.
    ///
    /// A rollout that began is like a job that runs: the failure of another task does not stop it, and so neither its `verify`
    /// task.
    pub(super) fn nothing_new(&self, task: TaskIndex) -> bool {
        if self.is_hook(task) {
            self.hooks_stopped
        } else if self.verifies(task).is_some() {
            self.stopping()
        } else {
            self.draining()
        }
    }

    fn draining(&self) -> bool {
        self.stopping() || (self.failed && !self.facts.keep_going)
    }

    /// Whether also what runs is to stop.
    pub(super) fn stopping(&self) -> bool {
        self.stop.is_some() || self.timed_out
    }

    /// Once nothing new may start: empties the queue, gives back places that are not used yet, ends tasks that
    /// are between two attempts. Tasks that were not begun stay as they are, so that `resume` does them.
    pub(super) fn drain_if_due(&mut self) {
        if self.drained || self.phase != Phase::Tasks || !self.draining() {
            return;
        }
        self.drained = true;
        self.pool.clear_queue();
        self.enqueue_verifies_again();
        for task in 0..self.tasks.len() {
            if !self.counts(task) {
                continue;
            }
            let entry = &mut self.tasks[task];
            let between_attempts = entry.spent + entry.lost > 0;
            match &entry.state {
                TaskState::Queued { .. }
                | TaskState::Resolving
                | TaskState::Claiming { .. }
                | TaskState::AwaitingClaim
                | TaskState::BackingOff
                | TaskState::Releasing { .. } => {
                    let waiting = TaskState::Waiting { unmet: 0 };
                    let state = std::mem::replace(&mut entry.state, waiting);
                    if let Some(grant) = state.grant() {
                        self.pool.release(grant);
                    }
                    if between_attempts {
                        self.cut_short(task);
                    }
                }
                TaskState::Out
                | TaskState::Waiting { .. }
                | TaskState::Running { .. }
                | TaskState::Collecting { .. }
                | TaskState::RollingOut { .. }
                | TaskState::Ended(_) => {}
            }
        }
    }

    /// Ends a task that was begun and goes no further, because nothing new may start.
    pub(super) fn cut_short(&mut self, task: TaskIndex) {
        if self.timed_out && self.stop.is_none() && !self.is_hook(task) {
            self.fail(task, Failure::RunTimedOut);
        } else {
            self.cancel(task);
        }
    }

    pub(super) fn stop_wished(&mut self, by: String, kill: bool) {
        let stronger = match self.stop {
            None => true,
            Some(killed) => kill && !killed,
        };
        if !stronger {
            return;
        }
        self.said.events.push(RunEvent::StopWished { by, kill });
        self.stop = Some(kill);
        if matches!(self.phase, Phase::Hooks { .. }) {
            self.stop_hooks();
        }
        self.stop_rollouts();
        self.stop_jobs(kill);
    }

    /// The hooks are part of the end; once they run, the run's timeout counts no more.
    pub(super) fn run_timed_out(&mut self) {
        if self.phase == Phase::Tasks && !self.timed_out && self.stop.is_none() {
            self.said.events.push(RunEvent::RunTimedOut);
            self.timed_out = true;
            self.stop_rollouts();
            self.stop_jobs(false);
        }
    }

    /// Asks every running job to stop. What is being collected may finish.
    pub(super) fn stop_jobs(&mut self, kill: bool) {
        for (task, entry) in self.tasks.iter().enumerate() {
            if let TaskState::Running { attempt, .. } = entry.state {
                self.said.commands.push(Command::StopJob { task, attempt, kill });
            }
        }
    }

    /// No further hook is called, and one that has no job yet gets none.
    pub(super) fn stop_hooks(&mut self) {
        self.hooks_stopped = true;
        self.pool.clear_queue();
        let Phase::Hooks { outcome, now, left } = &mut self.phase else { return };
        *outcome = RunOutcome::Cancelled;
        left.clear();
        let Some(task) = *now else { return };
        let state = &mut self.tasks[task].state;
        if !state.is_live() && !matches!(state, TaskState::Ended(_)) {
            if let Some(grant) = std::mem::replace(state, TaskState::BackingOff).grant() {
                self.pool.release(grant);
            }
            self.cancel(task);
        }
    }

    /// From the DAG to the hooks, from hook to hook, to the end. Returns whether there is more to do at once.
    pub(super) fn advance_phase(&mut self) -> bool {
        match &mut self.phase {
            Phase::Tasks => {
                if self.open > 0 && !(self.draining() && self.live == 0) {
                    return false;
                }
                let outcome = self.outcome_of_tasks();
                self.pool.clear_queue();
                let mut left = self.hooks(outcome);
                let now = if self.hooks_stopped { left.pop() } else { None };
                self.phase = Phase::Hooks { outcome, now, left };
                if self.hooks_stopped {
                    self.stop_hooks();
                }
                true
            }
            Phase::Hooks { outcome, now, left } => {
                if now.is_some_and(|task| !matches!(self.tasks[task].state, TaskState::Ended(_))) {
                    return false;
                }
                if left.is_empty() {
                    let outcome = *outcome;
                    self.said.events.push(RunEvent::Ended { outcome });
                    self.phase = Phase::Ended(outcome);
                    return false;
                }
                let task = left.remove(0);
                *now = Some(task);
                if !self.tasks[task].state.is_under_way() {
                    self.make_ready(task);
                }
                true
            }
            Phase::Ended(_) => false,
        }
    }

    fn outcome_of_tasks(&self) -> RunOutcome {
        if self.hooks_stopped || (self.stop.is_some() && (self.open > 0 || self.cancelled)) {
            RunOutcome::Cancelled
        } else if self.failed || self.timed_out {
            RunOutcome::Failed
        } else if self.kept {
            RunOutcome::Kept
        } else {
            RunOutcome::Done
        }
    }

    /// The hooks still to be called. After a kill none are; one that an earlier process began is seen to its end.
    fn hooks(&self, outcome: RunOutcome) -> Vec<TaskIndex> {
        let killed = self.stop == Some(true) || self.hooks_stopped;
        let wanted = |task| outcome == RunOutcome::Failed || self.graph.on_exit == Some(task);
        [self.graph.on_failure, self.graph.on_exit]
            .into_iter()
            .flatten()
            .filter(|&task| match &self.tasks[task].state {
                TaskState::Ended(_) => false,
                state => state.is_under_way() || (!killed && wanted(task)),
            })
            .collect()
    }
}
