//! Ends a run whose owner is gone: its jobs are stopped first.

use tokio::sync::watch;

use super::clock;
use super::conduct::{Manner, Owned, conduct};
use super::error::CliError;
use super::ground::Reopen;
use super::kept;
use super::launch::end_waiting;
use super::place::{Place, host};
use super::screen::Screen;
use crate::engine::drive::Stop;
use crate::event::{JobEnd, RunEvent, RunOutcome, Usage};
use crate::names::RunId;
use crate::state::{AttemptRow, RunLock, RunRow, RunState};
use crate::words::visible;

/// Takes an unended run over, stops what still runs of it and ends it. Returns how it ended.
///
/// A crash midway leaves it ownerless, to be ended again.
pub(crate) async fn end_ownerless(
    place: &Place,
    row: RunRow,
    lock: RunLock,
    stop: watch::Receiver<Stop>,
    screen: Screen,
) -> Result<RunOutcome, CliError> {
    let run = row.id;
    say_left_jobs(place, run, screen).await?;
    let prepared = kept::reopen(place, &row, Reopen::End, screen).await;
    place.state.take_over(run, &place.owner(), clock::now()).await?;
    if row.state == RunState::Waiting {
        end_waiting(place, run).await?;
        return Ok(RunOutcome::Cancelled);
    }
    match prepared {
        Ok((prepared, keep_going)) => {
            let manner = Manner { keep_going, silent: true, ..Manner::default() };
            conduct(place, prepared, Owned { run, lock }, manner, stop, screen).await
        }
        Err(error) => {
            screen.detail(&format!("run {run} cannot be opened any more: {error}"));
            let kill = *stop.borrow() == Stop::Now;
            stop_jobs(place, &row, kill).await?;
            Ok(RunOutcome::Cancelled)
        }
    }
}

/// Jobs on other hosts are out of reach: they end by themselves, and nobody takes what they make.
async fn say_left_jobs(place: &Place, run: RunId, screen: Screen) -> Result<(), CliError> {
    let here = host();
    for attempt in open_attempts(place, run).await?.iter().filter(|one| one.host != here) {
        screen.warn(&format!(
            "attempt {} of `{}` may still run on host `{}` and cannot be stopped from here; nobody will take its outputs",
            attempt.number,
            attempt.task.stage,
            visible(&attempt.host)
        ));
    }
    Ok(())
}

async fn open_attempts(place: &Place, run: RunId) -> Result<Vec<AttemptRow>, CliError> {
    let mut attempts = place.state.attempts(run).await?;
    let tasks = place.state.tasks(run).await?;
    // An attempt that could not begin has no end either, but its task is over or at another attempt.
    let is_open = |attempt: &AttemptRow| {
        let mut tasks = tasks.iter().filter(|task| task.task == attempt.task);
        tasks.any(|task| task.state == "running" && task.attempts == attempt.number)
    };
    attempts.retain(|one| one.end.is_none() && is_open(one));
    Ok(attempts)
}

/// Without its pipeline a run can still be stopped: its journal names every job.
async fn stop_jobs(place: &Place, row: &RunRow, kill: bool) -> Result<(), CliError> {
    let run = row.id;
    let epoch = place.state.run(run).await?.map_or(row.epoch, |row| row.epoch);
    let runtime = place.runtime(run, kept::runtime(&place.home.run(run)))?;
    let tasks = place.state.tasks(run).await?;
    let mut events = Vec::new();
    for attempt in open_attempts(place, run).await? {
        let Some(number) = tasks.iter().position(|task| task.task == attempt.task) else {
            continue;
        };
        let number = u32::try_from(number + 1).unwrap_or(u32::MAX);
        let job = crate::names::JobName::new(run, number, attempt.number);
        let folder = place.home.run(run).join(format!("{number}-{}", attempt.number));
        let (end, usage) = if attempt.host == host() {
            runtime.stop(&job, kill).await?;
            let report = runtime.wait(&job, &folder).await?;
            (report.end, report.usage)
        } else {
            let why = format!("it ran on host `{}`, out of reach from here", attempt.host);
            (JobEnd::Lost { why }, Usage::default())
        };
        events.push(RunEvent::AttemptEnded {
            task: attempt.task.clone(),
            attempt: attempt.number,
            end,
            usage,
        });
        events.push(RunEvent::TaskCancelled { task: attempt.task });
    }
    events.push(RunEvent::Ended { outcome: RunOutcome::Cancelled });
    Ok(place.state.append(run, epoch, clock::now(), &events, &[]).await?)
}
