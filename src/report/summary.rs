//! The last words of a run.

use super::paint::{Paint, Tint};
use crate::event::RunOutcome;
use crate::names::RunId;
use crate::plan::causes::failure_log;
use crate::state::{TaskReason, TaskRow};
use crate::words::{duration, shell_word};

/// `3 done, 5 reused, 1 failed in 1m 12s`, and what to do next when it did not end well. Ends with a line break.
pub fn summary(
    run: RunId,
    outcome: RunOutcome,
    tasks: &[TaskRow],
    took_ms: u64,
    colour: bool,
) -> String {
    let paint = Paint { colour };
    let (sign, tint) = match outcome {
        RunOutcome::Done => ("✓", Tint::Good),
        RunOutcome::Failed => ("✗", Tint::Bad),
        RunOutcome::Kept => ("=", Tint::Warn),
        RunOutcome::Cancelled => ("■", Tint::Warn),
    };
    let counts = counts(tasks, true);
    let counts = if counts.is_empty() { "nothing to do".to_owned() } else { counts };
    let unchanged = !tasks.is_empty()
        && tasks.iter().all(|task| matches!(task.state.as_str(), "reused" | "skipped"));
    let note = if unchanged { ": nothing had changed" } else { "" };
    let mut text = format!("{} {counts} in {}{note}\n", paint.with(tint, sign), duration(took_ms));
    if matches!(outcome, RunOutcome::Failed | RunOutcome::Cancelled) {
        let failed = tasks.iter().find(|task| task.state == "failed" && task.attempts > 0);
        if let Some(task) = failed {
            let command = look_command(run, task);
            text += &format!("  {}  shows why\n", paint.with(Tint::Hint, &command));
        }
        let command = format!("flowrun resume {run}");
        text += &format!("  {}  goes on with the same code\n", paint.with(Tint::Hint, &command));
        if outcome == RunOutcome::Failed {
            let command = paint.with(Tint::Hint, "flowrun apply");
            text += &format!("  {command}  takes your changes; what is done is reused\n");
        }
    }
    text
}

/// The command that shows what happened to a task: its log, unless it failed before there was one.
pub(super) fn look_command(run: RunId, task: &TaskRow) -> String {
    let has_log = match &task.reason {
        Some(TaskReason::Failed(failure)) => failure_log(failure).is_none(),
        _ => true,
    };
    let command = if has_log { "logs" } else { "why" };
    format!("flowrun {command} {run} {}", shell_word(&task.label))
}

/// `3 done, 5 reused, 1 failed`, without what is zero. `ended`: nothing waits any more, so what did was not started.
pub(super) fn counts(tasks: &[TaskRow], ended: bool) -> String {
    const STATES: [&str; 9] = [
        "done",
        "reused",
        "failed",
        "skipped",
        "blocked",
        "cancelled",
        "running",
        "retrying",
        "waiting",
    ];
    let counts: Vec<String> = STATES
        .iter()
        .map(|state| (tasks.iter().filter(|task| task.state == *state).count(), state))
        .filter(|(count, _)| *count > 0)
        .map(|(count, state)| match *state {
            "waiting" if ended => format!("{count} not started"),
            state => format!("{count} {state}"),
        })
        .collect();
    counts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing::{run, task, task_row};

    #[test]
    fn a_failed_run_says_what_next() {
        let mut failed = task_row(task("train", 2), "train[trees=100]", "failed");
        failed.attempts = 1;
        let tasks = [task_row(task("prepare", 1), "prepare", "reused"), failed];
        insta::assert_snapshot!(summary(run(), RunOutcome::Failed, &tasks, 72_400, false), @r"
        ✗ 1 reused, 1 failed in 1m 12s
          flowrun logs 01HF7YAT000000000000000001 'train[trees=100]'  shows why
          flowrun resume 01HF7YAT000000000000000001  goes on with the same code
          flowrun apply  takes your changes; what is done is reused
        ");
    }

    #[test]
    fn a_run_without_change_says_so() {
        let tasks = [task_row(task("prepare", 1), "prepare", "reused")];
        let text = summary(run(), RunOutcome::Done, &tasks, 50, false);
        assert_eq!(text, "✓ 1 reused in 0.1s: nothing had changed\n");
    }
}
