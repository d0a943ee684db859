//! `flowrun status`: the home on one screen.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::paint::{Paint, Tint};
use super::runs::{commit_words, run_json, runs_table};
use super::service_status::{ServiceView, live_section, recent_events, service_json};
use super::status::{LEFT, Left};
use super::summary::counts;
use super::task_status::task_json;
use crate::names::RunId;
use crate::state::{RunRow, RunState, TaskRow};
use crate::words::{age, duration, shell_word, short_list, visible};

/// What the home's screen shows.
pub struct HomeView<'a> {
    /// What is live.
    pub services: &'a [ServiceView],
    /// The server runs, so that somebody knows how they are.
    pub server: bool,
    /// Runs, newest first, with their tasks.
    pub runs: &'a [(RunRow, Vec<TaskRow>)],
    /// The runs that are not over and that nobody does.
    pub left: &'a BTreeMap<RunId, Left>,
    /// This machine: of a run of another one its name is told.
    pub host: &'a str,
}

/// What is live, what is running, and what happened last.
pub fn status_home(now: u64, home: &HomeView<'_>, colour: bool) -> String {
    let HomeView { services, runs, .. } = home;
    if runs.is_empty() && services.is_empty() {
        return "no runs yet: `flowrun apply` starts one\n".to_owned();
    }
    let paint = Paint { colour };
    let ended = |run: &RunRow| matches!(run.state, RunState::Ended(_));
    let unended: Vec<_> = runs.iter().filter(|(run, _)| !ended(run)).collect();
    let last: Vec<_> = runs.iter().filter(|(run, _)| ended(run)).collect();
    let mut text = String::new();
    if !services.is_empty() {
        text += &live_section(now, services, home.server, paint);
        text.push('\n');
    }
    text += "running\n";
    if unended.is_empty() {
        text += &paint.with(Tint::Dim, "  nothing\n");
    }
    for (run, tasks) in unended {
        text += &running_block(now, run, tasks, home, paint);
    }
    let events = recent_events(now, services, colour);
    if !last.is_empty() || !events.is_empty() {
        text += "\nlast\n";
    }
    if !last.is_empty() {
        let last = last.iter().map(|(run, tasks)| (run, tasks.as_slice()));
        text += &runs_table(now, last, 2, colour);
    }
    if !events.is_empty() {
        if !last.is_empty() {
            text.push('\n');
        }
        text += &events;
    }
    text
}

fn running_block(
    now: u64,
    run: &RunRow,
    tasks: &[TaskRow],
    home: &HomeView<'_>,
    paint: Paint,
) -> String {
    let left = home.left.get(&run.id);
    let other = run.owner.as_ref().filter(|owner| owner.host != home.host);
    let by = other.map(|owner| format!(" by {}", visible(&owner.user))).unwrap_or_default();
    let state = match (run.state, left) {
        (RunState::Waiting, None) => format!("waits{by} for another run of its pipeline"),
        (_, None) => format!("started {}{by}", age(now, run.made_at)),
        (_, Some(_)) => paint.with(Tint::Warn, LEFT) + &by.replace(" by ", " of "),
    };
    let mut text = format!(
        "  {}  {}  {state}, {}\n",
        run.created.pipeline,
        run.id,
        commit_words(&run.created.snapshot)
    );
    let counted = counts(tasks, None);
    if !counted.is_empty() {
        text += &format!("    {counted}\n");
    }
    if let Some(Left { why: Some(why) }) = left {
        text += &format!("    {}\n", visible(why));
    }
    let current: Vec<String> = tasks
        .iter()
        .filter(|task| matches!(task.state.as_str(), "running" | "rolling_out"))
        .map(|task| match task.started_at {
            Some(since) => format!("{} {}", task.label, duration(now.saturating_sub(since))),
            None => task.label.clone(),
        })
        .collect();
    if !current.is_empty() {
        text += &format!("    now: {}\n", short_list(&current, 5));
    }
    let next = match tasks.iter().find(|task| task.state == "running") {
        _ if left.is_some() => format!("flowrun resume {}", run.id),
        // A log lies on the machine that writes it.
        Some(task) if other.is_none() => {
            format!("flowrun logs -f {} {}", run.id, shell_word(&task.label))
        }
        _ => format!("flowrun status {}", run.id),
    };
    text += &format!("    {}\n", paint.with(Tint::Hint, &next));
    text
}

