//! `flowrun gc`: removes old ended runs, then what nothing in the store needs any more.

use std::collections::BTreeMap;
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
use crate::state::{RunFilter, RunLock, RunRow, RunState};
use crate::words::{bytes, count};

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
        remove_left_temporaries(&place, &rows)?;
    }
    let old = old_runs(&rows, settings.keep_runs, now.saturating_sub(young));
    let mut removed: Vec<RunId> = Vec::new();
    for row in old {
        let folder = place.home.run(row.id);
        // A run that is just being resumed is not old.
        let Some(lock) = RunLock::try_acquire(&folder)? else { continue };
        if !args.dry_run {
            remove(&place, row).await?;
        }
        drop(lock);
        removed.push(row.id);
    }
    let folders = abandoned(&place, &rows)?;
    if !args.dry_run {
        for folder in &folders {
            crate::workspace::remove_folder(folder)?;
        }
    }
    if !args.dry_run {
        place.state.forget_unused_parts().await?;
    }
    if !args.dry_run {
        forget_shells(&place)?;
    }
    let keep_records = Duration::from_millis(young);
    let swept = place.store.collect_garbage(keep_records, GRACE, args.dry_run).await?;
    if args.output.json() {
        screen.json(&json!({
            "dry_run": args.dry_run,
            "runs": removed,
            "folders": folders,
            "objects": swept.removed,
            "bytes": swept.bytes,
            "kept": swept.kept,
        }))?;
    } else {
        let verb = if args.dry_run { "would remove" } else { "removed" };
        let objects = usize::try_from(swept.removed).unwrap_or(usize::MAX);
        screen.data(&format!(
            "{verb} {} and {} of the store ({})",
            count(removed.len() + folders.len(), "run"),
            count(objects, "object"),
            bytes(swept.bytes)
        ))?;
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
fn remove_left_temporaries(place: &Place, rows: &[RunRow]) -> Result<(), CliError> {
    for row in rows.iter().filter(|row| matches!(row.state, RunState::Ended(_))) {
        let folder = place.home.run(row.id);
        if folder.join("tmp").exists()
            && let Some(lock) = RunLock::try_acquire(&folder)?
        {
            crate::engine::remove_temporary(&folder)?;
            drop(lock);
        }
    }
    Ok(())
}

/// The rows go last: as long as they are there, the next gc finds what is left of the run.
async fn remove(place: &Place, row: &RunRow) -> Result<(), CliError> {
    let sources = place::source(&place.home, &place.settings.caller);
    place.store.unpin(row.id).await?;
    crate::source::unpin(&sources, &row.created.snapshot, &pin_name(row.id))?;
    let folder = place.home.run(row.id);
    crate::engine::remove_temporary(&folder)?;
    crate::workspace::remove_folder(&folder)?;
    place.state.delete_run(row.id).await?;
    Ok(())
}

/// Folders of runs whose rows were never made, older than the grace.
fn abandoned(place: &Place, rows: &[RunRow]) -> Result<Vec<std::path::PathBuf>, CliError> {
    let mut folders = Vec::new();
    for entry in fs_err::read_dir(place.home.runs())? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse::<RunId>().ok()) else { continue };
        if age_of(&entry)? > GRACE
            && !rows.iter().any(|row| row.id == id)
            && RunLock::try_acquire(&entry.path())?.is_some()
        {
            folders.push(entry.path());
        }
    }
    Ok(folders)
}

/// The scratch folders of old `flowrun debug` shells, which nobody is left to remove.
fn forget_shells(place: &Place) -> Result<(), CliError> {
    for entry in fs_err::read_dir(place.home.temporary())? {
        let entry = entry?;
        let is_shell = entry.file_name().to_string_lossy().starts_with(SHELL_SCRATCH);
        if is_shell && age_of(&entry)? > GRACE {
            fs_err::remove_dir_all(entry.path())?;
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
    use crate::digest::Digest;
    use crate::event::{Created, RunOutcome, Selection, SnapshotId};

    fn row(pipeline: &str, number: u64, ended_at: Option<u64>) -> RunRow {
        let created = Created {
            version: 1,
            pipeline: pipeline.parse().unwrap(),
            snapshot: SnapshotId {
                tree: "t".into(),
                commit: None,
                reference: None,
                dirty: false,
                base: String::new(),
                origin: "/o".into(),
            },
            file: Digest::of(b"f"),
            params: BTreeMap::new(),
            selection: Selection::default(),
            cause: "cli".into(),
        };
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
