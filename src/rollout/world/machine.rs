//! A machine whose programs are tasks of the test: it serves HTTP on `$PORT` without a process, and as a container at an address of its own.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::event::{JobEnd, Usage};
use crate::names::JobName;
use crate::rollout::place::Networks;
use crate::runtime::docker::DockerError;
use crate::runtime::docker::network::Network;
use crate::runtime::{Beside, Job, JobReport, Runtime, RuntimeError, Supervised};

/// What a program does; the first word of its command.
///
/// `serve TEXT [COUNT]` answers every request with it (only so many, then it hangs), `unready` with 503, `moved` with a redirect, `silent` listens nowhere, `exit CODE` ends.
type Command = Vec<String>;

/// Programs that run, whoever started them: they outlive a supervisor as processes do.
#[derive(Clone, Default)]
pub(in crate::rollout) struct Machine {
    jobs: Arc<Mutex<BTreeMap<JobName, Program>>>,
    /// Every start, in order.
    started: Arc<Mutex<Vec<JobName>>>,
    /// Every job that was asked to stop, in order.
    stopped: Arc<Mutex<Vec<JobName>>>,
    /// There is no engine for containers now.
    pub(in crate::rollout) no_engine: Arc<AtomicBool>,
    /// Where this machine is on the network of containers; the last byte of a loopback address.
    pub(in crate::rollout) network: Arc<AtomicU8>,
}

struct Program {
    end: watch::Sender<Option<JobEnd>>,
    folder: PathBuf,
    host: IpAddr,
    /// Its address was asked for; it has none at first.
    asked: bool,
}

/// Every container has an address of its own.
fn next_address() -> IpAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let process = std::process::id().to_le_bytes()[0];
    Ipv4Addr::new(127, process.max(2), high, low).into()
}

impl Machine {
    /// Ends a program by itself.
    pub(in crate::rollout) fn crash(&self, job: &JobName) {
        self.end(job, JobEnd::Exited(1));
    }

    fn end(&self, job: &JobName, end: JobEnd) {
        let jobs = self.jobs.lock().unwrap();
        let Some(program) = jobs.get(job).filter(|program| program.end.borrow().is_none()) else {
            return;
        };
        let usage = Usage { peak_memory: 0, cpu_ms: 0, wall_ms: 0 };
        let report = JobReport { end: end.clone(), usage, remarks: Vec::new() };
        let report = serde_json::to_vec(&report).unwrap();
        fs_err::write(program.folder.join("end.json"), report).unwrap();
        program.end.send_replace(Some(end));
    }

    /// Those that run, by name.
    pub(in crate::rollout) fn running(&self) -> Vec<JobName> {
        let jobs = self.jobs.lock().unwrap();
        let runs = jobs.iter().filter(|(_, program)| program.end.borrow().is_none());
        runs.map(|(name, _)| name.clone()).collect()
    }

    fn engine(&self) -> Result<(), DockerError> {
        if self.no_engine.load(Ordering::SeqCst) {
            return Err(DockerError::Absent {
                why: "nobody is there".to_owned(),
                help: String::new(),
            });
        }
        Ok(())
    }

    /// Where this machine is on the network of containers.
    pub(in crate::rollout) fn on_network(&self) -> IpAddr {
        Ipv4Addr::new(127, 1, 0, self.network.load(Ordering::SeqCst)).into()
    }

    pub(super) fn networks(&self) -> Networks {
        let machine = self.clone();
        Arc::new(move |pipeline| {
            let made = machine.engine().map_err(|error| error.to_string());
            let network =
                Network { name: format!("net-{pipeline}"), gateway: machine.on_network() };
            Box::pin(std::future::ready(made.map(|()| network)))
        })
    }

    pub(in crate::rollout) fn started(&self) -> Vec<JobName> {
        self.started.lock().unwrap().clone()
    }

    pub(in crate::rollout) fn stopped(&self) -> Vec<JobName> {
        self.stopped.lock().unwrap().clone()
    }
}

