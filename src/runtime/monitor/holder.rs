//! What a monitor holds: its jobs by name, the processes to wait for. One thread, no lock, no borrow across an await.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use rustix::process::{Rlimit, Signal, WaitId, WaitIdOptions, waitid};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use wait4::{ResUse, try_wait4_pid};

use super::spawn::{SpawnFailure, Surroundings, spawn};
use super::supervise::{StopRequest, Supervised, supervise};
use crate::event::{JobEnd, Usage};
use crate::names::JobName;
use crate::runtime::cgroup::Cgroups;
use crate::runtime::job_folder::JobFolder;
use crate::runtime::log::CHUNK;
use crate::runtime::process::{self, ProcessStat};
use crate::runtime::{Job, JobReport, secret_files, settle};
use crate::secret::HandedSecret;

/// The monitor's state.
pub(super) struct Holder {
    jobs: RefCell<HashMap<JobName, Entry>>,
    /// Main processes that were not reaped yet.
    mains: RefCell<HashMap<i32, oneshot::Sender<ResUse>>>,
    surroundings: Surroundings,
    changed: Notify,
    /// What pipes are read into, one at a time.
    pub(super) buffer: RefCell<Vec<u8>>,
}

enum Entry {
    Running {
        stop: mpsc::UnboundedSender<StopRequest>,
        ended: watch::Receiver<Option<JobReport>>,
        handed: Rc<Handed>,
    },
    /// Ended or declared lost; its folder says how, or this when the folder could not be written.
    Settled(Option<JobReport>),
}

/// What a job was handed beside its order.
pub(super) struct Handed {
    pub(super) secrets: Vec<HandedSecret>,
    /// Where those lie that it reads from files, by variable.
    pub(super) files: Vec<(String, PathBuf)>,
}

impl Holder {
    pub(super) fn new(cgroups: bool, open_files: Rlimit) -> std::io::Result<Rc<Self>> {
        Ok(Rc::new(Self {
            jobs: RefCell::default(),
            mains: RefCell::default(),
            surroundings: Surroundings {
                cgroups: cgroups.then(Cgroups::find),
                boot: process::boot_id()?,
                open_files,
            },
            changed: Notify::new(),
            buffer: RefCell::new(vec![0; CHUNK]),
        }))
    }

    /// Starts a job, unless its name is known here or its folder says that it was ever started.
    pub(super) fn start(self: &Rc<Self>, job: &Job) -> Result<(), String> {
        if self.jobs.borrow().contains_key(&job.name) {
            return Ok(());
        }
        let folder = JobFolder::new(&job.folder);
        let has_files = job.secrets.iter().any(|secret| secret.file);
        let order = match folder.claim(job) {
            Ok(Some(order)) => order,
            Ok(None) => return Ok(()),
            Err(error) => return Err(error.to_string()),
        };
        let mut spawned = match spawn(job, order, &self.surroundings) {
            Ok(spawned) => spawned,
            Err(SpawnFailure::Machine(error)) => {
                let removed = secret_files::remove(&job.name, &job.folder);
                let again = folder.give_back();
                return Err(again.and(removed).err().unwrap_or(error).to_string());
            }
            Err(SpawnFailure::Program(refused)) => {
                let usage = Usage { peak_memory: 0, cpu_ms: 0, wall_ms: 0 };
                let end = JobEnd::Exited(refused.code);
                let report = JobReport { end, usage, remarks: Vec::new() };
                self.settled(&job.name, &folder, report, has_files);
                return Ok(());
            }
        };
        let main = spawned.main;
        let (exit_sender, exit) = oneshot::channel();
        let (stop, stop_receiver) = mpsc::unbounded_channel();
        let (ended_sender, ended) = watch::channel(None);
        self.mains.borrow_mut().insert(main, exit_sender);
        let files = std::mem::take(&mut spawned.secret_files);
        let handed = Rc::new(Handed { secrets: job.secrets.clone(), files });
        self.jobs.borrow_mut().insert(job.name.clone(), Entry::Running { stop, ended, handed });
        let supervised = Supervised {
            name: job.name.clone(),
            spawned,
            exit,
            stop: stop_receiver,
            timeout: job.timeout,
            grace: job.grace,
        };
        let holder = self.clone();
        tokio::task::spawn_local(async move {
            let name = supervised.name.clone();
            let report = supervise(&holder, supervised).await;
            let report = holder.settled(&name, &folder, report, has_files);
            // Nobody may wait, and then nobody is told.
            ended_sender.send(Some(report)).unwrap_or_default();
            holder.changed.notify_waiters();
        });
        Ok(())
    }

    /// Removes the job's secrets and writes the report down, or keeps it when it cannot be written.
    fn settled(
        &self,
        name: &JobName,
        folder: &JobFolder,
        mut report: JobReport,
        has_files: bool,
    ) -> JobReport {
        if has_files && let Err(error) = secret_files::remove(name, folder.path()) {
            report.remarks.push(format!("its secrets could not be removed: {error}"));
        }
        let (entry, report) = match folder.end(&report) {
            Ok(report) => (Entry::Settled(None), report),
            Err(error) => {
                // stderr is the monitor's log; a full disk may refuse that too.
                writeln!(std::io::stderr(), "{name}: {error}").unwrap_or_default();
                (Entry::Settled(Some(report.clone())), report)
            }
        };
        self.jobs.borrow_mut().insert(name.clone(), entry);
        report
    }

