//! `flowrun status`: the home on one screen, and one run.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::paint::{Paint, Tint, state_sign};
use super::runs::{commit_words, outcome_words, run_json, runs_table};
use super::summary::{counts, look_command};
use super::table::{Field, table};
use crate::names::{RunId, TaskId};
use crate::plan::causes::{failure_log, failure_words, reason_words, skip_words};
use crate::state::{RunRow, RunState, TaskReason, TaskRow};
use crate::words::{age, duration, log_line, shell_word, short_list, visible};

/// What is running, and what happened last. `runs` are newest first, with their tasks; `is_owned` says whether a living process
/// holds a run ([`crate::state::owner_alive`]).
pub fn status_home(
    now: u64,
    runs: &[(RunRow, Vec<TaskRow>)],
    is_owned: &dyn Fn(RunId) -> bool,
    colour: bool,
) -> String {
    if runs.is_empty() {
        return "no runs yet: `flowrun apply` starts one\n".to_owned();
    }
    let paint = Paint { colour };
    let ended = |run: &RunRow| matches!(run.state, RunState::Ended(_));
    let unended: Vec<_> = runs.iter().filter(|(run, _)| !ended(run)).collect();
    let last: Vec<_> = runs.iter().filter(|(run, _)| ended(run)).collect();
    let mut text = String::from("running\n");
    if unended.is_empty() {
        text += &paint.with(Tint::Dim, "  nothing\n");
    }
    for (run, tasks) in unended {
        text += &running_block(now, run, tasks, is_owned(run.id), paint);
    }
    if !last.is_empty() {
        text += "\nlast\n";
        text +=
            &runs_table(now, last.iter().map(|(run, tasks)| (run, tasks.as_slice())), 2, colour);
    }
    text
}

fn running_block(now: u64, run: &RunRow, tasks: &[TaskRow], owned: bool, paint: Paint) -> String {
    let state = match (run.state, owned) {
        (RunState::Waiting, true) => "waits for another run of its pipeline".to_owned(),
        (_, true) => format!("started {}", age(now, run.made_at)),
        (_, false) => paint.with(Tint::Warn, "left by its flowrun"),
    };
    let mut text = format!(
        "  {}  {}  {state}, {}\n",
        run.created.pipeline,
        run.id,
        commit_words(&run.created.snapshot)
    );
    let counted = counts(tasks, false);
    if !counted.is_empty() {
        text += &format!("    {counted}\n");
    }
    let current: Vec<String> = tasks
        .iter()
        .filter(|task| task.state == "running")
        .map(|task| match task.started_at {
            Some(since) => format!("{} {}", task.label, duration(now.saturating_sub(since))),
            None => task.label.clone(),
        })
        .collect();
    if !current.is_empty() {
        text += &format!("    now: {}\n", short_list(&current, 5));
    }
    let next = match tasks.iter().find(|task| task.state == "running") {
        _ if !owned => format!("flowrun resume {}", run.id),
        Some(task) => format!("flowrun logs -f {} {}", run.id, shell_word(&task.label)),
        None => format!("flowrun status {}", run.id),
    };
    text += &format!("    {}\n", paint.with(Tint::Hint, &next));
    text
}

/// [`status_home`] as data: `{"running": [run…], "last": [run…]}`, each run with `owned` and `tasks`.
pub fn status_home_json(
    runs: &[(RunRow, Vec<TaskRow>)],
    is_owned: &dyn Fn(RunId) -> bool,
) -> Value {
    let (mut running, mut last) = (Vec::new(), Vec::new());
    for (run, tasks) in runs {
        let mut value = run_json(run, tasks);
        value["tasks"] = tasks.iter().map(|task| task_json(task, tasks)).collect();
        if matches!(run.state, RunState::Ended(_)) {
            last.push(value);
        } else {
            value["owned"] = is_owned(run.id).into();
            running.push(value);
        }
    }
    json!({"running": running, "last": last})
}

