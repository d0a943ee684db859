//! Releases beyond what is kept, and folders of replicas that nobody needs. Volumes are never touched.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::cli::clock;
use crate::cli::error::CliError;
use crate::cli::place::{self, Place};
use crate::names::ReleaseId;
use crate::release::{Fate, Release};
use crate::rollout::folders;
use crate::runtime::local::monitor_lives;
use crate::state::ReleaseRow;
use crate::store::PinOwner;
use crate::workspace::{remove_folder, temporary};

/// The name under which a release keeps its snapshot.
pub(crate) fn pin_name(release: ReleaseId) -> String {
    format!("release/{release}")
}

/// Takes old releases out of the history and lets go what they pinned: artifacts and code. Says which.
///
/// They leave the history first, so that nobody rolls back to one that is half gone; their rows go last, so that the next gc
/// finds what a crash left.
pub(super) async fn prune(place: &Place, dry_run: bool) -> Result<Vec<ReleaseRow>, CliError> {
    let keep = place.settings.keep_releases;
    if dry_run {
        return Ok(place.state.releases_beyond(keep).await?);
    }
    give_up_forgotten(place).await?;
    let sources = place::source(&place.home, &place.settings.caller);
    let rows = place.state.prune_releases(keep).await?;
    for row in &rows {
        let id = row.release.id;
        place.store.unpin(PinOwner::Release(id)).await?;
        crate::source::unpin(&sources, &row.release.notes.snapshot, &pin_name(id))?;
        place.state.forget_release(id).await?;
    }
    Ok(rows)
}

/// Releases that wait for a rollout which nobody goes on with: their run was cut off before a server knew of them. They would be
/// kept for ever. A run that is resumed takes its own up again.
async fn give_up_forgotten(place: &Place) -> Result<(), CliError> {
    for row in place.state.releases(None).await? {
        let Release { id, notes, .. } = &row.release;
        let waits = row.fate == Fate::Candidate && !is_named(place, *id).await?;
        if waits && !place.state.is_owned(notes.run, &place.home.run(notes.run)).await? {
            place.state.abandon(*id, "the run that made it is gone", clock::now()).await?;
        }
    }
    Ok(())
}

/// Removes the folders of releases that are in the history no more (`pruned` just now, or by an earlier gc), or are neither live
/// nor a candidate since before `since` (Unix milliseconds). One in which a replica still runs stays. Says which.
pub(super) async fn remove_folders(
    place: &Place,
    pruned: &[ReleaseRow],
    since: u64,
    dry_run: bool,
) -> Result<Vec<PathBuf>, CliError> {
    let pruned: BTreeSet<ReleaseId> = pruned.iter().map(|row| row.release.id).collect();
    let mut removed = Vec::new();
    // Folders first, rows then: a release has its row before its folder, so none of these is merely too young for a row.
    let folders = folders::releases(&place.home.root().join("services"))?;
    let rows: BTreeMap<ReleaseId, ReleaseRow> =
        place.state.releases(None).await?.into_iter().map(|row| (row.release.id, row)).collect();
    for (id, folder) in folders {
        let old = match rows.get(&id) {
            Some(row) => pruned.contains(&id) || row.fate_at < since,
            None => true,
        };
        if !old || is_named(place, id).await? || is_lived_in(&folder)? {
            continue;
        }
        if !dry_run {
            for replica in folders::replicas(&folder)? {
                temporary::remove(&replica)?;
            }
            remove_folder(&folder)?;
        }
        removed.push(folder);
    }
    Ok(removed)
}

/// Whether a service has the release as its live one or its candidate now.
async fn is_named(place: &Place, id: ReleaseId) -> Result<bool, CliError> {
    let services = place.state.services(None).await?;
    Ok(services.iter().any(|row| {
        row.live == Some(id) || row.candidate.is_some_and(|(candidate, _)| candidate == id)
    }))
}

