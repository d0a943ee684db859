//! Events as lasting lines: the same words on a terminal and off it.

use super::paint::{Paint, Tint};
use super::tally::{Followed, Tally};
use crate::event::{Failure, Metrics, Notice, RunEvent};
use crate::names::TaskId;
use crate::plan::causes::{end_words, failure_log, failure_words, reason_words, skip_words};
use crate::words::{duration, log_line, number, shell_word, visible};

/// A lasting line about a task or the run.
pub(super) struct Told {
    /// Stands before the task on a terminal.
    pub(super) sign: &'static str,
    pub(super) tint: Tint,
    /// The task's label; empty for the run.
    pub(super) about: String,
    /// `done in 12.3s`.
    pub(super) what: String,
    /// Lines below it.
    pub(super) more: Vec<String>,
}

impl Told {
    fn new(sign: &'static str, tint: Tint, about: String, what: impl Into<String>) -> Self {
        Self { sign, tint, about, what: what.into(), more: Vec::new() }
    }
}

/// What is said of an event. `tally` has taken it in already. `tail`: show the last log lines of what failed.
pub(super) fn told(
    tally: &Tally,
    at: u64,
    event: &RunEvent,
    paint: Paint,
    tail: bool,
) -> Option<Told> {
    let label = |task: &TaskId| tally.label(task);
    let run = tally.run;
    Some(match event {
        RunEvent::TakenOver { .. } | RunEvent::Reopened { .. } => {
            Told::new("▶", Tint::Plain, String::new(), format!("run {run} goes on"))
        }
        RunEvent::TaskReused { task, from, .. } => {
            Told::new("↺", Tint::Dim, label(task), format!("reused from run {from}"))
        }
        RunEvent::TaskSkipped { task, why } => {
            let what = format!("skipped: {}", skip_words(why, &label));
            Told::new("–", Tint::Dim, label(task), what)
        }
        RunEvent::TaskBlocked { task, by } => {
            let what = format!("blocked: it needs {}", label(by));
            Told::new("⊘", Tint::Warn, label(task), what)
        }
        RunEvent::AttemptStarted { task, why, .. } => {
            Told::new("▶", Tint::Plain, label(task), format!("runs: {}", reason_words(why)))
        }
        RunEvent::RetryScheduled { task, not_before } => {
            let followed = tally.find(task);
            let end = followed.and_then(|task| task.end.as_ref());
            let next = followed.map_or(1, |task| task.attempt) + 1;
            let wait = duration(not_before.saturating_sub(at));
            let what = match end {
                Some(end) => format!("{}; attempt {next} in {wait}", end_words(end)),
                None => format!("attempt {next} in {wait}"),
            };
            Told::new("↻", Tint::Warn, label(task), what)
        }
        RunEvent::TaskDone { task, metrics, .. } => {
            let took =
                tally.find(task).and_then(|task| task.since).map_or_else(String::new, |since| {
                    format!(" in {}", duration(at.saturating_sub(since)))
                });
            let what = format!("done{took}{}", metrics_words(metrics));
            Told::new("✓", Tint::Good, label(task), what)
        }
        RunEvent::TaskFailed { task, cause } => {
            let mut told = Told::new(
                "✗",
                Tint::Bad,
                label(task),
                format!("failed: {}", failure_words(cause).0),
            );
            told.more = failure_details(tally, task, cause, paint, tail);
            told
        }
        RunEvent::TaskCancelled { task } => Told::new("■", Tint::Warn, label(task), "cancelled"),
        RunEvent::Picked { stage, copy, metric, value } => {
            let task = TaskId { stage: stage.clone(), copy: *copy };
            let what = format!("picked: {metric} {}", number(*value));
            Told::new("★", Tint::Hint, label(&task), what)
        }
        RunEvent::StopWished { by, kill } => {
            let how = match (*kill, by.as_str()) {
                (true, _) => "; what runs is killed",
                (false, "interrupt") => "; what runs gets 10 s to end, once more kills it",
                (false, _) => "; what runs gets 10 s to end",
            };
            let what = format!("stopping, asked by {}{how}", visible(by));
            Told::new("■", Tint::Warn, String::new(), what)
        }
        RunEvent::RunTimedOut => Told::new(
            "■",
            Tint::Bad,
            String::new(),
            "the run's `timeout` is over, what runs is stopped",
        ),
        RunEvent::Created(_) | RunEvent::AttemptEnded { .. } | RunEvent::Ended { .. } => {
            return None;
        }
    })
}

/// What is said of a notice that is worth a lasting line.
pub(super) fn noted(tally: &Tally, notice: &Notice) -> Option<Told> {
    Some(match notice {
        Notice::Adopted { task, attempt } => {
            let what = format!("goes on: attempt {attempt} was found running");
            Told::new("▶", Tint::Plain, tally.label(task), what)
        }
        Notice::Remark(text) => {
            Told::new("!", Tint::Warn, String::new(), format!("note: {}", visible(text)))
        }
        Notice::Line { .. } | Notice::Waiting { .. } | Notice::Preparing { .. } => return None,
    })
}

/// ` (accuracy 0.95, loss 0.1)`, three at most.
fn metrics_words(metrics: &Metrics) -> String {
    if metrics.is_empty() {
        return String::new();
    }
    let mut named: Vec<String> = metrics
        .iter()
        .take(3)
        .map(|(name, value)| format!("{} {}", visible(name), number(*value)))
        .collect();
    if metrics.len() > 3 {
        named.push(format!("{} more", metrics.len() - 3));
    }
    format!(" ({})", named.join(", "))
}

/// What helps with a failure: the last log lines, the mend, the command that shows all.
fn failure_details(
    tally: &Tally,
    task: &TaskId,
    cause: &Failure,
    paint: Paint,
    tail: bool,
) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let tool: Vec<&str> = failure_log(cause).map(|log| log.lines().collect()).unwrap_or_default();
    let tool = &tool[tool.len().saturating_sub(20)..];
    let bar = paint.with(Tint::Dim, "│");
    lines.extend(tool.iter().map(|line| format!("{bar} {}", log_line(line))));
    if let Some(followed) = tally.find(task)
        && tool.is_empty()
        && tail
    {
        lines.extend(followed.tail.iter().map(|line| format!("{bar} {line}")));
    }
    if let Some(help) = failure_words(cause).1 {
        lines.push(paint.with(Tint::Hint, &format!("help: {help}")));
    }
    if tool.is_empty() && tally.find(task).is_some_and(has_log) {
        lines.push(paint.with(Tint::Hint, &log_command(tally, task)));
    }
    lines
}

fn has_log(task: &Followed) -> bool {
    task.attempt > 0
}

fn log_command(tally: &Tally, task: &TaskId) -> String {
    format!("the whole log: flowrun logs {} {}", tally.run, shell_word(&tally.label(task)))
}
