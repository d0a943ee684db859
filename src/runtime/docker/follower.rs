//! One job as a container, from its start, or from where another process left it, to its report.

mod report;

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::asking::{self, Asked, Held};
use super::container::{Begun, Found};
use super::output::{self, Output, Piece, Source};
use super::sampler::Sampler;
use super::{Docker, DockerError, clock, secrets};
use crate::event::{JobEnd, Stream};
use crate::runtime::job_folder::JobFolder;
use crate::runtime::log::{LogWriter, Masks};
use crate::runtime::{Job, JobReport};

/// The pauses, milliseconds, for which an engine that went away is waited for before that is an error: about a minute. One that
/// goes down gives its containers up to 15 s first.
const PAUSES: [u64; 14] =
    [100, 200, 400, 800, 1500, 3000, 4000, 5000, 5000, 5000, 10_000, 10_000, 10_000, 10_000];
/// The pauses, milliseconds, after which an engine's log is read again that breaks off.
const REREADS: [u64; 3] = [100, 1000, 3000];
/// How often it is looked whether all but the main process have ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// After so long without a word the engine has given everything that a dead container wrote.
const UNTIL_DRAINED: Duration = Duration::from_secs(10);
/// Who removed a container that is not there.
const REMOVED: &str = "its container was removed by somebody else";

/// Where a job stands.
#[derive(Debug, Clone, Copy)]
enum Phase {
    Running,
    /// It was asked to end and has until then.
    Ending {
        kill_at: Instant,
    },
    Killed,
}

/// How following it ended.
enum Followed {
    Ended,
    Torn,
}

/// Follows one container. Dropping it at any time leaves the container running and the log such that another one can go on.
pub(super) struct Follower {
    docker: Docker,
    job: Job,
    files: JobFolder,
    log: LogWriter,
    newest: u64,
    /// Not all of its secrets could be had again.
    is_unmaskable: bool,
    /// The engine's log of it breaks off.
    is_cut: bool,
    stop: mpsc::UnboundedReceiver<bool>,
    phase: Phase,
    wanted: Option<JobEnd>,
    /// Its main process, while it waits for the others to end.
    held: Option<Held>,
    /// The engine went away while it ran, and nobody has seen it run since.
    torn: bool,
    usage: Sampler,
    /// The right to follow.
    _lock: fs_err::File,
}

impl Follower {
    /// Goes on where the log in the job's folder ends. `torn`: the engine went away from who followed it before.
    pub(super) fn new(
        docker: Docker,
        job: Job,
        lock: fs_err::File,
        stop: mpsc::UnboundedReceiver<bool>,
        torn: bool,
    ) -> Result<Self, DockerError> {
        let files = JobFolder::new(&job.folder);
        let (mut log, newest) = LogWriter::resume(&job.folder, job.log_cap, job.log_keep)?;
        log.mask(&Masks::of(&job.secrets)?);
        let wanted = files.stop_noted();
        let phase = match &wanted {
            Some(_) => Phase::Ending { kill_at: Instant::now() + job.grace },
            None => Phase::Running,
        };
        Ok(Self {
            docker,
            job,
            files,
            log,
            newest,
            is_unmaskable: false,
            is_cut: false,
            stop,
            phase,
            wanted,
            held: None,
            torn,
            usage: Sampler::default(),
            _lock: lock,
        })
    }

