//! `flowrun runs`: a line a run.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::paint::Tint;
use super::summary::counts;
use super::table::{Field, table};
use crate::event::{RunOutcome, SnapshotId};
use crate::state::{RunRow, RunState, TaskRow};
use crate::words::{age, duration, visible};

/// Runs as a table, in the order given.
pub fn runs_text(now: u64, runs: &[(RunRow, Vec<TaskRow>)], colour: bool) -> String {
    if runs.is_empty() {
        return "no runs yet: `flowrun apply` starts one\n".to_owned();
    }
    runs_table(now, runs.iter().map(|(run, tasks)| (run, tasks.as_slice())), 0, colour)
}

/// Runs as data: a list.
pub fn runs_json(runs: &[(RunRow, Vec<TaskRow>)]) -> Value {
    runs.iter().map(|(run, tasks)| run_json(run, tasks)).collect()
}

pub(super) fn runs_table<'r>(
    now: u64,
    runs: impl IntoIterator<Item = (&'r RunRow, &'r [TaskRow])>,
    indent: usize,
    colour: bool,
) -> String {
    let rows: Vec<Vec<Field>> = runs
        .into_iter()
        .map(|(run, tasks)| {
            let (state, tint) = outcome_words(run.state);
            let outcome = match run.state {
                RunState::Ended(outcome) => Some(outcome),
                RunState::Waiting | RunState::Active => None,
            };
            let took = run.ended_at.map(|ended| duration(ended.saturating_sub(run.made_at)));
            vec![
                Field::new(run.id.to_string()),
                Field::new(run.created.pipeline.as_str()),
                Field::tinted(state, tint),
                Field::new(age(now, run.ended_at.unwrap_or(run.made_at))),
                Field::new(took.unwrap_or_default()),
                Field::new(counts(tasks, outcome)),
                Field::new(commit_words(&run.created.snapshot)),
            ]
        })
        .collect();
    let header = ["run", "pipeline", "outcome", "when", "took", "tasks", "commit"];
    table(&header, &rows, indent, colour)
}

/// `✓ done`.
pub(super) fn outcome_words(state: RunState) -> (&'static str, Tint) {
    match state {
        RunState::Waiting => ("· waiting", Tint::Plain),
        RunState::Active => ("▶ active", Tint::Plain),
        RunState::Ended(RunOutcome::Done) => ("✓ done", Tint::Good),
        RunState::Ended(RunOutcome::Failed) => ("✗ failed", Tint::Bad),
        RunState::Ended(RunOutcome::Kept) => ("= kept", Tint::Warn),
        RunState::Ended(RunOutcome::Cancelled) => ("■ cancelled", Tint::Warn),
    }
}

/// `1a2b3c4 (main) with changes`; `no git` for a plain folder.
pub fn commit_words(snapshot: &SnapshotId) -> String {
    let Some(commit) = &snapshot.commit else {
        return "no git".to_owned();
    };
    let short: String = commit.chars().take(7).collect();
    let reference = snapshot.reference.as_ref().map(|name| format!(" ({})", visible(name)));
    let dirty = if snapshot.dirty { " with changes" } else { "" };
    format!("{short}{}{dirty}", reference.unwrap_or_default())
}

pub(super) fn run_json(run: &RunRow, tasks: &[TaskRow]) -> Value {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for task in tasks {
        *counts.entry(&task.state).or_default() += 1;
    }
    let (state, outcome) = match run.state {
        RunState::Waiting => ("waiting", None),
        RunState::Active => ("active", None),
        RunState::Ended(outcome) => ("ended", Some(outcome)),
    };
    let params: serde_json::Map<String, Value> = run
        .created
        .params
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_json()))
        .collect();
    json!({
        "run": run.id,
        "pipeline": run.created.pipeline,
        "state": state,
        "outcome": outcome,
        "made_at": run.made_at,
        "ended_at": run.ended_at,
        "commit": run.created.snapshot.commit,
        "dirty": run.created.snapshot.dirty,
        "snapshot": run.created.snapshot,
        "file": run.created.file,
        "params": params,
        "selection": run.created.selection,
        "cause": run.created.cause,
        "counts": counts,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing::{failed_run, other_run, run_row, task, task_row};

    #[test]
    fn a_line_a_run() {
        let tasks = vec![
            task_row(task("train", 1), "train", "done"),
            task_row(task("evaluate", 1), "evaluate", "failed"),
        ];
        let runs = [(run_row(other_run(), RunState::Waiting), Vec::new()), (failed_run(), tasks)];
        insta::assert_snapshot!(runs_text(1_700_000_400_000, &runs, false), @r"
        run                         pipeline  outcome    when       took    tasks             commit
        01HF7YNSJ00000000000000002  iris      · waiting  6 min ago                            1a2b3c4 (main) with changes
        01HF7YAT000000000000000001  iris      ✗ failed   5 min ago  1m 12s  1 done, 1 failed  1a2b3c4 (main) with changes
        ");
        assert_eq!(runs_json(&runs)[1]["params"], json!({"learning_rate": 0.1, "seed": 7}));
    }
}
