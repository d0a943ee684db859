//! `flowrun cancel`: the owner is asked to stop; a run without one is stopped here.

use std::time::Duration;

use serde_json::json;

use super::args::CancelArgs;
use super::error::CliError;
use super::exit::Exit;
use super::find;
use super::ownerless::end_ownerless;
use super::place::Place;
use super::screen::Screen;
use super::settings::Settings;
use super::signals;
use crate::engine::drive::Stop;
use crate::event::RunOutcome;
use crate::state::{RunRow, RunState, Wish};

/// How often it is looked whether the owner has stopped the run.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Stops a run and waits for its end. Ctrl-C stops only the waiting.
pub(crate) async fn cancel(
    args: CancelArgs,
    settings: &Settings,
    screen: Screen,
) -> Result<Exit, CliError> {
    let place = Place::open(settings).await?;
    let mut row = find::run(&place.state, &args.run).await?;
    let run = row.id;
    let (wish, how) = if args.kill { (Wish::Kill, Stop::Now) } else { (Wish::Stop, Stop::Gently) };
    if let RunState::Ended(outcome) = row.state {
        return told(run, outcome, false, args.output.json(), screen);
    }
    place.state.wish(run, wish).await?;
    let mut said = false;
    loop {
        if let Some(lock) = place.state.try_own(run, &place.home.run(run)).await? {
            row = read(&place, row).await?;
            let outcome = match row.state {
                RunState::Ended(outcome) => outcome,
                RunState::Waiting | RunState::Active => {
                    let stop = signals::listen(how)?;
                    Box::pin(end_ownerless(&place, row, lock, stop, screen)).await?
                }
            };
            return told(run, outcome, true, args.output.json(), screen);
        }
        row = read(&place, row).await?;
        if let RunState::Ended(outcome) = row.state {
            return told(run, outcome, true, args.output.json(), screen);
        }
        if row.wish.is_none() {
            // Whoever took the run over meanwhile took the wish for one to the owner before.
            place.state.wish(run, wish).await?;
        }
        if !said {
            said = true;
            let by = row.owner.as_ref().map(|owner| format!(" (process {})", owner.pid));
            screen
                .say(&format!("asked the owner of run {run}{} to stop it", by.unwrap_or_default()));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn read(place: &Place, row: RunRow) -> Result<RunRow, CliError> {
    Ok(place.state.run(row.id).await?.unwrap_or(row))
}

fn told(
    run: crate::names::RunId,
    outcome: RunOutcome,
    now: bool,
    as_json: bool,
    screen: Screen,
) -> Result<Exit, CliError> {
    if as_json {
        screen.json(&json!({"run": run, "outcome": outcome}))?;
    } else if outcome == RunOutcome::Cancelled && now {
        screen.say(&format!("run {run} is cancelled; go on with `flowrun resume {run}`"));
    } else {
        screen.say(&format!("run {run} had ended already: {}", outcome.word()));
    }
    Ok(Exit::Done)
}
