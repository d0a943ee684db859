//! One task of a run, as `status` shows it.

use serde_json::{Value, json};

use super::paint::{state_sign, state_word};
use super::table::Field;
use crate::event::Skip;
use crate::names::TaskId;
use crate::plan::causes::{failure_words, from_words, made_words, reason_words, skip_words};
use crate::plan::rollout_words::{gate_words, in_place_words, rollout_words};
use crate::state::{GateDecision, TaskReason, TaskRow};
use crate::words::duration;

/// Its label, state, time, attempts and reason; `tasks` are all of its run.
pub(super) fn task_fields(now: u64, task: &TaskRow, tasks: &[TaskRow]) -> Vec<Field> {
    let (sign, tint) = state_sign(&task.state);
    let attempts = if task.attempts == 0 { String::new() } else { task.attempts.to_string() };
    vec![
        Field::new(&task.label),
        Field::tinted(format!("{sign} {}", state_word(&task.state)), tint),
        Field::new(time_of(now, task).map(duration).unwrap_or_default()),
        Field::new(attempts),
        Field::new(reason_of(task, tasks)),
    ]
}

/// The same as data.
pub(super) fn task_json(task: &TaskRow, tasks: &[TaskRow]) -> Value {
    let reason = reason_of(task, tasks);
    let values: serde_json::Map<String, Value> =
        task.values.iter().map(|(name, value)| (name.clone(), value.to_json())).collect();
    json!({
        "stage": task.task.stage,
        "copy": task.task.copy,
        "task": task.label,
        "state": task.state,
        "reason": if reason.is_empty() { Value::Null } else { reason.into() },
        "cause": task.reason,
        "key": task.key,
        "reused_from": task.reused_from,
        "outputs": task.outputs,
        "values": values,
        "attempts": task.attempts,
        "started_at": task.started_at,
        "ended_at": task.ended_at,
    })
}

/// The label of a task among its run's.
fn label_of(tasks: &[TaskRow], id: &TaskId) -> String {
    tasks
        .iter()
        .find(|task| &task.task == id)
        .map_or_else(|| id.stage.to_string(), |task| task.label.clone())
}

fn reason_of(task: &TaskRow, tasks: &[TaskRow]) -> String {
    match (&task.reason, &task.reused_from) {
        (Some(TaskReason::MadeBy(made)), Some(from)) if task.state == "reused" => {
            from_words(*from, Some(made), None)
        }
        (_, Some(from)) if task.state == "reused" => from_words(*from, None, None),
        (Some(reason), _) => reason_words_of(reason, tasks),
        (None, _) => String::new(),
    }
}

fn reason_words_of(reason: &TaskReason, tasks: &[TaskRow]) -> String {
    match reason {
        TaskReason::Ran(reason) => reason_words(reason),
        TaskReason::Failed(failure) => failure_words(failure).0,
        TaskReason::Skipped(Skip::Needs(id)) if is_kept(tasks, id) => {
            format!("it needs `{}`, whose gate kept the live release", label_of(tasks, id))
        }
        TaskReason::Skipped(skip) => skip_words(skip, &|id| label_of(tasks, id)),
        TaskReason::BlockedBy(task) => format!("needs {}", label_of(tasks, task)),
        TaskReason::MadeBy(made) => made_words(made, None),
        TaskReason::Gate(GateDecision { passed: true, .. }) => "its gate passed".to_owned(),
        TaskReason::Gate(gate) => gate_words(gate.failed.as_deref(), &gate.values),
        TaskReason::Released { number, why, .. } => {
            format!("release {number}: {}", rollout_words(why))
        }
        TaskReason::Unchanged { number, changed, .. } => {
            format!("release {number} is the same{}", in_place_words(changed))
        }
    }
}

fn is_kept(tasks: &[TaskRow], id: &TaskId) -> bool {
    tasks.iter().any(|task| &task.task == id && task.state == "kept")
}

/// How long the task's newest attempt took, or has taken.
fn time_of(now: u64, task: &TaskRow) -> Option<u64> {
    let since = task.started_at?;
    let until = match task.state.as_str() {
        "running" | "rolling_out" => now,
        _ => task.ended_at?,
    };
    Some(until.saturating_sub(since))
}
