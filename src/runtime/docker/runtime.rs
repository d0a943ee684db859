//! The life of one job as a container.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bollard::models::ContainerCreateBody;
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

use super::container::Begun;
use super::create::{self, FOLDER, Surroundings};
use super::follower::{Follower, clean};
use super::output::Output;
use super::{Docker, DockerError, ask};
use crate::names::JobName;
use crate::runtime::job_folder::JobFolder;
use crate::runtime::secret_files::{self, Reader};
use crate::runtime::settle::lost;
use crate::runtime::{Beside, ContainerUser, Job, JobReport, Runtime, RuntimeError, Supervised};

/// How often it is looked whether another process still follows a job.
const LOOK_EVERY: Duration = Duration::from_millis(50);

type Ended = Option<Result<JobReport, Arc<DockerError>>>;

/// Jobs as containers. Dropping it leaves them running.
///
/// Each container is followed by a task of its own from its start on, also while nobody waits for it: one whose output nobody reads
/// would stand still.
pub struct DockerRuntime {
    docker: Docker,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    jobs: HashMap<JobName, Entry>,
    /// The engine went away while these ran.
    torn: HashSet<JobName>,
    /// Asked to stop while there was no container: a process that died may have asked for one that the engine is still making.
    stops: HashMap<JobName, bool>,
}

struct Entry {
    stop: mpsc::UnboundedSender<bool>,
    ended: watch::Receiver<Ended>,
    _task: AbortOnDropHandle<()>,
}

