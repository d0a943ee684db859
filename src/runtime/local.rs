//! Jobs as processes of this machine, held by a monitor per run so that they outlive flowrun.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::cgroup::Cgroups;
use super::door::{self, Birthright, Door, Lock, MONITOR};
use super::job_folder::JobFolder;
use super::link::Link;
use super::log::Masks;
use super::monitor::protocol::{Answer, Ask, Secret};
use super::monitor::{COMMAND, NO_CGROUPS};
use super::{
    Beside, Job, JobReport, Runtime, RuntimeError, Supervised, beside, seal_inherited_descriptors,
    settle,
};
use crate::names::JobName;
use crate::secret::HandedSecret;

/// How often a question is put to a new monitor after the one that was asked went away.
const TRIES: u32 = 5;

/// What can be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalSettings {
    /// Use control groups where they can be had: limits, and the surest way to find everything a job started.
    pub cgroups: bool,
}

impl Default for LocalSettings {
    fn default() -> Self {
        Self { cgroups: true }
    }
}

/// The jobs of one run on this machine. Dropping it leaves them running.
pub struct LocalRuntime {
    program: PathBuf,
    run_folder: PathBuf,
    settings: LocalSettings,
    link: Mutex<Option<Arc<Link>>>,
}

impl LocalRuntime {
    /// `program` is the flowrun executable, started as the monitor when a job needs one; `run_folder` holds the monitor's socket
    /// and lock. Starts nothing yet. Its methods need a tokio runtime with IO and time.
    pub fn new(program: PathBuf, run_folder: PathBuf, settings: LocalSettings) -> Self {
        Self { program, run_folder, settings, link: Mutex::new(None) }
    }

    /// Whether memory and processors of a job can be limited here; else why not, for a person.
    pub fn limits_available() -> Result<(), String> {
        Cgroups::find().limits()
    }

    /// The connection to the living monitor, else the lock that keeps one from being started.
    async fn reach(&self, place: &mut Option<Arc<Link>>) -> Result<Reached, RuntimeError> {
        if let Some(link) = place {
            return Ok(Reached::Link(link.clone()));
        }
        loop {
            match door::knock(&self.run_folder, MONITOR).await? {
                Door::Nobody(lock) => return Ok(Reached::Nobody(lock)),
                Door::Open(stream) => {
                    if let Ok(link) = Link::open(stream).await? {
                        let link = Arc::new(link);
                        *place = Some(link.clone());
                        return Ok(Reached::Link(link));
                    }
                }
            }
        }
    }

    /// The connection to the monitor, started when none lives.
    async fn reach_or_start(&self) -> Result<Arc<Link>, RuntimeError> {
        let mut place = self.link.lock().await;
        for _ in 0..TRIES {
            let lock = match self.reach(&mut place).await? {
                Reached::Link(link) => return Ok(link),
                Reached::Nobody(lock) => lock,
            };
            let (birthright, stream) = lock.open_door()?;
            self.start_monitor(birthright)?;
            if let Ok(link) = Link::open(stream).await? {
                let link = Arc::new(link);
                *place = Some(link.clone());
                return Ok(link);
            }
        }
        let words = door::last_words(&self.run_folder, MONITOR);
        Err(RuntimeError::Monitor(
            words.unwrap_or_else(|| "it ends as soon as it starts".to_owned()),
        ))
    }

    fn start_monitor(&self, birthright: Birthright) -> Result<(), RuntimeError> {
        seal_inherited_descriptors();
        let mut command = tokio::process::Command::new(&self.program);
        command.arg0("flowrun").arg(COMMAND).arg(&self.run_folder);
        if !self.settings.cgroups {
            command.arg(NO_CGROUPS);
        }
        command
            .env_clear()
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(birthright.listener)))
            .stdout(Stdio::from(birthright.lock.into_file()))
            .stderr(Stdio::from(birthright.log.into_file()));
        // tokio takes the exit status of a dropped child, so that no dead monitor stays.
        match command.spawn() {
            Ok(child) => {
                drop(child);
                Ok(())
            }
            Err(error) => Err(RuntimeError::Monitor(format!(
                "`{}` cannot be started: {error}",
                self.program.display()
            ))),
        }
    }

    /// Forgets a connection that ended, unless another one is in its place by now.
    async fn forget(&self, gone: &Arc<Link>) {
        let mut place = self.link.lock().await;
        if place.as_ref().is_some_and(|link| Arc::ptr_eq(link, gone)) {
            *place = None;
        }
    }

    /// Asks the living monitor; nothing when none lives.
    async fn ask_living(&self, ask: impl Fn() -> Ask) -> Result<Option<Answer>, RuntimeError> {
        loop {
            let reached = self.reach(&mut *self.link.lock().await).await?;
            let Reached::Link(link) = reached else { return Ok(None) };
            match link.ask(ask()).await {
                Ok(answer) => return Ok(Some(answer)),
                Err(_) => self.forget(&link).await,
            }
        }
    }
}

