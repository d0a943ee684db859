//! `flowrun status`, `runs`, `runs diff`: rows as text or JSON.

use super::args::{RunsArgs, RunsCommand, StatusArgs};
use super::clock;
use super::error::CliError;
use super::exit::Exit;
use super::find;
use super::place::Place;
use super::screen::Screen;
use super::settings::Settings;
use crate::names::RunId;
use crate::report::{
    RunSide, diff_json, diff_text, runs_json, runs_text, status_home, status_home_json, status_run,
    status_run_json,
};
use crate::state::{RunFilter, RunRow, RunState, TaskRow, owner_alive};

/// How many ended runs the home's screen shows.
const LAST: u32 = 8;

/// Shows the home or one run.
pub(crate) async fn status(
    args: StatusArgs,
    settings: &Settings,
    screen: Screen,
) -> Result<Exit, CliError> {
    let place = Place::open(settings).await?;
    let Some(text) = &args.run else {
        return home(&place, args.output.json(), screen).await;
    };
    let row = find::run(&place.state, text).await?;
    let tasks = place.state.tasks(row.id).await?;
    if args.output.json() {
        let metrics = place.state.metrics(row.id).await?;
        screen.json(&status_run_json(&row, &tasks, &metrics))?;
    } else {
        screen.data(&status_run(clock::now(), &row, &tasks, screen.colour_out))?;
    }
    Ok(Exit::Done)
}

async fn home(place: &Place, as_json: bool, screen: Screen) -> Result<Exit, CliError> {
    let rows = place.state.runs(&RunFilter { unended: true, ..RunFilter::default() }).await?;
    let last = place.state.runs(&RunFilter { limit: Some(LAST), ..RunFilter::default() }).await?;
    let ended = last.into_iter().filter(|row| matches!(row.state, RunState::Ended(_)));
    let runs = with_tasks(place, rows.into_iter().chain(ended).collect()).await?;
    let is_owned = |run: RunId| owner_alive(&place.home.run(run));
    if as_json {
        screen.json(&status_home_json(&runs, &is_owned))?;
    } else {
        screen.data(&status_home(clock::now(), &runs, &is_owned, screen.colour_out))?;
    }
    Ok(Exit::Done)
}

async fn with_tasks(
    place: &Place,
    rows: Vec<RunRow>,
) -> Result<Vec<(RunRow, Vec<TaskRow>)>, CliError> {
    let mut runs = Vec::new();
    for row in rows {
        let tasks = place.state.tasks(row.id).await?;
        runs.push((row, tasks));
    }
    Ok(runs)
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
        let (a, b) = (side(&place, a).await?, side(&place, b).await?);
        if output.json() {
            screen.json(&diff_json(&a, &b))?;
        } else {
            screen.data(&diff_text(clock::now(), &a, &b, screen.colour_out))?;
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
    let runs = with_tasks(&place, rows).await?;
    if args.output.json() {
        screen.json(&runs_json(&runs))?;
    } else {
        screen.data(&runs_text(clock::now(), &runs, screen.colour_out))?;
    }
    Ok(Exit::Done)
}

/// Everything of a run that is compared.
async fn side(place: &Place, run: RunRow) -> Result<RunSide, CliError> {
    let tasks = place.state.tasks(run.id).await?;
    let keys = place.state.keys_of_run(run.id).await?;
    let metrics = place.state.metrics(run.id).await?;
    Ok(RunSide { run, tasks, keys, metrics })
}
