//! From a journal to a run that goes on.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use crate::event::{Failure, RunEvent};
use crate::names::ReleaseId;
use crate::plan::graph::Part;
use crate::plan::{Graph, TaskIndex};
use crate::state::Recorded;

use super::journal::{Folded, Past, RolloutPast, fold, verifies};
use super::pick::PickedStage;
use super::schedule::Pool;
use super::task::{Outcome, RolloutStep, Task, TaskState, Then};
use super::vocabulary::{Command, Step};
use super::{Facts, Phase, Run};

/// A journal that no run of this graph can have written; where and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Contradiction(pub String);

impl Run {
    /// The run that a journal describes, and what is to be said and done first.
    ///
    /// Attempts without an end are adopted, those that ended well and were not collected are collected, pauses go on,
    /// and what a crash cut off (the retry or failure after an end, the tasks blocked by a failure, a pick) is said now.
    /// Of a run that ended nothing is said.
    pub fn recover(
        graph: Arc<Graph>,
        facts: Facts,
        journal: &[Recorded],
    ) -> Result<(Self, Step), Contradiction> {
        let mut folded = fold(&graph, &facts.services, journal).map_err(Contradiction)?;
        let (picked, picked_of) = picked_stages(&graph, &facts);
        let mut run = Self {
            pool: Pool::new(&facts),
            tasks: Vec::with_capacity(graph.tasks.len()),
            verifies: verifies(&facts.services),
            verify_failures: std::mem::take(&mut folded.verify_failures),
            live_seen: std::mem::take(&mut folded.live_seen),
            graph,
            facts,
            picked,
            picked_of,
            phase: Phase::Tasks,
            stop: folded.stop,
            timed_out: folded.timed_out,
            failed: false,
            cancelled: false,
            kept: false,
            drained: false,
            hooks_stopped: folded.hooks_stopped,
            open: 0,
            live: 0,
            fresh: Vec::new(),
            said: Step::default(),
        };
        run.place_tasks(&folded);
        if let Some(outcome) = folded.ended {
            run.phase = Phase::Ended(outcome);
            run.drained = true;
            return Ok((run, Step::default()));
        }
        run.take_up(&folded)?;
        run.advance();
        let step = std::mem::take(&mut run.said);
        Ok((run, step))
    }

    /// The states, without saying anything.
    fn place_tasks(&mut self, folded: &Folded) {
        let graph = Arc::clone(&self.graph);
        let has_result = |task: TaskIndex| {
            matches!(folded.tasks[task].past, Past::Ended(Outcome::Done | Outcome::Reused))
                || graph.tasks[task].part == Part::Out
        };
        for (index, (planned, entry)) in graph.tasks.iter().zip(&folded.tasks).enumerate() {
            let hook = self.is_hook(index);
            let state = match &entry.past {
                Past::Fresh if hook || planned.part == Part::Out => TaskState::Out,
                Past::Fresh => TaskState::Waiting {
                    unmet: planned.needs.iter().filter(|&&need| !has_result(need)).count(),
                },
                Past::Running { attempt, key } | Past::Over { attempt, key, .. } => {
                    let request = self.facts.request(index, entry.out_of_memory);
                    let gpus = self.facts.held_gpus.remove(&index).unwrap_or_default();
                    let grant = self.pool.adopt(&request, gpus);
                    TaskState::Running { attempt: *attempt, key: *key, grant }
                }
                Past::BackingOff { .. } => TaskState::BackingOff,
                Past::RollingOut { release, step } => {
                    TaskState::RollingOut { release: *release, step: self.placed(index, step) }
                }
                Past::Ended(outcome) => TaskState::Ended(*outcome),
            };
            if !hook && planned.part != Part::Out {
                self.open += usize::from(!matches!(state, TaskState::Ended(_)));
                self.live += usize::from(state.is_live());
                self.failed |= matches!(state, TaskState::Ended(Outcome::Failed));
                self.cancelled |= matches!(state, TaskState::Ended(Outcome::Cancelled));
                self.kept |= matches!(state, TaskState::Ended(Outcome::Kept));
            }
            if let Some(position) = self.picked_of[index] {
                let picked = &mut self.picked[position];
                if state.has_result() {
                    picked.results.insert(planned.id.copy, entry.metrics.clone());
                } else {
                    picked.missing += 1;
                }
                picked.decided = folded.picked.contains(&picked.stage);
            }
            self.tasks.push(Task {
                attempts: entry.attempts,
                spent: entry.spent,
                lost: entry.lost,
                out_of_memory: entry.out_of_memory,
                ..Task::new(state)
            });
        }
    }

