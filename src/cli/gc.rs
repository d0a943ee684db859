//! `flowrun gc`: removes old ended runs and releases, then what nothing in the store needs any more.

mod docker;
mod left_runs;
mod services;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::time::{Duration, SystemTime};

use serde_json::json;

use super::args::GcArgs;
use super::clock;
use super::debug::SHELL_SCRATCH;
use super::error::CliError;
use super::exit::Exit;
use super::launch::pin_name;
use super::place::{self, Place};
use super::screen::Screen;
use super::settings::Settings;
use crate::names::{PipelineName, RunId};
use crate::outside::UNFINISHED;
use crate::state::{RunFilter, RunRow, RunState, StateError};
use crate::store::PinOwner;
use crate::words::{bytes, count, list};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Younger objects are never swept, since a run that is going on may need them before it has pinned them.
const GRACE: Duration = Duration::from_hours(48);

/// Removes what is old. A crash at any point leaves less to do for the next one.
pub(crate) async fn gc(
    args: GcArgs,
    settings: &Settings,
    screen: Screen,
) -> Result<Exit, CliError> {
    let place = Place::open(settings).await?;
    let rows = place.state.runs(&RunFilter::default()).await?;
    let now = clock::now();
    let young = settings.keep_days.saturating_mul(DAY_MS);
    if !args.dry_run {
        remove_left_temporaries(&place, &rows).await?;
        crate::runtime::secret_files::remove_stale()?;
    }
    let old = old_runs(&rows, settings.keep_runs, now.saturating_sub(young));
    let mut removed: Vec<RunId> = Vec::new();
    for row in old {
        if args.dry_run {
            if !place.state.is_owned(row.id, &place.home.run(row.id)).await? {
                removed.push(row.id);
            }
        } else if remove(&place, row, screen).await? {
            removed.push(row.id);
        }
    }
    if !args.dry_run {
        left_runs::keep_unfinished(&place, &rows).await?;
    }
    let folders = left_runs::remove(&place, &rows, args.dry_run).await?;
    let releases = services::prune(&place, args.dry_run).await?;
    let since = now.saturating_sub(young);
    let left = services::remove_folders(&place, &releases, since, args.dry_run).await?;
    if !args.dry_run {
        place.state.forget_unused_parts().await?;
        forget_scratch(&place)?;
    }
    let engine = docker::sweep(&place, &place.docker()?, args.dry_run).await?;
    if let Some(why) = &engine.unreached {
        screen.warn(&format!("containers, networks and built images stay: {why}"));
    }
    let keep_records = Duration::from_millis(young);
    let swept = place.store.collect_garbage(keep_records, GRACE, args.dry_run).await?;
    if args.output.json() {
        screen.json(&json!({
            "dry_run": args.dry_run,
            "runs": removed,
            "folders": folders,
            "releases": releases.iter().map(|row| row.release.name()).collect::<Vec<_>>(),
            "service_folders": left,
            "containers": engine.containers,
            "networks": engine.networks,
            "images": engine.images,
            "objects": swept.removed,
            "bytes": swept.bytes,
            "kept": swept.kept,
        }))?;
    } else {
        let verb = if args.dry_run { "would remove" } else { "removed" };
        let objects = usize::try_from(swept.removed).unwrap_or(usize::MAX);
        let mut what = vec![count(removed.len() + folders.len(), "run")];
        if !releases.is_empty() {
            what.push(count(releases.len(), "release"));
        }
        if !left.is_empty() {
            what.push(count(left.len(), "folder") + " of services");
        }
        for (names, noun) in [
            (&engine.containers, "container"),
            (&engine.networks, "network"),
            (&engine.images, "image"),
        ] {
            if !names.is_empty() {
                what.push(count(names.len(), noun));
            }
        }
        what.push(count(objects, "object") + " of the store");
        screen.data(&format!("{verb} {} ({})", list(&what), bytes(swept.bytes)))?;
    }
    Ok(Exit::Done)
}

/// Ended runs that are neither among the `keep` newest of their pipeline nor ended after `since`.
fn old_runs(rows: &[RunRow], keep: usize, since: u64) -> Vec<&RunRow> {
    let mut seen: BTreeMap<&PipelineName, usize> = BTreeMap::new();
    let mut old = Vec::new();
    for row in rows {
        let newer = seen.entry(&row.created.pipeline).or_default();
        *newer += 1;
        let ended = row.ended_at.filter(|_| matches!(row.state, RunState::Ended(_)));
        if *newer > keep && ended.is_some_and(|at| at < since) {
            old.push(row);
        }
    }
    old
}

