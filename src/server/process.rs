//! The life of the server: from the lock to the last answer.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt, future};
use rustix::process::{Resource, Rlimit};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::birth::Birth;
use super::connection::{Ended, serve_client};
use super::log::{self, Stderr};
use super::protocol::WorksWith;
use super::requests::{self, Myself};
use super::{FILES, start};
use crate::gateway::{Gateway, Limits};
use crate::rollout::{RolloutError, Supervisor, SupervisorSettings, refused};
use crate::runtime::docker::{DockerError, DockerRuntime};
use crate::runtime::door;
use crate::runtime::local::{LocalRuntime, LocalSettings};
use crate::state::State;
use crate::store::Store;

/// How long answers on the socket may take once the server shall stop; a rollout is gone on with by the next server.
const UNTIL_ANSWERED: Duration = Duration::from_secs(5);

/// How long requests through the gateway may go on after that.
const UNTIL_DRAINED: Duration = Duration::from_secs(5);

/// How long it waits after a connection that could not be accepted, which is for want of descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// Open files of the server at most; a connection through the gateway takes two. Monitors inherit it, so it is no more than
/// programs can bear that look at each of them.
const OPEN_FILES: u64 = 65_536;

/// What the server works with.
pub struct Parts {
    /// What the supervisor is told. A gateway port of 0 means any free one.
    pub settings: SupervisorSettings,
    /// The opened state.
    pub state: State,
    /// What state and store are called.
    pub works_with: WorksWith,
    /// The opened store.
    pub store: Arc<dyn Store>,
    /// The flowrun program, which becomes the monitors of replicas.
    pub program: PathBuf,
    /// Unix milliseconds of now.
    pub since: u64,
}