    /// Says what a crash cut off and asks for what is still to come.
    fn take_up(&mut self, folded: &Folded) -> Result<(), Contradiction> {
        for stage in 0..self.picked.len() {
            self.take_up_pick(stage)?;
        }
        for (task, entry) in folded.tasks.iter().enumerate() {
            match &entry.past {
                Past::Fresh | Past::Ended(Outcome::Done | Outcome::Reused) => {}
                Past::Ended(_) => {
                    if self.counts(task) {
                        self.propagate(task);
                    }
                }
                Past::RollingOut { release, step } => {
                    self.take_up_rollout(task, *release, step, folded);
                }
                Past::BackingOff { until } => {
                    self.said.commands.push(Command::Sleep { task, until: *until });
                }
                Past::Running { attempt, key } => {
                    let (attempt, key) = (*attempt, *key);
                    self.said.commands.push(Command::Adopt { task, attempt, key });
                    let stopping =
                        if self.is_hook(task) { self.hooks_stopped } else { self.stopping() };
                    if stopping {
                        let kill = self.stop == Some(true);
                        self.said.commands.push(Command::StopJob { task, attempt, kill });
                    }
                }
                Past::Over { end, usage, .. } if end.is_success() => self.collect(task, *usage),
                Past::Over { end, .. } => {
                    self.attempt_over(task, Failure::Job(end.clone()), self.facts.now);
                }
            }
        }
        let mut ready: Vec<TaskIndex> = (0..self.tasks.len())
            .filter(|&task| matches!(self.tasks[task].state, TaskState::Waiting { unmet: 0 }))
            .collect();
        ready.sort_by_key(|&task| (Reverse(self.graph.tasks[task].depth), task));
        for task in ready {
            self.make_ready(task);
        }
        Ok(())
    }

    /// Where a release stands, without what is to be said of it.
    fn placed(&self, task: TaskIndex, past: &RolloutPast) -> RolloutStep {
        let verified = self.facts.services.get(&task).is_some_and(|facts| facts.verify.is_some());
        match past {
            RolloutPast::Started => RolloutStep::Preparing,
            RolloutPast::Prepared if verified => RolloutStep::Verifying,
            RolloutPast::Verified { passed: false } => RolloutStep::Verifying,
            RolloutPast::Prepared | RolloutPast::Verified { passed: true } => {
                RolloutStep::Promoting
            }
            RolloutPast::Abandoned { why } => {
                let then = Then::of(why, &self.graph.tasks[task].id.stage);
                RolloutStep::Abandoning { then }
            }
        }
    }

    /// Asks again for what was under way. Where its `verify` task has an attempt, that is taken up as any other.
    fn take_up_rollout(
        &mut self,
        task: TaskIndex,
        release: ReleaseId,
        past: &RolloutPast,
        folded: &Folded,
    ) {
        let verify = self.facts.services.get(&task).and_then(|facts| facts.verify);
        match (past, verify) {
            (RolloutPast::Started, _) if self.stopping() => self.give_up(task, release),
            (RolloutPast::Started, _) => {
                self.said.commands.push(Command::Prepare { task, release });
            }
            (RolloutPast::Prepared, Some(verify)) => match folded.tasks[verify].past {
                Past::Fresh if self.stopping() => self.give_up(task, release),
                Past::Fresh => self.verify(task, release, verify),
                Past::Ended(outcome) => self.verify_over(task, verify, outcome),
                Past::BackingOff { .. } if self.stopping() => {
                    self.stop_verify(task, release, verify);
                }
                _ => {}
            },
            (RolloutPast::Verified { passed: false }, Some(verify)) => {
                let cause = self.verify_failures.remove(&verify);
                self.not_passed(task, release, verify, cause.as_ref());
            }
            (RolloutPast::Prepared | RolloutPast::Verified { .. }, _) => {
                self.promote(task, release);
            }
            (RolloutPast::Abandoned { why }, verify) => {
                let log_of = verify
                    .filter(|verify| {
                        matches!(folded.tasks[*verify].past, Past::Ended(Outcome::Failed))
                    })
                    .map(|verify| (verify, self.tasks[verify].attempts));
                let why = why.clone();
                self.said.commands.push(Command::Abandon { task, release, why, log_of });
            }
        }
    }

    fn take_up_pick(&mut self, stage: usize) -> Result<(), Contradiction> {
        let entry = &mut self.picked[stage];
        if entry.missing > 0 || entry.decided || entry.results.is_empty() {
            return Ok(());
        }
        let Some((copy, value)) = entry.winner() else {
            let why = format!("all copies of `{}` are done and none can be picked", entry.stage);
            return Err(Contradiction(why));
        };
        entry.decided = true;
        self.said.events.push(RunEvent::Picked {
            stage: entry.stage.clone(),
            copy,
            metric: entry.pick.metric.clone(),
            value,
        });
        Ok(())
    }
}

/// The stages with `pick` that are in this run, and which of them each task is a copy of.
fn picked_stages(graph: &Graph, facts: &Facts) -> (Vec<PickedStage>, Vec<Option<usize>>) {
    let mut stages: Vec<PickedStage> = Vec::new();
    let mut by_name = HashMap::new();
    let of = graph
        .tasks
        .iter()
        .enumerate()
        .map(|(index, task)| {
            let hook = graph.on_failure == Some(index) || graph.on_exit == Some(index);
            if task.part == Part::Out || hook || facts.picks.is_empty() {
                return None;
            }
            let pick = facts.picks.get(&task.id.stage)?;
            Some(*by_name.entry(&task.id.stage).or_insert_with(|| {
                stages.push(PickedStage::new(task.id.stage.clone(), pick.clone()));
                stages.len() - 1
            }))
        })
        .collect();
    (stages, of)
}
