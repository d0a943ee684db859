//! The lines of the live view, as text: what runs, what waits for what, how far it is. Pure.

use super::paint::{Paint, Tint};
use super::tally::{Followed, Stand, Tally};
use crate::event::Waiting;
use crate::words::{count, duration, short_list, visible};

/// Running tasks that are shown.
const RUNNING: usize = 12;
/// Waiting tasks that are shown.
const WAITING: usize = 3;

/// The live lines at `now` (Unix milliseconds); longer ones are cut to the width by who draws them.
pub(super) fn live_lines(tally: &Tally, now: u64, paint: Paint) -> Vec<String> {
    let mut lines = Vec::new();
    let active: Vec<&Followed> = tally
        .tasks
        .iter()
        .filter(|task| task.is_active() || (!task.is_over() && task.step.is_some()))
        .collect();
    for task in active.iter().take(RUNNING) {
        lines.push(running_line(task, now, paint));
    }
    if active.len() > RUNNING {
        lines.push(
            paint.with(Tint::Dim, &format!("  … and {} more running", active.len() - RUNNING)),
        );
    }
    let waiting: Vec<&Followed> = tally
        .tasks
        .iter()
        .filter(|task| !task.is_over() && !task.is_active() && task.step.is_none())
        .collect();
    for task in waiting.iter().take(WAITING) {
        let what = waits_for(tally, task, now);
        lines.push(paint.with(Tint::Dim, &format!("· {} waits{what}", task.label)));
    }
    if waiting.len() > WAITING {
        let more = waiting.len() - WAITING;
        lines.push(paint.with(Tint::Dim, &format!("  … and {more} more waiting")));
    }
    lines.push(progress_line(tally, active.len(), now, paint));
    lines
}

fn running_line(task: &Followed, now: u64, paint: Paint) -> String {
    let mut line = format!("▶ {}", task.label);
    if task.is_active() {
        if let Some(since) = task.since {
            line = format!("{line}  {}", duration(now.saturating_sub(since)));
        }
        if task.stand == Stand::Running && task.attempt > 1 {
            let attempt = format!("attempt {}", task.attempt);
            line = format!("{line}  {}", paint.with(Tint::Warn, &attempt));
        }
    }
    let last =
        task.step.as_ref().or_else(|| task.tail.iter().rev().find(|line| !line.trim().is_empty()));
    if let Some(last) = last {
        line = format!("{line}  {}", paint.with(Tint::Dim, last.trim_end()));
    }
    line
}

/// ` for train[trees=50] and train[trees=100]`; nothing in the moment before it is known.
fn waits_for(tally: &Tally, task: &Followed, now: u64) -> String {
    let missing = tally.missing(task);
    if !missing.is_empty() {
        return format!(" for {}", short_list(&missing, 2));
    }
    match task.waits.as_ref() {
        None => String::new(),
        Some(Waiting::Slot) => " for a free slot of `--jobs`".to_owned(),
        Some(Waiting::Resources) => " for free processors or memory".to_owned(),
        Some(Waiting::Backoff { until }) => {
            format!(" for its next attempt, in {}", duration(until.saturating_sub(now)))
        }
        Some(Waiting::Claim { by }) => {
            format!(" for {}, which computes the same", visible(by))
        }
    }
}

/// `[=====>    ] 8 of 12 tasks: 3 done, 5 reused, 2 running, about 1m 12s left`.
fn progress_line(tally: &Tally, active: usize, now: u64, paint: Paint) -> String {
    const WIDTH: usize = 10;
    let (over, all) = (tally.over(), tally.tasks.len());
    let filled = (over * WIDTH).checked_div(all).unwrap_or(WIDTH);
    let bar = format!("[{}{}]", "━".repeat(filled), " ".repeat(WIDTH - filled));
    let tint = if tally.count(Stand::Failed) > 0 { Tint::Bad } else { Tint::Good };
    let mut parts = Vec::new();
    let counts = tally.counts();
    if !counts.is_empty() {
        parts.push(counts);
    }
    if active > 0 {
        parts.push(format!("{active} running"));
    }
    if tally.stopping {
        parts.push(paint.with(Tint::Warn, "stopping"));
    } else if let Some((left, complete)) = tally.remaining(now) {
        let about = if complete { "about" } else { "at least" };
        parts.push(format!("{about} {} left", duration(left)));
    }
    format!("{} {over} of {}: {}", paint.with(tint, &bar), count(all, "task"), parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Notice;
    use crate::report::testing::{line, reused, started, tally, task};

    const PLAIN: Paint = Paint { colour: false };

    #[test]
    fn the_screen_of_a_run() {
        let (one, two) = (task("train", 1), task("train", 2));
        let mut tally =
            tally(&[(one.clone(), 30.0), (two.clone(), 60.0), (task("evaluate", 1), 10.0)]);
        tally.fold(1000, &reused(&task("prepare", 1)));
        tally.fold(1000, &started(&one, 2));
        tally.notice(&line(&one, "epoch 3/10\r\x1b[1mepoch 4/10"));
        tally.notice(&Notice::Preparing { task: two.clone(), step: "installing numpy".to_owned() });
        insta::assert_snapshot!(live_lines(&tally, 13_300, PLAIN).join("\n"), @r#"
        ▶ train[trees=50]  12.3s  attempt 2  ␛[1mepoch 4/10
        ▶ train[trees=100]  installing numpy
        · evaluate waits for train[trees=50] and train[trees=100]
        [━━        ] 1 of 4 tasks: 1 reused, 2 running, about 1m left
        "#);
    }

    #[test]
    fn what_came_is_no_longer_waited_for() {
        let mut tally = tally(&[]);
        let lines = live_lines(&tally, 0, PLAIN);
        assert_eq!(lines[1], "· train[trees=50] waits for prepare");
        tally.fold(1, &reused(&task("prepare", 1)));
        let why = Waiting::Slot;
        tally.notice(&Notice::Waiting { task: task("train", 1), why });
        insta::assert_snapshot!(live_lines(&tally, 13_300, PLAIN).join("\n"), @r#"
        · train[trees=50] waits for a free slot of `--jobs`
        · train[trees=100] waits
        · evaluate waits for train[trees=50] and train[trees=100]
        [━━        ] 1 of 4 tasks: 1 reused
        "#);
    }
}
