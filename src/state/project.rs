//! Events → row changes. Pure; `write.rs` brings them into the tables, for fresh events and for a rebuild alike.

use std::collections::BTreeMap;

use super::rows::{GateDecision, TaskReason};
use super::statement::{Cell, integer, json};
use crate::event::{JobEnd, Metrics, RunEvent, RunOutcome, Usage};
use crate::names::{Owner, TaskId};

/// Columns of `task` that events change, in the order of [`TaskChange`].
pub(super) const TASK_COLUMNS: [&str; 9] = [
    "state",
    "reason",
    "stage_key",
    "reused_from",
    "outputs",
    "\"values\"",
    "attempts",
    "started_at",
    "ended_at",
];

const STATE: usize = 0;
const REASON: usize = 1;
const KEY: usize = 2;
const REUSED_FROM: usize = 3;
const OUTPUTS: usize = 4;
const VALUES: usize = 5;
const ATTEMPTS: usize = 6;
const STARTED_AT: usize = 7;
const ENDED_AT: usize = 8;

/// One thing to do to the tables. Steps are done in order; the changes within [`Rows`] touch different rows.
#[derive(Debug)]
pub(super) enum Step<'e> {
    /// Tasks, attempts and metrics.
    Rows(Rows<'e>),
    /// What did not end well, or was kept, waits again, and with a kept one what was skipped for it.
    TasksReopened,
    /// `run.owner`, `run.epoch`.
    Owned { by: &'e Owner, epoch: u64 },
    /// `run.state` is `active` again.
    Active,
    /// `run.state` is `ended`.
    Ended { outcome: RunOutcome, at: u64 },
}

/// Changes of rows, each row once.
#[derive(Debug, Default)]
pub(super) struct Rows<'e> {
    pub(super) tasks: BTreeMap<&'e TaskId, TaskChange>,
    pub(super) attempts: BTreeMap<(&'e TaskId, u32), AttemptChange<'e>>,
    pub(super) metrics: BTreeMap<(&'e TaskId, &'e str), f64>,
}

/// New values of some columns of one task.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct TaskChange(pub(super) [Option<Cell<'static>>; TASK_COLUMNS.len()]);

/// What happened to one attempt.
#[derive(Debug, Default)]
pub(super) struct AttemptChange<'e> {
    /// Job, host, time.
    pub(super) started: Option<(&'e str, &'e str, u64)>,
    /// End, use, time.
    pub(super) ended: Option<(&'e JobEnd, &'e Usage, u64)>,
}

impl TaskChange {
    fn text(&mut self, column: usize, text: Option<String>) -> &mut Self {
        self.0[column] = Some(text.into());
        self
    }

    fn integer(&mut self, column: usize, number: Option<u64>) -> &mut Self {
        self.0[column] = Some(Cell::Integer(number.map(integer)));
        self
    }

    fn over(&mut self, state: &str, at: u64) -> &mut Self {
        self.text(STATE, Some(state.to_owned())).integer(ENDED_AT, Some(at))
    }

    fn reason(&mut self, reason: &TaskReason) -> &mut Self {
        self.text(REASON, Some(json(reason)))
    }
}

impl<'e> Rows<'e> {
    fn task(&mut self, task: &'e TaskId) -> &mut TaskChange {
        self.tasks.entry(task).or_default()
    }

    fn report(&mut self, task: &'e TaskId, metrics: &'e Metrics) {
        // A database has no place for what is no number.
        for (name, value) in metrics.iter().filter(|(_, value)| value.is_finite()) {
            self.metrics.insert((task, name), *value);
        }
    }

