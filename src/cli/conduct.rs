//! Does a run that this process owns, from its journal to its summary.

use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::watch;

use super::args::Events;
use super::clock;
use super::error::CliError;
use super::exit::Exit;
use super::place::Place;
use super::prepare::Prepared;
use super::reporter::{self, Shown};
use super::screen::Screen;
use super::service_views;
use super::summary;
use crate::engine::EngineError;
use crate::engine::drive::{RunOrder, Stop, drive};
use crate::event::RunOutcome;
use crate::names::RunId;
use crate::plan::graph::Part;
use crate::state::{RunLock, ServiceHome};

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

/// Tells of services of this run that another home keeps up, before anything is computed for them.
async fn tell_elsewhere(
    place: &Place,
    prepared: &Prepared,
    screen: Screen,
) -> Result<(), CliError> {
    for row in place.state.services(Some(&prepared.asked.pipeline.name)).await? {
        let mut wanted = prepared.asked.graph.tasks.iter().filter(|task| task.part.is_wanted());
        if row.home != ServiceHome::This && wanted.any(|task| task.id.stage == row.service.stage) {
            screen.say(&format!(
                "note: `{}` is kept up by the home {}: this run leaves it as it is, and fails where it would have to change",
                row.service.stage, row.home
            ));
        }
    }
    Ok(())
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
    let tasks = prepared.asked.graph.tasks.iter().filter(|task| task.part != Part::Out);
    let tasks: Vec<_> = tasks.map(|task| (task.id.clone(), task.label.clone())).collect();
    let stages = prepared.asked.pipeline.stages.values();
    let services =
        service_views::known(place, &prepared.asked.pipeline, prepared.ground.kind()).await?;
    let needs = stages.map(|stage| (stage.name.clone(), stage.needs.clone())).collect();
    if !manner.silent {
        tell_elsewhere(place, &prepared, screen).await?;
    }
    let durations = place.state.durations(&prepared.asked.pipeline.name).await?;
    let context = prepared.key_context(&run.to_string(), &row.created.snapshot);
    let (told, remarks) = unbounded_channel();
    let rollout = std::sync::Arc::new(place.client(told)?);
    let mut settings = place.engine(manner.keep_going, manner.keep_work);
    let stages = prepared.asked.pipeline.stages.values();
    let served = stages.filter(|stage| stage.service().is_some()).map(|stage| &stage.name);
    settings.environment.docker =
        prepared.ground.containers().map(|containers| containers.docker.clone());
    settings.docker = prepared.ground.containers().map(|containers| containers.place(served));
    let runtime = place.runtime(run, prepared.ground.kind())?;
    let order = RunOrder {
        run,
        epoch: row.epoch,
        graph: prepared.asked.graph,
        context,
        snapshot: prepared.asked.snapshot,
        environments: prepared.environments,
        history: place.state.last_keys(&prepared.asked.pipeline.name, Some(run)).await?,
        journal: place.state.events(run, 0).await?,
        settings,
        pipeline: prepared.asked.pipeline,
        remarks,
    };
    let shown = Shown {
        run,
        tasks,
        needs,
        durations: &durations,
        services,
        jobs: place.settings.jobs,
        journal: &order.journal,
    };
    let engine = prepared.ground.containers().map(|containers| containers.docker.clone());
    let mut report = reporter::choose(shown, manner, screen);
    let store = std::sync::Arc::clone(&place.store);
    let driving = drive(order, place.state.clone(), store, runtime, rollout, &mut *report, stop);
    let ended = Box::pin(driving).await;
    drop(report);
    let took = clock::now().saturating_sub(began);
    match ended {
        Ok(outcome) => {
            if let Some(docker) = engine {
                // What is left finds gc.
                drop(docker.remove_unstarted("flowrun.run", &run.to_string()).await);
            }
            owned.lock.release().await;
            if !manner.silent {
                summary::show(place, run, outcome, took, manner.json, screen).await?;
            }
            Ok(outcome)
        }
        Err(error) => {
            let error = CliError::from(error);
            let is_left = matches!(error, CliError::Engine(EngineError::Left));
            if is_left || error.exit() == Exit::Unreachable {
                screen.say(&format!(
                    "run {run} is left as it is; after the mend go on with `flowrun resume {run}`"
                ));
            }
            Err(error)
        }
    }
}
