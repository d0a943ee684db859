//! One start of one replica from its folder to its end: a task that starts it (or finds it running), asks its probes, drains and
//! stops it when it shall, and tells what happens. It decides nothing.
//!
//! Dropped midway it leaves the replica as it is: running, for the next server to adopt.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;

use super::machine::{Fact, Slot};
use super::place::{Place, Report, Teller};
use super::probe::{Asked, Question};
use super::start::{self, Addresses};
use super::{clock, folders, orphans};
use crate::event::JobEnd;
use crate::names::JobName;
use crate::release::Release;
use crate::runtime::{Job, Runtime, Supervised};

/// What shall become of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// It shall run.
    Run,
    /// It shall finish its requests and stop.
    Drain,
    /// It shall stop.
    Stop,
}

/// A start of a replica.
pub(super) struct Keeper {
    pub(super) place: Arc<Place>,
    pub(super) release: Arc<Release>,
    pub(super) slot: Slot,
    pub(super) turn: u64,
    pub(super) addresses: Addresses,
    pub(super) teller: Teller,
    pub(super) wish: watch::Receiver<Wish>,
}

/// A replica that runs.
pub(super) struct Running {
    pub(super) runtime: Arc<dyn Supervised>,
    pub(super) job: JobName,
    pub(super) folder: PathBuf,
    pub(super) question: Question,
    /// It was ready once.
    pub(super) ready: bool,
    /// Where its ports are reached, once that is known.
    pub(super) host: OnceLock<IpAddr>,
}

/// Between two tries to reach a monitor or an engine.
const PAUSE: Duration = Duration::from_secs(1);
/// Between two questions for the address of a container that was just started.
const SHORT: Duration = Duration::from_millis(50);

impl Keeper {
    /// From nothing to its end.
    pub(super) async fn start(mut self) {
        match self.bring_up().await {
            Ok(Some(running)) => self.attend(running).await,
            Ok(None) => self.tell(Fact::Ended(JobEnd::Cancelled)),
            Err(why) => self.tell(Fact::NotStarted(format!("cannot be started: {why}"))),
        }
    }

    /// Nothing when it shall stop before it runs.
    async fn bring_up(&mut self) -> Result<Option<Running>, String> {
        let teller = self.teller.clone();
        let progress = move |step| teller.tell(Report::Progress(step));
        let environment = tokio::select! {
            made = start::environment(&self.place, &self.release, &progress) => made?,
            () = wished(&mut self.wish) => return Ok(None),
        };
        let made = {
            let (place, release) = (self.place.clone(), self.release.clone());
            let (slot, addresses) = (self.slot, self.addresses.clone());
            let teller = self.teller.clone();
            let made_folder = Arc::new(OnceLock::new());
            let noted = made_folder.clone();
            let begun = move |folder: &Path| {
                let folder = noted.get_or_init(|| folder.to_owned()).clone();
                teller.tell(Report::Begun { slot, folder, started_at: None });
            };
            // Copying files must not hold up the requests that go through this process.
            let runtime = tokio::runtime::Handle::current();
            let making = move || {
                runtime.block_on(start::make(place, release, slot, addresses, environment, begun))
            };
            let made = tokio::task::spawn_blocking(making).await;
            let made = made.map_err(|error| error.to_string()).flatten();
            if let (Err(_), Some(folder)) = (&made, made_folder.get()) {
                self.clean(folder).await;
            }
            made?
        };
        if *self.wish.borrow() != Wish::Run {
            self.clean(&made.job.folder).await;
            return Ok(None);
        }
        let services = &self.place.settings.services;
        let id = &self.release.service;
        let folder = folders::replica(services, id, self.slot.release, self.slot.replica);
        let in_container = made.job.container.is_some();
        let runtime = self.place.runtime(&folder, in_container);
        let Job { name, folder, .. } = made.job.clone();
        let started = match &runtime {
            Ok(runtime) => runtime.start(&made.job).await.map_err(|error| error.to_string()),
            Err(why) => Err(why.clone()),
        };
        let runtime = match (runtime, started) {
            (Ok(runtime), Ok(())) => runtime,
            (_, Err(why)) | (Err(why), _) => {
                orphans::forget(&self.place, &made.job).await;
                self.clean(&folder).await;
                return Err(why);
            }
        };
        self.teller.tell(Report::Begun {
            slot: self.slot,
            folder: folder.clone(),
            started_at: Some(clock::now()),
        });
        if let Some(gateway) = made.gateway {
            self.teller.tell(Report::OnNetwork(gateway));
        }
        self.tell(Fact::Started);
        let host = OnceLock::new();
        if !in_container {
            host.get_or_init(|| Ipv4Addr::LOCALHOST.into());
        }
        Ok(Some(Running { runtime, job: name, folder, question: made.ready, ready: false, host }))
    }