/// One run: what it is made of, then its tasks with state, time, attempts and reason, then what failed and where its log is.
pub fn status_run(now: u64, run: &RunRow, tasks: &[TaskRow], colour: bool) -> String {
    let paint = Paint { colour };
    let (state, tint) = outcome_words(run.state);
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
    let rows: Vec<Vec<Field>> = tasks.iter().map(|task| task_fields(now, task, tasks)).collect();
    text += &table(&["task", "state", "time", "attempts", "reason"], &rows, 0, colour);
    for task in tasks.iter().filter(|task| task.state == "failed") {
        text += &failed_block(run, task, paint);
    }
    if let Some(task) = tasks.iter().find(|task| task.attempts > 0)
        && !tasks.iter().any(|task| task.state == "failed")
    {
        let command = format!("flowrun logs {} {}", run.id, shell_word(&task.label));
        text += &format!("\n{}  shows a log\n", paint.with(Tint::Hint, &command));
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
    ] {
        if !value.is_empty() {
            rows.push(vec![Field::tinted(name, Tint::Dim), Field::new(value)]);
        }
    }
    rows
}

/// The label of a task among its run's.
fn label_of(tasks: &[TaskRow], id: &TaskId) -> String {
    tasks
        .iter()
        .find(|task| &task.task == id)
        .map_or_else(|| id.stage.to_string(), |task| task.label.clone())
}

fn reason_of(task: &TaskRow, tasks: &[TaskRow]) -> String {
    match (&task.reason, &task.reused_from) {
        (_, Some(from)) if task.state == "reused" => format!("from run {from}"),
        (Some(reason), _) => reason_words_of(reason, tasks),
        (None, _) => String::new(),
    }
}

fn reason_words_of(reason: &TaskReason, tasks: &[TaskRow]) -> String {
    match reason {
        TaskReason::Ran(reason) => reason_words(reason),
        TaskReason::Failed(failure) => failure_words(failure).0,
        TaskReason::Skipped(skip) => skip_words(skip, &|id| label_of(tasks, id)),
        TaskReason::BlockedBy(task) => format!("needs {}", label_of(tasks, task)),
    }
}

/// How long the task's newest attempt took, or has taken.
fn time_of(now: u64, task: &TaskRow) -> Option<u64> {
    let since = task.started_at?;
    let until = match task.state.as_str() {
        "running" => now,
        _ => task.ended_at?,
    };
    Some(until.saturating_sub(since))
}

fn task_fields(now: u64, task: &TaskRow, tasks: &[TaskRow]) -> Vec<Field> {
    let (sign, tint) = state_sign(&task.state);
    let attempts = if task.attempts == 0 { String::new() } else { task.attempts.to_string() };
    vec![
        Field::new(&task.label),
        Field::tinted(format!("{sign} {}", task.state), tint),
        Field::new(time_of(now, task).map(duration).unwrap_or_default()),
        Field::new(attempts),
        Field::new(reason_of(task, tasks)),
    ]
}

fn failed_block(run: &RunRow, task: &TaskRow, paint: Paint) -> String {
    let mut text = String::new();
    if let Some(TaskReason::Failed(failure)) = &task.reason {
        let (message, help) = failure_words(failure);
        text += &format!("\n{} failed: {message}\n", task.label);
        let log: Vec<&str> =
            failure_log(failure).map(|log| log.lines().collect()).unwrap_or_default();
        for line in &log[log.len().saturating_sub(20)..] {
            text += &format!("  {} {}\n", paint.with(Tint::Dim, "│"), log_line(line));
        }
        if let Some(help) = help {
            text += &format!("  {}\n", paint.with(Tint::Hint, &format!("help: {help}")));
        }
    }
    if task.attempts > 0 {
        let command = look_command(run.id, task);
        text += &format!("  {}  tells more\n", paint.with(Tint::Hint, &command));
    }
    text
}

