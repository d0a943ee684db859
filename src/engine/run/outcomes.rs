//! How a task ends, and who is told.

use std::sync::Arc;

use crate::event::{Failure, Metrics, RunEvent, Skip};
use crate::names::TaskId;
use crate::plan::{Graph, TaskIndex};

use super::task::{Outcome, TaskState};
use super::{Run, pick};

impl Run {
    /// The task has its result. The last copy of a stage with `pick` decides the winner, or fails when no copy
    /// reported the metric.
    pub(super) fn succeed(
        &mut self,
        task: TaskIndex,
        outcome: Outcome,
        event: RunEvent,
        metrics: Metrics,
    ) {
        let Some(stage) = self.picked_of[task] else {
            self.end(task, outcome, event);
            return;
        };
        let copy = self.graph.tasks[task].id.copy;
        match self.picked[stage].arrived(copy, metrics) {
            pick::Arrival::More => self.end(task, outcome, event),
            pick::Arrival::Winner { copy, value } => {
                self.said.events.push(event);
                let picked = &self.picked[stage];
                self.said.events.push(RunEvent::Picked {
                    stage: picked.stage.clone(),
                    copy,
                    metric: picked.pick.metric.clone(),
                    value,
                });
                self.end_silently(task, outcome);
            }
            pick::Arrival::NoMetric => {
                let metric = self.picked[stage].pick.metric.clone();
                self.fail(task, Failure::PickImpossible { metric });
            }
        }
    }

    pub(super) fn fail(&mut self, task: TaskIndex, cause: Failure) {
        if self.verifies(task).is_some() {
            self.verify_failures.insert(task, cause.clone());
        }
        self.end(task, Outcome::Failed, RunEvent::TaskFailed { task: self.id(task), cause });
    }

    pub(super) fn cancel(&mut self, task: TaskIndex) {
        self.end(task, Outcome::Cancelled, RunEvent::TaskCancelled { task: self.id(task) });
    }

    pub(super) fn end(&mut self, task: TaskIndex, outcome: Outcome, event: RunEvent) {
        self.said.events.push(event);
        self.end_silently(task, outcome);
    }

    fn end_silently(&mut self, task: TaskIndex, outcome: Outcome) {
        self.tasks[task].state = TaskState::Ended(outcome);
        if let Some(service) = self.verifies(task) {
            self.verify_over(service, task, outcome);
        } else if !self.is_hook(task) {
            self.open -= 1;
            self.failed |= outcome == Outcome::Failed;
            self.cancelled |= outcome == Outcome::Cancelled;
            self.kept |= outcome == Outcome::Kept;
            self.propagate(task);
        }
    }

    /// Tells what needs an ended task, and what is ended by that in turn. Asks each edge once.
    pub(super) fn propagate(&mut self, task: TaskIndex) {
        let graph = Arc::clone(&self.graph);
        let mut stack = vec![task];
        while let Some(ended) = stack.pop() {
            let TaskState::Ended(outcome) = self.tasks[ended].state else { continue };
            for &next in graph.tasks[ended].needed_by.iter() {
                let TaskState::Waiting { unmet } = &mut self.tasks[next].state else { continue };
                let id = graph.tasks[next].id.clone();
                let (outcome, event) = match outcome {
                    Outcome::Done | Outcome::Reused => {
                        *unmet = unmet.saturating_sub(1);
                        if *unmet == 0 {
                            self.make_ready(next);
                        }
                        continue;
                    }
                    Outcome::Cancelled => continue,
                    Outcome::Failed => blocked(&graph, id, ended),
                    Outcome::Blocked { by } => blocked(&graph, id, by),
                    Outcome::Skipped { .. } | Outcome::Kept => {
                        let kept = outcome != Outcome::Skipped { kept: false };
                        let why = Skip::Needs(graph.tasks[ended].id.clone());
                        (Outcome::Skipped { kept }, RunEvent::TaskSkipped { task: id, why })
                    }
                };
                self.tasks[next].state = TaskState::Ended(outcome);
                self.open -= 1;
                self.said.events.push(event);
                stack.push(next);
            }
        }
    }
}

fn blocked(graph: &Graph, task: TaskId, by: TaskIndex) -> (Outcome, RunEvent) {
    let event = RunEvent::TaskBlocked { task, by: graph.tasks[by].id.clone() };
    (Outcome::Blocked { by }, event)
}
