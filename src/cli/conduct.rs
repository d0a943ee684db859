//! Does a run that this process owns, from its journal to its summary.

use tokio::sync::watch;

use super::args::Events;
use super::clock;
use super::error::CliError;
use super::exit::Exit;
use super::place::Place;
use super::prepare::Prepared;
use super::reporter::{self, Shown};
use super::screen::Screen;
use super::summary;
use crate::engine::drive::{RunOrder, Stop, drive};
use crate::event::RunOutcome;
use crate::names::RunId;
use crate::plan::graph::Part;
use crate::state::RunLock;

/// A run whose lock this process holds, so that nobody else acts for it.
pub(crate) struct Owned {
    /// The run.
    pub(crate) run: RunId,
    /// Freed when dropped.
    pub(crate) lock: RunLock,
}

/// How a run is done and shown.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct Manner {
    /// After a failure, go on with what does not need the failed task.
    pub(crate) keep_going: bool,
    /// Keep the work folders of attempts that ended well too.
    pub(crate) keep_work: bool,
    /// Events as JSON lines on stdout.
    pub(crate) events: Option<Events>,
    /// The summary as JSON on stdout.
    pub(crate) json: bool,
    /// Show nothing but errors.
    pub(crate) silent: bool,
}

/// Does an active run until its end. The lock is freed afterwards; an error leaves the run as it is, to be resumed.
pub(crate) async fn conduct(
    place: &Place,
    prepared: Prepared,
    owned: Owned,
    manner: Manner,
    stop: watch::Receiver<Stop>,
    screen: Screen,
) -> Result<RunOutcome, CliError> {
    let run = owned.run;
    let row = place.state.run(run).await?.ok_or_else(|| {
        CliError::missing(format!("run {run} is gone"), "start a new one with `flowrun apply`")
    })?;
    let began = clock::now();
    let tasks = prepared.graph.tasks.iter().filter(|task| task.part != Part::Out);
    let tasks: Vec<_> = tasks.map(|task| (task.id.clone(), task.label.clone())).collect();
    let stages = prepared.pipeline.stages.values();
    let needs = stages.map(|stage| (stage.name.clone(), stage.needs.clone())).collect();
    let durations = place.state.durations(&prepared.pipeline.name).await?;
    let context = prepared.key_context(&run.to_string(), &row.created.snapshot);
    let order = RunOrder {
        run,
        epoch: row.epoch,
        graph: prepared.graph,
        context,
        snapshot: prepared.snapshot,
        environments: prepared.environments,
        history: place.state.last_keys(&prepared.pipeline.name, Some(run)).await?,
        journal: place.state.events(run, 0).await?,
        settings: place.engine(manner.keep_going, manner.keep_work),
        pipeline: prepared.pipeline,
    };
    let runtime = place.runtime(run)?;
    let shown = Shown {
        run,
        tasks,
        needs,
        durations: &durations,
        jobs: place.settings.jobs,
        journal: &order.journal,
    };
    let mut report = reporter::choose(shown, manner, screen);
    let store = std::sync::Arc::clone(&place.store);
    let ended = drive(order, place.state.clone(), store, runtime, &mut *report, stop).await;
    drop(report);
    let took = clock::now().saturating_sub(began);
    match ended {
        Ok(outcome) => {
            drop(owned.lock);
            if !manner.silent {
                summary::show(place, run, outcome, took, manner.json, screen).await?;
            }
            Ok(outcome)
        }
        Err(error) => {
            let error = CliError::from(error);
            if error.exit() == Exit::Unreachable {
                screen.say(&format!(
                    "run {run} is left as it is; after the mend go on with `flowrun resume {run}`"
                ));
            }
            Err(error)
        }
    }
}

/// The exit code of a run that ended so.
pub(crate) fn exit_of(outcome: RunOutcome, stop: Stop) -> Exit {
    let exit = match outcome {
        RunOutcome::Done => return Exit::Done,
        RunOutcome::Failed => Exit::Failed,
        RunOutcome::Kept => Exit::Kept,
        RunOutcome::Cancelled => Exit::Interrupted,
    };
    if stop == Stop::No { exit } else { exit.or(Exit::Interrupted) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_failed_while_it_was_stopped_was_interrupted() {
        assert_eq!(exit_of(RunOutcome::Failed, Stop::No), Exit::Failed);
        assert_eq!(exit_of(RunOutcome::Failed, Stop::Gently), Exit::Interrupted);
        assert_eq!(exit_of(RunOutcome::Done, Stop::Gently), Exit::Done);
        assert_eq!(exit_of(RunOutcome::Kept, Stop::No), Exit::Kept);
    }
}
