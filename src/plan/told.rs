//! What a run's journal tells of one task.

use super::causes::{end_words, failure_log, failure_words, skip_words};
use super::why;
use crate::event::{Failure, Reason, RunEvent};
use crate::names::TaskId;
use crate::words::{duration, number};

/// Names a task for people: `train[trees=100]`.
type Label<'a> = dyn Fn(&TaskId) -> String + 'a;

/// Why a task ran, was reused, skipped or failed, from a run's journal: for `flowrun why`.
///
/// Fragments in the order things happened; never empty.
pub fn told(events: &[RunEvent], task: &TaskId, label: &Label<'_>) -> Vec<String> {
    let mut told: Vec<String> = Vec::new();
    let mut stands = Stands::Open;
    for event in events {
        if let Some((line, after)) = line(event, task, label) {
            told.push(line);
            stands = after;
            continue;
        }
        match event {
            RunEvent::Reopened { .. } if !told.is_empty() => {
                told.push("the run was resumed".to_owned());
                if stands == Stands::Badly {
                    stands = Stands::Open;
                }
            }
            RunEvent::Ended { outcome } if stands == Stands::Open => {
                told.push(format!("the run ended {} before it was done", outcome.word()));
            }
            _ => {}
        }
    }
    if told.is_empty() {
        told.push("nothing happened to it yet".to_owned());
    }
    told
}

/// Where the task stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stands {
    /// Not over.
    Open,
    /// Over for good.
    Well,
    /// Over, but a resumed run begins it afresh.
    Badly,
}

/// What one event says of the task, and where the task stands after it.
fn line(event: &RunEvent, task: &TaskId, label: &Label<'_>) -> Option<(String, Stands)> {
    let about = |other: &TaskId| other == task;
    let line = match event {
        RunEvent::TaskReused { task: of, key, from, .. } if about(of) => (
            format!("reused from run {from}: its key b3:{} has a record", key.short()),
            Stands::Well,
        ),
        RunEvent::TaskSkipped { task: of, why } if about(of) => {
            (format!("skipped: {}", skip_words(why, label)), Stands::Well)
        }
        RunEvent::TaskBlocked { task: of, by } if about(of) => {
            (format!("blocked: it needs `{}`, which did not end well", label(by)), Stands::Badly)
        }
        RunEvent::AttemptStarted { task: of, attempt, why, .. } if about(of) => {
            let line = match why {
                Reason::Retry { of } => format!("attempt {attempt} retried attempt {of}"),
                why => format!("attempt {attempt} ran: {}", why::words(why)),
            };
            (line, Stands::Open)
        }
        RunEvent::AttemptEnded { task: of, attempt, end, usage } if about(of) => {
            let after = match usage.wall_ms {
                0 => String::new(),
                ms => format!(" after {}", duration(ms)),
            };
            (format!("attempt {attempt} ended{after}: {}", end_words(end)), Stands::Open)
        }
        RunEvent::RetryScheduled { task: of, .. } if about(of) => {
            ("another attempt was scheduled".to_owned(), Stands::Open)
        }
        RunEvent::TaskDone { task: of, key, .. } if about(of) => {
            let line = match key {
                Some(key) => format!("done: its record has the key b3:{}", key.short()),
                None => "done".to_owned(),
            };
            (line, Stands::Well)
        }
        RunEvent::TaskFailed { task: of, cause } if about(of) => {
            (format!("failed: {}", failure(cause)), Stands::Badly)
        }
        RunEvent::TaskCancelled { task: of } if about(of) => {
            ("cancelled".to_owned(), Stands::Badly)
        }
        RunEvent::Picked { stage, copy, metric, value } if *stage == task.stage => {
            let value = number(*value);
            let line = if *copy == task.copy {
                format!("picked: its {metric} {value} is the best")
            } else {
                let winner = TaskId { stage: stage.clone(), copy: *copy };
                format!("not picked: `{}` has the best {metric}, {value}", label(&winner))
            };
            (line, Stands::Well)
        }
        _ => return None,
    };
    Some(line)
}

/// One line; a build tool's own message is long, so only its last line stands here.
fn failure(cause: &Failure) -> String {
    let (words, _) = failure_words(cause);
    let log = failure_log(cause).unwrap_or_default();
    match log.lines().map(str::trim).rfind(|line| !line.is_empty()) {
        Some(line) => format!("{words}: {line}"),
        None => words,
    }
}

#[cfg(test)]
mod tests;
