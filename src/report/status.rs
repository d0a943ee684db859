//! `flowrun status RUN`: one run.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::failure_lines::failure_lines;
use super::moved::{MovedBytes, short_words};
use super::paint::{Paint, Tint};
use super::runs::{commit_words, outcome_words, run_json};
use super::summary::{has_log, look_command};
use super::table::{Field, table};
use super::task_status::{task_fields, task_json};
use crate::names::TaskId;
use crate::plan::causes::failure_words;
use crate::state::{RunRow, TaskReason, TaskRow};
use crate::words::{age, duration, log_line, shell_word, visible};

/// What is said of a run that is not over and that no living process holds.
pub(super) const LEFT: &str = "left by its flowrun";

/// A run that is not over and that no living process holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Left {
    /// What its last process said, unless it was killed.
    pub why: Option<String>,
}

/// One run: what it is made of, then its tasks with state, time, attempts and reason, then what failed and where its log is.
///
/// Bytes stand beside a task where any had to move, or the store is shared. `left`: nobody does it, though it is not over.
pub fn status_run(
    now: u64,
    run: &RunRow,
    tasks: &[TaskRow],
    moved: &MovedBytes,
    left: Option<&Left>,
    colour: bool,
) -> String {
    let paint = Paint { colour };
    let (state, tint) = left.map_or_else(|| outcome_words(run.state), |_| (LEFT, Tint::Warn));
    let when = match run.ended_at {
        Some(ended) => {
            let took = duration(ended.saturating_sub(run.made_at));
            format!(" after {took}, {}", age(now, ended))
        }
        None => format!(", made {}", age(now, run.made_at)),
    };
    let mut text =
        format!("{}  run {}  {}{when}\n\n", run.created.pipeline, run.id, paint.with(tint, state));
    text += &table(&["", ""], &about(run), 0, colour);
    if tasks.is_empty() {
        return text;
    }
    text.push('\n');
    let total = moved.total();
    let show_bytes = run.created.kept.is_some() || total.sent + total.received > 0;
    let fields = |task: &TaskRow| {
        let mut fields = task_fields(now, task, tasks);
        let bytes = short_words(moved.of_task(&task.task));
        fields.insert(4, Field::new(if show_bytes { bytes } else { String::new() }));
        fields
    };
    let rows: Vec<Vec<Field>> = tasks.iter().map(fields).collect();
    text += &table(&["task", "state", "time", "attempts", "bytes", "reason"], &rows, 0, colour);
    for task in tasks.iter().filter(|task| task.state == "failed") {
        text += &failed_block(run, task, paint);
    }
    if let Some(task) = tasks.iter().find(|task| task.attempts > 0)
        && !tasks.iter().any(|task| task.state == "failed")
    {
        let command = format!("flowrun logs {} {}", run.id, shell_word(&task.label));
        text += &format!("\n{}  shows a log\n", paint.with(Tint::Hint, &command));
    }
    if let Some(left) = left {
        let why = left.why.iter().map(|why| format!("left: {}\n", visible(why)));
        let command = format!("flowrun resume {}", run.id);
        text += &format!(
            "\n{}{}  goes on with it\n",
            why.collect::<String>(),
            paint.with(Tint::Hint, &command)
        );
    }
    text
}

/// What a run is made of, a row each.
fn about(run: &RunRow) -> Vec<Vec<Field>> {
    let created = &run.created;
    let params: Vec<String> = created
        .params
        .iter()
        .map(|(name, value)| format!("{name}={}", visible(&value.to_string())))
        .collect();
    let selection = &created.selection;
    let asked: Vec<String> = [
        ("--only", &selection.only),
        ("--from", &selection.from),
        ("--until", &selection.until),
        ("--force", &selection.force),
    ]
    .iter()
    .flat_map(|(flag, stages)| stages.iter().map(move |stage| format!("{flag} {stage}")))
    .collect();
    let mut rows = Vec::new();
    for (name, value) in [
        ("commit", commit_words(&run.created.snapshot)),
        ("from", visible(&created.snapshot.origin).into_owned()),
        ("params", params.join(" ")),
        ("asked", asked.join(" ")),
        ("cause", visible(&created.cause).into_owned()),
        (
            "by",
            run.owner.as_ref().map(|owner| visible(&owner.user).into_owned()).unwrap_or_default(),
        ),
    ] {
        if !value.is_empty() {
            rows.push(vec![Field::tinted(name, Tint::Dim), Field::new(value)]);
        }
    }
    rows
}

