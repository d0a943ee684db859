//! Events as lasting lines: the same words on a terminal and off it.

use super::failure_lines::failure_lines;
use super::paint::{Paint, Tint};
use super::service_story::{is_live, service_told, why_failed, why_skipped};
use super::tally::{Followed, Tally};
use crate::event::{Failure, Metrics, Notice, RunEvent};
use crate::names::TaskId;
use crate::plan::causes::{end_words, failure_words, from_words, reason_words};
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
    pub(super) fn new(
        sign: &'static str,
        tint: Tint,
        about: String,
        what: impl Into<String>,
    ) -> Self {
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
        RunEvent::TaskReused { task, from, made, .. } => {
            let what = format!("reused {}", from_words(*from, made.as_ref(), Some(at)));
            Told::new("↺", Tint::Dim, label(task), what)
        }
        RunEvent::TaskSkipped { task, why } => {
            let what = format!("skipped: {}", why_skipped(tally, why));
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
        // Of a service that went live it was told already.
        RunEvent::TaskDone { task, .. } if tally.find(task).is_some_and(is_live) => return None,
        RunEvent::TaskDone { task, metrics, .. } => {
            let took =
                tally.find(task).and_then(|task| task.since).map_or_else(String::new, |since| {
                    format!(" in {}", duration(at.saturating_sub(since)))
                });
            let what = format!("done{took}{}", metrics_words(metrics));
            Told::new("✓", Tint::Good, label(task), what)
        }
        RunEvent::TaskFailed { task, cause } => {
            let what = format!("failed: {}", why_failed(tally, task, cause));
            let mut told = Told::new("✗", Tint::Bad, label(task), what);
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
        RunEvent::GateDecided { .. }
        | RunEvent::RolloutStarted { .. }
        | RunEvent::RolloutPrepared { .. }
        | RunEvent::Verified { .. }
        | RunEvent::RolloutPromoted { .. }
        | RunEvent::RolloutAbandoned { .. }
        | RunEvent::RolloutUnchanged { .. } => return service_told(tally, event),
        RunEvent::Created(_)
        | RunEvent::LiveSeen { .. }
        | RunEvent::OutsidePinned { .. }
        | RunEvent::AttemptEnded { .. }
        // Who left says why.
        | RunEvent::Left { .. }
        | RunEvent::Ended { .. } => return None,
    })
}

/// What is said of a notice that is worth a lasting line.
pub(super) fn noted(tally: &Tally, at: u64, notice: &Notice, paint: Paint) -> Option<Told> {
    Some(match notice {
        Notice::Adopted { task, attempt } => {
            let what = format!("goes on: attempt {attempt} was found running");
            Told::new("▶", Tint::Plain, tally.label(task), what)
        }
        Notice::Away { part, place, why, help, since, until } => {
            let (gone, left) = (duration(at.saturating_sub(*since)), until.saturating_sub(at));
            let what = format!(
                "waiting for the {part} at {}, which has been away for {gone}: {}; trying for {} more, what runs goes on",
                visible(place),
                visible(why),
                duration(left)
            );
            let mut told = Told::new("!", Tint::Warn, String::new(), what);
            let help = format!(
                "help: {}; `--{part}-patience` sets how long it is waited for",
                visible(help)
            );
            told.more = vec![paint.with(Tint::Hint, &help)];
            told
        }
        Notice::Back { part, place, since } => {
            let gone = duration(at.saturating_sub(*since));
            let what = format!("the {part} at {} answers again, after {gone}", visible(place));
            Told::new("✓", Tint::Good, String::new(), what)
        }
        Notice::Remark(text) => {
            Told::new("!", Tint::Warn, String::new(), format!("note: {}", visible(text)))
        }
        Notice::Line { .. }
        | Notice::Waiting { .. }
        | Notice::Preparing { .. }
        | Notice::Moving { .. } => return None,
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
    let tool = failure_lines(cause);
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
    let is_whole = matches!(cause, Failure::Environment { .. });
    if !is_whole && tally.find(task).is_some_and(has_log) {
        lines.push(paint.with(Tint::Hint, &log_command(tally, task)));
    }
    lines
}

fn has_log(task: &Followed) -> bool {
    task.attempt > 0 || task.release.is_some()
}

fn log_command(tally: &Tally, task: &TaskId) -> String {
    format!("the whole log: flowrun logs {} {}", tally.run, shell_word(&tally.label(task)))
}