    /// Until its end.
    pub(super) async fn attend(mut self, running: Running) {
        let ended = ended(&*running.runtime, &running.job, &running.folder);
        tokio::pin!(ended);
        let mut wish = self.wish.clone();
        let end = tokio::select! {
            end = &mut ended => end,
            never = self.ask(&running) => never,
            () = wished(&mut wish) => {
                let stopped = self.stop(&running);
                tokio::select! {
                    end = &mut ended => end,
                    never = stopped => never,
                }
            }
        };
        self.clean(&running.folder).await;
        self.wish = wish;
        self.tell(Fact::Ended(end));
    }

    /// Asks until it is ready, then whether it is alive. Does not end.
    async fn ask<T>(&self, running: &Running) -> T {
        let serving = &self.release.behaviour.serving;
        let host = self.host(running).await;
        let at = SocketAddr::new(host, self.addresses.port);
        let whom = Asked { runtime: &*running.runtime, job: &running.job, at };
        if !running.ready {
            let interval = serving.ready.interval;
            while let Err(why) = self.ready_and_alive(running, whom, interval).await {
                self.tell(Fact::Answered(why));
                tokio::time::sleep(interval).await;
            }
            // Without the mark it is only asked again by the next server.
            if let Err(error) = fs_err::write(running.folder.join(folders::READY), "") {
                tracing::warn!(service = %self.release.service, %error, "cannot note that it is ready");
            }
            self.tell(Fact::Ready);
        }
        if let Some(alive) = &serving.alive {
            let question = Question::Http(alive.http.clone());
            let mut failures = 0;
            // Also after it was told: nothing comes of that before a candidate is live.
            loop {
                tokio::time::sleep(alive.interval).await;
                match question.ask(whom, alive.interval).await {
                    Ok(()) => failures = 0,
                    Err(why) => {
                        failures += 1;
                        if failures >= alive.failures.max(1) {
                            failures = 0;
                            self.tell(Fact::Stuck(why));
                        }
                    }
                }
            }
        }
        std::future::pending().await
    }

    /// Where its ports are reached; of a container that is known soon after its start, and told.
    async fn host(&self, running: &Running) -> IpAddr {
        loop {
            if let Some(host) = running.host.get() {
                return *host;
            }
            match running.runtime.address(&running.job).await {
                Ok(Some(host)) => {
                    self.teller.tell(Report::Reached(self.slot, host));
                    return *running.host.get_or_init(|| host);
                }
                // It ended, or has no address yet.
                Ok(None) => tokio::time::sleep(SHORT).await,
                Err(error) => {
                    self.tell(Fact::Answered(error.to_string()));
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Ready, and alive as it will be asked later: a wrong `alive` shall not go live and stop every replica soon after.
    async fn ready_and_alive(
        &self,
        running: &Running,
        whom: Asked<'_>,
        interval: Duration,
    ) -> Result<(), String> {
        running.question.ask(whom, interval).await?;
        match &self.release.behaviour.serving.alive {
            None => Ok(()),
            Some(alive) => {
                let asked = Question::Http(alive.http.clone()).ask(whom, alive.interval).await;
                asked.map_err(|why| format!("it is ready, and not `alive`: {why}"))
            }
        }
    }

    /// Drains it if that is wished, then stops it. Does not end: its end is told by its runtime.
    async fn stop<T>(&self, running: &Running) -> T {
        // What has no address yet gets no requests.
        let host = running.host.get().filter(|_| *self.wish.borrow() == Wish::Drain);
        if let Some(host) = host {
            let within = self.release.behaviour.serving.drain;
            let gateway = &self.place.gateway;
            let ports = self.addresses.ports.values().copied();
            let all = std::iter::once(self.addresses.port).chain(ports);
            let drained = all.map(|port| gateway.drain((*host, port).into(), within));
            let cut: usize = futures_util::future::join_all(drained).await.into_iter().sum();
            if cut > 0 {
                tracing::warn!(service = %self.release.service, cut, "requests were cut after `drain`");
            }
        }
        while let Err(error) = running.runtime.stop(&running.job, false).await {
            tracing::warn!(service = %self.release.service, %error, "a replica cannot be stopped yet");
            tokio::time::sleep(PAUSE).await;
        }
        std::future::pending().await
    }

    async fn clean(&self, start: &Path) {
        let (place, service) = (self.place.clone(), self.release.service.clone());
        let (slot, start) = (self.slot, start.to_owned());
        let cleaning = move || start::clean_all(&place, &service, slot, &start);
        if let Err(error) = tokio::task::spawn_blocking(cleaning).await {
            tracing::warn!(%error, "what a replica left cannot be removed");
        }
    }

    fn tell(&self, fact: Fact) {
        self.teller.tell(Report::Replica(self.slot, self.turn, fact));
    }
}

/// Until it shall not run any more.
async fn wished(wish: &mut watch::Receiver<Wish>) {
    // An error: the supervisor is gone, and with it this task.
    if wish.wait_for(|wish| *wish != Wish::Run).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Waits for the end, however often the monitor cannot be asked.
async fn ended(runtime: &dyn Runtime, job: &JobName, folder: &Path) -> JobEnd {
    loop {
        match runtime.wait(job, folder).await {
            Ok(report) => return report.end,
            Err(error) => tracing::warn!(%job, %error, "a replica cannot be asked for its end yet"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}
