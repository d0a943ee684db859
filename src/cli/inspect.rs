//! `flowrun status`, `runs`, `runs diff`, `why`: rows as text or JSON.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::args::{RunsArgs, RunsCommand, StatusArgs, WhyArgs};
use super::error::CliError;
use super::exit::Exit;
use super::find;
use super::place::Place;
use super::screen::{Screen, push_line, visible};
use super::settings::Settings;
use super::summary::{quoted, word};
use crate::plan::verdict::told;
use crate::state::{RunFilter, RunRow, RunState};

/// How many ended runs the home's screen shows.
const LAST: usize = 5;

/// Shows the home or one run.
pub(crate) async fn status(
    args: StatusArgs,
    settings: &Settings,
    screen: Screen,
) -> Result<Exit, CliError> {
    let place = Place::open(settings).await?;
    let Some(text) = &args.run else {
        let rows = place.state.runs(&RunFilter::default()).await?;
        let (running, mut last): (Vec<RunRow>, Vec<RunRow>) =
            rows.into_iter().partition(|row| !matches!(row.state, RunState::Ended(_)));
        last.truncate(LAST);
        if args.output.json() {
            let objects = |rows: &[RunRow]| rows.iter().map(run_object).collect::<Vec<_>>();
            screen
                .json(&json!({"live": [], "running": objects(&running), "last": objects(&last)}))?;
        } else {
            let mut text = String::from("live\n  nothing\nrunning\n");
            push_runs(&mut text, &running);
            text.push_str("last\n");
            push_runs(&mut text, &last);
            screen.data(&text)?;
        }
        return Ok(Exit::Done);
    };
    let row = find::run(&place.state, text).await?;
    let tasks = place.state.tasks(row.id).await?;
    let metrics = place.state.metrics(row.id).await?;
    if args.output.json() {
        let tasks: Vec<Value> = tasks
            .iter()
            .map(|task| {
                json!({
                    "task": task.label,
                    "state": task.state,
                    "reason": task.reason,
                    "key": task.key,
                    "attempts": task.attempts,
                    "reused_from": task.reused_from,
                    "outputs": task.outputs,
                    "metrics": metrics.get(&task.task),
                    "started_at": task.started_at,
                    "ended_at": task.ended_at,
                })
            })
            .collect();
        let mut object = run_object(&row);
        object["tasks"] = tasks.into();
        screen.json(&object)?;
        return Ok(Exit::Done);
    }
    let mut text = String::new();
    push_runs(&mut text, std::slice::from_ref(&row));
    for task in &tasks {
        let reason = task.reason.as_deref().unwrap_or_default();
        push_line(&mut text, &format!("  {:<10} {}  {}", task.state, task.label, visible(reason)));
        if task.attempts > 0 {
            push_line(
                &mut text,
                &format!("             flowrun logs {} {}", row.id, quoted(&task.label)),
            );
        }
    }
    screen.data(&text)?;
    Ok(Exit::Done)
}

/// Lists runs, or compares two.
pub(crate) async fn runs(
    args: RunsArgs,
    settings: &Settings,
    screen: Screen,
) -> Result<Exit, CliError> {
    let place = Place::open(settings).await?;
    if let Some(RunsCommand::Diff { a, b, output }) = &args.command {
        let a = find::run(&place.state, a).await?;
        let b = find::run(&place.state, b).await?;
        let rows = difference(&side(&place, &a).await?, &side(&place, &b).await?);
        if output.json() {
            let rows: Vec<Value> =
                rows.iter().map(|(what, a, b)| json!({"what": what, "a": a, "b": b})).collect();
            screen.json(&json!({"a": a.id, "b": b.id, "differences": rows}))?;
        } else {
            let mut text = String::new();
            for (what, a, b) in rows {
                let (a, b) = (a.unwrap_or("–".into()), b.unwrap_or("–".into()));
                push_line(&mut text, &format!("{what}: {} → {}", visible(&a), visible(&b)));
            }
            screen.data(&text)?;
        }
        return Ok(Exit::Done);
    }
    let pipeline = match &args.pipeline {
        None => None,
        Some(name) => Some(name.parse().map_err(|error: crate::names::NameError| {
            CliError::usage(error.to_string(), "use a name of `flowrun runs`")
        })?),
    };
    let filter = RunFilter { pipeline, unended: false, limit: Some(args.limit) };
    let rows = place.state.runs(&filter).await?;
    if args.output.json() {
        screen.json(&rows.iter().map(run_object).collect())?;
    } else {
        let mut text = String::new();
        push_runs(&mut text, &rows);
        screen.data(&text)?;
    }
    Ok(Exit::Done)
}

