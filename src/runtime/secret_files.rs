//! Secrets that a job reads from files: where the files lie, and when they go.
//!
//! ```text
//! /dev/shm/flowrun-<uid>/<job>/<VARIABLE>   in memory; only the caller passes `flowrun-<uid>` (0700)
//! /dev/shm/flowrun-<uid>/<job>.of           a link to the folder of the job's attempt
//! <attempt>/secrets/<VARIABLE>              where there is no `/dev/shm`
//! ```
//!
//! They are made right before the program or its container starts, and removed when its end is written down, by whoever does that.
//! What a killed machine leaves was in memory.

use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use fs_err::os::unix::fs::OpenOptionsExt;
use std::fs::Permissions;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};

use super::job_folder::JobFolder;
use super::{door, settle};
use crate::names::JobName;
use crate::secret::HandedSecret;

/// A file system in memory that every Linux has.
const MEMORY: &str = "/dev/shm";

/// The folder in an attempt's own folder, where memory cannot be had.
const ON_DISK: &str = "secrets";

/// Where a job's link to its attempt lies, beside its folder.
const LINK: &str = ".of";

/// How a job gets its secrets.
pub(super) struct Made {
    /// Its variables for all of them: the value, or the path of its file.
    pub(super) variables: Vec<(String, OsString)>,
    /// Where those lie that it reads from files, by variable.
    pub(super) files: Vec<(String, PathBuf)>,
}

/// Who opens the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    /// The caller alone.
    Caller,
    /// A user of an image, whose number is not known from outside. Everybody inside can read them; outside, the folder above keeps
    /// everybody else away.
    Image,
}

/// Makes the files of a job that is about to start, anew when a start that failed left some.
///
/// A crash midway leaves files that [`remove`] or [`remove_stale`] take away.
pub(super) fn make(
    job: &JobName,
    attempt: &Path,
    secrets: &[HandedSecret],
) -> std::io::Result<Made> {
    let folder = make_files(job, attempt, secrets, Reader::Caller)?;
    let mut made = Made { variables: Vec::with_capacity(secrets.len()), files: Vec::new() };
    for secret in secrets {
        let value = match &folder {
            Some(folder) if secret.file => {
                let path = folder.join(&secret.variable);
                made.files.push((secret.variable.clone(), path.clone()));
                path.into_os_string()
            }
            _ => secret.value.reveal().into(),
        };
        made.variables.push((secret.variable.clone(), value));
    }
    Ok(made)
}

/// The same for a container: its folder, whose files have the names of the variables; nothing for a job without files.
pub(super) fn make_files(
    job: &JobName,
    attempt: &Path,
    secrets: &[HandedSecret],
    reader: Reader,
) -> std::io::Result<Option<PathBuf>> {
    if !secrets.iter().any(|secret| secret.file) {
        return Ok(None);
    }
    let (of_folder, of_file) = match reader {
        Reader::Caller => (0o700, 0o600),
        Reader::Image => (0o755, 0o444),
    };
    let folder = make_folder(job, attempt)?;
    for secret in secrets.iter().filter(|secret| secret.file) {
        let mut options = fs_err::OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let mut file = options.open(folder.join(&secret.variable))?;
        file.write_all(secret.value.reveal().as_bytes())?;
        // The caller's mask may have taken rights away.
        file.set_permissions(Permissions::from_mode(of_file))?;
    }
    fs_err::set_permissions(&folder, Permissions::from_mode(of_folder))?;
    Ok(Some(folder))
}

/// Where a job's files lie, if it has some.
pub(super) fn folder(job: &JobName, attempt: &Path) -> PathBuf {
    let in_memory = memory_of_caller().map(|own| own.join(job.as_str()));
    in_memory.filter(|folder| folder.exists()).unwrap_or_else(|| attempt.join(ON_DISK))
}

fn make_folder(job: &JobName, attempt: &Path) -> std::io::Result<PathBuf> {
    remove(job, attempt)?;
    let folder = match own_memory()? {
        Some(own) => {
            fs_err::os::unix::fs::symlink(attempt, own.join(format!("{job}{LINK}")))?;
            own.join(job.as_str())
        }
        None => attempt.join(ON_DISK),
    };
    std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
    Ok(folder)
}

/// Removes the files of a job that has ended; nothing happens when it has none.
pub(super) fn remove(job: &JobName, attempt: &Path) -> std::io::Result<()> {
    remove_folder(&attempt.join(ON_DISK))?;
    if let Some(own) = memory_of_caller()
        && own.exists()
    {
        remove_in(&own, job.as_str())?;
    }
    Ok(())
}

/// The files of one job, whether it runs or not.
pub(super) struct Kept {
    /// Its name.
    pub(super) job: String,
    /// The folder of its attempt, which may be gone.
    pub(super) attempt: PathBuf,
    /// When they were made.
    pub(super) made: SystemTime,
}

/// All that lie in memory, of every home of this user.
pub(super) fn kept() -> std::io::Result<Vec<Kept>> {
    let Some(own) = memory_of_caller() else { return Ok(Vec::new()) };
    let entries = match fs_err::read_dir(&own) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut all = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let Some(job) = name.to_str().and_then(|name| name.strip_suffix(LINK)) else { continue };
        let link = own.join(&name);
        match (fs_err::read_link(&link), fs_err::symlink_metadata(&link)) {
            (Ok(attempt), Ok(about)) => {
                all.push(Kept { job: job.to_owned(), attempt, made: about.modified()? });
            }
            // Its job has just ended.
            (Err(error), _) | (_, Err(error)) if error.kind() == ErrorKind::NotFound => {}
            (Err(error), _) | (_, Err(error)) => return Err(error),
        }
    }
    Ok(all)
}