    /// Follows it to its end, writes its report and removes it. `started` is what it writes, when it was started just now.
    pub(super) async fn follow(
        mut self,
        started: Option<Output>,
    ) -> Result<JobReport, DockerError> {
        let name = self.job.name.clone();
        let mut live = started.map(Source::live);
        let mut pauses = PAUSES.iter();
        loop {
            let Some(found) = self.look().await? else { return self.lost(REMOVED) };
            if found.is_new() {
                match self.docker.begin(name.as_str()).await? {
                    Begun::Running(output) => live = Some(Source::live(output)),
                    Begun::NotStartable { code, why } => {
                        return self.not_startable(code, &why).await;
                    }
                }
                continue;
            }
            self.recover_secrets(&found)?;
            let exact = live.is_some();
            let source = match live.take() {
                Some(source) => source,
                None => self.kept(found.is_running()).await?,
            };
            match self.pump(source, &found).await {
                Followed::Ended if exact || !found.is_running() => {}
                Followed::Ended if self.catch_up().await.is_ok() => {}
                Followed::Ended | Followed::Torn => {
                    self.torn = true;
                    let Some(pause) = pauses.next() else {
                        return Err(DockerError::absent("it breaks off again and again"));
                    };
                    tokio::time::sleep(Duration::from_millis(*pause)).await;
                    continue;
                }
            }
            let Some(found) = self.look().await? else { return self.lost(REMOVED) };
            return self.report(found).await;
        }
    }

    /// Its container as it is now. An engine that is away is waited for.
    async fn look(&mut self) -> Result<Option<Found>, DockerError> {
        for pause in PAUSES {
            match self.docker.find_job(self.job.name.as_str()).await {
                Err(DockerError::Absent { .. }) => {
                    self.torn = true;
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                }
                found => return found,
            }
        }
        self.docker.find_job(self.job.name.as_str()).await
    }

    /// What of the container's output the log does not have.
    async fn kept(&self, follow: bool) -> Result<Source, DockerError> {
        let (job, log) = (&self.job, &self.log);
        Source::kept(&self.docker, &job.name, follow, log, job.log_keep, self.newest).await
    }

    /// Reads once more what the engine kept: its followers may miss the end of a container that has ended. What an engine that
    /// is there cannot read does not come any more.
    async fn catch_up(&mut self) -> Result<(), DockerError> {
        for pause in REREADS {
            let mut source = self.kept(false).await?;
            loop {
                match source.next().await {
                    Piece::Bytes(stream, bytes) => self.append(stream, &bytes),
                    Piece::End => return Ok(()),
                    Piece::Torn => break,
                }
            }
            tokio::time::sleep(Duration::from_millis(pause)).await;
            self.look().await?;
        }
        self.is_cut = true;
        Ok(())
    }

    fn append(&mut self, stream: Stream, bytes: &[u8]) {
        // A file in memory went with a restart of the machine: what is not masked for sure is not shown.
        if !self.is_unmaskable {
            output::append(&mut self.log, stream, bytes);
        }
        self.newest = clock::now();
    }

    /// Copies the output until the container has ended and all of it is there, and ends the container when it is time.
    ///
    /// Plan: wait for the first of exit, stop, deadline and output; once it has exited, only output is left.
    async fn pump(&mut self, mut source: Source, found: &Found) -> Followed {
        let state = found.0.state.clone().unwrap_or_default();
        let mut running = found.is_running();
        let (docker, name) = (self.docker.clone(), self.job.name.clone());
        let exit = docker.exit(name.as_str());
        tokio::pin!(exit);
        let mut timeout_at = None;
        if running {
            self.torn = false;
            self.usage.look_at(
                state.pid.unwrap_or_default(),
                found.0.id.as_deref().unwrap_or("no container"),
            );
            timeout_at = self.timeout_at(state.started_at.as_deref());
            self.send(found).await;
        }
        let mut stopping = true;
        let mut reading = true;
        let mut drained_at = Instant::now() + UNTIL_DRAINED;
        let mut look_at = Instant::now() + self.usage.pause();
        while running || reading {
            let deadline = match self.phase {
                Phase::Running => timeout_at,
                Phase::Ending { kill_at } => Some(kill_at),
                Phase::Killed => None,
            };
            tokio::select! {
                biased;
                exited = &mut exit, if running => {
                    if exited.is_err() {
                        return Followed::Torn;
                    }
                    running = false;
                    drained_at = Instant::now() + UNTIL_DRAINED;
                }
                request = self.stop.recv(), if stopping && running => match request {
                    None => stopping = false,
                    Some(kill) => self.end(JobEnd::Cancelled, kill, found).await,
                },
                () = until(deadline), if running => match (self.phase, self.job.timeout) {
                    (Phase::Running, Some(after)) => {
                        self.end(JobEnd::TimedOut { after }, false, found).await;
                    }
                    _ => self.end(JobEnd::Cancelled, true, found).await,
                },
                () = tokio::time::sleep_until(look_at), if running => {
                    self.usage.sample();
                    if self.held.is_some_and(|held| held.ask_when_last()) {
                        self.held = None;
                    }
                    look_at = Instant::now() + self.held.map_or_else(|| self.usage.pause(), |_| LOOK_EVERY);
                }
                piece = source.next(), if reading => match piece {
                    Piece::Bytes(stream, bytes) => {
                        self.append(stream, &bytes);
                        drained_at = Instant::now() + UNTIL_DRAINED;
                    }
                    Piece::End => reading = false,
                    Piece::Torn if running => return Followed::Torn,
                    Piece::Torn => return self.read_again().await,
                },
                () = tokio::time::sleep_until(drained_at), if !running => reading = false,
            }
        }
        Followed::Ended
    }

