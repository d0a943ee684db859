//! The lines of the live view, as text: what runs, what waits for what, how far it is. Pure.

use super::paint::{Paint, Tint};
use super::tally::{Followed, Stand, Tally};
use crate::event::Waiting;
use crate::words::{count, duration, short_list};

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
        .filter(|task| task.stand == Stand::Running || (!task.is_over() && task.step.is_some()))
        .collect();
    for task in active.iter().take(RUNNING) {
        lines.push(running_line(task, now, paint));
    }
    if active.len() > RUNNING {
        lines.push(
            paint.with(Tint::Dim, &format!("  … and {} more running", active.len() - RUNNING)),
        );
    }
    let waiting: Vec<(&Followed, String)> = tally
        .tasks
        .iter()
        .filter(|task| !task.is_over() && task.stand != Stand::Running && task.step.is_none())
        .filter_map(|task| Some((task, waits_for(tally, task, now)?)))
        .collect();
    for (task, what) in waiting.iter().take(WAITING) {
        lines.push(paint.with(Tint::Dim, &format!("· {} waits for {what}", task.label)));
    }
    if waiting.len() > WAITING {
        let more = count(waiting.len() - WAITING, "task");
        lines.push(paint.with(Tint::Dim, &format!("  … and {more} more wait")));
    }
    lines.push(progress_line(tally, active.len(), now, paint));
    lines
}

fn running_line(task: &Followed, now: u64, paint: Paint) -> String {
    let mut line = format!("▶ {}", task.label);
    if task.stand == Stand::Running {
        if let Some(since) = task.since {
            line = format!("{line}  {}", duration(now.saturating_sub(since)));
        }
        if task.attempt > 1 {
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

/// What a task waits for now; none when nothing is known, or all of it has come since it was said.
fn waits_for(tally: &Tally, task: &Followed, now: u64) -> Option<String> {
    Some(match task.waits.as_ref()? {
        Waiting::Needs(needs) => {
            let missing: Vec<String> = needs
                .iter()
                .filter(|need| tally.find(need).is_none_or(|need| !need.is_over()))
                .map(|need| tally.label(need))
                .collect();
            if missing.is_empty() {
                return None;
            }
            short_list(&missing, 3)
        }
        Waiting::Slot => "a free slot of `--jobs`".to_owned(),
        Waiting::Resources => "free processors or memory".to_owned(),
        Waiting::Backoff { until } => {
            format!("its next attempt, in {}", duration(until.saturating_sub(now)))
        }
        Waiting::Claim { by } => {
            format!("{}, which computes the same", crate::words::visible(by))
        }
    })
}

/// `[=====>    ] 8 of 12 tasks: 3 done, 5 reused, 2 running, about 1m 12s left`.
fn progress_line(tally: &Tally, active: usize, now: u64, paint: Paint) -> String {
    const WIDTH: usize = 20;
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
        let why = Waiting::Needs(vec![task("prepare", 1), one, two]);
        tally.notice(&Notice::Waiting { task: task("evaluate", 1), why });
        insta::assert_snapshot!(live_lines(&tally, 13_300, PLAIN).join("\n"), @r"
        ▶ train[trees=50]  12.3s  attempt 2  ␛[1mepoch 4/10
        ▶ train[trees=100]  installing numpy
        · evaluate waits for train[trees=50] and train[trees=100]
        [━━━━━               ] 1 of 4 tasks: 1 reused, 2 running, about 1m left
        ");
    }

    #[test]
    fn what_came_is_no_longer_waited_for() {
        let mut tally = tally(&[]);
        let why = Waiting::Needs(vec![task("prepare", 1)]);
        tally.notice(&Notice::Waiting { task: task("train", 1), why });
        assert_eq!(live_lines(&tally, 0, PLAIN).len(), 2);
        tally.fold(1, &reused(&task("prepare", 1)));
        insta::assert_snapshot!(live_lines(&tally, 13_300, PLAIN).join("\n"), @r"[━━━━━               ] 1 of 4 tasks: 1 reused");
    }
}