fn failed_block(run: &RunRow, task: &TaskRow, paint: Paint) -> String {
    let mut text = String::new();
    if let Some(TaskReason::Failed(failure)) = &task.reason {
        let (message, help) = failure_words(failure);
        text += &format!("\n{} failed: {message}\n", task.label);
        for line in failure_lines(failure) {
            text += &format!("  {} {}\n", paint.with(Tint::Dim, "│"), log_line(line));
        }
        if let Some(help) = help {
            text += &format!("  {}\n", paint.with(Tint::Hint, &format!("help: {help}")));
        }
    }
    if has_log(task) {
        let command = look_command(run.id, task);
        text += &format!("  {}  tells more\n", paint.with(Tint::Hint, &command));
    }
    text
}

/// [`status_run`] as data: the run as in `runs`, `tasks`, and `left`: why nobody does it any more, none when somebody does or a process was
/// killed over it.
pub fn status_run_json(
    run: &RunRow,
    tasks: &[TaskRow],
    metrics: &BTreeMap<TaskId, BTreeMap<String, f64>>,
    moved: &MovedBytes,
    left: Option<&Left>,
) -> Value {
    let mut value = run_json(run, tasks);
    value["left"] = json!(left.and_then(|left| left.why.as_ref()));
    let one = |task: &TaskRow| {
        let mut value = task_json(task, tasks);
        value["metrics"] = json!(metrics.get(&task.task).cloned().unwrap_or_default());
        value["bytes"] = json!(moved.of_task(&task.task));
        value
    };
    value["tasks"] = tasks.iter().map(one).collect();
    value["bytes"] = json!(moved.total());
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing::{failed_run, failed_tasks, other_run, run_row, task, task_row};
    use crate::state::RunState;

    /// What is told of a run that failed.
    fn failed(colour: bool) -> String {
        let (run, tasks, moved) = (failed_run(), failed_tasks(), MovedBytes::default());
        status_run(1_700_007_272_400, &run, &tasks, &moved, None, colour)
    }

    #[test]
    fn one_run() {
        let text = failed(false);
        insta::assert_snapshot!(text, @r#"
        iris  run 01HF7YAT000000000000000001  ✗ failed after 1m 12s, 2 h ago

        commit  1a2b3c4 (main) with changes
        from    /repo
        params  learning_rate=0.1 seed=7
        asked   --until evaluate
        cause   cli

        task              state      time   attempts  reason
        prepare           ↺ reused                    from run 01HF7YAT000000000000000001
        train[trees=100]  ✓ done     12.3s  1         forced
        evaluate          ✗ failed   0.4s   2         out of memory (limit 1 GiB)
        package           ⊘ blocked                   needs evaluate

        evaluate failed: out of memory (limit 1 GiB)
          help: raise `resources.memory`, or set `retries: {on_oom: {memory: 2x}}`
          flowrun logs 01HF7YAT000000000000000001 evaluate  tells more
        "#);
    }

    #[test]
    fn a_run_that_was_left_is_told_with_how_to_go_on() {
        let tasks = [task_row(task("train", 1), "train", "running")];
        let row = run_row(other_run(), RunState::Active);
        let status = |left: Option<Left>| {
            let (now, moved) = (1_700_000_392_300, MovedBytes::default());
            status_run(now, &row, &tasks, &moved, left.as_ref(), false)
        };
        assert!(status(None).contains("▶ active, made 6 min ago"), "{}", status(None));
        let goes_on = format!("\nflowrun resume {}  goes on with it\n", row.id);
        let killed = status(Some(Left::default()));
        assert!(killed.contains("left by its flowrun, made 6 min ago"), "{killed}");
        assert!(killed.ends_with(&format!("\n{goes_on}")), "{killed}");
        let left = status(Some(Left { why: Some("the disk is full".to_owned()) }));
        assert!(left.ends_with(&format!("\nleft: the disk is full{goes_on}")), "{left}");
    }

    #[test]
    fn colour_adds_nothing_but_colour() {
        let plain = failed(false);
        let coloured = failed(true);
        assert!(coloured.contains("\x1b["));
        let mut stripped = String::new();
        let mut rest = coloured.as_str();
        while let Some((before, after)) = rest.split_once("\x1b[") {
            stripped += before;
            rest = after.split_once('m').unwrap().1;
        }
        stripped += rest;
        let lines = |text: &str| text.lines().map(|l| l.trim_end().to_owned()).collect::<Vec<_>>();
        assert_eq!(lines(&stripped), lines(&plain));
    }
}