impl DockerRuntime {
    /// Says nothing to the engine yet.
    pub fn new(docker: Docker) -> Self {
        Self { docker, known: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing that holds it can panic midway.
        self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn is_followed(&self, job: &JobName) -> bool {
        self.known().jobs.contains_key(job)
    }

    /// The end of a job that is followed here, from now on if it was not.
    fn ended(&self, name: &JobName, folder: &Path) -> watch::Receiver<Ended> {
        let mut known = self.known();
        if let Some(entry) = known.jobs.get(name) {
            return entry.ended.clone();
        }
        let (stop, requests) = mpsc::unbounded_channel();
        let torn = known.torn.remove(name);
        let adopted = adopt(self.docker.clone(), name.clone(), folder.to_owned(), requests, torn);
        let entry = spawn(stop, adopted);
        let ended = entry.ended.clone();
        if let Some(kill) = known.stops.remove(name) {
            entry.stop.send(kill).unwrap_or_default();
        }
        known.jobs.insert(name.clone(), entry);
        ended
    }

    /// What its container is made of; its secrets lie ready then.
    async fn request(&self, job: &Job) -> Result<ContainerCreateBody, DockerError> {
        let Some(container) = &job.container else {
            return Err(DockerError::Refused {
                what: format!("start `{}`", job.name),
                why: "it is not a container".to_owned(),
            });
        };
        let around = self.surroundings().await?;
        let reader = match container.user {
            ContainerUser::Caller => Reader::Caller,
            ContainerUser::Image => Reader::Image,
        };
        let files = secret_files::make_files(&job.name, &job.folder, &job.secrets, reader)?;
        Ok(create::request(job, container, &around, files.as_deref()))
    }

    /// Makes the container of a job that was just claimed and starts it. Nothing: it is there already and runs, or ran.
    async fn launch(
        &self,
        job: &Job,
        body: ContainerCreateBody,
    ) -> Result<Option<Begun>, DockerError> {
        if !self.docker.make(job.name.as_str(), body).await? {
            match self.docker.find_job(job.name.as_str()).await? {
                Some(found) if found.is_new() => {}
                _ => return Ok(None),
            }
        }
        self.docker.begin(job.name.as_str()).await.map(Some)
    }

    async fn surroundings(&self) -> Result<Surroundings, DockerError> {
        self.docker.surroundings().await
    }
}

impl Docker {
    /// Who runs containers for the caller, and on what.
    pub(super) async fn surroundings(&self) -> Result<Surroundings, DockerError> {
        let traits = self.traits().await?;
        let user = if traits.about.rootless {
            "0:0".to_owned()
        } else {
            let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
            format!("{}:{}", user.as_raw(), group.as_raw())
        };
        Ok(Surroundings {
            installation: self.settings().installation.clone(),
            user,
            host_users: traits.remaps_users,
            memory: traits.memory,
        })
    }
}

fn spawn(
    stop: mpsc::UnboundedSender<bool>,
    follow: impl Future<Output = Result<JobReport, DockerError>> + Send + 'static,
) -> Entry {
    let (sender, ended) = watch::channel(None);
    let task = tokio::spawn(async move {
        // Nobody may wait, and then nobody is told.
        sender.send(Some(follow.await.map_err(Arc::new))).unwrap_or_default();
    });
    Entry { stop, ended, _task: AbortOnDropHandle::new(task) }
}

/// Goes on with a job that somebody started, when nobody else follows it any more; settles it when it has no container.
async fn adopt(
    docker: Docker,
    name: JobName,
    folder: PathBuf,
    stop: mpsc::UnboundedReceiver<bool>,
    torn: bool,
) -> Result<JobReport, DockerError> {
    let files = JobFolder::new(&folder);
    let lock = loop {
        if let Some(report) = files.report() {
            return Ok(report);
        }
        if !files.was_ordered() {
            fs_err::create_dir_all(&folder)?;
            return Ok(files.end(&lost("it was never started".to_owned()))?);
        }
        match files.try_lock()? {
            Some(lock) => break lock,
            None => tokio::time::sleep(LOOK_EVERY).await,
        }
    };
    if let Some(report) = files.report() {
        return Ok(report);
    }
    let Some(mut job) = files.job() else {
        docker.discard(name.as_str()).await?;
        return Ok(files.end(&lost("its order cannot be read".to_owned()))?);
    };
    job.folder = folder;
    Box::pin(Follower::new(docker, job, lock, stop, torn)?.follow(None)).await
}

#[async_trait]
impl Runtime for DockerRuntime {
    async fn start(&self, job: &Job) -> Result<(), RuntimeError> {
        if self.is_followed(&job.name) {
            return Ok(());
        }
        let files = JobFolder::new(&job.folder);
        if files.claim(job)?.is_none() {
            if !files.has_ended() {
                drop(self.ended(&job.name, &job.folder));
            }
            return Ok(());
        }
        // Without the lock another process found the order before and settles it.
        let Some(lock) = files.try_lock()? else { return Ok(()) };
        let body = match self.request(job).await {
            Ok(body) => body,
            Err(error) => {
                secret_files::remove(&job.name, &job.folder)?;
                files.give_back()?;
                return Err(error.into());
            }
        };
        let output: Option<Output> = match self.launch(job, body).await {
            Ok(Some(Begun::Running(output))) => Some(output),
            Ok(None) => None,
            Ok(Some(Begun::NotStartable { code, why })) => {
                let (_, stop) = mpsc::unbounded_channel();
                let follower = Follower::new(self.docker.clone(), job.clone(), lock, stop, false)?;
                follower.not_startable(code, &why).await?;
                return Ok(());
            }
            Err(error) => {
                // An engine that went away may have begun it all the same: then whoever comes next goes on with it.
                if clean(&self.docker, job).await {
                    secret_files::remove(&job.name, &job.folder)?;
                    files.give_back()?;
                }
                return Err(error.into());
            }
        };
        let (stop, requests) = mpsc::unbounded_channel();
        let follower = Follower::new(self.docker.clone(), job.clone(), lock, requests, false)?;
        let entry = spawn(stop, follower.follow(output));
        self.known().jobs.insert(job.name.clone(), entry);
        Ok(())
    }

    async fn wait(&self, job: &JobName, folder: &Path) -> Result<JobReport, RuntimeError> {
        if !self.is_followed(job)
            && let Some(report) = JobFolder::new(folder).report()
        {
            return Ok(report);
        }
        let mut ended = self.ended(job, folder);
        let outcome = match ended.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone(),
            Err(_) => None,
        };
        let mut known = self.known();
        if known.jobs.get(job).is_some_and(|entry| entry.ended.same_channel(&ended)) {
            known.jobs.remove(job);
            if let Some(Err(_)) = &outcome {
                known.torn.insert(job.clone());
            }
        }
        match outcome {
            Some(Ok(report)) => Ok(report),
            Some(Err(error)) => Err(error.again().into()),
            None => Err(DockerError::absent("whoever followed the container is gone").into()),
        }
    }

    async fn stop(&self, job: &JobName, kill: bool) -> Result<(), RuntimeError> {
        if !self.is_followed(job) {
            match self.docker.find_job(job.as_str()).await? {
                None => {
                    let mut known = self.known();
                    if !known.jobs.contains_key(job) {
                        known.stops.insert(job.clone(), kill);
                    }
                }
                // One that was only made is started by whoever waits for it.
                Some(found) if found.is_running() || found.is_new() => {
                    if let Some(folder) = found.label(FOLDER) {
                        drop(self.ended(job, Path::new(folder)));
                    }
                }
                Some(_) => {}
            }
        }
        if let Some(entry) = self.known().jobs.get(job) {
            // Fails when it has just ended.
            entry.stop.send(kill).unwrap_or_default();
        }
        Ok(())
    }

    async fn is_running(&self, job: &JobName) -> Result<bool, RuntimeError> {
        let found = self.docker.find_job(job.as_str()).await?;
        Ok(found.is_some_and(|found| found.is_running()))
    }
}

#[async_trait]
impl Supervised for DockerRuntime {
    async fn address(&self, job: &JobName) -> Result<Option<IpAddr>, RuntimeError> {
        let Some(found) = self.docker.find_job(job.as_str()).await? else { return Ok(None) };
        if !found.is_running() {
            return Ok(None);
        }
        let networks = found.0.network_settings.and_then(|settings| settings.networks);
        let addresses = networks.into_iter().flatten().filter_map(|(_, network)| {
            network.ip_address.filter(|address| !address.is_empty())?.parse().ok()
        });
        Ok(addresses.min())
    }

    async fn ask(
        &self,
        job: &JobName,
        beside: &Beside,
    ) -> Result<Result<(), String>, RuntimeError> {
        Ok(ask::ask(&self.docker, job, beside).await?)
    }
}
