//! The last lines of a run: what was done, what was reused, and where to look.

use std::collections::BTreeMap;

use serde_json::json;

use super::error::CliError;
use super::place::Place;
use super::screen::{Screen, count, list};
use crate::event::RunOutcome;
use crate::names::RunId;
use crate::state::TaskRow;

/// Shows how a run ended: lines on stderr, or an object on stdout.
pub(crate) async fn show(
    place: &Place,
    run: RunId,
    outcome: RunOutcome,
    as_json: bool,
    screen: Screen,
) -> Result<(), CliError> {
    let tasks = place.state.tasks(run).await?;
    if as_json {
        return screen.json(&object(run, outcome, &tasks));
    }
    for line in lines(run, outcome, &tasks) {
        screen.say(&line);
    }
    Ok(())
}

/// An outcome for people.
pub(crate) fn word(outcome: RunOutcome) -> &'static str {
    match outcome {
        RunOutcome::Done => "done",
        RunOutcome::Failed => "failed",
        RunOutcome::Kept => "kept",
        RunOutcome::Cancelled => "cancelled",
    }
}

fn object(run: RunId, outcome: RunOutcome, tasks: &[TaskRow]) -> serde_json::Value {
    let tasks: Vec<_> = tasks
        .iter()
        .map(|task| {
            json!({
                "task": task.label,
                "state": task.state,
                "reason": task.reason,
                "attempts": task.attempts,
                "reused_from": task.reused_from,
                "outputs": task.outputs,
            })
        })
        .collect();
    json!({"run": run, "outcome": word(outcome), "tasks": tasks})
}

fn lines(run: RunId, outcome: RunOutcome, tasks: &[TaskRow]) -> Vec<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for task in tasks {
        *counts.entry(&task.state).or_default() += 1;
    }
    let order = ["done", "reused", "failed", "skipped", "blocked", "cancelled"];
    let parts: Vec<String> = order
        .iter()
        .filter_map(|state| counts.get(state).map(|number| format!("{number} {state}")))
        .collect();
    let of = if parts.is_empty() { count(tasks.len(), "task") } else { list(&parts) };
    let mut lines = vec![format!("run {run} {}: {of}", word(outcome))];
    for task in tasks.iter().filter(|task| task.state == "failed") {
        let reason = task.reason.as_deref().unwrap_or("failed");
        lines.push(format!("  {}: {reason}", task.label));
        if task.attempts > 0 {
            lines.push(format!("    see `flowrun logs {run} {}`", quoted(&task.label)));
        }
    }
    if matches!(outcome, RunOutcome::Failed | RunOutcome::Cancelled) {
        lines.push(format!("after the mend: `flowrun apply`, or `flowrun resume {run}`"));
    }
    lines
}

/// A task's label as it is typed in a shell.
pub(crate) fn quoted(label: &str) -> String {
    if label.contains('[') {
        format!("'{}'", label.replace('\'', "'\\''"))
    } else {
        label.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::TaskId;

    fn task(label: &str, state: &str, attempts: u32) -> TaskRow {
        TaskRow {
            task: TaskId { stage: "train".parse().unwrap(), copy: 1 },
            label: label.into(),
            state: state.into(),
            reason: (state == "failed").then(|| "exit code 3".into()),
            key: None,
            reused_from: None,
            outputs: BTreeMap::new(),
            values: BTreeMap::new(),
            attempts,
            started_at: None,
            ended_at: None,
        }
    }

    #[test]
    fn a_failure_says_where_to_look() {
        let run = RunId::new(0, 1);
        let tasks = [task("prepare", "reused", 0), task("train[trees=50]", "failed", 2)];
        assert_eq!(
            lines(run, RunOutcome::Failed, &tasks),
            [
                format!("run {run} failed: 1 reused and 1 failed"),
                "  train[trees=50]: exit code 3".to_owned(),
                format!("    see `flowrun logs {run} 'train[trees=50]'`"),
                format!("after the mend: `flowrun apply`, or `flowrun resume {run}`"),
            ]
        );
    }
}
