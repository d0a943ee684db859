//! What a run's journal tells of one task.

use super::why;
use crate::event::{Reason, RunEvent, RunOutcome, Skip};
use crate::names::TaskId;

/// Why a task ran, was reused, skipped or failed, from a run's journal: for `flowrun why` and `status`.
///
/// Fragments in the order things happened; never empty.
pub fn told(events: &[RunEvent], task: &TaskId) -> Vec<String> {
    let mut told: Vec<String> = Vec::new();
    let mut stands = Stands::Open;
    for event in events {
        if let Some((line, after)) = line(event, task) {
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
                told.push(format!("the run ended {} before it was done", outcome_word(*outcome)));
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
fn line(event: &RunEvent, task: &TaskId) -> Option<(String, Stands)> {
    let about = |other: &TaskId| other == task;
    let line = match event {
        RunEvent::TaskReused { task: of, key, from, .. } if about(of) => (
            format!("reused from run {from}: its key b3:{} has a record", key.short()),
            Stands::Well,
        ),
        RunEvent::TaskSkipped { task: of, why: Skip::When } if about(of) => {
            ("skipped: its `when` is false".to_owned(), Stands::Well)
        }
        RunEvent::TaskSkipped { task: of, why: Skip::Needs(above) } if about(of) => {
            (format!("skipped: it needs {}, which was skipped", name(above)), Stands::Well)
        }
        RunEvent::TaskBlocked { task: of, by } if about(of) => {
            (format!("blocked: it needs {}, which did not end well", name(by)), Stands::Badly)
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
                ms => format!(" after {}", why::duration(std::time::Duration::from_millis(ms))),
            };
            (format!("attempt {attempt} ended{after}: {}", why::job_end(end)), Stands::Open)
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
            (format!("failed: {}", why::failure(cause)), Stands::Badly)
        }
        RunEvent::TaskCancelled { task: of } if about(of) => {
            ("cancelled".to_owned(), Stands::Badly)
        }
        RunEvent::Picked { stage, copy, metric, value } if *stage == task.stage => {
            let line = if *copy == task.copy {
                format!("picked: its {metric} {value} is the best")
            } else {
                format!("not picked: copy {copy} has the best {metric}, {value}")
            };
            (line, Stands::Well)
        }
        _ => return None,
    };
    Some(line)
}

fn name(task: &TaskId) -> String {
    match task.copy {
        1 => format!("`{}`", task.stage),
        copy => format!("`{}` (copy {copy})", task.stage),
    }
}

fn outcome_word(outcome: RunOutcome) -> &'static str {
    match outcome {
        RunOutcome::Done => "done",
        RunOutcome::Failed => "failed",
        RunOutcome::Kept => "kept",
        RunOutcome::Cancelled => "cancelled",
    }
}

#[cfg(test)]
mod tests;