/// Says why a task ran, was reused, skipped or failed.
pub(crate) async fn why(
    args: WhyArgs,
    settings: &Settings,
    screen: Screen,
) -> Result<Exit, CliError> {
    let place = Place::open(settings).await?;
    let row = find::run(&place.state, &args.run).await?;
    let tasks = place.state.tasks(row.id).await?;
    let (_, task) = find::task(&tasks, &args.task)?;
    let events: Vec<_> =
        place.state.events(row.id, 0).await?.into_iter().map(|recorded| recorded.event).collect();
    let lines = told(&events, &task.task);
    if args.output.json() {
        screen.json(&json!({
            "run": row.id,
            "task": task.label,
            "state": task.state,
            "key": task.key,
            "why": lines,
        }))?;
    } else {
        let lines: Vec<String> = lines.iter().map(|line| visible(line)).collect();
        screen.data(&format!("{} of run {}\n{}", task.label, row.id, lines.join("\n")))?;
    }
    Ok(Exit::Done)
}

fn state_word(state: RunState) -> &'static str {
    match state {
        RunState::Waiting => "waiting",
        RunState::Active => "active",
        RunState::Ended(outcome) => word(outcome),
    }
}

fn run_object(row: &RunRow) -> Value {
    let snapshot = &row.created.snapshot;
    json!({
        "run": row.id,
        "pipeline": row.created.pipeline,
        "state": state_word(row.state),
        "commit": snapshot.commit,
        "dirty": snapshot.dirty,
        "origin": snapshot.origin,
        "params": row.created.params.iter().map(|(name, value)| (name.to_string(), value.to_json())).collect::<serde_json::Map<_, _>>(),
        "cause": row.created.cause,
        "made_at": row.made_at,
        "ended_at": row.ended_at,
    })
}

fn push_runs(text: &mut String, rows: &[RunRow]) {
    if rows.is_empty() {
        text.push_str("  nothing\n");
    }
    for row in rows {
        let snapshot = &row.created.snapshot;
        let commit: String = snapshot.commit.as_deref().unwrap_or("–").chars().take(10).collect();
        let dirty = if snapshot.dirty { "+" } else { "" };
        push_line(
            text,
            &format!(
                "  {} {:<9} {} {commit}{dirty}",
                row.id,
                state_word(row.state),
                row.created.pipeline
            ),
        );
    }
}

/// Everything of a run that is compared, by its name.
async fn side(place: &Place, row: &RunRow) -> Result<BTreeMap<String, String>, CliError> {
    let mut side = BTreeMap::from([("file".to_owned(), row.created.file.short())]);
    side.insert("tree".into(), row.created.snapshot.tree.chars().take(12).collect());
    for (name, value) in &row.created.params {
        side.insert(format!("params.{name}"), value.to_string());
    }
    let tasks = place.state.tasks(row.id).await?;
    let metrics = place.state.metrics(row.id).await?;
    for task in tasks {
        if let Some(key) = task.key {
            side.insert(format!("{}.key", task.label), key.short());
        }
        for (name, value) in metrics.get(&task.task).into_iter().flatten() {
            side.insert(format!("{}.metrics.{name}", task.label), value.to_string());
        }
    }
    Ok(side)
}

type Difference = (String, Option<String>, Option<String>);

fn difference(a: &BTreeMap<String, String>, b: &BTreeMap<String, String>) -> Vec<Difference> {
    let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    names
        .into_iter()
        .filter(|name| a.get(*name) != b.get(*name))
        .map(|name| (name.clone(), a.get(name).cloned(), b.get(name).cloned()))
        .collect()
}
