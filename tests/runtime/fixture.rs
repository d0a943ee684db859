//! Homes with one run, on each runtime, and what tests ask of jobs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use flowrun::event::{JobEnd, Stream};
use flowrun::names::{JobName, RunId};
use flowrun::runtime::docker::{Docker, DockerRuntime, DockerSettings};
use flowrun::runtime::local::{LocalRuntime, LocalSettings};
use flowrun::runtime::log::{LogPosition, LogReader};
use flowrun::runtime::{
    Container, ContainerNetwork, ContainerUser, Job, JobReport, LogKeep, Mount, MountSource,
    Runtime, Supervised,
};
use tempfile::TempDir;

pub(crate) const LONG: Duration = Duration::from_mins(2);
/// Where a container sees the work folder of its job.
pub(crate) const WORK: &str = "/flowrun/work";
const IMAGE: &str = "flowrun-test/python:bookworm";

/// Where the jobs of a home run.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    Local(LocalSettings),
    /// The image by id.
    Docker {
        docker: Docker,
        image: String,
    },
}

/// A home with one run; each has a run number of its own, as jobs are found by name over the whole machine.
pub(crate) struct Home {
    pub(crate) folder: TempDir,
    pub(crate) run: RunId,
    last: AtomicU32,
    pub(crate) place: Place,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self::with(LocalSettings::default())
    }

    pub(crate) fn with(settings: LocalSettings) -> Self {
        Self::at(Place::Local(settings))
    }

    pub(crate) async fn docker() -> Self {
        let docker = engine("runtime-tests");
        if let Err(error) = docker.about().await {
            panic!("these tests need a Docker Engine; `tests/run` starts one: {error}");
        }
        let image = docker.local_image(IMAGE).await.unwrap();
        let image = image.unwrap_or_else(|| panic!("`tests/run` makes the image `{IMAGE}`"));
        Self::at(Place::Docker { docker, image: image.id })
    }

    fn at(place: Place) -> Self {
        static RUNS: AtomicU32 = AtomicU32::new(0);
        let number = u128::from(RUNS.fetch_add(1, Ordering::Relaxed));
        // Names of containers must also differ from those of an earlier process with the same number.
        let moment = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis();
        let moment = u64::try_from(moment).unwrap();
        let run = RunId::new(moment, (u128::from(std::process::id()) << 32) | number);
        Self { folder: tempfile::tempdir().unwrap(), run, last: AtomicU32::new(0), place }
    }

    pub(crate) fn is_docker(&self) -> bool {
        matches!(self.place, Place::Docker { .. })
    }

    pub(crate) fn run_folder(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    pub(crate) fn runtime(&self) -> Box<dyn Runtime> {
        runtime(&self.place, &self.run_folder())
    }

    pub(crate) fn supervised(&self) -> Box<dyn Supervised> {
        supervised(&self.place, &self.run_folder())
    }

    pub(crate) fn job(&self, command: &[&str]) -> Job {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let folder = self.run_folder().join(format!("{number}-1"));
        let work = folder.join("work");
        fs_err::create_dir_all(&work).unwrap();
        let (directory, container) = match &self.place {
            Place::Local(_) => (work, None),
            Place::Docker { image, .. } => (WORK.into(), Some(Box::new(container(image, &folder)))),
        };
        Job {
            name: JobName::new(self.run, number, 1),
            folder,
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            directory,
            env: BTreeMap::from([
                ("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned()),
                ("LANG".to_owned(), "C.UTF-8".to_owned()),
            ]),
            memory_limit: None,
            cpu_limit: None,
            timeout: None,
            grace: Duration::from_secs(10),
            log_cap: 2 << 30,
            log_keep: LogKeep::First,
            container,
            secrets: Vec::new(),
        }
    }

    pub(crate) fn sh(&self, script: &str) -> Job {
        self.job(&["sh", "-e", "-c", script])
    }
}

/// What a job of a stage gets: the work folder, its own `/tmp`, no network.
fn container(image: &str, folder: &Path) -> Container {
    let temporary = folder.join("tmp");
    fs_err::create_dir_all(&temporary).unwrap();
    let mount = |source: PathBuf, target: &str| Mount {
        source: MountSource::Path(source),
        target: target.into(),
        read_only: false,
    };
    Container {
        image: image.to_owned(),
        args: None,
        user: ContainerUser::Caller,
        read_only_root: true,
        network: ContainerNetwork::None,
        capabilities: Vec::new(),
        mounts: vec![mount(folder.join("work"), WORK), mount(temporary, "/tmp")],
        gpus: 0,
        hosts: BTreeMap::new(),
        labels: BTreeMap::new(),
    }
}

/// A way to the machine's engine as an installation.
pub(crate) fn engine(installation: &str) -> Docker {
    #[expect(clippy::disallowed_methods, reason = "the engine of the machine that runs the tests")]
    let host = std::env::var("DOCKER_HOST").ok();
    let installation = installation.to_owned();
    Docker::open(DockerSettings { host, config: None, env: BTreeMap::new(), installation }).unwrap()
}

pub(crate) fn runtime(place: &Place, run_folder: &Path) -> Box<dyn Runtime> {
    supervised(place, run_folder)
}

fn supervised(place: &Place, run_folder: &Path) -> Box<dyn Supervised> {
    match place {
        Place::Local(settings) => Box::new(LocalRuntime::new(
            env!("CARGO_BIN_EXE_flowrun").into(),
            run_folder.to_owned(),
            *settings,
        )),
        Place::Docker { docker, .. } => Box::new(DockerRuntime::new(docker.clone())),
    }
}

/// The work folder of a job on this machine.
pub(crate) fn work(job: &Job) -> PathBuf {
    job.folder.join("work")
}

/// Lets a job go on that waits for the file `go`.
pub(crate) fn go(job: &Job) {
    fs_err::write(work(job).join("go"), "").unwrap();
}

/// Waits for something that comes without an event to wait for, as a process of a process.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it never came: {what}");
}

