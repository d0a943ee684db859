//! A home with services whose programs are tasks of the test.

mod machine;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

pub(super) use machine::Machine;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::place::Place;
use super::{Rollout, Supervisor, SupervisorSettings};
use crate::digest::Digest;
use crate::environment::EnvironmentSettings;
use crate::event::SnapshotId;
use crate::gateway::{Gateway, Limits};
use crate::names::{ReleaseId, RunId, ServiceId};
use crate::ports::free_port;
use crate::release::{
    Behaviour, Probe, Protocol, RELEASE_FORMAT, Ready, Release, ReleaseNotes, ServiceStatus,
    Serving,
};
use crate::runtime::Supervised;
use crate::source::{self, Origin, SourceSettings};
use crate::state::State;
use crate::store::dir::DirStore;

/// A home and what runs in it.
pub(super) struct World {
    pub(super) home: tempfile::TempDir,
    pub(super) machine: Machine,
    pub(super) state: State,
    supervisor_or_none: Option<Supervisor>,
    pub(super) port: u16,
    snapshot: SnapshotId,
    replica_ports: RangeInclusive<u16>,
    gateway: SocketAddr,
    releases: u64,
}

/// Each test of this process has ports of its own; other processes begin elsewhere.
fn ports() -> RangeInclusive<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let process = u16::try_from(std::process::id() % 200).unwrap();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let first = 20_000 + (process * 60 + number * 20) % 12_000;
    first..=first + 19
}