/// Why the server ended badly.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Lock, socket, log or signals.
    #[error("the server cannot work: {0}")]
    Io(#[from] std::io::Error),
    /// The services cannot be taken over.
    #[error("the services cannot be taken over: {0}")]
    Services(#[from] RolloutError),
    /// A bug: a panic somewhere in it.
    #[error("the server has a bug; its log says where")]
    Panicked,
}

/// Is the server of a home until somebody stops it; replicas run on. Needs a tokio runtime with IO and time.
///
/// Whoever waits for the lock or the socket sees them go only after the log says why.
/// Nothing answers before everything that runs was taken over. A panic anywhere ends it, as half a server would be worse.
pub async fn serve(birth: Birth, parts: Parts) -> Result<(), ServerError> {
    let stderr = if birth.in_background { Stderr::IsLog } else { Stderr::Reader };
    log::install(birth.home.join(FILES.log), stderr)?;
    let served = live(&birth, parts).await;
    if let Err(error) = &served {
        tracing::error!("{error}");
    }
    // Whoever waits for the lock finds no socket and starts afresh.
    drop(fs_err::remove_file(birth.home.join(FILES.socket)));
    start::forget_pid(&birth.lock);
    drop(birth);
    served
}

async fn live(birth: &Birth, parts: Parts) -> Result<(), ServerError> {
    let panicked = listen_for_panics();
    let mut signals = Signals::listen()?;
    let files = raise_open_files();
    let (version, pid) = (env!("CARGO_PKG_VERSION"), std::process::id());
    tracing::info!("flowrun {version} serves `{}` as process {pid}", birth.home.display());

    let settings = choose_gateway(parts.settings);
    let (since, works_with) = (parts.since, parts.works_with);
    let myself = Myself { since, gateway: settings.gateway, works_with };
    let gateway = Gateway::new(limits(files));
    let program = parts.program;
    let local = LocalSettings::default();
    let docker = settings.docker.clone();
    let supervisor = Supervisor::start(
        settings,
        parts.state,
        parts.store,
        gateway.clone(),
        Arc::new(move |folder, in_container| {
            Ok(match (&docker, in_container) {
                (Some(docker), true) => Arc::new(DockerRuntime::new(docker.clone())),
                (None, true) => return Err(no_engine().into()),
                (_, false) => {
                    Arc::new(LocalRuntime::new(program.clone(), folder.to_owned(), local))
                }
            })
        }),
    )
    .await?;

    let listener = UnixListener::from_std(birth.listener.try_clone()?)?;
    let server = Server {
        supervisor,
        myself: Arc::new(myself),
        stopping: CancellationToken::new(),
        ended: CancellationToken::new(),
        tasks: TaskTracker::new(),
    };
    let ended = server.accept_until_stopped(listener, &mut signals, &panicked).await;
    if ended.is_ok() {
        server.finish(gateway, &mut signals).await;
        tracing::info!("the server ends; replicas run on");
    }
    ended
}

#[derive(Clone)]
struct Server {
    supervisor: Supervisor,
    myself: Arc<Myself>,
    /// What was asked is answered; nothing new is.
    stopping: CancellationToken,
    /// Nothing is answered any more.
    ended: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    /// Takes connections until a signal, a client or a panic ends it. Later ones wait for the process's end, and go to the next server.
    async fn accept_until_stopped(
        &self,
        listener: UnixListener,
        signals: &mut Signals,
        panicked: &Panicked,
    ) -> Result<(), ServerError> {
        loop {
            tokio::select! {
                biased;
                () = panicked.0.notified() => {
                    return Err(ServerError::Panicked);
                }
                name = signals.next() => {
                    tracing::info!("the server was told to stop ({name})");
                    break;
                }
                () = self.stopping.cancelled() => break,
                connection = listener.accept() => match connection {
                    Ok((stream, _)) if door::is_own(&stream) => {
                        let serving = self.clone().serve(stream);
                        let ended = self.ended.clone();
                        drop(self.tasks.spawn(ended.run_until_cancelled_owned(serving)));
                    }
                    Ok(_) => tracing::warn!("a connection of another user was refused"),
                    Err(error) => {
                        tracing::warn!("a connection cannot be taken: {error}");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        }
        self.stopping.cancel();
        Ok(())
    }

    async fn serve(self, stream: UnixStream) {
        let answering = |ask, progress| {
            requests::answer(self.supervisor.clone(), self.myself.clone(), ask, progress).boxed()
        };
        let Ended { candidates, mut unfinished } =
            serve_client(stream, &answering, &self.stopping).await;
        let gone = async || {
            // The end of the server is not the end of its clients.
            if !candidates.is_empty() && !self.stopping.is_cancelled() {
                self.supervisor.caller_gone(&candidates).await;
            }
        };
        gone().await;
        if !unfinished.is_empty() {
            while unfinished.next().await.is_some() {}
            // One may have been asked for so late that the supervisor heard of it only now.
            gone().await;
        }
    }

    /// Gives what is under way its time: answers on the socket, then requests through the gateway.
    async fn finish(self, gateway: Gateway, signals: &mut Signals) {
        let Self { supervisor, tasks, ended, .. } = self;
        tasks.close();
        let all = async {
            let services = supervisor.status().await;
            if tokio::time::timeout(UNTIL_ANSWERED, tasks.wait()).await.is_err() {
                ended.cancel();
                tasks.wait().await;
            }
            // Its listeners go with it; what was accepted goes on.
            drop(supervisor);
            let replicas = services.iter().flat_map(|service| &service.replicas);
            let backends = replicas.filter_map(|replica| replica.address.as_ref()?.parse().ok());
            let drains = backends.map(|backend| gateway.drain(backend, UNTIL_DRAINED));
            let cut: usize = future::join_all(drains).await.into_iter().sum();
            if cut > 0 {
                let seconds = UNTIL_DRAINED.as_secs();
                tracing::warn!("{cut} requests that were under way after {seconds} s are cut");
            }
        };
        tokio::select! {
            () = all => {}
            name = signals.next() => tracing::warn!("what was under way is cut ({name})"),
        }
    }
}

/// Told when something in this process panicked.
struct Panicked(Arc<Notify>);

/// From now on a panic is logged, and ends the server.
fn listen_for_panics() -> Panicked {
    let notify = Arc::new(Notify::new());
    let panicked = Panicked(Arc::clone(&notify));
    std::panic::set_hook(Box::new(move |panic| {
        tracing::error!("a bug: {panic}");
        notify.notify_one();
    }));
    panicked
}

/// What stops the server from outside.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "TERM",
            _ = self.interrupt.recv() => "INT",
            _ = self.hangup.recv() => "HUP",
        }
    }
}

/// Says where routes will be listened for: a free port for port 0. A port that cannot be had is said and does no other harm.
fn choose_gateway(mut settings: SupervisorSettings) -> SupervisorSettings {
    match TcpListener::bind(settings.gateway).and_then(|it| it.local_addr()) {
        Ok(free) => {
            settings.gateway = free;
            tracing::info!("routes will be listened for at http://{free}");
        }
        Err(error) => {
            tracing::warn!("nothing listens for routes: {}", refused(settings.gateway, &error));
        }
    }
    settings
}

/// Why routes could not be listened for now, if so.
pub(super) fn gateway_problem(gateway: SocketAddr) -> Option<String> {
    TcpListener::bind(gateway).err().map(|error| refused(gateway, &error))
}

/// A release that is a container, and a server that was told of no engine.
fn no_engine() -> DockerError {
    DockerError::Absent {
        why: "the server knows no way to one".to_owned(),
        help: "start Docker".to_owned(),
    }
}

/// Bounds that fit so many open files.
fn limits(files: u64) -> Limits {
    let usual = Limits::default();
    let room = usize::try_from(files.saturating_sub(500) / 3).unwrap_or(usize::MAX);
    Limits { connections: usual.connections.min(room.max(64)), ..usual }
}

/// Raises the number of files this process may have open, and says it.
fn raise_open_files() -> u64 {
    let before = rustix::process::getrlimit(Resource::Nofile);
    let wanted = before.maximum.map_or(OPEN_FILES, |most| most.min(OPEN_FILES));
    if before.current.is_some_and(|now| now >= wanted) {
        return before.current.unwrap_or(OPEN_FILES);
    }
    let raised = Rlimit { current: Some(wanted), maximum: before.maximum };
    match rustix::process::setrlimit(Resource::Nofile, raised) {
        Ok(()) => wanted,
        Err(_) => before.current.unwrap_or(OPEN_FILES),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_room_for_everything_else() {
        assert_eq!(limits(1024).connections, 174);
        assert_eq!(limits(0).connections, 64);
        assert_eq!(limits(OPEN_FILES), Limits::default());
    }
}