/// A death between the end of a run and its last removals leaves its `TMPDIR` folder, which lies outside the home.
async fn remove_left_temporaries(place: &Place, rows: &[RunRow]) -> Result<(), CliError> {
    for row in rows.iter().filter(|row| matches!(row.state, RunState::Ended(_))) {
        let folder = place.home.run(row.id);
        if folder.join("tmp").exists()
            && let Some(lock) = place.state.try_own(row.id, &folder).await?
        {
            crate::workspace::temporary::remove(&folder)?;
            lock.release().await;
        }
    }
    Ok(())
}

/// Whether it is gone: not when somebody is just resuming it, and what users of images made, the caller cannot always remove.
///
/// The rows go last: as long as they are there, the next gc finds what is left of the run. What it left in other homes that share
/// the state, their own gc finds.
async fn remove(place: &Place, row: &RunRow, screen: Screen) -> Result<bool, CliError> {
    let folder = place.home.run(row.id);
    let Some(lock) = place.state.try_own(row.id, &folder).await? else { return Ok(false) };
    let sources = place::source(&place.home, &place.settings.caller);
    place.store.unpin(PinOwner::Run(row.id)).await?;
    crate::source::unpin(&sources, &row.created.snapshot, &pin_name(row.id))?;
    crate::workspace::temporary::remove(&folder)?;
    match crate::workspace::remove_folder(&folder) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let at = folder.display();
            screen.warn(&format!(
                "run {} stays: {error}; remove `{at}` as root, then run this again",
                row.id
            ));
            return Ok(false);
        }
        removed => removed?,
    }
    let deleted = place.state.delete_run(row.id).await;
    lock.release().await;
    match deleted {
        Ok(()) => Ok(true),
        // This process was stopped for long, and somebody has opened the run again.
        Err(StateError::Fenced { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// What old `flowrun debug` shells and downloads left, which nobody is left to remove.
fn forget_scratch(place: &Place) -> Result<(), CliError> {
    for entry in fs_err::read_dir(place.home.temporary())? {
        let entry = entry?;
        let name = entry.file_name();
        let starts = |with: &str| name.to_string_lossy().starts_with(with);
        let is_scratch = starts(SHELL_SCRATCH) || starts(UNFINISHED);
        if is_scratch && age_of(&entry)? > GRACE {
            if entry.file_type()?.is_dir() {
                fs_err::remove_dir_all(entry.path())?;
            } else {
                fs_err::remove_file(entry.path())?;
            }
        }
    }
    Ok(())
}

fn age_of(entry: &fs_err::DirEntry) -> Result<Duration, CliError> {
    let now = SystemTime::UNIX_EPOCH + Duration::from_millis(clock::now());
    Ok(now.duration_since(entry.metadata()?.modified()?).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::testing::created;
    use crate::event::{Created, RunOutcome};

    fn row(pipeline: &str, number: u64, ended_at: Option<u64>) -> RunRow {
        let created = Created { pipeline: pipeline.parse().unwrap(), ..created() };
        RunRow {
            id: RunId::new(number, 0),
            created,
            state: ended_at.map_or(RunState::Active, |_| RunState::Ended(RunOutcome::Done)),
            wish: None,
            owner: None,
            epoch: 1,
            made_at: number,
            ended_at,
        }
    }

    #[test]
    fn runs_and_days_both_keep() {
        let rows = [
            row("a", 50, Some(50)),
            row("a", 40, None),
            row("a", 30, Some(30)),
            row("a", 20, Some(20)),
            row("b", 10, Some(10)),
        ];
        let ids = |keep, since| -> Vec<u64> {
            old_runs(&rows, keep, since).iter().map(|row| row.made_at).collect()
        };
        assert_eq!(ids(2, 25), [20], "30 is young, 10 is the newest of its pipeline");
        assert_eq!(ids(2, 100), [30, 20]);
        assert_eq!(ids(0, 100), [50, 30, 20, 10], "a run that goes on is never old");
        assert_eq!(ids(9, 100), Vec::<u64>::new());
    }
}
