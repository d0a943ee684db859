//! `flowrun why`: why a task ran, was reused, skipped or failed; of changed files, which.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::args::WhyArgs;
use super::error::CliError;
use super::exit::Exit;
use super::find;
use super::kept;
use super::place::Place;
use super::screen::Screen;
use super::settings::Settings;
use crate::event::{Failure, Reason, RunEvent};
use crate::names::{ReleaseId, RunId, TaskId};
use crate::plan::causes::{failure_log, failure_words};
use crate::plan::verdict::told;
use crate::source::SourceFile;
use crate::state::{RunFilter, RunRow, TaskReason, TaskRow};
use crate::words::{shell_word, short_list, visible};

/// How many changed files are named.
const NAMED: usize = 10;

/// Says why a task stands where it stands.
pub(crate) async fn why(
    args: WhyArgs,
    settings: &Settings,
    screen: Screen,
) -> Result<Exit, CliError> {
    let place = Place::open(settings).await?;
    let (row, task) = find::run_and_task(&place.state, &args.words).await?;
    let tasks = place.state.tasks(row.id).await?;
    let (_, task) = find::task(&tasks, task)?;
    let events: Vec<RunEvent> =
        place.state.events(row.id, 0).await?.into_iter().map(|recorded| recorded.event).collect();
    let label = |id: &TaskId| {
        let named = tasks.iter().find(|row| &row.task == id);
        named.map_or_else(|| id.stage.to_string(), |row| row.label.clone())
    };
    let numbers = numbers(&place, &row).await?;
    let lines = told(&events, &task.task, &label, &numbers);
    let files = if names_files(&events, &task.task) {
        changed_files(&place, &row, &task.task, live_before(&events, &task.task)).await?
    } else {
        None
    };
    if args.output.json() {
        screen.json(&json!({
            "run": row.id,
            "task": task.label,
            "state": task.state,
            "key": task.key,
            "why": lines,
            "files": files.as_ref().map(|(since, changed)| json!({
                "since": since,
                "changed": changed.iter().map(|(path, how)| json!({"path": path, "how": how})).collect::<Vec<_>>(),
            })),
        }))?;
        return Ok(Exit::Done);
    }
    let mut text = format!("{} of run {}\n", visible(&task.label), row.id);
    for line in &lines {
        text += &format!("{}\n", visible(line));
    }
    if let Some((since, changed)) = files {
        let named: Vec<String> = changed
            .iter()
            .map(|(path, how)| match *how {
                "changed" => visible(path).into_owned(),
                how => format!("{} ({how})", visible(path)),
            })
            .collect();
        text += &format!("files changed since run {since}: {}\n", short_list(&named, NAMED));
    }
    text += &next_steps(row.id, task);
    screen.data(&text)?;
    Ok(Exit::Done)
}

/// The numbers of a pipeline's releases.
async fn numbers(place: &Place, run: &RunRow) -> Result<BTreeMap<ReleaseId, u64>, CliError> {
    let rows = place.state.releases(None).await?.into_iter().map(|row| row.release);
    let own = rows.filter(|release| release.service.pipeline == run.created.pipeline);
    Ok(own.map(|release| (release.id, release.number)).collect())
}

/// The mend of a failure, and where its log is.
fn next_steps(run: RunId, task: &TaskRow) -> String {
    let Some(TaskReason::Failed(failure)) = &task.reason else { return String::new() };
    let mut text = String::new();
    if let Some(help) = failure_words(failure).1 {
        text += &format!("help: {help}\n");
    }
    let rolled_out = matches!(failure, Failure::Rollout { .. });
    if rolled_out || (task.attempts > 0 && failure_log(failure).is_none()) {
        text += &format!("log: flowrun logs {run} {}\n", shell_word(&task.label));
    }
    text
}

