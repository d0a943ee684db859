//! The last lines of a run: what was done, what was reused, and where to look.

use super::error::CliError;
use super::place::Place;
use super::screen::{Loudness, Screen, to_stderr};
use crate::event::RunOutcome;
use crate::names::RunId;
use crate::report::{status_run_json, summary};

/// Shows how a run ended: lines on stderr, or an object on stdout.
pub(crate) async fn show(
    place: &Place,
    run: RunId,
    outcome: RunOutcome,
    took_ms: u64,
    as_json: bool,
    screen: Screen,
) -> Result<(), CliError> {
    let tasks = place.state.tasks(run).await?;
    if as_json {
        let Some(row) = place.state.run(run).await? else { return Ok(()) };
        let metrics = place.state.metrics(run).await?;
        return screen.json(&status_run_json(&row, &tasks, &metrics));
    }
    if screen.loudness >= Loudness::Usual || outcome != RunOutcome::Done {
        to_stderr(&summary(run, outcome, &tasks, took_ms, screen.colour_err));
    }
    Ok(())
}
