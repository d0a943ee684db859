//! Settles a job that no monitor holds: its report when it left one, else what is left of it is stopped and it is lost.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use super::job_folder::{JobFolder, StartedProcess};
use super::process::{self, ProcessIdentity, ProcessStat};
use super::{JobReport, cgroup};
use crate::event::{JobEnd, Usage};
use crate::names::JobName;

/// How long processes that were killed may take to be gone.
pub(super) const UNTIL_GONE: Duration = Duration::from_secs(5);

/// The last word on a job. Only the monitor of the job's run, or who holds its lock, may say it.
///
/// After it the job can never be started: the report stands in its folder.
pub(super) async fn settle(name: &JobName, folder: &Path) -> std::io::Result<JobReport> {
    let files = JobFolder::new(folder);
    if let Some(report) = files.report() {
        return Ok(report);
    }
    let why = if files.was_ordered() {
        stop_rest(name, files.process()).await?
    } else {
        fs_err::create_dir_all(folder)?;
        "it was never started".to_owned()
    };
    super::secret_files::remove(name, folder)?;
    files.end(&lost(why))
}

/// The report of a lost job.
pub(super) fn lost(why: String) -> JobReport {
    let usage = Usage { peak_memory: 0, cpu_ms: 0, wall_ms: 0 };
    JobReport { end: JobEnd::Lost { why }, usage, remarks: Vec::new() }
}

/// Whether anything of a job that no monitor holds still runs.
pub(super) fn is_anything_left(name: &JobName, files: &JobFolder) -> bool {
    let started = files.process();
    let is_earlier_boot = started
        .as_ref()
        .is_some_and(|started| process::boot_id().is_ok_and(|boot| boot != started.main.boot));
    !is_earlier_boot && !rest_of(name, started.as_ref()).is_empty()
}

/// Kills everything that can be told to belong to the job and waits until it is gone; says what happened.
async fn stop_rest(name: &JobName, started: Option<StartedProcess>) -> std::io::Result<String> {
    let boot = process::boot_id()?;
    if started.as_ref().is_some_and(|started| started.main.boot != boot) {
        return Ok("the machine was restarted while it ran".to_owned());
    }
    let pause = Duration::from_millis(5);
    let mut waited = Duration::ZERO;
    let mut stopped = BTreeSet::new();
    loop {
        let rest = rest_of(name, started.as_ref());
        if rest.is_empty() || waited >= UNTIL_GONE {
            break;
        }
        for process in rest {
            process::signal(&process, Signal::KILL);
            stopped.insert((process.pid, process.start_time));
        }
        for folder in groups_of(name, started.as_ref()) {
            cgroup::kill_group(folder);
        }
        tokio::time::sleep(pause).await;
        waited += pause;
    }
    for folder in groups_of(name, started.as_ref()) {
        fs_err::remove_dir(folder).unwrap_or_default();
    }
    let why = "the process monitor was killed while it ran";
    Ok(match stopped.len() {
        0 => why.to_owned(),
        1 => format!("{why}; 1 process of it was stopped"),
        more => format!("{why}; {more} processes of it were stopped"),
    })
}

fn rest_of(name: &JobName, started: Option<&StartedProcess>) -> Vec<ProcessStat> {
    let mut roots = BTreeSet::new();
    if let Some(started) = started
        && ProcessIdentity::of(started.main.pid, &started.main.boot).as_ref() == Some(&started.main)
    {
        roots.insert(started.main.pid);
    }
    for folder in groups_of(name, started) {
        roots.append(&mut process::in_cgroup(folder));
    }
    let processes = process::all();
    let named = |process: &&ProcessStat| {
        process.is_alive() && process::job_of(process.pid).is_some_and(|job| job == name.as_str())
    };
    roots.extend(processes.iter().filter(named).map(|process| process.pid));
    roots.remove(&rustix::process::getpid().as_raw_nonzero().get());
    process::with_descendants(roots)
}

/// The groups that surely are this job's: they carry its name.
fn groups_of<'a>(
    name: &JobName,
    started: Option<&'a StartedProcess>,
) -> impl Iterator<Item = &'a Path> {
    let groups = started.map(|started| started.cgroups.as_slice()).unwrap_or_default();
    let own = name.as_str().to_owned();
    groups
        .iter()
        .map(std::path::PathBuf::as_path)
        .filter(move |folder| folder.file_name().is_some_and(|last| last == own.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::RunId;

    #[tokio::test]
    async fn a_job_that_was_never_started_is_lost_for_good() {
        let folder = tempfile::tempdir().unwrap();
        let attempt = folder.path().join("missing");
        let name = JobName::new(RunId::new(1, 1), 1, 1);
        let first = settle(&name, &attempt).await.unwrap();
        assert_eq!(first.end, JobEnd::Lost { why: "it was never started".to_owned() });
        assert_eq!(settle(&name, &attempt).await.unwrap(), first);
        assert!(JobFolder::new(&attempt).has_ended());
    }

    fn ordered(folder: &Path, main: ProcessIdentity) {
        let process = serde_json::to_string(&StartedProcess { main, cgroups: Vec::new() }).unwrap();
        fs_err::write(folder.join("order.json"), format!("{{}}\n{process}\n")).unwrap();
    }

    #[tokio::test]
    async fn a_number_that_another_process_has_now_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let name = JobName::new(RunId::new(1, 2), 1, 1);
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let boot = process::boot_id().unwrap();
        let mut main = ProcessIdentity::of(pid, &boot).unwrap();
        main.start_time += 1;
        ordered(folder.path(), main);
        let report = settle(&name, folder.path()).await.unwrap();
        assert!(matches!(report.end, JobEnd::Lost { .. }));
        assert!(child.try_wait().unwrap().is_none(), "the stranger lives");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[tokio::test]
    async fn another_boot_means_the_machine_was_restarted() {
        let folder = tempfile::tempdir().unwrap();
        let name = JobName::new(RunId::new(1, 3), 1, 1);
        let main = ProcessIdentity { pid: 1, start_time: 0, boot: "another".to_owned() };
        ordered(folder.path(), main);
        let report = settle(&name, folder.path()).await.unwrap();
        let why = "the machine was restarted while it ran".to_owned();
        assert_eq!(report.end, JobEnd::Lost { why });
    }
}
