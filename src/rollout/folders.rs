//! Where services lie in the home: `services/<pipeline>/<stage>/<release>/<replica>/<start>/`.
//!
//! The folder of a replica holds its monitor's socket and lock; the folder of a start is a job's: `order.json`, logs, `end.json`,
//! and, while it lives, its work folder. `ready` in it says that the start was ready once.

use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::names::{PipelineName, ReleaseId, ServiceId, StageName};
use crate::{runtime, workspace};

/// In a start's folder: it was ready once.
pub(super) const READY: &str = "ready";
/// Starts of a replica whose logs are kept.
const KEPT_STARTS: usize = 3;

/// One start of one replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartFolder {
    /// Its release.
    pub release: ReleaseId,
    /// From 1.
    pub replica: u32,
    /// From 1.
    pub start: u32,
    /// The job's folder.
    pub path: PathBuf,
}

impl StartFolder {
    /// It was begun and left no report: it may run.
    pub(super) fn may_run(&self) -> bool {
        may_run(&self.path)
    }

    /// It was ready once.
    pub(super) fn was_ready(&self) -> bool {
        self.path.join(READY).exists()
    }
}

fn may_run(start: &Path) -> bool {
    start.join("order.json").exists() && !start.join("end.json").exists()
}

/// The folder of a service: its releases lie in it.
pub(super) fn service(services: &Path, service: &ServiceId) -> PathBuf {
    services.join(service.pipeline.as_str()).join(service.stage.as_str())
}

/// Every service that has a folder.
pub(super) fn services(services: &Path) -> io::Result<Vec<ServiceId>> {
    let mut found = Vec::new();
    for (pipeline, path) in named::<PipelineName>(services)? {
        let stages = named::<StageName>(&path)?.into_iter();
        found.extend(stages.map(|(stage, _)| ServiceId { pipeline: pipeline.clone(), stage }));
    }
    Ok(found)
}

/// Every release that has a folder, by its path.
pub fn releases(services_folder: &Path) -> io::Result<Vec<(ReleaseId, PathBuf)>> {
    let mut found = Vec::new();
    for id in services(services_folder)? {
        found.extend(named::<ReleaseId>(&service(services_folder, &id))?);
    }
    found.sort_by(|one, other| one.1.cmp(&other.1));
    Ok(found)
}

/// The folders of the replicas of a release, whose folder this is.
pub fn replicas(release: &Path) -> io::Result<Vec<PathBuf>> {
    Ok(named::<u32>(release)?.into_iter().map(|(_, path)| path).collect())
}

/// The folder of a replica of a release, below `services/` of the home.
pub fn replica(services: &Path, id: &ServiceId, release: ReleaseId, replica: u32) -> PathBuf {
    service(services, id).join(release.to_string()).join(replica.to_string())
}

/// Whether a container of a release, whose folder this is, may run: its end was not seen. Processes have monitors, which hold locks.
pub fn may_hold_containers(release: &Path) -> io::Result<bool> {
    let is_container =
        |start: &Path| runtime::ordered_job(start).is_some_and(|job| job.container.is_some());
    for replica in replicas(release)? {
        if named::<u32>(&replica)?.iter().any(|(_, start)| may_run(start) && is_container(start)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Every start of a service that is still on disk, by release, replica and start.
pub fn starts(services: &Path, id: &ServiceId) -> io::Result<Vec<StartFolder>> {
    let mut found = Vec::new();
    for (release, path) in named::<ReleaseId>(&service(services, id))? {
        for (replica, path) in named::<u32>(&path)? {
            for (start, path) in named::<u32>(&path)? {
                found.push(StartFolder { release, replica, start, path });
            }
        }
    }
    found.sort_by_key(|start| (start.release, start.replica, start.start));
    Ok(found)
}

/// Makes the folder of the next start of a replica and says its number. Starts that were once there are not counted again as long as
/// the newest is on disk.
pub(super) fn make_next(replica: &Path) -> io::Result<(u32, PathBuf)> {
    fs_err::create_dir_all(replica)?;
    let newest = named::<u32>(replica)?.into_iter().map(|(start, _)| start).max().unwrap_or(0);
    let start = newest.saturating_add(1);
    let path = replica.join(start.to_string());
    fs_err::create_dir(&path)?;
    fs_err::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    Ok((start, path))
}

/// A start is over: its work folder goes, and of older starts of the replica all but the newest.
pub(super) fn clean_start(replica: &Path, start: &Path) -> io::Result<()> {
    workspace::remove(start)?;
    let mut starts: Vec<(u32, PathBuf)> = named(replica)?;
    starts.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    for (_, old) in starts.into_iter().skip(KEPT_STARTS) {
        workspace::remove_folder(&old)?;
    }
    Ok(())
}

/// The folders in here whose names are such values; nothing when there is no such folder.
fn named<T: FromStr>(folder: &Path) -> io::Result<Vec<(T, PathBuf)>> {
    let items = match fs_err::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        items => items?,
    };
    let mut found = Vec::new();
    for item in items {
        let item = item?;
        if let Some(value) = item.file_name().to_str().and_then(|name| name.parse().ok())
            && item.file_type()?.is_dir()
        {
            found.push((value, item.path()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_count_on_and_only_the_newest_logs_stay() {
        let home = tempfile::tempdir().unwrap();
        let id = ServiceId { pipeline: "iris".parse().unwrap(), stage: "serve".parse().unwrap() };
        let release = ReleaseId::new(1, 1);
        assert_eq!(starts(home.path(), &id).unwrap(), []);
        let folder = replica(home.path(), &id, release, 2);
        for expected in 1..=5 {
            let (start, path) = make_next(&folder).unwrap();
            assert_eq!(start, expected);
            fs_err::create_dir(path.join("work")).unwrap();
            fs_err::write(path.join("order.json"), "{}").unwrap();
            clean_start(&folder, &path).unwrap();
            assert!(!path.join("work").exists());
        }
        fs_err::write(folder.join("monitor.lock"), "").unwrap();
        let found = starts(home.path(), &id).unwrap();
        assert_eq!(found.iter().map(|start| start.start).collect::<Vec<_>>(), [3, 4, 5]);
        assert!(found.iter().all(|start| start.replica == 2 && start.release == release));
        assert!(found[2].may_run());
        fs_err::write(found[2].path.join("end.json"), "").unwrap();
        assert!(!found[2].may_run());
    }
}