#[async_trait]
impl Runtime for Machine {
    async fn start(&self, job: &Job) -> Result<(), RuntimeError> {
        if job.container.is_some() {
            self.engine()?;
        }
        let mut order = serde_json::to_vec(job).unwrap();
        order.push(b'\n');
        fs_err::write(job.folder.join("order.json"), order)?;
        let (end, ended) = watch::channel(None);
        let host = job.container.as_ref().map_or(Ipv4Addr::LOCALHOST.into(), |_| next_address());
        let program = Program { end, folder: job.folder.clone(), host, asked: false };
        self.jobs.lock().unwrap().insert(job.name.clone(), program);
        self.started.lock().unwrap().push(job.name.clone());
        if job.command[0] == "exit" {
            self.end(&job.name, JobEnd::Exited(job.command[1].parse().unwrap()));
            return Ok(());
        }
        let port: u16 = job.env["PORT"].parse().unwrap();
        tokio::spawn(serve(job.command.clone(), (host, port).into(), ended));
        Ok(())
    }

    async fn wait(&self, job: &JobName, folder: &Path) -> Result<JobReport, RuntimeError> {
        let ended = self.jobs.lock().unwrap().get(job).map(|program| program.end.subscribe());
        let end = match ended {
            Some(mut ended) => ended.wait_for(Option::is_some).await.unwrap().clone().unwrap(),
            None => JobEnd::Lost { why: "it is not there".to_owned() },
        };
        let usage = Usage { peak_memory: 0, cpu_ms: 0, wall_ms: 0 };
        let report = JobReport { end, usage, remarks: Vec::new() };
        fs_err::write(folder.join("end.json"), serde_json::to_vec(&report).unwrap())?;
        Ok(report)
    }

    async fn stop(&self, job: &JobName, _kill: bool) -> Result<(), RuntimeError> {
        self.stopped.lock().unwrap().push(job.clone());
        self.end(job, JobEnd::Cancelled);
        Ok(())
    }

    async fn is_running(&self, job: &JobName) -> Result<bool, RuntimeError> {
        Ok(self.running().contains(job))
    }
}

#[async_trait]
impl Supervised for Machine {
    async fn address(&self, job: &JobName) -> Result<Option<IpAddr>, RuntimeError> {
        let mut jobs = self.jobs.lock().unwrap();
        let Some(program) = jobs.get_mut(job) else { return Ok(None) };
        let asked = std::mem::replace(&mut program.asked, true);
        Ok(asked.then_some(program.host))
    }

    /// `no` is no, `hang` says nothing, all else is yes.
    async fn ask(
        &self,
        _job: &JobName,
        beside: &Beside,
    ) -> Result<Result<(), String>, RuntimeError> {
        match beside.command[0].as_str() {
            "no" => Ok(Err("`no` exited with code 1".to_owned())),
            "hang" => std::future::pending().await,
            _ => Ok(Ok(())),
        }
    }
}

async fn serve(command: Command, at: SocketAddr, mut ended: watch::Receiver<Option<JobEnd>>) {
    let answer = match command[0].as_str() {
        "serve" => {
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{}", command[1].len(), command[1])
        }
        "unready" => "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n".to_owned(),
        "moved" => "HTTP/1.1 307 Moved\r\nlocation: /login\r\ncontent-length: 0\r\n\r\n".to_owned(),
        _ => return,
    };
    let listener = loop {
        // What had the port before is a task that may not have ended yet.
        match TcpListener::bind(at).await {
            Ok(listener) => break listener,
            Err(_) if ended.borrow().is_some() => return,
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    let answers = command.get(2).map_or(usize::MAX, |count| count.parse().unwrap());
    let patience = Arc::new(AtomicUsize::new(answers));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            // Its connections end with it.
            _ = ended.wait_for(Option::is_some) => return,
            Ok((stream, _)) = listener.accept() => {
                connections.spawn(converse(stream, answer.clone(), patience.clone()));
            }
        }
    }
}

async fn converse(mut stream: TcpStream, answer: String, patience: Arc<AtomicUsize>) {
    let mut head = Vec::new();
    let mut bytes = [0; 1024];
    while let Ok(count @ 1..) = stream.read(&mut bytes).await {
        head.extend_from_slice(&bytes[..count]);
        if head.ends_with(b"\r\n\r\n") {
            let last = String::from_utf8_lossy(&head).contains("connection: close");
            head.clear();
            let spent = |left: usize| left.checked_sub(1);
            if patience.fetch_update(Ordering::SeqCst, Ordering::SeqCst, spent).is_err() {
                // It hangs.
                std::future::pending::<()>().await;
            }
            if stream.write_all(answer.as_bytes()).await.is_err() || last {
                return;
            }
        }
    }
}
