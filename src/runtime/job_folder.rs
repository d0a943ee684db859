//! The two small files that tell the life of a job: `order.json` before it starts, `end.json` when it has ended.
//!
//! `order.json` holds the job in its first line and, once it runs, its process in the second: a file more would cost as much
//! as starting a program.

use fs_err::os::unix::fs::OpenOptionsExt;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::process::ProcessIdentity;
use super::{Job, JobReport};
use crate::event::JobEnd;

const ORDER: &str = "order.json";
const END: &str = "end.json";
const END_AGAIN: &str = "end.json.new";
const STOP: &str = "stop.json";

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

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Claims the job's name for its one start: writes `order.json`, readable by its owner only, as it holds values of variables.
    ///
    /// Nothing when the job was ordered before or has a report; then nothing was written.
    pub(super) fn claim(&self, job: &Job) -> std::io::Result<Option<Order>> {
        if self.has_ended() {
            return Ok(None);
        }
        let file = match self.create(ORDER) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(None),
            other => other?,
        };
        let mut order = Order { file };
        if let Err(error) = order.write_line(job) {
            // A full disk: nothing was begun, and the next try may begin.
            self.give_back()?;
            return Err(error);
        }
        Ok(Some(order))
    }

    /// Gives a claimed name back. Only right when nothing of the job was started.
    pub(super) fn give_back(&self) -> std::io::Result<()> {
        fs_err::remove_file(self.path.join(ORDER))
    }

    /// Whether a start was ever begun.
    pub(super) fn was_ordered(&self) -> bool {
        self.path.join(ORDER).exists()
    }

    /// When its start was begun, Unix milliseconds.
    pub(super) fn ordered_at(&self) -> Option<u64> {
        let modified = fs_err::metadata(self.path.join(ORDER)).ok()?.modified().ok()?;
        let since = modified.duration_since(std::time::UNIX_EPOCH).ok()?;
        Some(crate::words::millis(since))
    }

    /// The job as it was ordered.
    pub(super) fn job(&self) -> Option<Job> {
        self.order_line(0)
    }

    /// What [`Order::note_process`] wrote; nothing when the monitor was killed before, or the line is not whole.
    pub(super) fn process(&self) -> Option<StartedProcess> {
        self.order_line(1)
    }

    fn order_line<T: for<'de> Deserialize<'de>>(&self, number: usize) -> Option<T> {
        let bytes = fs_err::read(self.path.join(ORDER)).ok()?;
        serde_json::from_slice(bytes.split(|byte| *byte == b'\n').nth(number)?).ok()
    }

    /// Whether a report was written.
    pub(super) fn has_ended(&self) -> bool {
        self.path.join(END).exists()
    }

    /// The report; nothing when there is none, or it is not whole.
    pub(super) fn report(&self) -> Option<JobReport> {
        serde_json::from_slice(&fs_err::read(self.path.join(END)).ok()?).ok()
    }

    /// Writes the report. The first one that is whole stays: what stands there afterwards is returned.
    ///
    /// Only one process at a time may do this for a folder: the monitor, or who holds the monitor's lock. Killed midway it leaves
    /// a report that is not whole, which counts as none and is replaced.
    pub(super) fn end(&self, report: &JobReport) -> std::io::Result<JobReport> {
        let bytes = serde_json::to_vec(report)?;
        match self.create(END) {
            Ok(mut file) => file.write_all(&bytes)?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                if let Some(first) = self.report() {
                    return Ok(first);
                }
                fs_err::write(self.path.join(END_AGAIN), bytes)?;
                fs_err::rename(self.path.join(END_AGAIN), self.path.join(END))?;
            }
            Err(error) => return Err(error),
        }
        Ok(report.clone())
    }

    /// Notes that the job is stopped now and how its end is to be told; the first note stays. For runtimes whose jobs nobody
    /// watches while flowrun is away: else whoever comes next sees a signal and not why it was sent.
    pub(super) fn note_stop(&self, end: &JobEnd) -> std::io::Result<()> {
        match self.create(STOP) {
            Ok(mut file) => file.write_all(&serde_json::to_vec(end)?),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What [`Self::note_stop`] noted.
    pub(super) fn stop_noted(&self) -> Option<JobEnd> {
        serde_json::from_slice(&fs_err::read(self.path.join(STOP)).ok()?).ok()
    }

    /// The right to follow the ordered job, which one process at a time has; it goes with the file, or with the process.
    /// Nothing when another one has it, or nothing was ordered.
    pub(super) fn try_lock(&self) -> std::io::Result<Option<fs_err::File>> {
        let file = match fs_err::File::open(self.path.join(ORDER)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        match file.file().try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(error)) => Err(error),
        }
    }

    fn create(&self, name: &str) -> std::io::Result<fs_err::File> {
        let mut options = fs_err::OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).open(self.path.join(name))
    }
}

/// A job's order while it is started.
pub(super) struct Order {
    file: fs_err::File,
}

impl Order {
    /// Notes the process of the job that was just started.
    pub(super) fn note_process(&mut self, process: &StartedProcess) -> std::io::Result<()> {
        self.write_line(process)
    }

    fn write_line<T: Serialize>(&mut self, value: &T) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        self.file.write_all(&line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Usage;

    fn report(code: i32) -> JobReport {
        let usage = Usage { peak_memory: 1, cpu_ms: 2, wall_ms: 3 };
        JobReport { end: JobEnd::Exited(code), usage, remarks: vec!["r".to_owned()] }
    }

    #[test]
    fn an_order_that_began_nothing_can_be_given_again() {
        let folder = tempfile::tempdir().unwrap();
        let job = Job {
            name: crate::names::JobName::new(crate::names::RunId::new(1, 1), 1, 1),
            folder: folder.path().to_owned(),
            command: vec!["true".to_owned()],
            directory: folder.path().to_owned(),
            env: std::collections::BTreeMap::new(),
            memory_limit: None,
            cpu_limit: None,
            timeout: None,
            grace: std::time::Duration::ZERO,
            log_cap: 1,
            log_keep: crate::runtime::LogKeep::First,
            container: None,
            secrets: Vec::new(),
        };
        let folder = JobFolder::new(folder.path());
        assert!(folder.claim(&job).unwrap().is_some());
        assert!(folder.claim(&job).unwrap().is_none(), "it was ordered");
        folder.give_back().unwrap();
        assert!(folder.claim(&job).unwrap().is_some());
    }

    #[test]
    fn the_first_report_stays() {
        let folder = tempfile::tempdir().unwrap();
        let folder = JobFolder::new(folder.path());
        assert_eq!(folder.report(), None);
        assert_eq!(folder.end(&report(1)).unwrap(), report(1));
        assert_eq!(folder.end(&report(2)).unwrap(), report(1));
        assert_eq!(folder.report(), Some(report(1)));
        assert!(!folder.path.join(END_AGAIN).exists());
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
