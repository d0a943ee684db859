//! Runs and tasks as people name them: `latest`, the beginning of an id; `train`, `train[trees=100]`.

use std::collections::BTreeMap;

use super::error::CliError;
use crate::event::RunEvent;
use crate::names::{RunId, StageName, suggest};
use crate::state::{FoundRun, RunFilter, RunRow, State, TaskRow};
use crate::words::{count, list, short_list};

/// How many candidates a message names.
const NAMED: usize = 5;

/// The run that `text` names: `latest`, `latest~2` (the third newest), an id or the beginning of one.
pub(crate) async fn run(state: &State, text: &str) -> Result<RunRow, CliError> {
    if let Some(back) = text.strip_prefix("latest~") {
        let back: u32 = back.parse().map_err(|_| no_run(text))?;
        let filter = RunFilter { limit: Some(back.saturating_add(1)), ..RunFilter::default() };
        let mut rows = state.runs(&filter).await?;
        let there = rows.len();
        let oldest = rows.pop().filter(|_| there > back as usize);
        return oldest.ok_or_else(|| {
            CliError::usage(
                format!("there is no run `{text}`: {} so far", count(there, "run")),
                "see them with `flowrun runs`",
            )
        });
    }
    match state.find_run(text).await? {
        FoundRun::One(id) => state.run(id).await?.ok_or_else(|| no_run(text)),
        FoundRun::Missing if text == "latest" => {
            Err(CliError::usage("there is no run yet", "start one with `flowrun apply`"))
        }
        FoundRun::Missing => Err(no_run(text)),
        FoundRun::Several(ids) => {
            let ids: Vec<String> = ids.iter().map(|id| format!("`{id}`")).collect();
            Err(CliError::usage(
                format!("several runs begin with `{text}`"),
                format!("give more of the id: {}", short_list(&ids, NAMED)),
            ))
        }
    }
}

/// The run and the task that `[RUN] TASK` name; without a run, the newest.
pub(crate) async fn run_and_task<'w>(
    state: &State,
    words: &'w [String],
) -> Result<(RunRow, &'w str), CliError> {
    match words {
        [text, task] => Ok((run(state, text).await?, task)),
        [task] if looks_like_run(task) => Err(CliError::usage(
            format!("`{task}` is a run, and no task is named"),
            format!("add a task; they are in `flowrun status {task}`"),
        )),
        [task] => Ok((latest(state).await?, task)),
        _ => Err(CliError::usage("no task is named", "write a run and a task")),
    }
}

/// The newest run.
pub(crate) async fn latest(state: &State) -> Result<RunRow, CliError> {
    run(state, "latest").await
}

/// Whether a text can only be meant as a run: `latest`, or the beginning of an id.
pub(crate) fn looks_like_run(text: &str) -> bool {
    text == "latest"
        || text.starts_with("latest~")
        || (text.starts_with("01") && text.chars().all(|c| c.is_ascii_alphanumeric()))
}

/// The copy that won, of each stage with `pick`.
pub(crate) async fn winners(
    state: &State,
    run: RunId,
) -> Result<BTreeMap<StageName, u32>, CliError> {
    let events = state.events(run, 0).await?.into_iter();
    let picked = events.filter_map(|recorded| match recorded.event {
        RunEvent::Picked { stage, copy, .. } => Some((stage, copy)),
        _ => None,
    });
    Ok(picked.collect())
}

fn no_run(text: &str) -> CliError {
    CliError::usage(
        format!("there is no run `{text}`"),
        "use an id of `flowrun runs`, the beginning of one, `latest`, or `latest~1` for the one before",
    )
}

/// The task that `text` names, with its number (from 1).
pub(crate) fn task<'a>(rows: &'a [TaskRow], text: &str) -> Result<(usize, &'a TaskRow), CliError> {
    let numbered = || rows.iter().enumerate().map(|(index, row)| (index + 1, row));
    if let Some(found) = numbered().find(|(_, row)| row.label == text) {
        return Ok(found);
    }
    let copies: Vec<_> = numbered().filter(|(_, row)| row.task.stage.as_str() == text).collect();
    match copies.as_slice() {
        [one] => Ok(*one),
        [] => {
            let labels = rows.iter().map(|row| row.label.as_str());
            let help = if let Some(near) = suggest(text, labels) {
                format!("did you mean `{near}`?")
            } else {
                let labels: Vec<String> =
                    rows.iter().take(NAMED * 2).map(|row| format!("`{}`", row.label)).collect();
                format!("use one of {}", list(&labels))
            };
            Err(CliError::usage(format!("the run has no task `{text}`"), help))
        }
        many => {
            let labels: Vec<String> =
                many.iter().take(NAMED * 2).map(|(_, row)| format!("'{}'", row.label)).collect();
            Err(CliError::usage(
                format!("stage `{text}` has {} tasks", many.len()),
                format!("name one: {}", list(&labels)),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::TaskId;

    fn row(stage: &str, copy: u32, label: &str) -> TaskRow {
        TaskRow {
            task: TaskId { stage: stage.parse().unwrap(), copy },
            label: label.into(),
            state: "done".into(),
            reason: None,
            key: None,
            reused_from: None,
            outputs: BTreeMap::new(),
            values: BTreeMap::new(),
            attempts: 1,
            started_at: None,
            ended_at: None,
        }
    }

    #[test]
    fn tasks_are_found_by_label_or_stage() {
        let rows = [
            row("prepare", 1, "prepare"),
            row("train", 1, "train[trees=50]"),
            row("train", 2, "train[trees=100]"),
            row("tune", 1, "tune[a=1]"),
        ];
        assert_eq!(task(&rows, "prepare").unwrap().0, 1);
        assert_eq!(task(&rows, "train[trees=100]").unwrap().0, 3);
        assert_eq!(task(&rows, "tune").unwrap().0, 4, "a single copy needs no brackets");
        let error = task(&rows, "train").unwrap_err();
        assert_eq!(
            error.help().as_deref(),
            Some("name one: 'train[trees=50]' and 'train[trees=100]'")
        );
        let error = task(&rows, "preprae").unwrap_err();
        assert_eq!(error.help().as_deref(), Some("did you mean `prepare`?"));
    }

    #[test]
    fn runs_are_told_from_tasks() {
        assert!(looks_like_run("latest") && looks_like_run("latest~2"));
        assert!(looks_like_run("01JD8ZK"));
        assert!(!looks_like_run("train"));
    }
}
