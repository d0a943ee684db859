//! The last words of a run.

use super::paint::{Paint, Tint, state_word};
use super::table::{Field, table};
use crate::event::{Failure, RunOutcome};
use crate::names::{RunId, StageName};
use crate::state::{TaskReason, TaskRow};
use crate::words::{duration, shell_word, visible};

/// A service of a run that is live after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveService {
    /// Its stage.
    pub stage: StageName,
    /// The live release.
    pub number: u64,
    /// Where it is reached.
    pub url: String,
    /// What is wrong with it now, in words; nothing when all of it is ready or nobody knows.
    pub trouble: Option<String>,
}

/// `3 done, 1 live, 1 failed in 1m 12s`, where what is live answers, and what to do next when it did not end well. Ends with a line
/// break.
pub fn summary(
    run: RunId,
    outcome: RunOutcome,
    tasks: &[TaskRow],
    live: &[LiveService],
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
    let counts = counts_by(tasks, |task| match (task.state.as_str(), &task.reason) {
        ("done", Some(TaskReason::Released { .. })) => "live",
        _ => counted_as(task, Some(outcome)),
    });
    let counts = if counts.is_empty() { "nothing to do".to_owned() } else { counts };
    // What still waits after a run that is done was not called: a hook, a stage that verifies.
    let idle = |task: &TaskRow| match (task.state.as_str(), &task.reason) {
        ("reused", Some(TaskReason::Unchanged { changed, .. })) => changed.is_empty(),
        ("reused" | "skipped", _) => true,
        (state, _) => state == "waiting" && outcome == RunOutcome::Done,
    };
    let unchanged = tasks.iter().any(|task| task.state != "waiting") && tasks.iter().all(idle);
    let note = if unchanged { ": nothing had changed" } else { "" };
    let mut text = format!("{} {counts} in {}{note}\n", paint.with(tint, sign), duration(took_ms));
    let rows: Vec<Vec<Field>> = live
        .iter()
        .map(|service| {
            let trouble = service.trouble.as_deref().map(visible).unwrap_or_default();
            vec![
                Field::new(service.stage.as_str()),
                Field::tinted(visible(&service.url), Tint::Hint),
                Field::tinted(
                    format!("release {}{}", service.number, stays(tasks, service)),
                    Tint::Dim,
                ),
                Field::tinted(trouble, Tint::Bad),
            ]
        })
        .collect();
    if !rows.is_empty() {
        text += &table(&["", "", "", ""], &rows, 2, colour);
    }
    for task in tasks.iter().filter(|task| task.state == "kept") {
        let command = format!("flowrun why {run} {}", shell_word(&task.label));
        text += &format!("  {}  shows what its gate compared\n", paint.with(Tint::Hint, &command));
    }
    if matches!(outcome, RunOutcome::Failed | RunOutcome::Cancelled) {
        let failed = tasks.iter().find(|task| task.state == "failed" && has_log(task));
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

/// What is live although the run wanted another release.
fn stays(tasks: &[TaskRow], service: &LiveService) -> &'static str {
    let kept = |task: &TaskRow| matches!(task.state.as_str(), "kept" | "failed" | "cancelled");
    let is_kept = tasks.iter().any(|task| task.task.stage == service.stage && kept(task));
    if is_kept { " stays live" } else { "" }
}

/// Whether something of a task ran, so that there is something to look at.
pub(super) fn has_log(task: &TaskRow) -> bool {
    let rolled_out = matches!(&task.reason, Some(TaskReason::Failed(Failure::Rollout { .. })));
    task.attempts > 0 || rolled_out
}

/// The command that shows what happened to a task: its log, unless it failed before there was one.
pub(super) fn look_command(run: RunId, task: &TaskRow) -> String {
    let failed_before = matches!(
        &task.reason,
        Some(TaskReason::Failed(Failure::Environment { .. } | Failure::ServedElsewhere { .. }))
    );
    let command = if failed_before { "why" } else { "logs" };
    format!("flowrun {command} {run} {}", shell_word(&task.label))
}

/// `3 done, 5 reused, 1 failed`, without what is zero; `outcome` of a run that has ended.
pub(super) fn counts(tasks: &[TaskRow], outcome: Option<RunOutcome>) -> String {
    counts_by(tasks, |task| counted_as(task, outcome))
}

/// The word under which a task counts; empty: it does not.
fn counted_as(task: &TaskRow, outcome: Option<RunOutcome>) -> &str {
    match (task.state.as_str(), outcome) {
        // What was wanted is over, so the rest is outside of the selection, or a hook or `verify` that was not needed.
        ("waiting", Some(RunOutcome::Done | RunOutcome::Kept)) => "",
        ("waiting", Some(_)) => "not started",
        (state, _) => state_word(state),
    }
}

fn counts_by(tasks: &[TaskRow], word_of: impl Fn(&TaskRow) -> &str) -> String {
    const WORDS: [&str; 13] = [
        "done",
        "live",
        "reused",
        "kept",
        "failed",
        "skipped",
        "blocked",
        "cancelled",
        "running",
        "rolling out",
        "retrying",
        "waiting",
        "not started",
    ];
    let counts: Vec<String> = WORDS
        .iter()
        .map(|word| (tasks.iter().filter(|task| word_of(task) == *word).count(), word))
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    counts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::ReleaseId;
    use crate::report::testing::{run, task, task_row};

    #[test]
    fn a_failed_run_says_what_next() {
        let mut failed = task_row(task("train", 2), "train[trees=100]", "failed");
        failed.attempts = 1;
        let tasks = [task_row(task("prepare", 1), "prepare", "reused"), failed];
        insta::assert_snapshot!(summary(run(), RunOutcome::Failed, &tasks, &[], 72_400, false), @r"
        ✗ 1 reused, 1 failed in 1m 12s
          flowrun logs 01HF7YAT000000000000000001 'train[trees=100]'  shows why
          flowrun resume 01HF7YAT000000000000000001  goes on with the same code
          flowrun apply  takes your changes; what is done is reused
        ");
    }

    fn live_service() -> [LiveService; 1] {
        let url = "http://127.0.0.1:8080/iris".to_owned();
        [LiveService { stage: "serve".parse().unwrap(), number: 4, url, trouble: None }]
    }

    #[test]
    fn what_is_live_is_named_with_its_address() {
        let mut serve = task_row(task("serve", 1), "serve", "done");
        let release = ReleaseId::new(1, 1);
        serve.reason = Some(TaskReason::Released { release, number: 4, why: Vec::new() });
        let tasks = [task_row(task("train", 1), "train", "done"), serve];
        let text = summary(run(), RunOutcome::Done, &tasks, &live_service(), 12_300, false);
        insta::assert_snapshot!(text, @r"
        ✓ 1 done, 1 live in 12.3s
          serve  http://127.0.0.1:8080/iris  release 4
        ");
    }

    #[test]
    fn a_kept_run_says_what_stays_and_where_the_numbers_are() {
        let tasks = [
            task_row(task("train", 1), "train", "done"),
            task_row(task("serve", 1), "serve", "kept"),
            task_row(task("after", 1), "after", "skipped"),
        ];
        let text = summary(run(), RunOutcome::Kept, &tasks, &live_service(), 12_300, false);
        insta::assert_snapshot!(text, @r"
        = 1 done, 1 kept, 1 skipped in 12.3s
          serve  http://127.0.0.1:8080/iris  release 4 stays live
          flowrun why 01HF7YAT000000000000000001 serve  shows what its gate compared
        ");
    }

    #[test]
    fn a_rollout_that_failed_has_a_log() {
        let mut serve = task_row(task("serve", 1), "serve", "failed");
        let (why, log) = ("not ready within 1m".to_owned(), Vec::new());
        serve.reason = Some(TaskReason::Failed(Failure::Rollout { why, log }));
        let text = summary(run(), RunOutcome::Failed, &[serve], &live_service(), 12_300, false);
        insta::assert_snapshot!(text, @r"
        ✗ 1 failed in 12.3s
          serve  http://127.0.0.1:8080/iris  release 4 stays live
          flowrun logs 01HF7YAT000000000000000001 serve  shows why
          flowrun resume 01HF7YAT000000000000000001  goes on with the same code
          flowrun apply  takes your changes; what is done is reused
        ");
    }

    #[test]
    fn a_run_without_change_says_so() {
        let tasks = [task_row(task("prepare", 1), "prepare", "reused")];
        let text = summary(run(), RunOutcome::Done, &tasks, &[], 50, false);
        assert_eq!(text, "✓ 1 reused in 0.1s: nothing had changed\n");
    }
}