/// Whether a replica runs there, also one of another state that this home works with now and then.
fn is_lived_in(release: &Path) -> Result<bool, CliError> {
    let has_monitor = folders::replicas(release)?.iter().any(|replica| monitor_lives(replica));
    Ok(has_monitor || folders::may_hold_containers(release)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::settings::{Caller, Settings};
    use crate::digest::Digest;
    use crate::names::ServiceId;
    use crate::release::testing::{behaviour, notes, service};
    use crate::rollout::folders::replica;
    use crate::store::Traffic;
    use crate::testing::soon;

    async fn place(home: &Path, keep_releases: u32) -> Place {
        let variables = [("FLOWRUN_HOME".to_owned(), home.display().to_string())].into();
        let caller = Caller { variables, folder: home.to_owned() };
        let mut settings = Settings::resolve(&BTreeMap::new(), &caller, None).unwrap();
        settings.keep_releases = keep_releases;
        Place::open(&settings).await.unwrap()
    }

    /// A release that replaced the one before, with an artifact of its own and a folder of a replica.
    async fn released(place: &Place, service: &ServiceId, number: u64) -> (ReleaseId, Digest) {
        let id = ReleaseId::new(number, u128::from(number));
        let live = place.state.live_release(service).await.unwrap().map(|release| release.id);
        let release =
            place.state.create_release(id, service, behaviour(), notes(), number).await.unwrap();
        let model = place.home.temporary().join("model");
        fs_err::write(&model, number.to_string()).unwrap();
        let artifact = place.store.take_in(&model, &Traffic::default()).await.unwrap().unwrap();
        fs_err::remove_file(&model).unwrap();
        place.store.pin(PinOwner::Release(id), &[artifact]).await.unwrap();
        place.state.promote(&release, live, number).await.unwrap();
        let folder = replica(&place.home.root().join("services"), service, id, 1);
        fs_err::create_dir_all(folder.join("1")).unwrap();
        (id, artifact)
    }

    #[tokio::test]
    async fn what_is_pruned_keeps_nothing_and_what_is_kept_keeps_all() {
        let home = tempfile::tempdir().unwrap();
        let place = place(&home.path().join("home"), 1).await;
        let serve = service("iris/serve");
        let mut made = Vec::new();
        for number in 1..=4 {
            made.push(released(&place, &serve, number).await);
        }
        let services = place.home.root().join("services");
        let folder = |at: usize| replica(&services, &serve, made[at].0, 1);
        // A replica of the first release still runs: its monitor holds this lock.
        let lock = fs_err::File::create(folder(0).join("monitor.lock")).unwrap();
        lock.file().lock().unwrap();
        let temporary = home.path().join("temporary");
        fs_err::create_dir(&temporary).unwrap();
        let of_second = temporary::of_run(&folder(1), &temporary).unwrap();
        let volume = place.home.root().join("volumes/iris/data");
        fs_err::create_dir_all(&volume).unwrap();

        for dry_run in [true, false] {
            let pruned = prune(&place, dry_run).await.unwrap();
            let mut names: Vec<String> = pruned.iter().map(|row| row.release.name()).collect();
            names.sort();
            assert_eq!(names, ["iris/serve@1", "iris/serve@2"]);
            let removed = remove_folders(&place, &pruned, 0, dry_run).await.unwrap();
            assert_eq!(removed, [folder(1).parent().unwrap()]);
            assert_eq!(folder(1).exists(), dry_run);
            assert_eq!(of_second.exists(), dry_run);
        }
        let nothing = std::time::Duration::ZERO;
        place.store.collect_garbage(nothing, nothing, false).await.unwrap();
        for (at, (id, artifact)) in made.iter().enumerate() {
            let kept = at >= 2;
            assert_eq!(place.state.release(*id).await.unwrap().is_some(), kept);
            assert_eq!(place.store.entries(artifact).await.is_ok(), kept, "release {}", at + 1);
        }
        assert!(prune(&place, false).await.unwrap().is_empty());

        // Once its last replica is gone, so is its folder; one that was replaced long ago loses its logs, not its row.
        drop(lock);
        let first = folder(0);
        assert!(soon(|| !monitor_lives(&first)));
        let removed = remove_folders(&place, &[], 10, false).await.unwrap();
        assert_eq!(removed, [folder(0).parent().unwrap(), folder(2).parent().unwrap()]);
        assert!(folder(3).exists(), "it is live");
        assert!(place.state.release(made[2].0).await.unwrap().is_some());
        assert!(volume.exists());
    }

    #[tokio::test]
    async fn a_gc_that_was_cut_off_is_ended_by_the_next() {
        let home = tempfile::tempdir().unwrap();
        let place = place(&home.path().join("home"), 1).await;
        let serve = service("iris/serve");
        let (first, artifact) = released(&place, &serve, 1).await;
        released(&place, &serve, 2).await;
        released(&place, &serve, 3).await;
        place.state.prune_releases(1).await.unwrap();
        let pruned = prune(&place, false).await.unwrap();
        assert_eq!(pruned.iter().map(|row| row.release.id).collect::<Vec<_>>(), [first]);
        let nothing = std::time::Duration::ZERO;
        place.store.collect_garbage(nothing, nothing, false).await.unwrap();
        assert!(place.store.entries(&artifact).await.is_err());
    }

    #[tokio::test]
    async fn a_release_whose_run_is_gone_before_its_rollout_is_not_kept_for_ever() {
        let home = tempfile::tempdir().unwrap();
        let place = place(&home.path().join("home"), 1).await;
        let serve = service("iris/serve");
        let id = ReleaseId::new(1, 1);
        place.state.create_release(id, &serve, behaviour(), notes(), 1).await.unwrap();
        released(&place, &serve, 2).await;
        let owner = place.state.try_own(notes().run, &place.home.run(notes().run)).await.unwrap();
        assert!(prune(&place, false).await.unwrap().is_empty(), "its run goes on");
        drop(owner);
        let pruned = prune(&place, false).await.unwrap();
        assert_eq!(pruned.iter().map(|row| row.release.id).collect::<Vec<_>>(), [id]);
    }
}