/// Removes what was found.
pub(super) fn remove_kept(kept: &Kept) -> std::io::Result<()> {
    memory_of_caller().map_or(Ok(()), |own| remove_in(&own, &kept.job))
}

/// Removes what jobs of this user left that have ended or cannot go on, of any home. Returns of how many.
///
/// A job with a container that nobody settled yet keeps its files: who settles it removes them.
pub fn remove_stale() -> std::io::Result<usize> {
    let mut removed = 0;
    for kept in kept()? {
        if is_over(&kept.job, &kept.attempt) {
            remove_kept(&kept)?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Whether nobody reads the files of this job any more.
fn is_over(job: &str, attempt: &Path) -> bool {
    let files = JobFolder::new(attempt);
    if files.has_ended() || !attempt.exists() {
        return true;
    }
    // It may be about to start.
    let Some(run_folder) = attempt.parent() else { return false };
    if door::is_somebody_there(run_folder, door::MONITOR) {
        return false;
    }
    files.job().is_some_and(|ordered| {
        ordered.container.is_none() && !settle::is_anything_left(&ordered.name, &files)
    }) && job.starts_with("flowrun-")
}

fn remove_in(own: &Path, job: &str) -> std::io::Result<()> {
    remove_folder(&own.join(job))?;
    match fs_err::remove_file(own.join(format!("{job}{LINK}"))) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn remove_folder(folder: &Path) -> std::io::Result<()> {
    match fs_err::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn memory_of_caller() -> Option<PathBuf> {
    let uid = rustix::process::geteuid().as_raw();
    Path::new(MEMORY).is_dir().then(|| Path::new(MEMORY).join(format!("flowrun-{uid}")))
}

/// The caller's own folder in memory, made when it is not there. Nobody else may have made it: `/dev/shm` is open to all.
fn own_memory() -> std::io::Result<Option<PathBuf>> {
    let Some(own) = memory_of_caller() else { return Ok(None) };
    match std::fs::DirBuilder::new().mode(0o700).create(&own) {
        Ok(()) => return Ok(Some(own)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let found = fs_err::symlink_metadata(&own)?;
    let is_own = found.is_dir()
        && found.uid() == rustix::process::geteuid().as_raw()
        && found.mode().trailing_zeros() >= 6;
    if is_own {
        return Ok(Some(own));
    }
    let why = format!("`{}` belongs to somebody else or lets others in; remove it", own.display());
    Err(std::io::Error::new(ErrorKind::PermissionDenied, why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::RunId;
    use crate::secret::SecretText;

    fn job(number: u32) -> JobName {
        JobName::new(RunId::new(7, u128::from(std::process::id())), number, 1)
    }

    fn secret(variable: &str, file: bool) -> HandedSecret {
        let value = SecretText::new("hunter22".to_owned());
        HandedSecret { variable: variable.to_owned(), value, file }
    }

    fn rights(path: &Path) -> u32 {
        fs_err::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn files_are_private_and_go_with_the_job() {
        let attempt = tempfile::tempdir().unwrap();
        let both = [secret("KEY", true), secret("TOKEN", false)];
        let job = job(1);
        let variables = make(&job, attempt.path(), &both).unwrap().variables;
        let file = PathBuf::from(&variables[0].1);
        assert_eq!(variables[1], ("TOKEN".to_owned(), "hunter22".into()));
        assert_eq!(fs_err::read_to_string(&file).unwrap(), "hunter22");
        let folder = file.parent().unwrap();
        assert_eq!(folder.file_name().unwrap(), job.as_str());
        assert_eq!(
            (rights(folder.parent().unwrap()), rights(folder), rights(&file)),
            (0o700, 0o700, 0o600)
        );
        assert_eq!(make(&job, attempt.path(), &both).unwrap().variables, variables, "again");
        remove(&job, attempt.path()).unwrap();
        assert!(!folder.exists());
        remove(&job, attempt.path()).unwrap();
    }

    #[test]
    fn a_user_of_an_image_can_read_them_and_nobody_else_gets_there() {
        let attempt = tempfile::tempdir().unwrap();
        let (job, secrets) = (job(2), [secret("KEY", true)]);
        assert_eq!(make_files(&job, attempt.path(), &[], Reader::Image).unwrap(), None);
        let made = make_files(&job, attempt.path(), &secrets, Reader::Image).unwrap().unwrap();
        assert_eq!(folder(&job, attempt.path()), made);
        let all = (rights(made.parent().unwrap()), rights(&made), rights(&made.join("KEY")));
        assert_eq!(all, (0o700, 0o755, 0o444));
        remove(&job, attempt.path()).unwrap();
        assert_eq!(folder(&job, attempt.path()), attempt.path().join(ON_DISK));
    }

    #[test]
    fn what_dead_jobs_left_is_stale() {
        let home = tempfile::tempdir().unwrap();
        let attempt = home.path().join("attempt");
        fs_err::create_dir(&attempt).unwrap();
        let job = job(4);
        let made = make(&job, &attempt, &[secret("KEY", true)]).unwrap();
        let folder = made.files[0].1.parent().unwrap().to_owned();
        remove_stale().unwrap();
        assert!(folder.exists(), "it may be about to start");
        fs_err::write(attempt.join("end.json"), "").unwrap();
        assert!(remove_stale().unwrap() >= 1);
        assert!(!folder.exists());
        assert!(fs_err::symlink_metadata(folder.with_extension("of")).is_err());
    }
}
