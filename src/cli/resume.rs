//! `flowrun resume`: same commit, file and params; what is done stays done.

use super::apply::refuse_detach;
use super::args::ResumeArgs;
use super::clock;
use super::conduct::{Manner, Owned, conduct, exit_of};
use super::error::CliError;
use super::exit::Exit;
use super::find;
use super::kept;
use super::place::Place;
use super::screen::Screen;
use super::settings::Settings;
use super::signals;
use crate::engine::drive::Stop;
use crate::event::RunOutcome;
use crate::state::{RunFilter, RunLock, RunRow, RunState};

/// Continues a run.
pub(crate) async fn resume(
    args: ResumeArgs,
    settings: &Settings,
    screen: Screen,
) -> Result<Exit, CliError> {
    refuse_detach(args.progress.detach)?;
    let place = Place::open(settings).await?;
    let row = match &args.run {
        Some(text) => find::run(&place.state, text).await?,
        None => newest(&place).await?,
    };
    let run = row.id;
    let Some(lock) = RunLock::try_acquire(&place.home.run(run))? else {
        let by = row.owner.map(|owner| format!(" by {}, process {}", owner.user, owner.pid));
        return Err(CliError::usage(
            format!("run {run} is being done{}", by.unwrap_or_default()),
            format!("see it with `flowrun status {run}`, or stop it with `flowrun cancel {run}`"),
        ));
    };
    // Read again: its owner may have ended it before it gave the lock back.
    let row = place.state.run(run).await?.unwrap_or(row);
    if let RunState::Ended(RunOutcome::Done | RunOutcome::Kept) = row.state {
        screen.say(&format!("run {run} has ended well; there is nothing to resume"));
        return Ok(Exit::Done);
    }
    let (prepared, kept_going) = tokio::task::block_in_place(|| kept::reopen(&place, &row))?;
    prepared.check_resources(settings)?;

    place.state.take_over(run, &place.owner(), clock::now()).await?;
    if row.state == RunState::Waiting {
        place.state.activate(run).await?;
    }
    let stop = signals::listen(Stop::No)?;
    let manner = Manner {
        keep_going: args.progress.keep_going || kept_going,
        keep_work: args.progress.keep_work,
        events: args.progress.events,
        json: args.output.json(),
        silent: false,
    };
    screen.say(&format!("resuming run {run} of {}", row.created.pipeline));
    let owned = Owned { run, lock };
    let outcome = conduct(&place, prepared, owned, manner, stop.clone(), screen).await?;
    Ok(exit_of(outcome, *stop.borrow()))
}

/// The newest run that is not ended, or ended failed or cancelled.
async fn newest(place: &Place) -> Result<RunRow, CliError> {
    let runs = place.state.runs(&RunFilter::default()).await?;
    runs.into_iter().find(|row| is_open(row.state)).ok_or_else(|| {
        CliError::usage("there is no run to resume", "start one with `flowrun apply`")
    })
}

fn is_open(state: RunState) -> bool {
    !matches!(state, RunState::Ended(RunOutcome::Done | RunOutcome::Kept))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_end_well_is_open() {
        for state in [
            RunState::Waiting,
            RunState::Active,
            RunState::Ended(RunOutcome::Failed),
            RunState::Ended(RunOutcome::Cancelled),
        ] {
            assert!(is_open(state), "{state:?}");
        }
        assert!(!is_open(RunState::Ended(RunOutcome::Done)));
        assert!(!is_open(RunState::Ended(RunOutcome::Kept)));
    }
}
