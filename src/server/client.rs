//! How other processes of flowrun reach the server of their home, starting it when it does not run.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio::sync::mpsc::UnboundedSender;

use super::link::{self, Greeted, Link, Other};
use super::protocol::{About, Answer, Ask, VERSION, WorksWith};
use super::{FILES, start};
use crate::names::{ReleaseId, ServiceId};
use crate::release::{Release, ServiceStatus};
use crate::rollout::{Candidate, Promotion, Rollout, RolloutError, RolloutFailure};
use crate::runtime::door::{self, Door, Lock};

/// How often a question is asked after the connection broke over it.
const TRIES: u32 = 10;

/// Between two of them.
const PAUSE: Duration = Duration::from_millis(100);

/// How a server is found and started.
#[derive(Debug, Clone)]
pub struct ServerPlace {
    /// The home.
    pub home: PathBuf,
    /// The flowrun program.
    pub program: PathBuf,
    /// The arguments that make it a server of this home with these settings: `server --home … --gateway …`.
    pub arguments: Vec<String>,
    /// All of its variables.
    pub variables: BTreeMap<String, String>,
    /// Where its gateway shall be, when that was asked for: a server that runs already and has it elsewhere is told of.
    pub gateway: Option<SocketAddr>,
    /// What the caller works with: a server that keeps another state is of no use to it, and one with another store is told of.
    pub works_with: Option<WorksWith>,
}

/// A connection that is made when it is first needed, and again when it broke.
pub struct Client {
    place: ServerPlace,
    told: UnboundedSender<String>,
    link: Mutex<Option<Arc<Link>>>,
    /// Whether the running server was compared with the one asked for.
    compared: AtomicBool,
}

/// Who is there.
enum Reached {
    Link(Arc<Link>),
    Other(Other),
    Nobody(Lock),
}

impl Client {
    /// Connects and starts nothing yet. `told` gets a line when a server is started.
    pub fn new(place: ServerPlace, told: UnboundedSender<String>) -> Self {
        Self { place, told, link: Mutex::new(None), compared: AtomicBool::new(false) }
    }

    /// Every service, or none when no server runs (none is started for it).
    pub async fn status_if_running(&self) -> Result<Option<Vec<ServiceStatus>>, RolloutError> {
        match self.ask_if_running(Ask::Services).await? {
            None => Ok(None),
            Some(Answer::Services(services)) => Ok(Some(services)),
            Some(other) => Err(unexpected(other)),
        }
    }

    /// The server itself, or none when no server runs (none is started for it).
    pub async fn about_if_running(&self) -> Result<Option<About>, RolloutError> {
        match self.ask_if_running(Ask::About).await? {
            None => Ok(None),
            Some(Answer::About(about)) => Ok(Some(about)),
            Some(other) => Err(unexpected(other)),
        }
    }

    /// The server itself, which is started when it does not run.
    pub async fn about(&self) -> Result<About, RolloutError> {
        match self.ask(Ask::About, None).await? {
            Answer::About(about) => Ok(about),
            other => Err(unexpected(other)),
        }
    }

    /// See [`crate::rollout::Supervisor::restart`].
    pub async fn restart(
        &self,
        service: &ServiceId,
        by: &str,
        progress: UnboundedSender<String>,
    ) -> Result<Result<(), RolloutFailure>, RolloutError> {
        let ask = Ask::Restart { service: service.clone(), by: by.to_owned() };
        match self.ask(ask, Some(progress)).await? {
            Answer::Restarted(restarted) => Ok(restarted),
            other => Err(unexpected(other)),
        }
    }

    /// See [`crate::rollout::Supervisor::scale`].
    pub async fn scale(
        &self,
        service: &ServiceId,
        replicas: u32,
        by: &str,
    ) -> Result<(), RolloutError> {
        self.order(Ask::Scale { service: service.clone(), replicas, by: by.to_owned() }).await
    }

    /// See [`crate::rollout::Supervisor::down`].
    pub async fn down(
        &self,
        service: &ServiceId,
        volumes: bool,
        by: &str,
    ) -> Result<(), RolloutError> {
        self.order(Ask::Down { service: service.clone(), volumes, by: by.to_owned() }).await
    }

    /// See [`crate::rollout::Supervisor::roll_back`]. Name the release: without, a question asked twice goes back twice.
    pub async fn roll_back(
        &self,
        service: &ServiceId,
        to: Option<u64>,
        by: &str,
        progress: UnboundedSender<String>,
    ) -> Result<Result<Release, RolloutFailure>, RolloutError> {
        let ask = Ask::RollBack { service: service.clone(), to, by: by.to_owned() };
        match self.ask(ask, Some(progress)).await? {
            Answer::RolledBack(release) => Ok(release.map(|release| *release)),
            other => Err(unexpected(other)),
        }
    }