/// [`status_run`] as data: the run as in `runs`, and `tasks`.
pub fn status_run_json(
    run: &RunRow,
    tasks: &[TaskRow],
    metrics: &BTreeMap<TaskId, BTreeMap<String, f64>>,
) -> Value {
    let mut value = run_json(run, tasks);
    let one = |task: &TaskRow| {
        let mut value = task_json(task, tasks);
        value["metrics"] = json!(metrics.get(&task.task).cloned().unwrap_or_default());
        value
    };
    value["tasks"] = tasks.iter().map(one).collect();
    value
}

fn task_json(task: &TaskRow, tasks: &[TaskRow]) -> Value {
    let reason = reason_of(task, tasks);
    let values: serde_json::Map<String, Value> =
        task.values.iter().map(|(name, value)| (name.clone(), value.to_json())).collect();
    json!({
        "stage": task.task.stage,
        "copy": task.task.copy,
        "task": task.label,
        "state": task.state,
        "reason": if reason.is_empty() { Value::Null } else { reason.into() },
        "cause": task.reason,
        "key": task.key,
        "reused_from": task.reused_from,
        "outputs": task.outputs,
        "values": values,
        "attempts": task.attempts,
        "started_at": task.started_at,
        "ended_at": task.ended_at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Failure, JobEnd, Reason, RunOutcome};
    use crate::report::testing::{failed_run, other_run, run, run_row, task, task_row};

    fn failed_tasks() -> Vec<TaskRow> {
        let mut reused = task_row(task("prepare", 1), "prepare", "reused");
        reused.reused_from = Some(run());
        let mut done = task_row(task("train", 2), "train[trees=100]", "done");
        done.reason = Some(TaskReason::Ran(Reason::Forced));
        (done.attempts, done.started_at, done.ended_at) = (1, Some(1000), Some(13_300));
        let mut failed = task_row(task("evaluate", 1), "evaluate", "failed");
        failed.reason =
            Some(TaskReason::Failed(Failure::Job(JobEnd::OutOfMemory { limit: 1 << 30 })));
        (failed.attempts, failed.started_at, failed.ended_at) = (2, Some(14_000), Some(14_400));
        let mut blocked = task_row(task("package", 1), "package", "blocked");
        blocked.reason = Some(TaskReason::BlockedBy(task("evaluate", 1)));
        vec![reused, done, failed, blocked]
    }

    #[test]
    fn one_run() {
        let text = status_run(1_700_007_272_400, &failed_run(), &failed_tasks(), false);
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
    fn a_home() {
        let mut running = task_row(task("train", 2), "train[trees=100]", "running");
        running.started_at = Some(1_700_000_380_000);
        let active = vec![task_row(task("prepare", 1), "prepare", "done"), running];
        let runs = [
            (run_row(other_run(), RunState::Active), active),
            (failed_run(), failed_tasks()),
            (run_row(run(), RunState::Ended(RunOutcome::Done)), Vec::new()),
        ];
        insta::assert_snapshot!(status_home(1_700_000_392_300, &runs, &|_| true, false), @r"
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
        let left = status_home(1_700_000_392_300, &runs[..1], &|_| false, false);
        insta::assert_snapshot!(left, @r"
        running
          iris  01HF7YNSJ00000000000000002  left by its flowrun, 1a2b3c4 (main) with changes
            1 done, 1 running
            now: train[trees=100] 12.3s
            flowrun resume 01HF7YNSJ00000000000000002
        ");
        assert!(status_home(0, &[], &|_| true, false).starts_with("no runs yet"));
    }

    #[test]
    fn data_says_what_the_screen_says() {
        let value = status_home_json(&[(failed_run(), failed_tasks())], &|_| true);
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

    #[test]
    fn colour_adds_nothing_but_colour() {
        let plain = status_run(1_700_007_272_400, &failed_run(), &failed_tasks(), false);
        let coloured = status_run(1_700_007_272_400, &failed_run(), &failed_tasks(), true);
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
