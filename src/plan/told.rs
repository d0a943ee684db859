//! What a run's journal tells of one task.

use std::collections::BTreeMap;

use super::causes::{end_words, failure_log, failure_words, from_words, skip_words};
use super::rollout_words::{gate_words, in_place_words, live_words, passed_words, rollout_words};
use super::why;
use crate::event::{Failure, OutsidePin, Reason, RunEvent, Skip};
use crate::names::{ReleaseId, TaskId};
use crate::words::{duration, list, number};

/// Names a task for people: `train[trees=100]`.
type Label<'a> = dyn Fn(&TaskId) -> String + 'a;

/// Why a task ran, was reused, skipped or failed, from a run's journal: for `flowrun why`.
///
/// `numbers` has the releases that other runs made. Fragments in the order things happened; never empty.
pub fn told(
    events: &[RunEvent],
    task: &TaskId,
    label: &Label<'_>,
    numbers: &BTreeMap<ReleaseId, u64>,
) -> Vec<String> {
    let mut told: Vec<String> = Vec::new();
    let mut stands = Stands::Open;
    let mut left = None;
    for (place, event) in events.iter().enumerate() {
        let said =
            rollout_line(&events[..=place], task, numbers).or_else(|| line(event, task, label));
        if let Some((line, after)) = said {
            told.push(line);
            stands = after;
            continue;
        }
        match event {
            RunEvent::Left { why } => left = Some(why),
            RunEvent::TakenOver { .. } | RunEvent::Reopened { .. } => left = None,
            _ => {}
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
    if let (Stands::Open, Some(why)) = (stands, left) {
        told.push(format!("its flowrun left the run: {why}"));
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
        RunEvent::TaskReused { task: of, key, from, made, .. } if about(of) => {
            let from = from_words(*from, made.as_ref(), None);
            (format!("reused {from}: its key b3:{} has a record", key.short()), Stands::Well)
        }
        RunEvent::TaskSkipped { task: of, why } if about(of) => {
            (format!("skipped: {}", skip_words(why, label)), Stands::Well)
        }
        RunEvent::TaskBlocked { task: of, by } if about(of) => {
            (format!("blocked: it needs `{}`, which did not end well", label(by)), Stands::Badly)
        }
        RunEvent::OutsidePinned { task: of, inputs } if about(of) => {
            let pins = inputs.iter().map(|(name, pin)| {
                let OutsidePin { address, version, artifact, .. } = pin;
                format!("`{name}` is b3:{} from {address} ({version})", artifact.short())
            });
            (format!("inputs: {}", list(&pins.collect::<Vec<_>>())), Stands::Open)
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

/// What the last of these events says of the task's release, and where the task stands after it.
fn rollout_line(
    events: &[RunEvent],
    task: &TaskId,
    numbers: &BTreeMap<ReleaseId, u64>,
) -> Option<(String, Stands)> {
    let about = |other: &TaskId| other == task;
    let number = |release: &ReleaseId| {
        let made = events.iter().rev().find_map(|event| match event {
            RunEvent::RolloutStarted { release: of, number, .. }
            | RunEvent::RolloutUnchanged { release: of, number, .. }
                if of == release =>
            {
                Some(*number)
            }
            _ => None,
        });
        live_words(made.or_else(|| numbers.get(release).copied()))
    };
    let line = match events.last()? {
        RunEvent::GateDecided { task: of, passed: true, values, .. } if about(of) => {
            (passed_words(values), Stands::Open)
        }
        RunEvent::GateDecided { task: of, failed, values, live, .. } if about(of) => {
            let gate = gate_words(failed.as_deref(), values);
            let line = match live {
                Some(live) => format!("kept {}: {gate}", number(live)),
                None => format!("not released: {gate}"),
            };
            (line, Stands::Well)
        }
        RunEvent::RolloutStarted { task: of, number, why, .. } if about(of) => {
            (format!("release {number} was rolled out: {}", rollout_words(why)), Stands::Open)
        }
        RunEvent::RolloutPrepared { task: of, release } if about(of) => {
            (format!("{} became ready", number(release)), Stands::Open)
        }
        RunEvent::Verified { task: of, release, passed } if about(of) => {
            let how = if *passed { "was verified" } else { "was not verified" };
            (format!("{} {how}", number(release)), Stands::Open)
        }
        RunEvent::RolloutPromoted { task: of, release, replaced } if about(of) => {
            let how = replaced.map(|old| format!(" and replaced {}", number(&old)));
            (format!("{} went live{}", number(release), how.unwrap_or_default()), Stands::Well)
        }
        RunEvent::RolloutAbandoned { task: of, release, why } if about(of) => {
            (format!("{} was given up: {why}", number(release)), Stands::Open)
        }
        RunEvent::TaskSkipped { task: of, why: Skip::Needs(needed) } if about(of) => {
            let live = events.iter().rev().find_map(|event| match event {
                RunEvent::GateDecided { task, passed: false, live, .. } if task == needed => {
                    Some(*live)
                }
                _ => None,
            })?;
            let kept = live.map_or_else(|| "nothing".to_owned(), |live| number(&live));
            (format!("skipped: it needs `{}`, whose gate kept {kept}", needed.stage), Stands::Well)
        }
        RunEvent::RolloutUnchanged { task: of, number, changed, .. } if about(of) => {
            let line = format!(
                "unchanged{}: nothing that decides how release {number} behaves differs; no gate was asked",
                in_place_words(changed)
            );
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
