//! `flowrun logs SERVICE`: what the replicas of a service print, in one stream by time, over restarts and releases.

mod form;
mod merged;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::IsTerminal;
use std::time::Duration;

use super::args::LogsArgs;
use super::error::CliError;
use super::exit::Exit;
use super::find;
use super::place::Place;
use super::screen::Screen;
use super::service_name::{find_release, find_service_id};
use crate::event::RunEvent;
use crate::names::{ReleaseId, ServiceId};
use crate::rollout::folders::{StartFolder, starts};
use crate::state::RunFilter;
use form::{Form, Shape};
use merged::MergedLog;

/// How often it is looked for new lines. A line shall reach the screen within 200 ms.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// In so many of these looks new starts are looked for once.
const STARTS_EVERY: u32 = 5;

/// Whose log was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    service: ServiceId,
    /// Of this release only; else of what is live or about to be.
    release: Option<ReleaseId>,
}

/// The service that the words of `logs` name; nothing when they name a task.
///
/// One name alone is a task of the newest run, unless that is a service, or a service of any pipeline.
pub(crate) async fn wanted(place: &Place, words: &[String]) -> Result<Option<Wanted>, CliError> {
    let known = &place.state;
    match words {
        [run, task] => {
            let row = find::run(known, run).await?;
            let tasks = known.tasks(row.id).await?;
            let (_, task) = find::task(&tasks, task)?;
            let events = known.events(row.id, 0).await?;
            let release = events.iter().rev().find_map(|recorded| match &recorded.event {
                RunEvent::RolloutStarted { task: of, release, .. }
                | RunEvent::RolloutUnchanged { task: of, release, .. }
                    if *of == task.task =>
                {
                    Some(*release)
                }
                _ => None,
            });
            let stage = task.task.stage.clone();
            let service = ServiceId { pipeline: row.created.pipeline, stage };
            Ok(release.map(|release| Wanted { service, release: Some(release) }))
        }
        [name] if find::looks_like_run(name) || name.contains('[') => Ok(None),
        [name] if name.contains('@') => {
            let row = find_release(known, name).await?;
            Ok(Some(Wanted { service: row.release.service, release: Some(row.release.id) }))
        }
        [name] if name.contains('/') => {
            Ok(Some(Wanted { service: find_service_id(known, name).await?, release: None }))
        }
        [name] => {
            let newest = RunFilter { limit: Some(1), ..RunFilter::default() };
            if let Some(row) = known.runs(&newest).await?.pop() {
                let tasks = known.tasks(row.id).await?;
                let task = tasks.iter().find(|task| task.task.stage.as_str() == name);
                if let Some(task) = task {
                    let stage = task.task.stage.clone();
                    let service = ServiceId { pipeline: row.created.pipeline, stage };
                    let is_service = !known.releases(Some(&service)).await?.is_empty();
                    return Ok(is_service.then_some(Wanted { service, release: None }));
                }
                if tasks.iter().any(|task| task.label == *name) {
                    return Ok(None);
                }
            }
            // A name that is neither is refused as a task.
            let service = find_service_id(known, name).await.ok();
            Ok(service.map(|service| Wanted { service, release: None }))
        }
        _ => Ok(None),
    }
}

/// Prints the log of a service, and with `-f` what comes until nobody reads any more.
pub(crate) async fn show(
    place: &Place,
    wanted: &Wanted,
    args: &LogsArgs,
    screen: Screen,
) -> Result<Exit, CliError> {
    if args.attempt.is_some() {
        return Err(CliError::usage(
            format!("`{}` is a service, and services have no attempts", wanted.service),
            "name a replica with `--replica`, or a release with `SERVICE@N`",
        ));
    }
    let mut log = MergedLog::new(args.replica);
    look_for_starts(&mut log, place, wanted).await?;
    if log.sources.is_empty() && !args.follow {
        return Err(CliError::usage(
            format!("there is no log of `{}`", name_of(wanted, args.replica)),
            format!("see what there is with `flowrun releases {}`", wanted.service),
        ));
    }
    let form = Form {
        name: wanted.service.stage.to_string(),
        stream: args.stream,
        shape: match (args.output.json(), std::io::stdout().is_terminal()) {
            (true, _) => Shape::Json,
            (false, true) => Shape::Visible,
            (false, false) => Shape::Raw,
        },
        prefix: args.replica.is_none(),
        colour: screen.colour_out,
    };
    let mut last = VecDeque::new();
    while let Some(item) = log.next(!args.follow)? {
        if !form.wants(&item) {
            continue;
        }
        match args.lines {
            None => {
                if !form.print(&item, screen)? {
                    return Ok(Exit::Done);
                }
            }
            Some(most) => {
                last.push_back(item);
                last.drain(..last.len().saturating_sub(most));
            }
        }
    }
    for item in last {
        if !form.print(&item, screen)? {
            return Ok(Exit::Done);
        }
    }
    if !args.follow {
        return Ok(Exit::Done);
    }
    for look in 0_u32.. {
        tokio::time::sleep(LOOK_EVERY).await;
        if look.is_multiple_of(STARTS_EVERY) {
            look_for_starts(&mut log, place, wanted).await?;
        }
        while let Some(item) = log.next(false)? {
            if form.wants(&item) && !form.print(&item, screen)? {
                return Ok(Exit::Done);
            }
        }
    }
    Ok(Exit::Done)
}

fn name_of(wanted: &Wanted, replica: Option<u32>) -> String {
    match replica {
        Some(replica) => format!("{}[{replica}]", wanted.service),
        None => wanted.service.to_string(),
    }
}

/// Looks for starts that were not seen yet.
async fn look_for_starts(
    log: &mut MergedLog,
    place: &Place,
    wanted: &Wanted,
) -> Result<(), CliError> {
    let all = starts(&place.home.services(), &wanted.service)?;
    let releases = match wanted.release {
        Some(release) => BTreeSet::from([release]),
        None => current(place, &wanted.service, &all).await?,
    };
    let mut numbers = BTreeMap::new();
    for release in &releases {
        if let Some(row) = place.state.release(*release).await? {
            numbers.insert(*release, row.release.number);
        }
    }
    log.take(&all, &releases, &numbers);
    Ok(())
}

/// The releases whose log is of interest: what is live and what is about to be, else the newest that ran.
async fn current(
    place: &Place,
    service: &ServiceId,
    all: &[StartFolder],
) -> Result<BTreeSet<ReleaseId>, CliError> {
    let rows = place.state.services(Some(&service.pipeline)).await?;
    let row = rows.into_iter().find(|row| row.service == *service);
    let named: BTreeSet<ReleaseId> = row
        .into_iter()
        .flat_map(|row| row.live.into_iter().chain(row.candidate.map(|(release, _)| release)))
        .collect();
    if named.is_empty() {
        return Ok(all.iter().map(|start| start.release).max().into_iter().collect());
    }
    Ok(named)
}

#[cfg(test)]
mod tests;