    /// Stops the server, if one runs, and waits for its end. Its process, if one ran.
    pub async fn stop(&self) -> Result<Option<u32>, RolloutError> {
        let home = &self.place.home;
        let stream = match door::knock(home, FILES).await.map_err(server)? {
            Door::Nobody(_) => return Ok(None),
            Door::Open(stream) => stream,
        };
        let silent = |pid: Option<u32>| {
            let who = pid.map(|pid| format!(" (process {pid})")).unwrap_or_default();
            RolloutError::Server(format!("it{who} does not end"))
        };
        let pid = link::ask_to_stop(stream).await.map_err(server)?;
        let pid = pid.or_else(|| start::pid_of(home)).ok_or_else(|| silent(None))?;
        if start::await_end(home, pid).await { Ok(Some(pid)) } else { Err(silent(Some(pid))) }
    }

    /// Asks for something to be done.
    async fn order(&self, ask: Ask) -> Result<(), RolloutError> {
        match self.ask(ask, None).await? {
            Answer::Done => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// Asks until there is an answer, starting a server when none runs, and again after the connection broke over it.
    async fn ask(
        &self,
        ask: Ask,
        progress: Option<UnboundedSender<String>>,
    ) -> Result<Answer, RolloutError> {
        for _ in 0..TRIES {
            let link = self.reach_or_start().await?;
            match link.ask(ask.clone(), progress.clone()).await {
                Ok(Answer::Failed(error)) => return Err(error),
                Ok(answer) => return Ok(answer),
                Err(_) => self.forget(&link).await,
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(RolloutError::Server(format!(
            "it ended {TRIES} times over one request; {}",
            self.see()
        )))
    }

    /// Asks a server that runs; nothing when none does.
    async fn ask_if_running(&self, ask: Ask) -> Result<Option<Answer>, RolloutError> {
        for _ in 0..TRIES {
            let reached = self.reach(&mut *self.link.lock().await).await?;
            let link = match reached {
                Reached::Nobody(_) => return Ok(None),
                Reached::Other(other) => return Err(RolloutError::Server(other_version(&other))),
                Reached::Link(link) => link,
            };
            match link.ask(ask.clone(), None).await {
                Ok(Answer::Failed(error)) => return Err(error),
                Ok(answer) => return Ok(Some(answer)),
                Err(_) => self.forget(&link).await,
            }
        }
        Ok(None)
    }

    /// The connection to the server, else the lock that keeps one from being started.
    async fn reach(&self, place: &mut Option<Arc<Link>>) -> Result<Reached, RolloutError> {
        if let Some(link) = place {
            return Ok(Reached::Link(Arc::clone(link)));
        }
        loop {
            let stream = match door::knock(&self.place.home, FILES).await.map_err(server)? {
                Door::Nobody(lock) => return Ok(Reached::Nobody(lock)),
                Door::Open(stream) => stream,
            };
            match link::meet(stream).await.map_err(server)? {
                Greeted::Link(link) => return Ok(Reached::Link(keep(place, link))),
                Greeted::Other(other) => return Ok(Reached::Other(other)),
                Greeted::Silent => return Err(self.silent()),
                Greeted::Gone => {}
            }
        }
    }

    /// The connection to the server, which is started when none runs and replaced when it is older than this program.
    async fn reach_or_start(&self) -> Result<Arc<Link>, RolloutError> {
        let mut place = self.link.lock().await;
        loop {
            match self.reach(&mut place).await? {
                Reached::Link(link) => {
                    self.compare(&link).await?;
                    return Ok(link);
                }
                Reached::Other(other) if other.hello.version > VERSION => {
                    return Err(RolloutError::Server(other_version(&other)));
                }
                Reached::Other(other) => self.replace(other).await?,
                Reached::Nobody(lock) => return self.start(lock, &mut place).await,
            }
        }
    }

    /// Tells once when the server that runs has its gateway or its store elsewhere than was asked for. An error when it keeps another
    /// state: what this process has in mind is not in there.
    async fn compare(&self, link: &Link) -> Result<(), RolloutError> {
        if self.compared.load(Ordering::Relaxed) {
            return Ok(());
        }
        let Ok(Answer::About(about)) = link.ask(Ask::About, None).await else { return Ok(()) };
        if let Some((theirs, ours)) = about.works_with.as_ref().zip(self.place.works_with.as_ref())
        {
            if theirs.state != ours.state {
                return Err(RolloutError::Machinery(other_state(&about, theirs, ours)));
            }
            if theirs.store != ours.store {
                self.tell(format!(
                    "the server that runs works with the store at {}, not at {} as set: to change that, run `flowrun server --stop` and this again",
                    theirs.store, ours.store
                ));
            }
        }
        self.compared.store(true, Ordering::Relaxed);
        let wanted = self.place.gateway.filter(|wanted| wanted.port() != 0);
        if let Some(wanted) = wanted.filter(|wanted| about.gateway != wanted.to_string()) {
            self.tell(format!(
                "the server that runs has its gateway at http://{}, not at {wanted} as set: to move it, run `flowrun server --stop` and this again",
                about.gateway
            ));
        }
        Ok(())
    }

    /// Ends a server of an older version; replicas run on.
    async fn replace(&self, other: Other) -> Result<(), RolloutError> {
        let (pid, program) = (other.hello.pid, other.hello.program.clone());
        other.ask_to_stop().await;
        if !start::await_end(&self.place.home, pid).await {
            return Err(RolloutError::Server(format!(
                "it is of flowrun {program}, and its process {pid} does not end"
            )));
        }
        self.tell(format!("stopped the server of flowrun {program}; its replicas run on"));
        Ok(())
    }

    async fn start(
        &self,
        lock: Lock,
        place: &mut Option<Arc<Link>>,
    ) -> Result<Arc<Link>, RolloutError> {
        let home = &self.place.home;
        let (birthright, stream) = lock.open_door().map_err(server)?;
        let started = start::spawn(&self.place, birthright).map_err(|error| {
            let program = self.place.program.display();
            RolloutError::Server(format!("`{program}` cannot be started: {error}"))
        })?;
        let link = match link::meet(stream).await.map_err(server)? {
            Greeted::Link(link) => {
                self.compared.store(true, Ordering::Relaxed);
                keep(place, link)
            }
            Greeted::Silent => return Err(self.silent()),
            Greeted::Gone | Greeted::Other(_) => {
                let why = start::last_words(home, &started);
                let why = why.unwrap_or_else(|| "it ends as soon as it starts".to_owned());
                return Err(RolloutError::Server(format!("{why}; {}", self.see())));
            }
        };
        let at = match link.ask(Ask::About, None).await {
            Ok(Answer::About(About { gateway_problem: Some(why), .. })) => {
                format!("no gateway, as {why}")
            }
            Ok(Answer::About(about)) => format!("gateway at http://{}", about.gateway),
            _ => "no word of its gateway".to_owned(),
        };
        let log = home.join(FILES.log);
        self.tell(format!("started the server: {at}, log at {}", log.display()));
        Ok(link)
    }

    /// Forgets a connection that ended, unless another one is in its place by now.
    async fn forget(&self, gone: &Arc<Link>) {
        let mut place = self.link.lock().await;
        if place.as_ref().is_some_and(|link| Arc::ptr_eq(link, gone)) {
            *place = None;
        }
    }

    fn silent(&self) -> RolloutError {
        let pid = start::pid_of(&self.place.home);
        let who = pid.map(|pid| format!(" (process {pid})")).unwrap_or_default();
        RolloutError::Server(format!("it runs{who} and does not answer; {}", self.see()))
    }

    fn see(&self) -> String {
        format!("see {}", self.place.home.join(FILES.log).display())
    }

    /// Nobody may listen any more.
    fn tell(&self, line: String) {
        self.told.send(line).unwrap_or_default();
    }
}

fn keep(place: &mut Option<Arc<Link>>, link: Link) -> Arc<Link> {
    Arc::clone(place.insert(Arc::new(link)))
}

#[expect(clippy::needless_pass_by_value, reason = "what errors are mapped with takes them")]
fn server(error: std::io::Error) -> RolloutError {
    RolloutError::Server(error.to_string())
}

fn other_version(other: &Other) -> String {
    let program = &other.hello.program;
    let (age, pid) =
        (if other.hello.version > VERSION { "newer" } else { "older" }, other.hello.pid);
    format!("it is of the {age} flowrun {program} (process {pid})")
}

fn other_state(about: &About, theirs: &WorksWith, ours: &WorksWith) -> String {
    format!(
        "the server of this home (process {}) keeps services recorded in `{}`, and this command works with `{}`; take those services down first (`flowrun down` with that state), or run `flowrun server --stop` and this again, which leaves their replicas to themselves",
        about.pid, theirs.state, ours.state
    )
}

fn unexpected(answer: Answer) -> RolloutError {
    match answer {
        Answer::Failed(error) => error,
        other => RolloutError::Server(format!("it answered what was not asked: {other:?}")),
    }
}

/// Where the log of the server of this home lies.
pub fn log_of(home: &Path) -> PathBuf {
    home.join(FILES.log)
}

#[async_trait]
impl Rollout for Client {
    async fn prepare(
        &self,
        release: ReleaseId,
        progress: UnboundedSender<String>,
    ) -> Result<Result<Candidate, RolloutFailure>, RolloutError> {
        match self.ask(Ask::Prepare { release }, Some(progress)).await? {
            Answer::Prepared(prepared) => Ok(prepared),
            other => Err(unexpected(other)),
        }
    }

    async fn promote(
        &self,
        release: ReleaseId,
        if_live_is: Option<ReleaseId>,
    ) -> Result<Promotion, RolloutError> {
        match self.ask(Ask::Promote { release, if_live_is }, None).await? {
            Answer::Promotion(promotion) => Ok(promotion),
            other => Err(unexpected(other)),
        }
    }

    async fn abandon(&self, release: ReleaseId, why: &str) -> Result<(), RolloutError> {
        self.order(Ask::Abandon { release, why: why.to_owned() }).await
    }

    async fn keep(
        &self,
        service: &ServiceId,
        replicas: u32,
        route: Option<&str>,
    ) -> Result<(), RolloutError> {
        let route = route.map(str::to_owned);
        self.order(Ask::Keep { service: service.clone(), replicas, route }).await
    }
}