    /// Folds one event in; those of the run itself are [`steps`]'.
    fn fold(&mut self, at: u64, event: &'e RunEvent) {
        match event {
            RunEvent::TaskReused { task, key, from, outputs, metrics, values, made, .. } => {
                let made = made.clone().map(TaskReason::MadeBy);
                self.task(task)
                    .over("reused", at)
                    .text(REASON, made.as_ref().map(json))
                    .text(KEY, Some(key.to_string()))
                    .text(REUSED_FROM, Some(from.to_string()))
                    .text(OUTPUTS, Some(json(outputs)))
                    .text(VALUES, Some(json(values)));
                self.report(task, metrics);
            }
            RunEvent::TaskSkipped { task, why } => {
                self.task(task).over("skipped", at).reason(&TaskReason::Skipped(why.clone()));
            }
            RunEvent::TaskBlocked { task, by } => {
                self.task(task).over("blocked", at).reason(&TaskReason::BlockedBy(by.clone()));
            }
            RunEvent::AttemptStarted { task, attempt, key, why, job, host } => {
                self.task(task)
                    .text(STATE, Some("running".to_owned()))
                    .reason(&TaskReason::Ran(why.clone()))
                    .text(KEY, key.map(|key| key.to_string()))
                    .integer(ATTEMPTS, Some(u64::from(*attempt)))
                    .integer(STARTED_AT, Some(at))
                    .integer(ENDED_AT, None);
                self.attempts.entry((task, *attempt)).or_default().started =
                    Some((job.as_str(), host, at));
            }
            RunEvent::AttemptEnded { task, attempt, end, usage } => {
                self.attempts.entry((task, *attempt)).or_default().ended = Some((end, usage, at));
            }
            RunEvent::RetryScheduled { task, .. } => {
                self.task(task).text(STATE, Some("retrying".to_owned()));
            }
            RunEvent::TaskDone { task, key, outputs, metrics, values, .. } => {
                self.task(task)
                    .over("done", at)
                    .text(KEY, key.map(|key| key.to_string()))
                    .text(OUTPUTS, Some(json(outputs)))
                    .text(VALUES, Some(json(values)));
                self.report(task, metrics);
            }
            RunEvent::TaskFailed { task, cause } => {
                self.task(task).over("failed", at).reason(&TaskReason::Failed(cause.clone()));
            }
            RunEvent::GateDecided { task, passed, failed, values, live } => {
                let decision = GateDecision {
                    passed: *passed,
                    failed: failed.clone(),
                    values: values.clone(),
                    live: *live,
                };
                let change = self.task(task).reason(&TaskReason::Gate(decision));
                if !passed {
                    change.over("kept", at);
                }
            }
            RunEvent::RolloutStarted { task, release, number, why } => {
                let (release, number, why) = (*release, *number, why.clone());
                self.task(task)
                    .text(STATE, Some("rolling_out".to_owned()))
                    .reason(&TaskReason::Released { release, number, why })
                    .integer(STARTED_AT, Some(at))
                    .integer(ENDED_AT, None);
            }
            RunEvent::RolloutPromoted { task, .. } => {
                self.task(task).over("done", at);
            }
            RunEvent::RolloutUnchanged { task, release, number, changed } => {
                let (release, number, changed) = (*release, *number, changed.clone());
                self.task(task).over("reused", at).reason(&TaskReason::Unchanged {
                    release,
                    number,
                    changed,
                });
            }
            RunEvent::TaskCancelled { task } => {
                self.task(task).over("cancelled", at).text(REASON, None);
            }
            RunEvent::Created(_)
            | RunEvent::TakenOver { .. }
            | RunEvent::Reopened { .. }
            | RunEvent::Picked { .. }
            | RunEvent::StopWished { .. }
            | RunEvent::RunTimedOut
            | RunEvent::LiveSeen { .. }
            | RunEvent::OutsidePinned { .. }
            | RunEvent::RolloutPrepared { .. }
            | RunEvent::Verified { .. }
            | RunEvent::RolloutAbandoned { .. }
            | RunEvent::Left { .. }
            | RunEvent::Ended { .. } => {}
        }
    }
}

/// What these events (with the times they happened) mean for the tables.
pub(super) fn steps<'e>(events: impl IntoIterator<Item = (u64, &'e RunEvent)>) -> Vec<Step<'e>> {
    let mut steps = Vec::new();
    let mut rows = Rows::default();
    for (at, event) in events {
        match event {
            RunEvent::TakenOver { by, epoch } => steps.push(Step::Owned { by, epoch: *epoch }),
            RunEvent::Reopened { by, epoch } => {
                // What was folded so far comes before tasks are opened again.
                steps.push(Step::Rows(std::mem::take(&mut rows)));
                steps.extend([
                    Step::TasksReopened,
                    Step::Active,
                    Step::Owned { by, epoch: *epoch },
                ]);
            }
            RunEvent::Ended { outcome } => steps.push(Step::Ended { outcome: *outcome, at }),
            event => rows.fold(at, event),
        }
    }
    steps.push(Step::Rows(rows));
    steps
}

/// The column `event.kind`: the event's name in the vocabulary.
pub(super) fn kind(event: &RunEvent) -> &'static str {
    match event {
        RunEvent::Created(_) => "created",
        RunEvent::TakenOver { .. } => "taken_over",
        RunEvent::Reopened { .. } => "reopened",
        RunEvent::TaskReused { .. } => "task_reused",
        RunEvent::TaskSkipped { .. } => "task_skipped",
        RunEvent::TaskBlocked { .. } => "task_blocked",
        RunEvent::AttemptStarted { .. } => "attempt_started",
        RunEvent::AttemptEnded { .. } => "attempt_ended",
        RunEvent::RetryScheduled { .. } => "retry_scheduled",
        RunEvent::TaskDone { .. } => "task_done",
        RunEvent::TaskFailed { .. } => "task_failed",
        RunEvent::TaskCancelled { .. } => "task_cancelled",
        RunEvent::Picked { .. } => "picked",
        RunEvent::LiveSeen { .. } => "live_seen",
        RunEvent::OutsidePinned { .. } => "outside_pinned",
        RunEvent::GateDecided { .. } => "gate_decided",
        RunEvent::RolloutStarted { .. } => "rollout_started",
        RunEvent::RolloutPrepared { .. } => "rollout_prepared",
        RunEvent::Verified { .. } => "verified",
        RunEvent::RolloutPromoted { .. } => "rollout_promoted",
        RunEvent::RolloutAbandoned { .. } => "rollout_abandoned",
        RunEvent::RolloutUnchanged { .. } => "rollout_unchanged",
        RunEvent::StopWished { .. } => "stop_wished",
        RunEvent::RunTimedOut => "run_timed_out",
        RunEvent::Left { .. } => "left",
        RunEvent::Ended { .. } => "ended",
    }
}

/// The column `run.outcome`.
pub(super) fn outcome_word(outcome: RunOutcome) -> &'static str {
    match outcome {
        RunOutcome::Done => "done",
        RunOutcome::Failed => "failed",
        RunOutcome::Kept => "kept",
        RunOutcome::Cancelled => "cancelled",
    }
}
