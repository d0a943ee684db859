//! The last lines of a run: what was done, what was reused, and where to look.

use super::error::CliError;
use super::inspect::moved_bytes;
use super::place::Place;
use super::screen::{Loudness, Screen, to_stderr};
use super::service_views;
use crate::event::RunOutcome;
use crate::names::RunId;
use crate::report::{status_run_json, summary};

/// Shows how a run ended and where its services answer: lines on stderr, or an object on stdout.
pub(crate) async fn show(
    place: &Place,
    run: RunId,
    outcome: RunOutcome,
    took_ms: u64,
    as_json: bool,
    screen: Screen,
) -> Result<(), CliError> {
    let tasks = place.state.tasks(run).await?;
    let Some(row) = place.state.run(run).await? else { return Ok(()) };
    let moved = moved_bytes(place, run).await?;
    if as_json {
        let metrics = place.state.metrics(run).await?;
        return screen.json(&status_run_json(&row, &tasks, &metrics, &moved, None));
    }
    if screen.loudness >= Loudness::Usual || outcome != RunOutcome::Done {
        let mut live = service_views::live(place, &row.created.pipeline).await?;
        live.retain(|service| tasks.iter().any(|task| task.task.stage == service.stage));
        to_stderr(&summary(run, outcome, &tasks, &live, took_ms, screen.colour_err));
        if let Some(line) = moved.summary_line(place.shares_store()) {
            to_stderr(&line);
        }
    }
    Ok(())
}
