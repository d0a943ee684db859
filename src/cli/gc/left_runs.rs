//! What runs left in this home: of runs that nobody knows any more it goes, and what unfinished ones need is kept.

use std::path::PathBuf;

use super::{GRACE, age_of};
use crate::cli::error::CliError;
use crate::cli::launch::pin_name;
use crate::cli::place::{self, Place};
use crate::digest::Digest;
use crate::event::{KeptParts, RunEvent, RunOutcome};
use crate::names::RunId;
use crate::state::{Recorded, RunRow, RunState};
use crate::store::PinOwner;

/// Says once more what unfinished runs of this home need: one whose owner died may have had no time for it. Without it they could not
/// be gone on with, since objects that nothing names go when they are two days old.
pub(super) async fn keep_unfinished(place: &Place, rows: &[RunRow]) -> Result<(), CliError> {
    for row in rows {
        let folder = place.home.run(row.id);
        let is_finished = matches!(row.state, RunState::Ended(RunOutcome::Done | RunOutcome::Kept));
        if is_finished || !folder.exists() {
            continue;
        }
        // Whoever has it says it by itself.
        let Some(lock) = place.state.try_own(row.id, &folder).await? else { continue };
        let needed = needed(&place.state.events(row.id, 0).await?);
        if !needed.is_empty() {
            place.store.pin(PinOwner::Run(row.id), &needed).await?;
        }
        lock.release().await;
    }
    Ok(())
}

/// Every artifact that a journal names.
fn needed(journal: &[Recorded]) -> Vec<Digest> {
    let mut needed = Vec::new();
    for record in journal {
        match &record.event {
            RunEvent::Created(created) => {
                needed.extend(created.kept.iter().flat_map(KeptParts::artifacts));
            }
            RunEvent::TaskReused { outputs, .. } | RunEvent::TaskDone { outputs, .. } => {
                needed.extend(outputs.values().copied());
            }
            RunEvent::OutsidePinned { inputs, .. } => {
                needed.extend(inputs.values().map(|pin| pin.artifact));
            }
            _ => {}
        }
    }
    needed.sort_unstable();
    needed.dedup();
    needed
}

/// Removes what lies in this home of runs without rows, older than the grace: their rows were never made, or the gc of another home
/// that shares the state removed them. What another state has that this home uses too is left alone. Returns their folders.
pub(super) async fn remove(
    place: &Place,
    rows: &[RunRow],
    dry_run: bool,
) -> Result<Vec<PathBuf>, CliError> {
    let mut folders = Vec::new();
    let sources = place::source(&place.home, &place.settings.caller);
    for entry in fs_err::read_dir(place.home.runs())? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse::<RunId>().ok()) else { continue };
        let folder = entry.path();
        let is_kept = rows.iter().any(|row| row.id == id) || !place.state.has_folder(&folder);
        if is_kept || age_of(&entry)? <= GRACE || place.state.is_owned(id, &folder).await? {
            continue;
        }
        if !dry_run {
            let Some(lock) = place.state.try_own(id, &folder).await? else { continue };
            place.store.unpin(PinOwner::Run(id)).await?;
            crate::source::unpin_everywhere(&sources, &pin_name(id))?;
            crate::workspace::temporary::remove(&folder)?;
            crate::workspace::remove_folder(&folder)?;
            lock.release().await;
        }
        folders.push(folder);
    }
    Ok(folders)
}
