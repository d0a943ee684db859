//! From what is asked to a run that this process owns: a new one, or one that its owner left.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;

use super::args::Overlap;
use super::clock;
use super::conduct::Owned;
use super::error::CliError;
use super::ground::Ground;
use super::home::make_private;
use super::images;
use super::kept;
use super::ownerless::end_ownerless;
use super::place::Place;
use super::prepare::Prepared;
use super::screen::Screen;
use super::shared_run;
use super::signals::at_least_gently;
use crate::engine::drive::Stop;
use crate::event::{Created, RunEvent, RunOutcome};
use crate::names::{PipelineName, RunId};
use crate::state::{RunFilter, RunRow, RunState, StateError, Wish};
use crate::store::PinOwner;

/// How often a waiting run looks whether its turn has come.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// What came of asking.
pub(crate) enum Launched {
    /// The run is active and ours.
    Ours(Owned),
    /// `--overlap skip`: another run goes on.
    Skipped(RunId),
    /// Stopped while it waited.
    Cancelled,
}

/// What is asked beside the pipeline itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask {
    /// What to do while another run goes on.
    pub(crate) overlap: Overlap,
    /// Remembered for `resume`.
    pub(crate) keep_going: bool,
}

/// Finds or makes the run and makes it active.
///
/// An ownerless run of the same pipeline is continued when it is the same work, else it is ended `cancelled`, its jobs stopped
/// first. A crash at any point leaves at most an ownerless run, which the next `apply` treats the same way.
pub(crate) async fn launch(
    place: &Place,
    prepared: &Prepared,
    ask: Ask,
    stop: &mut watch::Receiver<Stop>,
    screen: Screen,
) -> Result<Launched, CliError> {
    let name = &prepared.asked.pipeline.name;
    let created = prepared.created("cli");
    let wanted = Wanted { created: &created, ground: &prepared.ground };
    let left = settle(place, name, Some(&wanted), stop, screen).await?;
    let owned = if let Some(owned) = left {
        owned
    } else {
        if ask.overlap == Overlap::Skip
            && let Some(other) = unended(place, name).await?.first()
        {
            return Ok(Launched::Skipped(other.id));
        }
        make(place, prepared, created.clone(), ask.keep_going, screen).await?
    };
    await_turn(place, name, owned, ask.overlap, stop, screen).await
}

async fn make(
    place: &Place,
    prepared: &Prepared,
    mut created: Created,
    keep_going: bool,
    screen: Screen,
) -> Result<Owned, CliError> {
    let run = clock::fresh_run_id()?;
    let folder = place.home.run(run);
    make_private(&folder)?;
    let lock = place.state.try_own(run, &folder).await?.ok_or_else(|| {
        CliError::missing(format!("run {run} is held by another process"), "try again")
    })?;
    kept::keep(&folder, &prepared.asked.file, keep_going, prepared.ground.kind())?;
    if let Some(containers) = prepared.ground.containers() {
        images::keep(&folder, &containers.images)?;
    }
    prepared.asked.snapshot.pin(&pin_name(run))?;
    created.kept = shared_run::keep(place, run, &prepared.asked.snapshot, screen).await?;
    let tasks: Vec<_> = prepared
        .asked
        .graph
        .tasks
        .iter()
        .map(|task| {
            let matrix: BTreeMap<_, _> =
                task.matrix.iter().map(|(axis, value)| (axis.to_string(), value.clone())).collect();
            (task.id.clone(), task.label.clone(), matrix)
        })
        .collect();
    place.state.create_run(run, &created, &tasks, &place.owner(), clock::now()).await?;
    if let Some(kept) = &created.kept {
        // A crash before it leaves artifacts that are too young to be removed; the end of the run pins them too.
        place.store.pin(PinOwner::Run(run), &kept.artifacts()).await?;
    }
    Ok(Owned { run, lock })
}

/// The name under which a run keeps its snapshot.
pub(crate) fn pin_name(run: RunId) -> String {
    format!("run/{run}")
}

async fn unended(place: &Place, name: &PipelineName) -> Result<Vec<RunRow>, CliError> {
    let filter = RunFilter { pipeline: Some(name.clone()), unended: true, limit: None };
    Ok(place.state.runs(&filter).await?)
}

/// Settles every ownerless run of the pipeline: the newest that is `wanted` is taken over and returned, all others are ended.
async fn settle(
    place: &Place,
    name: &PipelineName,
    wanted: Option<&Wanted<'_>>,
    stop: &watch::Receiver<Stop>,
    screen: Screen,
) -> Result<Option<Owned>, CliError> {
    let mut ours = None;
    for row in unended(place, name).await? {
        let Some(lock) = place.state.try_own(row.id, &place.home.run(row.id)).await? else {
            continue;
        };
        // It may have ended between the list and the lock.
        let Some(row) = place.state.run(row.id).await? else { continue };
        if matches!(row.state, RunState::Ended(_)) {
            continue;
        }
        let run = row.id;
        if let Err(error) = shared_run::fetch_definition(place, &row).await {
            screen.detail(&format!("what run {run} was made of cannot be fetched: {error}"));
        }
        if ours.is_none() && wanted.is_some_and(|wanted| wanted.is(place, &row)) {
            place.state.take_over(run, &place.owner(), clock::now()).await?;
            screen.say(&format!("continuing run {run}, which was left unfinished"));
            ours = Some(Owned { run, lock });
        } else {
            screen.say(&format!("ending run {run}, which was left unfinished and is other work"));
            let stop = at_least_gently(stop.clone());
            Box::pin(end_ownerless(place, row, lock, stop, screen)).await?;
        }
    }
    Ok(ours)
}