/// Whether the monitor of the run with this folder lives. Without it, and without an owner of the run, nothing of it goes on.
pub fn monitor_lives(run_folder: &Path) -> bool {
    door::is_somebody_there(run_folder, MONITOR)
}

enum Reached {
    Link(Arc<Link>),
    Nobody(Lock),
}

#[async_trait]
impl Runtime for LocalRuntime {
    async fn start(&self, job: &Job) -> Result<(), RuntimeError> {
        for _ in 0..TRIES {
            let link = self.reach_or_start().await?;
            let secrets = job.secrets.iter().map(Secret::from).collect();
            match link.ask(Ask::Start { job: Box::new(job.clone()), secrets }).await {
                Ok(Answer::Held) => return Ok(()),
                Ok(Answer::Failed { why }) => {
                    return Err(RuntimeError::Monitor(format!(
                        "`{}` cannot be started: {why}",
                        job.name
                    )));
                }
                Ok(other) => return Err(unexpected(&other)),
                Err(_) => self.forget(&link).await,
            }
            // The monitor died over it. If it had begun, it must not begin again: `wait` says what became of it.
            if JobFolder::new(&job.folder).was_ordered() {
                return Ok(());
            }
        }
        Err(RuntimeError::Monitor("it was killed again and again".to_owned()))
    }

    async fn wait(&self, job: &JobName, folder: &Path) -> Result<JobReport, RuntimeError> {
        let files = JobFolder::new(folder);
        loop {
            if let Some(report) = files.report() {
                return Ok(report);
            }
            let link = {
                let mut place = self.link.lock().await;
                match self.reach(&mut place).await? {
                    Reached::Link(link) => link,
                    // The lock is held until the job is settled, so that no monitor can start it meanwhile.
                    Reached::Nobody(lock) => {
                        let report = settle::settle(job, folder).await?;
                        drop(lock);
                        return Ok(report);
                    }
                }
            };
            let ask = Ask::Wait { job: job.clone(), folder: folder.to_owned() };
            match link.ask(ask).await {
                Ok(Answer::Ended { report }) => return Ok(report),
                Ok(Answer::Failed { why }) => return Err(RuntimeError::Monitor(why)),
                Ok(other) => return Err(unexpected(&other)),
                Err(_) => self.forget(&link).await,
            }
        }
    }

    async fn stop(&self, job: &JobName, kill: bool) -> Result<(), RuntimeError> {
        match self.ask_living(|| Ask::Stop { job: job.clone(), kill }).await? {
            None | Some(Answer::Held) => Ok(()),
            Some(other) => Err(unexpected(&other)),
        }
    }

    async fn is_running(&self, job: &JobName) -> Result<bool, RuntimeError> {
        match self.ask_living(|| Ask::List).await? {
            None => Ok(false),
            Some(Answer::Running { jobs }) => Ok(jobs.contains(job)),
            Some(other) => Err(unexpected(&other)),
        }
    }
}

#[async_trait]
impl Supervised for LocalRuntime {
    async fn address(&self, job: &JobName) -> Result<Option<IpAddr>, RuntimeError> {
        Ok(self.is_running(job).await?.then_some(Ipv4Addr::LOCALHOST.into()))
    }

    async fn ask(
        &self,
        job: &JobName,
        beside: &Beside,
    ) -> Result<Result<(), String>, RuntimeError> {
        let (secrets, files) = match self.ask_living(|| Ask::Handed { job: job.clone() }).await? {
            None => return Ok(Err("it does not run".to_owned())),
            Some(Answer::Failed { why }) => return Ok(Err(why)),
            Some(Answer::Handed { secrets, files }) => (secrets, files),
            Some(other) => return Err(unexpected(&other)),
        };
        let secrets: Vec<HandedSecret> = secrets.into_iter().map(HandedSecret::from).collect();
        let values = secrets.iter().filter(|secret| !secret.file);
        let values = values.map(|secret| (secret.variable.clone(), secret.value.reveal().into()));
        let files = files.into_iter().map(|(variable, path)| (variable, path.into_os_string()));
        let variables = values.chain(files).collect();
        let Err(no) = beside::run(beside, variables).await else { return Ok(Ok(())) };
        if no.heard.is_empty() {
            return Ok(Err(no.ended));
        }
        Ok(Err(no.heard.told(&no.ended, &Masks::of(&secrets)?)))
    }
}

fn unexpected(answer: &Answer) -> RuntimeError {
    RuntimeError::Monitor(format!("it answered what was not asked: {answer:?}"))
}