/// [`status_home`] as data: `{"server": …, "services": [service…], "running": [run…], "last": [run…]}`, each run with `tasks`; running
/// ones with `owned`, and `left`: why nobody does it any more, where that is known.
pub fn status_home_json(home: &HomeView<'_>) -> Value {
    let (mut running, mut last) = (Vec::new(), Vec::new());
    for (run, tasks) in home.runs {
        let mut value = run_json(run, tasks);
        value["tasks"] = tasks.iter().map(|task| task_json(task, tasks)).collect();
        if matches!(run.state, RunState::Ended(_)) {
            last.push(value);
        } else {
            let left = home.left.get(&run.id);
            value["owned"] = left.is_none().into();
            value["left"] = json!(left.and_then(|left| left.why.as_ref()));
            running.push(value);
        }
    }
    let services: Vec<Value> = home.services.iter().map(service_json).collect();
    json!({"server": home.server, "services": services, "running": running, "last": last})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::RunOutcome;
    use crate::report::testing::{
        failed_run, failed_tasks, other_run, run, run_row, task, task_row,
    };

    /// `left`: what the last process of the first run said, when nobody does it.
    fn home(now: u64, runs: &[(RunRow, Vec<TaskRow>)], left: Option<&str>) -> String {
        let why = |why: &str| Some(why.to_owned()).filter(|why| !why.is_empty());
        let left = left.map(|said| (runs[0].0.id, Left { why: why(said) })).into_iter().collect();
        let home = HomeView { services: &[], server: false, runs, left: &left, host: "here" };
        status_home(now, &home, false)
    }

    #[test]
    fn a_home() {
        let mut running = task_row(task("train", 2), "train[trees=100]", "running");
        running.started_at = Some(1_700_000_380_000);
        let active = vec![task_row(task("prepare", 1), "prepare", "done"), running];
        let runs = [
            (run_row(other_run(), RunState::Active), active),
            (failed_run(), failed_tasks()),
            (run_row(run(), RunState::Ended(RunOutcome::Done)), Vec::new()),
        ];
        insta::assert_snapshot!(home(1_700_000_392_300, &runs, None), @r"
        running
          iris  01HF7YNSJ00000000000000002  started 6 min ago, 1a2b3c4 (main) with changes
            1 done, 1 running
            now: train[trees=100] 12.3s
            flowrun logs -f 01HF7YNSJ00000000000000002 'train[trees=100]'

        last
          run                         pipeline  outcome   when       took    tasks                                  commit
          01HF7YAT000000000000000001  iris      ✗ failed  5 min ago  1m 12s  1 done, 1 reused, 1 failed, 1 blocked  1a2b3c4 (main) with changes
          01HF7YAT000000000000000001  iris      ✓ done    5 min ago  1m 12s                                         1a2b3c4 (main) with changes
        ");
        let left = home(1_700_000_392_300, &runs[..1], Some("the disk is full"));
        insta::assert_snapshot!(left, @r"
        running
          iris  01HF7YNSJ00000000000000002  left by its flowrun, 1a2b3c4 (main) with changes
            1 done, 1 running
            the disk is full
            now: train[trees=100] 12.3s
            flowrun resume 01HF7YNSJ00000000000000002
        ");
        assert!(home(0, &[], None).starts_with("no runs yet"));
    }

    #[test]
    fn a_run_of_another_machine_is_told_with_who_does_it() {
        let running = vec![task_row(task("train", 1), "train", "running")];
        let mut row = run_row(other_run(), RunState::Active);
        let owner = row.owner.as_mut().unwrap();
        (owner.host, owner.user) = ("laptop".to_owned(), "ben@laptop".to_owned());
        let runs = [(row, running)];
        let alive = home(1_700_000_392_300, &runs, None);
        assert!(alive.contains("started 6 min ago by ben@laptop, "), "{alive}");
        assert!(!alive.contains("flowrun logs"), "its log is not here: {alive}");
        let left = home(1_700_000_392_300, &runs, Some(""));
        assert!(left.contains("left by its flowrun of ben@laptop, "), "{left}");
    }

    #[test]
    fn data_says_what_the_screen_says() {
        let runs = [(failed_run(), failed_tasks())];
        let left = &BTreeMap::new();
        let home = HomeView { services: &[], server: false, runs: &runs, left, host: "here" };
        let value = status_home_json(&home);
        assert_eq!(value["running"], json!([]));
        let run = &value["last"][0];
        assert_eq!(run["outcome"], "failed");
        assert_eq!(run["counts"], json!({"reused": 1, "done": 1, "failed": 1, "blocked": 1}));
        assert_eq!(run["tasks"][2]["reason"], "out of memory (limit 1 GiB)");
        assert_eq!(
            run["tasks"][2]["cause"],
            json!({"failed": {"job": {"out_of_memory": {"limit": 1 << 30}}}})
        );
    }
}