pub(crate) async fn run(runtime: &dyn Runtime, job: &Job) -> JobReport {
    runtime.start(job).await.unwrap();
    end(runtime, job).await
}

/// Runs a script that writes `ready` when it may be asked to end: with a timeout that is long enough for it on this machine.
pub(crate) async fn timed_out_once_ready(home: &Home, runtime: &dyn Runtime, script: &str) -> Job {
    for after in [2, 8, 32].map(Duration::from_secs) {
        let mut job = home.sh(script);
        job.timeout = Some(after);
        assert_eq!(run(runtime, &job).await.end, JobEnd::TimedOut { after });
        if work(&job).join("ready").exists() {
            return job;
        }
    }
    panic!("it was never ready");
}

pub(crate) async fn end(runtime: &dyn Runtime, job: &Job) -> JobReport {
    tokio::time::timeout(LONG, runtime.wait(&job.name, &job.folder))
        .await
        .expect("it ends")
        .unwrap()
}

pub(crate) fn stream(job: &Job, stream: Stream) -> Vec<u8> {
    let mut reader = LogReader::open(&job.folder, LogPosition::default());
    let mut bytes = Vec::new();
    while let Some(chunk) = reader.next_chunk().unwrap() {
        if chunk.stream == stream {
            bytes.extend(chunk.bytes);
        }
    }
    bytes
}

pub(crate) fn stdout(job: &Job) -> String {
    String::from_utf8(stream(job, Stream::Stdout)).unwrap()
}

pub(crate) fn stderr(job: &Job) -> String {
    String::from_utf8(stream(job, Stream::Stderr)).unwrap()
}

pub(crate) fn pid_in(path: &Path) -> i32 {
    fs_err::read_to_string(path).unwrap().trim().parse().unwrap()
}

/// Waits until the job has written a line to this file, and gives its number.
pub(crate) async fn pid_from(job: &Job, file: &str) -> i32 {
    let path = work(job).join(file);
    until("a process number", || {
        fs_err::read_to_string(&path).is_ok_and(|text| text.ends_with('\n'))
    })
    .await;
    pid_in(&path)
}