impl World {
    pub(super) async fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        // What lies in the home is no code.
        let code = tempfile::tempdir().unwrap();
        fs_err::write(code.path().join("serve.py"), "serve()").unwrap();
        let source = source_settings(home.path());
        let snapshot =
            source::take(&source, &Origin::Folder(code.path().to_owned()), None).unwrap().id;
        let state = State::open(home.path()).await.unwrap();
        let machine = Machine::default();
        let replica_ports = ports();
        let gateway = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let range = replica_ports.clone();
        let supervisor = supervisor(home.path(), &state, &machine, range, gateway).await;
        let port = free_port();
        let supervisor_or_none = Some(supervisor);
        Self {
            home,
            machine,
            state,
            supervisor_or_none,
            port,
            snapshot,
            replica_ports,
            gateway,
            releases: 0,
        }
    }

    /// The supervisor goes and another one comes; replicas stay.
    pub(super) async fn new_supervisor(self) -> Self {
        self.without_supervisor().await.with_supervisor().await
    }

    /// The supervisor goes, with all its tasks and listeners; replicas stay.
    pub(super) async fn without_supervisor(mut self) -> Self {
        if let Some(old) = self.supervisor_or_none.take() {
            let gone = old.gone();
            drop(old);
            gone.await;
        }
        self
    }

    /// A supervisor comes.
    pub(super) async fn with_supervisor(mut self) -> Self {
        let range = self.replica_ports.clone();
        let new = supervisor(self.home.path(), &self.state, &self.machine, range, self.gateway);
        self.supervisor_or_none = Some(new.await);
        self
    }

    /// The one there is.
    pub(super) fn supervisor(&self) -> &Supervisor {
        self.supervisor_or_none.as_ref().expect("a supervisor is there")
    }

    /// Makes a release of `iris/serve`, changed as told.
    pub(super) async fn release(
        &mut self,
        command: &[&str],
        change: impl FnOnce(&mut Behaviour, &mut ReleaseNotes),
    ) -> Release {
        let (mut behaviour, mut notes) = (self.behaviour(command), self.notes());
        change(&mut behaviour, &mut notes);
        self.releases += 1;
        let id = ReleaseId::new(self.releases, 1);
        self.state.create_release(id, &service(), behaviour, notes, self.releases).await.unwrap()
    }

    /// Makes a release, prepares and promotes it.
    pub(super) async fn live(&mut self, command: &[&str]) -> Release {
        self.live_with(command, |_, _| {}).await
    }

    pub(super) async fn live_with(
        &mut self,
        command: &[&str],
        change: impl FnOnce(&mut Behaviour, &mut ReleaseNotes),
    ) -> Release {
        let before = self.state.live_release(&service()).await.unwrap().map(|live| live.id);
        let release = self.release(command, change).await;
        self.supervisor().prepare(release.id, progress().0).await.unwrap().unwrap();
        let promoted = self.supervisor().promote(release.id, before).await.unwrap();
        assert_eq!(promoted, super::Promotion::Promoted(before));
        release
    }

    fn behaviour(&self, command: &[&str]) -> Behaviour {
        Behaviour {
            format: RELEASE_FORMAT,
            command: command.iter().map(|&word| word.to_owned()).collect(),
            env: BTreeMap::new(),
            environment: Digest::of(b""),
            platform: "test".to_owned(),
            files: Digest::of(b""),
            inputs: BTreeMap::new(),
            params: BTreeMap::new(),
            workdir: ".".to_owned(),
            serving: Serving {
                port: self.port,
                listen: None,
                protocol: Protocol::Http,
                ports: BTreeMap::new(),
                ready: Ready {
                    probe: Probe::Http("/readyz".to_owned()),
                    within: Duration::from_secs(30),
                    interval: Duration::from_millis(10),
                },
                alive: None,
                drain: Duration::from_secs(5),
            },
            volumes: BTreeMap::new(),
            cpu: None,
            memory: None,
            gpu: 0,
            limit: true,
            services: BTreeMap::new(),
            network: "default".to_owned(),
            secrets: BTreeMap::new(),
            container: None,
        }
    }

    fn notes(&self) -> ReleaseNotes {
        let passed = [("TMPDIR".to_owned(), self.home.path().to_str().unwrap().to_owned())];
        ReleaseNotes {
            run: RunId::new(1, 1),
            snapshot: self.snapshot.clone(),
            file_name: "flowrun.yaml".to_owned(),
            files: None,
            definition: None,
            image: None,
            lock: String::new(),
            passed: passed.into(),
            metrics: BTreeMap::new(),
            values: BTreeMap::new(),
            replicas: 2,
            route: None,
            gate: Vec::new(),
        }
    }

    /// What the service answers at its port.
    pub(super) async fn get(&self) -> Result<String, String> {
        get(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)), "/predict").await
    }

    pub(super) async fn status(&self) -> ServiceStatus {
        let all = self.supervisor().status().await;
        all.into_iter().find(|status| status.service == service()).expect("the service is there")
    }

    /// Waits until the service is as told.
    pub(super) async fn until(&self, is: impl Fn(&ServiceStatus) -> bool) -> ServiceStatus {
        let waiting = async {
            loop {
                let all = self.supervisor().status().await;
                if let Some(status) =
                    all.into_iter().find(|one| one.service == service() && is(one))
                {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_mins(1), waiting).await;
        if let Ok(status) = waited {
            return status;
        }
        panic!("it stays {:#?}", self.supervisor().status().await)
    }

    pub(super) fn gateway(&self) -> SocketAddr {
        self.gateway
    }
}

fn source_settings(home: &Path) -> SourceSettings {
    SourceSettings { mirrors: home.join("mirror"), home: home.to_owned(), env: Vec::new() }
}

async fn supervisor(
    home: &Path,
    state: &State,
    machine: &Machine,
    replica_ports: RangeInclusive<u16>,
    gateway: SocketAddr,
) -> Supervisor {
    let environment = EnvironmentSettings {
        folder: home.join("environments"),
        path: String::new(),
        env: BTreeMap::new(),
        docker: None,
    };
    let settings = SupervisorSettings {
        docker: None,
        vault: None,
        services: home.join("services"),
        volumes: home.join("volumes"),
        runs: home.join("runs"),
        gateway,
        address: Ipv4Addr::LOCALHOST.into(),
        replica_ports,
        graphics: vec![0, 1, 2],
        log_cap: 1 << 20,
        environment,
        source: source_settings(home),
    };
    let store = DirStore::open(&home.join("store"), &home.join("tmp")).unwrap();
    let networks = machine.networks();
    let machine = machine.clone();
    let runtimes: super::Runtimes =
        Arc::new(move |_: &Path, _| Ok(Arc::new(machine.clone()) as Arc<dyn Supervised>));
    let gateway = Gateway::new(Limits::default());
    let (state, store) = (state.clone(), Arc::new(store));
    let place = Place { settings, state, store, gateway, runtimes, networks };
    Supervisor::start_in(place).await.unwrap()
}

pub(super) fn service() -> ServiceId {
    ServiceId { pipeline: "iris".parse().unwrap(), stage: "serve".parse().unwrap() }
}

pub(super) fn progress() -> (UnboundedSender<String>, UnboundedReceiver<String>) {
    unbounded_channel()
}

/// One request on a connection of its own: the body of a 200, else what went wrong.
pub(super) async fn get(at: SocketAddr, path: &str) -> Result<String, String> {
    let asking = async {
        let mut stream = TcpStream::connect(at).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let asked = tokio::time::timeout(Duration::from_mins(1), asking).await;
    let answer = asked.expect("an answer comes").map_err(|error| error.to_string())?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_owned()),
        _ => Err(answer.lines().next().unwrap_or_default().to_owned()),
    }
}
