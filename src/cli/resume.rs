//! `flowrun resume`: same commit, file and params; what is done stays done.

use std::collections::BTreeSet;

use super::apply::refuse_detach;
use super::args::ResumeArgs;
use super::clock;
use super::conduct::{Manner, Owned, conduct};
use super::error::CliError;
use super::exit::Exit;
use super::find;
use super::ground::{Reopen, RuntimeKind};
use super::kept;
use super::leaving;
use super::needed_secrets;
use super::place::{Place, host};
use super::screen::Screen;
use super::settings::{RuntimeChoice, Settings};
use super::signals;
use crate::engine::drive::Stop;
use crate::event::RunOutcome;
use crate::names::RunId;
use crate::state::{RunFilter, RunRow, RunState};

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
    let Some(lock) = place.state.try_own(run, &place.home.run(run)).await? else {
        let elsewhere = row.owner.as_ref().is_some_and(|owner| owner.host != host());
        let by = row.owner.map(|owner| format!(" by {}, process {}", owner.user, owner.pid));
        let patience = if elsewhere {
            "; if that machine is gone, its hold ends by itself within 30 s: then try again"
        } else {
            ""
        };
        return Err(CliError::usage(
            format!("run {run} is being done{}", by.unwrap_or_default()),
            format!(
                "see it with `flowrun status {run}`, or stop it with `flowrun cancel {run}`{patience}"
            ),
        ));
    };
    // Read again: its owner may have ended it before it gave the lock back.
    let row = place.state.run(run).await?.unwrap_or(row);
    if let RunState::Ended(RunOutcome::Done | RunOutcome::Kept) = row.state {
        screen.say(&format!("run {run} has ended well; there is nothing to resume"));
        return Ok(Exit::Done);
    }
    refuse_other_ground(settings, run, kept::runtime(&place.home.run(run)))?;
    let (prepared, kept_going) = kept::reopen(&place, &row, Reopen::GoOn, screen).await?;
    let prepared = needed_secrets::check(&place, prepared).await?;
    // What a later run brought live is not this one's to take down.
    let leaving = if leaving::is_newest(&place, &row.created.pipeline, run).await? {
        leaving::left(&place, &prepared).await?
    } else {
        Vec::new()
    };
    leaving::refuse_conflicts(&place, &prepared, &leaving).await?;
    leaving::agree(&leaving, args.yes)?;

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
    if outcome == RunOutcome::Done {
        leaving::take_down(&place, run, &leaving, screen).await?;
    }
    Ok(Exit::of_run(outcome, *stop.borrow()))
}

/// A run goes on where it began: its keys and its images are of there.
fn refuse_other_ground(
    settings: &Settings,
    run: RunId,
    began: RuntimeKind,
) -> Result<(), CliError> {
    let (other, word) = match began {
        RuntimeKind::Local => (RuntimeChoice::Docker, "local"),
        RuntimeKind::Docker => (RuntimeChoice::Local, "docker"),
    };
    if !settings.runtime_is_asked || settings.runtime != other {
        return Ok(());
    }
    Err(CliError::usage(
        format!("run {run} began with the runtime `{word}` and goes on there"),
        "leave out `--runtime`, or start a new run with `flowrun apply`",
    ))
}

/// The newest run that is not ended, or ended failed or cancelled, and that no later run of its pipeline followed: going on
/// with older code behind a newer release has to be asked for by name.
async fn newest(place: &Place) -> Result<RunRow, CliError> {
    let runs = place.state.runs(&RunFilter::default()).await?;
    let older = runs.iter().find(|row| is_open(row.state)).map(|row| row.id);
    let mut followed = BTreeSet::new();
    let found = runs.into_iter().find(|row| {
        let is_newest = followed.insert(row.created.pipeline.clone());
        is_newest && is_open(row.state)
    });
    found.ok_or_else(|| match older {
        Some(run) => CliError::usage(
            "there is no run to resume: a later run of its pipeline followed each that is unfinished",
            format!("go on with the older code by name: `flowrun resume {run}`"),
        ),
        None => CliError::usage("there is no run to resume", "start one with `flowrun apply`"),
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
