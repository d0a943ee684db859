//! Ends a run whose owner is gone: its jobs are stopped first.

use tokio::sync::watch;

use super::clock;
use super::conduct::{Manner, Owned, conduct};
use super::error::CliError;
use super::kept;
use super::launch::end_waiting;
use super::place::Place;
use super::screen::Screen;
use crate::engine::drive::Stop;
use crate::event::{RunEvent, RunOutcome};
use crate::state::{RunLock, RunRow, RunState};

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
    let prepared = tokio::task::block_in_place(|| kept::reopen(place, &row));
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

/// Without its pipeline a run can still be stopped: its journal names every job.
async fn stop_jobs(place: &Place, row: &RunRow, kill: bool) -> Result<(), CliError> {
    let run = row.id;
    let epoch = place.state.run(run).await?.map_or(row.epoch, |row| row.epoch);
    let runtime = place.runtime(run)?;
    let tasks = place.state.tasks(run).await?;
    let mut events = Vec::new();
    for attempt in place.state.attempts(run).await?.into_iter().filter(|one| one.end.is_none()) {
        let Some(number) = tasks.iter().position(|task| task.task == attempt.task) else {
            continue;
        };
        let number = u32::try_from(number + 1).unwrap_or(u32::MAX);
        let job = crate::names::JobName::new(run, number, attempt.number);
        let folder = place.home.run(run).join(format!("{number}-{}", attempt.number));
        runtime.stop(&job, kill).await?;
        let report = runtime.wait(&job, &folder).await?;
        events.push(RunEvent::AttemptEnded {
            task: attempt.task.clone(),
            attempt: attempt.number,
            end: report.end,
            usage: report.usage,
        });
        events.push(RunEvent::TaskCancelled { task: attempt.task });
    }
    events.push(RunEvent::Ended { outcome: RunOutcome::Cancelled });
    Ok(place.state.append(run, epoch, clock::now(), &events, &[]).await?)
}