    /// The container has ended and its output was torn: what is missing lies at the engine.
    async fn read_again(&mut self) -> Followed {
        match self.catch_up().await {
            Ok(()) => Followed::Ended,
            Err(_) => Followed::Torn,
        }
    }

    /// When its time is over, which began when it was started, whoever followed it.
    fn timeout_at(&self, started_at: Option<&str>) -> Option<Instant> {
        let timeout = self.job.timeout?;
        let started = started_at.and_then(clock::milliseconds);
        let passed = started.map_or(0, |started| clock::now().saturating_sub(started));
        Some(Instant::now() + timeout.saturating_sub(Duration::from_millis(passed)))
    }

    /// Asks it to end: TERM once, KILL with `kill`. The first one to want it says what its report says.
    async fn end(&mut self, end: JobEnd, kill: bool, found: &Found) {
        if self.wanted.is_none() {
            // Without the note only another process that goes on from here would tell it differently.
            self.files.note_stop(&end).unwrap_or_default();
            self.wanted = Some(end);
        }
        match (self.phase, kill) {
            (_, true) => self.phase = Phase::Killed,
            (Phase::Running, false) => {
                self.phase = Phase::Ending { kill_at: Instant::now() + self.job.grace };
            }
            _ => return,
        }
        self.send(found).await;
    }

    /// Sends the signal of the phase: TERM to all processes of a stage's command, an image's own signal to its own program, which
    /// knows what to do with its children. What does not arrive is sent again when the engine is back.
    async fn send(&mut self, found: &Found) {
        let signal = match self.phase {
            Phase::Running => return,
            Phase::Killed => "SIGKILL",
            Phase::Ending { .. } => {
                let is_own = self.job.command.is_empty();
                if !is_own && let Asked::All(held) = asking::ask_all(found).await {
                    self.held = held;
                    return;
                }
                let config = found.0.config.as_ref();
                let own = config.and_then(|config| config.stop_signal.as_deref());
                let signal = own.filter(|_| is_own).unwrap_or("SIGTERM");
                asking::until_taken(found, signal).await;
                signal
            }
        };
        drop(self.docker.signal(self.job.name.as_str(), signal).await);
    }

    /// A process that adopts a container was not handed its secrets.
    fn recover_secrets(&mut self, found: &Found) -> Result<(), DockerError> {
        if self.job.secrets.is_empty() {
            let back = secrets::of_container(&self.job.name, found);
            self.log.mask(&Masks::of(&back.secrets)?);
            self.job.secrets = back.secrets;
            self.is_unmaskable = !back.is_whole;
        }
        Ok(())
    }
}

/// Removes a job's container, and never what is somebody else's; whether it has none for sure. What cannot be removed now is found by
/// its label later.
pub(super) async fn clean(docker: &Docker, job: &Job) -> bool {
    let name = job.name.as_str();
    match docker.find_job(name).await {
        Ok(Some(_)) => docker.discard(name).await.is_ok(),
        // Refused is one of this name that is not the job's own.
        Ok(None) | Err(DockerError::Refused { .. }) => true,
        Err(_) => false,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