/// Whether an attempt of the task ran because its files had changed.
fn names_files(events: &[RunEvent], task: &TaskId) -> bool {
    events.iter().any(|event| match event {
        RunEvent::AttemptStarted { task: of, why: Reason::Changed(changes), .. }
        | RunEvent::RolloutStarted { task: of, why: changes, .. } => {
            of == task && changes.iter().any(|change| change.field == "files")
        }
        _ => false,
    })
}

/// The release of a service that was live before the one that its run made.
fn live_before(events: &[RunEvent], task: &TaskId) -> Option<ReleaseId> {
    events.iter().rev().find_map(|event| match event {
        RunEvent::RolloutPromoted { task: of, replaced: live, .. }
        | RunEvent::GateDecided { task: of, live, .. }
            if of == task =>
        {
            *live
        }
        _ => None,
    })
}

/// The run that the reason compares with, and the task's files that differ between the two, by path.
///
/// None when that run, its file or its code is gone. A service compares with the run of the release that was live.
async fn changed_files(
    place: &Place,
    run: &RunRow,
    task: &TaskId,
    live: Option<ReleaseId>,
) -> Result<Option<(RunId, BTreeMap<String, &'static str>)>, CliError> {
    let before = match live {
        None => finished_before(place, run, task).await?,
        Some(live) => match place.state.release(live).await? {
            Some(row) => place.state.run(row.release.notes.run).await?,
            None => None,
        },
    };
    let Some(before) = before else { return Ok(None) };
    let (Ok(is), Ok(was)) = (kept::code(place, run).await, kept::code(place, &before).await) else {
        return Ok(None);
    };
    let changed = differences(&was.stage_files(&task.stage), &is.stage_files(&task.stage));
    Ok(Some((before.id, changed)))
}

/// The newest earlier run of the pipeline in which the task was done or reused.
async fn finished_before(
    place: &Place,
    run: &RunRow,
    task: &TaskId,
) -> Result<Option<RunRow>, CliError> {
    let pipeline = Some(run.created.pipeline.clone());
    let rows = place.state.runs(&RunFilter { pipeline, ..RunFilter::default() }).await?;
    for row in rows.into_iter().filter(|row| row.id < run.id) {
        let tasks = place.state.tasks(row.id).await?;
        let finished = |one: &TaskRow| {
            &one.task == task
                && one.key.is_some()
                && matches!(one.state.as_str(), "done" | "reused")
        };
        if tasks.iter().any(finished) {
            return Ok(Some(row));
        }
    }
    Ok(None)
}

fn differences(was: &[SourceFile], is: &[SourceFile]) -> BTreeMap<String, &'static str> {
    let by_path = |files: &[SourceFile]| -> BTreeMap<String, SourceFile> {
        files.iter().map(|file| (file.path.clone(), file.clone())).collect()
    };
    let (was, is) = (by_path(was), by_path(is));
    let paths: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
    let how = |path: &String| match (was.get(path), is.get(path)) {
        (None, _) => Some("new"),
        (_, None) => Some("gone"),
        (was, is) if was == is => None,
        _ => Some("changed"),
    };
    paths.into_iter().filter_map(|path| Some((path.clone(), how(path)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Mode;

    #[test]
    fn files_are_compared_by_path_content_and_mode() {
        let file = |path: &str, mode: Mode, blob: &str| SourceFile {
            path: path.to_owned(),
            mode,
            blob: blob.to_owned(),
        };
        let was = [
            file("a", Mode::File, "1"),
            file("b", Mode::File, "1"),
            file("c", Mode::File, "1"),
            file("d", Mode::File, "1"),
        ];
        let is = [
            file("a", Mode::File, "1"),
            file("b", Mode::File, "2"),
            file("c", Mode::Executable, "1"),
            file("e", Mode::File, "1"),
        ];
        let found: Vec<_> =
            differences(&was, &is).into_iter().map(|(path, how)| format!("{path} {how}")).collect();
        assert_eq!(found, ["b changed", "c changed", "d gone", "e new"]);
    }
}