    /// Waits for the end of a job. One that is not known here can never be started after this call began.
    pub(super) async fn wait(&self, name: &JobName, folder: &Path) -> Result<JobReport, String> {
        let ended = match self.jobs.borrow_mut().entry(name.clone()) {
            std::collections::hash_map::Entry::Vacant(vacant) => {
                vacant.insert(Entry::Settled(None));
                None
            }
            std::collections::hash_map::Entry::Occupied(occupied) => match occupied.get() {
                Entry::Running { ended, .. } => Some(ended.clone()),
                Entry::Settled(Some(report)) => return Ok(report.clone()),
                Entry::Settled(None) => None,
            },
        };
        if let Some(mut ended) = ended {
            let report = ended.wait_for(Option::is_some).await;
            return report.map_err(|error| error.to_string())?.clone().ok_or_else(String::new);
        }
        settle::settle(name, folder).await.map_err(|error| error.to_string())
    }

    /// Asks a job to stop; nothing happens when it does not run.
    pub(super) fn stop(&self, name: &JobName, kill: bool) {
        if let Some(Entry::Running { stop, .. }) = self.jobs.borrow().get(name) {
            let end = JobEnd::Cancelled;
            // Fails when it ends just now.
            stop.send(StopRequest { kill, end }).unwrap_or_default();
        }
    }

    /// Asks every job to stop, as the machine or its user wants this process to end. Their attempts count as lost.
    pub(super) fn stop_all(&self) {
        for entry in self.jobs.borrow().values() {
            if let Entry::Running { stop, .. } = entry {
                let end = JobEnd::Lost { why: "the process monitor was told to end".to_owned() };
                stop.send(StopRequest { kill: false, end }).unwrap_or_default();
            }
        }
    }

    /// What a job was handed; nothing when it does not run.
    pub(super) fn handed(&self, name: &JobName) -> Option<Rc<Handed>> {
        match self.jobs.borrow().get(name) {
            Some(Entry::Running { handed, .. }) => Some(handed.clone()),
            _ => None,
        }
    }

    /// The jobs that run now.
    pub(super) fn running(&self) -> Vec<JobName> {
        let jobs = self.jobs.borrow();
        let running = jobs.iter().filter(|(_, entry)| matches!(entry, Entry::Running { .. }));
        running.map(|(name, _)| name.clone()).collect()
    }

    /// Waits until no job runs.
    pub(super) async fn idle(&self) {
        loop {
            let changed = self.changed.notified();
            if !self.jobs.borrow().values().any(|entry| matches!(entry, Entry::Running { .. })) {
                return;
            }
            changed.await;
        }
    }

    /// Takes every child that has ended. To be called with each SIGCHLD; signals that came together are seen in one call.
    pub(super) fn reap(&self) {
        let mut ended = Vec::new();
        for main in self.mains.borrow().keys() {
            match try_wait4_pid(main.unsigned_abs()) {
                Ok(None) => {}
                Ok(Some(result)) => ended.push((*main, Some(result))),
                Err(_) => ended.push((*main, None)),
            }
        }
        for (main, result) in ended {
            let waiting = self.mains.borrow_mut().remove(&main);
            if let (Some(waiting), Some(result)) = (waiting, result) {
                // Whoever supervises a job waits until its main process ends.
                waiting.send(result).unwrap_or_default();
            }
        }
        // What jobs left behind comes to this process as their subreaper.
        let dead = || {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            waitid(WaitId::All, options).is_ok_and(|status| status.is_some())
        };
        while dead() {
            let taken = self
                .strays()
                .into_iter()
                .filter(|pid| matches!(try_wait4_pid(pid.unsigned_abs()), Ok(Some(_))));
            // A main process that ended just now is taken with its own signal.
            if taken.count() == 0 {
                return;
            }
        }
    }

    /// Children of this process that are no job's main process: left behind by some job.
    fn strays(&self) -> BTreeSet<i32> {
        let mains = self.mains.borrow();
        process::own_children().into_iter().filter(|pid| !mains.contains_key(pid)).collect()
    }

    /// The strays that this job left behind. One that tells of no job belongs to it when no other job runs.
    pub(super) fn strays_of(&self, name: &JobName, main: i32) -> BTreeSet<i32> {
        let strays = self.strays();
        if strays.is_empty() {
            return strays;
        }
        let own_session = rustix::process::getsid(None).map_or(0, |sid| sid.as_raw_nonzero().get());
        let is_other = |(other, entry): (&JobName, &Entry)| {
            matches!(entry, Entry::Running { .. }) && other != name
        };
        let alone = !self.jobs.borrow().iter().any(is_other);
        let is_own = |pid: &i32| {
            let Some(stat) = ProcessStat::read(*pid) else { return false };
            alone
                || (stat.group == main && stat.session == own_session)
                || process::job_of(*pid).is_some_and(|job| job == name.as_str())
        };
        strays.into_iter().filter(is_own).collect()
    }

    /// Kills what belongs to no job, when the last job has ended.
    pub(super) async fn stop_strays(&self) {
        let pause = Duration::from_millis(5);
        let mut waited = Duration::ZERO;
        while waited < settle::UNTIL_GONE {
            self.reap();
            let strays = process::with_descendants(self.strays());
            if strays.is_empty() {
                return;
            }
            for stray in strays {
                process::signal(&stray, Signal::KILL);
            }
            tokio::time::sleep(pause).await;
            waited += pause;
        }
    }
}
