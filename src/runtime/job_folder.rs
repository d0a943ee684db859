//! The small files that tell the life of a job: `order.json` before it starts, `process.json` once it runs, `end.json` when it has ended.

use fs_err::os::unix::fs::OpenOptionsExt;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::{Deserialize, Serialize};

use super::process::ProcessIdentity;
use super::{Job, JobReport};

const ORDER: &str = "order.json";
const PROCESS: &str = "process.json";
const END: &str = "end.json";
const END_UNFINISHED: &str = "end.json.part";

/// The folder of one attempt, seen by the runtime.
#[derive(Debug, Clone)]
pub(super) struct JobFolder {
    path: PathBuf,
}

/// Where a started job is to be found when its monitor is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StartedProcess {
    /// The program itself; its process group has its number.
    pub(super) main: ProcessIdentity,
    /// The job's control groups.
    pub(super) cgroups: Vec<PathBuf>,
}

impl JobFolder {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Claims the job's name for its one start: writes `order.json`, readable by its owner only, as it holds values of variables.
    ///
    /// `false` when the job was ordered before or has a report; then nothing was written.
    pub(super) fn claim(&self, job: &Job) -> std::io::Result<bool> {
        if self.has_ended() {
            return Ok(false);
        }
        match self.write_new(ORDER, job) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            other => other.map(|()| true),
        }
    }

    /// Whether a start was ever begun.
    pub(super) fn was_ordered(&self) -> bool {
        self.path.join(ORDER).exists()
    }

    /// Notes the process of a job that was just started.
    pub(super) fn note_process(&self, process: &StartedProcess) -> std::io::Result<()> {
        self.write_new(PROCESS, process)
    }

    /// What [`JobFolder::note_process`] wrote; nothing when the monitor was killed before, or the file is not whole.
    pub(super) fn process(&self) -> Option<StartedProcess> {
        self.read(PROCESS)
    }

    /// Whether a report was written.
    pub(super) fn has_ended(&self) -> bool {
        self.path.join(END).exists()
    }

    /// The report; nothing when there is none, or it is not whole after a loss of power.
    pub(super) fn report(&self) -> Option<JobReport> {
        self.read(END)
    }

    /// Writes the report under its final name in one step. The first one stays: what stands there afterwards is returned.
    ///
    /// Only one process at a time may do this for a folder: the monitor, or who holds the monitor's lock.
    pub(super) fn end(&self, report: &JobReport) -> std::io::Result<JobReport> {
        let (part, end) = (self.path.join(END_UNFINISHED), self.path.join(END));
        let mut options = fs_err::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        options.open(&part)?.write_all(&serde_json::to_vec(report)?)?;
        match renameat_with(CWD, &part, CWD, &end, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(report.clone()),
            Err(rustix::io::Errno::EXIST) => {
                if let Some(first) = self.report() {
                    fs_err::remove_file(part)?;
                    return Ok(first);
                }
            }
            // A filesystem that cannot do it; the check above this call has already looked for a report.
            Err(_) => {}
        }
        fs_err::rename(part, end)?;
        Ok(report.clone())
    }

    fn write_new<T: Serialize>(&self, name: &str, value: &T) -> std::io::Result<()> {
        let bytes = serde_json::to_vec(value)?;
        let mut options = fs_err::OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        options.open(self.path.join(name))?.write_all(&bytes)
    }

    fn read<T: for<'de> Deserialize<'de>>(&self, name: &str) -> Option<T> {
        let bytes = fs_err::read(self.path.join(name)).ok()?;
        serde_json::from_slice(&bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{JobEnd, Usage};

    fn report(code: i32) -> JobReport {
        let usage = Usage { peak_memory: 1, cpu_ms: 2, wall_ms: 3 };
        JobReport { end: JobEnd::Exited(code), usage, remarks: vec!["r".to_owned()] }
    }

    #[test]
    fn the_first_report_stays() {
        let folder = tempfile::tempdir().unwrap();
        let folder = JobFolder::new(folder.path());
        assert_eq!(folder.report(), None);
        assert_eq!(folder.end(&report(1)).unwrap(), report(1));
        assert_eq!(folder.end(&report(2)).unwrap(), report(1));
        assert_eq!(folder.report(), Some(report(1)));
        assert!(!folder.path.join(END_UNFINISHED).exists());
    }

    #[test]
    fn a_report_that_is_not_whole_is_none_and_can_be_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let folder = JobFolder::new(folder.path());
        fs_err::write(folder.path.join(END), "").unwrap();
        assert_eq!(folder.report(), None);
        assert!(folder.has_ended());
        assert_eq!(folder.end(&report(2)).unwrap(), report(2));
        assert_eq!(folder.report(), Some(report(2)));
    }
}
