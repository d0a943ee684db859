//! `flowrun status`, `runs`, `runs diff`: rows as text or JSON.

use std::collections::BTreeMap;

use super::args::{RunsArgs, RunsCommand, StatusArgs};
use super::clock;
use super::error::CliError;
use super::exit::Exit;
use super::find;
use super::images;
use super::place::Place;
use super::screen::Screen;
use super::service_name::find_service;
use super::service_views::{Services, services};
use super::settings::Settings;
use crate::names::RunId;
use crate::report::{
    HomeView, Left, MovedBytes, RunSide, diff_json, diff_text, runs_json, runs_text, status_home,
    status_home_json, status_run, status_run_json, status_service, status_service_json,
};
use crate::state::{RunFilter, RunRow, RunState, TaskRow};

/// How many ended runs the home's screen shows.
const LAST: u32 = 8;

/// Shows the home, one run or one service.
pub(crate) async fn status(
    args: StatusArgs,
    settings: &Settings,
    screen: Screen,
) -> Result<Exit, CliError> {
    let place = Place::open(settings).await?;
    let Some(text) = &args.name else {
        return home(&place, args.output.json(), screen).await;
    };
    if !find::looks_like_run(text) {
        return service(&place, text, args.output.json(), screen).await;
    }
    let row = find::run(&place.state, text).await?;
    let tasks = place.state.tasks(row.id).await?;
    let moved = moved_bytes(&place, row.id).await?;
    let left = left(&place, &row).await?;
    if args.output.json() {
        let metrics = place.state.metrics(row.id).await?;
        let mut value = status_run_json(&row, &tasks, &metrics, &moved, left.as_ref());
        value["images"] = images::shown(&place.home.run(row.id));
        screen.json(&value)?;
    } else {
        let now = clock::now();
        screen.data(&status_run(now, &row, &tasks, &moved, left.as_ref(), screen.colour_out))?;
    }
    Ok(Exit::Done)
}

/// A run that nobody does, though it is not over.
async fn left(place: &Place, row: &RunRow) -> Result<Option<Left>, CliError> {
    if row.ended_at.is_some() || place.state.is_owned(row.id, &place.home.run(row.id)).await? {
        return Ok(None);
    }
    Ok(Some(Left { why: place.state.why_left(row.id).await? }))
}

/// The bytes that the tasks of a run moved.
pub(crate) async fn moved_bytes(place: &Place, run: RunId) -> Result<MovedBytes, CliError> {
    let journal = place.state.events(run, 0).await?;
    Ok(MovedBytes::of(journal.iter().map(|recorded| &recorded.event)))
}

async fn home(place: &Place, as_json: bool, screen: Screen) -> Result<Exit, CliError> {
    let rows = place.state.runs(&RunFilter { unended: true, ..RunFilter::default() }).await?;
    let last = place.state.runs(&RunFilter { limit: Some(LAST), ..RunFilter::default() }).await?;
    let ended = last.into_iter().filter(|row| matches!(row.state, RunState::Ended(_)));
    let runs = with_tasks(place, rows.into_iter().chain(ended).collect()).await?;
    let mut nobodys = BTreeMap::new();
    for (row, _) in &runs {
        if let Some(left) = left(place, row).await? {
            nobodys.insert(row.id, left);
        }
    }
    let Services { views, server } = services(place, None).await?;
    let host = super::place::host();
    let home = HomeView { services: &views, server, runs: &runs, left: &nobodys, host: &host };
    if as_json {
        screen.json(&status_home_json(&home))?;
    } else {
        screen.data(&status_home(clock::now(), &home, screen.colour_out))?;
    }
    Ok(Exit::Done)
}

async fn service(
    place: &Place,
    text: &str,
    as_json: bool,
    screen: Screen,
) -> Result<Exit, CliError> {
    let row = find_service(&place.state, text).await?;
    let Services { mut views, server } = services(place, Some(&row.service)).await?;
    let Some(view) = views.pop() else {
        return Err(CliError::usage(
            format!("the service `{}` went a moment ago", row.service),
            "see what is left with `flowrun status`",
        ));
    };
    let releases = place.state.releases(Some(&row.service)).await?;
    if as_json {
        screen.json(&status_service_json(&view, &releases, server))?;
    } else {
        let now = clock::now();
        screen.data(&status_service(now, &view, &releases, server, screen.colour_out))?;
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