/// What an unfinished run has to be to be gone on with.
struct Wanted<'a> {
    created: &'a Created,
    ground: &'a Ground,
}

impl Wanted<'_> {
    /// The same work, in the same place with the same images.
    fn is(&self, place: &Place, row: &RunRow) -> bool {
        let folder = place.home.run(row.id);
        let images = images::kept(&folder).unwrap_or_default();
        let ids: BTreeMap<_, _> =
            images.into_iter().map(|(stage, image)| (stage, image.id)).collect();
        is_same_work(&row.created, self.created)
            && kept::runtime(&folder) == self.ground.kind()
            && ids == self.ground.image_ids()
    }
}

/// Equal tree, file, params and selection.
fn is_same_work(a: &Created, b: &Created) -> bool {
    a.snapshot.tree == b.snapshot.tree
        && a.snapshot.base == b.snapshot.base
        && a.file == b.file
        && a.params == b.params
        && a.selection == b.selection
}

/// Waits until the run can be active: at most one run of a pipeline is.
async fn await_turn(
    place: &Place,
    name: &PipelineName,
    owned: Owned,
    overlap: Overlap,
    stop: &mut watch::Receiver<Stop>,
    screen: Screen,
) -> Result<Launched, CliError> {
    let run = owned.run;
    let mut said = None;
    loop {
        let row = place.state.run(run).await?;
        if row.is_some_and(|row| row.state == RunState::Active) {
            return Ok(Launched::Ours(owned));
        }
        match place.state.activate(run).await {
            Ok(()) => return Ok(Launched::Ours(owned)),
            Err(StateError::Active { run: other }) if overlap == Overlap::Skip => {
                end_waiting(place, run).await?;
                return Ok(Launched::Skipped(other));
            }
            Err(StateError::Active { run: other }) => {
                if !place.state.is_owned(other, &place.home.run(other)).await? {
                    settle(place, name, None, stop, screen).await?;
                    continue;
                }
                if said != Some(other) {
                    said = Some(other);
                    meet(place, name, run, other, overlap, screen).await?;
                } else if overlap == Overlap::Replace && place.state.wished(other).await?.is_none()
                {
                    // Whoever took it over meanwhile took the wish for one to the owner before.
                    place.state.wish(other, Wish::Stop).await?;
                }
            }
            Err(error) => return Err(error.into()),
        }
        if *stop.borrow() != Stop::No || place.state.wished(run).await?.is_some() {
            end_waiting(place, run).await?;
            return Ok(Launched::Cancelled);
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            _ = stop.changed() => {}
        }
    }
}

/// Says what is waited for; with `--overlap replace` asks all older runs of the pipeline to stop.
async fn meet(
    place: &Place,
    name: &PipelineName,
    run: RunId,
    other: RunId,
    overlap: Overlap,
    screen: Screen,
) -> Result<(), CliError> {
    let owner = place.state.run(other).await?.and_then(|row| row.owner);
    let by = owner.map(|owner| format!(" (by {}, process {})", owner.user, owner.pid));
    let by = by.unwrap_or_default();
    if overlap == Overlap::Replace {
        screen.say(&format!("stopping run {other} of this pipeline{by}, to replace it"));
        for older in unended(place, name).await?.iter().filter(|older| older.id < run) {
            place.state.wish(older.id, Wish::Stop).await?;
        }
    } else {
        screen.say(&format!(
            "waiting for run {other} of this pipeline{by}; stop it with `flowrun cancel {other}`"
        ));
    }
    Ok(())
}

/// Ends a run that never became active.
pub(crate) async fn end_waiting(place: &Place, run: RunId) -> Result<(), CliError> {
    let epoch = place.state.run(run).await?.map_or(0, |row| row.epoch);
    let ended = [RunEvent::Ended { outcome: RunOutcome::Cancelled }];
    Ok(place.state.append(run, epoch, clock::now(), &ended, &[]).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::testing::created;

    #[test]
    fn same_work_is_tree_file_params_and_selection() {
        let mut other = created();
        other.snapshot.commit = None;
        other.snapshot.dirty = true;
        assert!(is_same_work(&created(), &other), "the commit is only a name of the tree");
        let mut other = created();
        other.snapshot.tree = "u".into();
        assert!(!is_same_work(&created(), &other));
        let mut other = created();
        other.snapshot.base = "sub".into();
        assert!(!is_same_work(&created(), &other));
        let mut other = created();
        other.selection.force.insert("train".parse().unwrap());
        assert!(!is_same_work(&created(), &other));
    }
}
