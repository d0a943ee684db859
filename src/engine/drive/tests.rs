//! The driver with a real state, store and source, a scripted runtime, and faults.

mod faulty_store;
mod other_host;
mod pins;
mod scripted_rollout;
mod services;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use tempfile::TempDir;

use super::*;
use crate::digest::Digest;
use crate::engine::mend::STORE_PATIENCE;
use crate::environment::EnvironmentSettings;
use crate::event::testing::created;
use crate::event::{Created, JobEnd, Notice, RunEvent, Selection, Stream, Waiting};
use crate::names::Owner;
use crate::outside::{OutsideSettings, Patience};
use crate::plan::ResolvedInputs;
use crate::runtime::Job;
use crate::runtime::log::LogWriter;
use crate::runtime::scripted::{Script, ScriptedRuntime};
use crate::source::{Origin, SourceSettings};
use crate::spec;
use crate::state::{StateError, Wish};
use crate::store::StoreError;
use crate::store::dir::DirStore;

use faulty_store::FaultyStore;
use scripted_rollout::ScriptedRollout;

/// A home, a project and what happens in them.
struct Scene {
    root: TempDir,
    pipeline: Arc<Pipeline>,
    state: State,
    store: Arc<FaultyStore>,
    runtime: Arc<ScriptedRuntime>,
    rollout: Arc<ScriptedRollout>,
}

/// What a report hears; it can act on the first word that contains `cue`.
#[derive(Default)]
struct Heard {
    words: Vec<String>,
    cue: Option<(&'static str, Act)>,
}

type Act = Box<dyn FnOnce() + Send>;

impl Heard {
    fn hear(&mut self, word: String) {
        if let Some((_, act)) = self.cue.take_if(|(cue, _)| word.contains(*cue)) {
            act();
        }
        self.words.push(word);
    }
}

impl Report for Heard {
    fn event(&mut self, _: u64, event: &RunEvent) {
        let word = match event {
            RunEvent::TaskReused { task, .. } => format!("reused {}", task.stage),
            RunEvent::AttemptStarted { task, attempt, .. } => {
                format!("started {} {attempt}", task.stage)
            }
            RunEvent::AttemptEnded { task, end, .. } => format!("ended {} {end:?}", task.stage),
            RunEvent::TaskDone { task, .. } => format!("done {}", task.stage),
            RunEvent::TaskFailed { task, cause } => format!("failed {} {cause:?}", task.stage),
            RunEvent::TaskCancelled { task } => format!("cancelled {}", task.stage),
            RunEvent::Left { why } => format!("left: {why}"),
            RunEvent::Ended { outcome } => format!("end {outcome:?}"),
            RunEvent::StopWished { by, .. } => format!("stop {by}"),
            other => format!("{other:?}"),
        };
        self.hear(word);
    }
    fn notice(&mut self, _: u64, notice: &Notice) {
        match notice {
            Notice::Line { text, stream: Stream::Stdout, .. } => self.hear(format!("| {text}")),
            Notice::Waiting { task, why: Waiting::Claim { .. } } => {
                self.hear(format!("claimed elsewhere {}", task.stage));
            }
            Notice::Preparing { task, .. } => self.hear(format!("preparing {}", task.stage)),
            Notice::Adopted { task, .. } => self.hear(format!("adopted {}", task.stage)),
            Notice::Away { part, place, .. } => self.hear(format!("away {part} {place}")),
            Notice::Back { part, .. } => self.hear(format!("back {part}")),
            Notice::Remark(text) => self.hear(text.clone()),
            _ => {}
        }
    }
}

const TWO: &str = "version: \"2\"\nname: two\nstages:\n  \
    one:\n    run: one\n    outputs: {o: o}\n  \
    two:\n    run: two\n    inputs: {o: one.o}\n    outputs: {p: p}\n";

fn owner() -> Owner {
    Owner { host: "here".to_owned(), pid: 1, user: "me".to_owned() }
}

/// Jobs write the output that their stage promises.
fn obedient(job: &Job) -> Script {
    let mut log = LogWriter::new(&job.folder, 1 << 20);
    log.append(1, Stream::Stdout, b"at work\nstill");
    let script = Script::exits(0);
    match job.env["FLOWRUN_STAGE"].as_str() {
        "one" => script.writing("o", "1"),
        _ => script.writing("p", "2"),
    }
}

impl Scene {
    async fn new(text: &str, director: impl Fn(&Job) -> Script + Send + Sync + 'static) -> Self {
        let root = tempfile::tempdir().unwrap();
        let home = root.path();
        for folder in ["project", "store", "tmp", "runs"] {
            fs_err::create_dir(home.join(folder)).unwrap();
        }
        fs_err::write(home.join("project/pipeline.yaml"), text).unwrap();
        let pipeline = spec::load("pipeline.yaml", text.as_bytes()).unwrap();
        let state = State::open(home).await.unwrap();
        state.bind_pipeline(&pipeline.name, "here", 0, false).await.unwrap();
        let inner = DirStore::open(&home.join("store"), &home.join("tmp")).unwrap();
        Self {
            pipeline: Arc::new(pipeline),
            rollout: Arc::new(ScriptedRollout::new(state.clone())),
            state,
            store: Arc::new(FaultyStore::new(inner)),
            runtime: Arc::new(ScriptedRuntime::new(director)),
            root,
        }
    }

    fn snapshot(&self) -> Snapshot {
        let settings = SourceSettings {
            mirrors: self.root.path().join("mirror"),
            home: self.root.path().join("runs"),
            env: Vec::new(),
        };
        let origin = Origin::Folder(self.root.path().join("project"));
        crate::source::take(&settings, &origin, None).unwrap()
    }

    fn context(&self, snapshot: &Snapshot) -> KeyContext {
        let environment = (Digest::of(b"python"), "linux".to_owned());
        let environments =
            self.pipeline.stages.keys().map(|name| (name.clone(), environment.clone()));
        let (files, base) = (Arc::clone(&snapshot.files), snapshot.id.base.clone());
        let mut context = KeyContext::new(files, base, "pipeline.yaml".to_owned());
        context.environments = environments.collect();
        context.service_urls = services::addresses(&self.pipeline);
        context
    }

    /// A new active run.
    async fn begin(&self, number: u128) -> RunId {
        let run = RunId::new(1, number);
        let snapshot = self.snapshot();
        let graph = Graph::new(&self.pipeline, &Selection::default());
        let tasks: Vec<_> = graph
            .tasks
            .iter()
            .map(|task| (task.id.clone(), task.label.clone(), BTreeMap::new()))
            .collect();
        let created = Created {
            pipeline: self.pipeline.name.clone(),
            snapshot: snapshot.id.clone(),
            ..created()
        };
        self.state.create_run(run, &created, &tasks, &owner(), 0).await.unwrap();
        self.state.activate(run).await.unwrap();
        run
    }

    async fn order(&self, run: RunId, epoch: u64) -> RunOrder {
        let snapshot = self.snapshot();
        RunOrder {
            run,
            epoch,
            pipeline: Arc::clone(&self.pipeline),
            graph: Graph::new(&self.pipeline, &Selection::default()),
            context: self.context(&snapshot),
            snapshot,
            environments: BTreeMap::new(),
            history: BTreeMap::new(),
            journal: self.state.events(run, 0).await.unwrap(),
            remarks: tokio::sync::mpsc::unbounded_channel().1,
            settings: EngineSettings {
                docker: None,
                outside: OutsideSettings {
                    folder: self.root.path().join("tmp"),
                    patience: Patience::default(),
                    netrc: None,
                },
                vault: None,
                runs: self.root.path().join("runs"),
                jobs: 4,
                cpu: 4.0,
                memory: 1 << 30,
                gpus: Vec::new(),
                keep_going: false,
                log_cap: 1 << 20,
                host: "here".to_owned(),
                who: "ann@here".to_owned(),
                shared_store: false,
                store_patience: STORE_PATIENCE,
                pass_env: BTreeMap::from([(
                    "TMPDIR".to_owned(),
                    self.root.path().join("tmp").display().to_string(),
                )]),
                environment: EnvironmentSettings {
                    folder: self.root.path().join("environments"),
                    path: String::new(),
                    env: BTreeMap::new(),
                    docker: None,
                },
                keep_work: false,
            },
        }
    }

    async fn drive(
        &self,
        run: RunId,
        epoch: u64,
        heard: &mut Heard,
        stop: watch::Receiver<Stop>,
    ) -> Result<RunOutcome, EngineError> {
        let order = self.order(run, epoch).await;
        let store = Arc::clone(&self.store);
        let rollout = self.rollout.clone();
        drive(order, self.state.clone(), store, self.runtime.clone(), rollout, heard, stop).await
    }

    async fn go(&self, run: RunId, epoch: u64) -> (Result<RunOutcome, EngineError>, Vec<String>) {
        let mut heard = Heard::default();
        let (_sender, stop) = watch::channel(Stop::No);
        let ended = self.drive(run, epoch, &mut heard, stop).await;
        (ended, heard.words)
    }
}

#[tokio::test]
async fn what_ran_once_is_reused() {
    let scene = Scene::new(TWO, obedient).await;
    let run = scene.begin(1).await;
    let (ended, heard) = scene.go(run, 1).await;
    assert_eq!(ended.unwrap(), RunOutcome::Done);
    let expected = [
        "started one 1",
        "| at work",
        "| still",
        "ended one Exited(0)",
        "done one",
        "started two 1",
        "| at work",
        "| still",
        "ended two Exited(0)",
        "done two",
        "end Done",
    ];
    assert_eq!(heard, expected);
    let runs = scene.root.path().join("runs").join(run.to_string());
    assert!(!runs.join("1-1/work").exists(), "the work folder is gone");
    assert!(runs.join("1-1/stdout").exists(), "the log stays");
    assert_eq!(fs_err::read_dir(scene.root.path().join("tmp")).unwrap().count(), 0);

    let (ended, heard) = {
        let run = scene.begin(2).await;
        scene.go(run, 1).await
    };
    assert_eq!(ended.unwrap(), RunOutcome::Done);
    assert_eq!(heard, ["reused one", "reused two", "end Done"]);
    assert_eq!(scene.runtime.started().len(), 2);
}

#[tokio::test]
async fn a_store_that_fails_leaves_a_run_that_resume_collects() {
    let scene = Scene::new(TWO, obedient).await;
    let run = scene.begin(1).await;
    scene.store.broken.store(true, Ordering::SeqCst);
    let (ended, heard) = scene.go(run, 1).await;
    assert!(matches!(ended, Err(EngineError::Store(StoreError::Io(_)))), "{ended:?}");
    assert!(heard.ends_with(&["ended one Exited(0)".into(), "left: permission denied".into()]));

    scene.store.broken.store(false, Ordering::SeqCst);
    let epoch = scene.state.take_over(run, &owner(), 1).await.unwrap();
    let (ended, heard) = scene.go(run, epoch).await;
    assert_eq!(ended.unwrap(), RunOutcome::Done);
    assert_eq!(heard[..2], ["done one", "started two 1"]);
    assert_eq!(scene.runtime.started().len(), 2);
}

#[tokio::test]
async fn who_lost_the_run_starts_nothing() {
    let scene = Scene::new(TWO, obedient).await;
    let run = scene.begin(1).await;
    let order = scene.order(run, 1).await;
    scene.state.take_over(run, &owner(), 1).await.unwrap();
    let mut heard = Heard::default();
    let (_sender, stop) = watch::channel(Stop::No);
    let store = Arc::clone(&scene.store);
    let runtime = scene.runtime.clone();
    let rollout = scene.rollout.clone();
    let ended = drive(order, scene.state.clone(), store, runtime, rollout, &mut heard, stop).await;
    assert!(matches!(ended, Err(EngineError::State(StateError::Fenced { .. }))), "{ended:?}");
    assert!(heard.words.is_empty());
    assert!(scene.runtime.started().is_empty());
}

#[tokio::test]
async fn an_interrupt_stops_what_runs_and_resume_goes_on() {
    let scene = Scene::new(TWO, |job| {
        if job.name.as_str().ends_with("-1-1") { Script::hangs() } else { obedient(job) }
    })
    .await;
    let run = scene.begin(1).await;
    let (sender, stop) = watch::channel(Stop::No);
    let interrupt: Act = Box::new(move || sender.send(Stop::Gently).unwrap());
    let mut heard = Heard { cue: Some(("started one", interrupt)), ..Heard::default() };
    let ended = scene.drive(run, 1, &mut heard, stop).await;
    assert_eq!(ended.unwrap(), RunOutcome::Cancelled);
    let expected = [
        "started one 1",
        "stop interrupt",
        "ended one Cancelled",
        "cancelled one",
        "end Cancelled",
    ];
    assert_eq!(heard.words, expected);

    let epoch = scene.state.take_over(run, &owner(), 1).await.unwrap();
    let (ended, heard) = scene.go(run, epoch).await;
    assert_eq!(ended.unwrap(), RunOutcome::Done);
    assert_eq!(heard[0], "started one 2");
}

#[tokio::test]
async fn a_wish_in_the_state_is_heard() {
    let scene = Scene::new(TWO, |_| Script::hangs()).await;
    let run = scene.begin(1).await;
    scene.state.wish(run, Wish::Kill).await.unwrap();
    let (ended, heard) = scene.go(run, 1).await;
    assert_eq!(ended.unwrap(), RunOutcome::Cancelled);
    assert!(heard.contains(&"stop cancel".to_owned()), "{heard:?}");
}

#[tokio::test]
async fn the_runs_timeout_fails_it() {
    let text = TWO.replace("stages:", "timeout: 50ms\nstages:");
    let scene = Scene::new(&text, |_| Script::hangs()).await;
    let run = scene.begin(1).await;
    let (ended, heard) = scene.go(run, 1).await;
    assert_eq!(ended.unwrap(), RunOutcome::Failed);
    assert!(heard.contains(&"failed one RunTimedOut".to_owned()), "{heard:?}");
}

#[tokio::test]
async fn a_key_that_another_run_computes_is_waited_for() {
    let scene = Scene::new(TWO, obedient).await;
    let run = scene.begin(1).await;
    let snapshot = scene.snapshot();
    let graph = Graph::new(&scene.pipeline, &Selection::default());
    let parts = scene
        .context(&snapshot)
        .key_parts(&scene.pipeline, &graph.tasks[0], &ResolvedInputs::default())
        .unwrap();
    let claim = scene.store.claim(&parts.key(), "run 7").await.unwrap().unwrap();
    let free: Act = Box::new(move || drop(claim));
    let mut heard = Heard { cue: Some(("claimed elsewhere one", free)), ..Heard::default() };
    let (_sender, stop) = watch::channel(Stop::No);
    let ended = scene.drive(run, 1, &mut heard, stop).await;
    assert_eq!(ended.unwrap(), RunOutcome::Done);
    assert_eq!(heard.words[..2], ["claimed elsewhere one", "started one 1"]);
}

#[tokio::test]
async fn a_lost_job_is_tried_again() {
    let scene = Scene::new(TWO, |job| {
        if job.name.as_str().ends_with("-1-1") {
            Script::ends(JobEnd::Lost { why: "gone".to_owned() })
        } else {
            obedient(job)
        }
    })
    .await;
    let run = scene.begin(1).await;
    let (ended, heard) = scene.go(run, 1).await;
    assert_eq!(ended.unwrap(), RunOutcome::Done);
    assert!(heard.contains(&"started one 2".to_owned()), "{heard:?}");
}

#[tokio::test]
async fn equal_work_of_one_run_is_done_once() {
    let text = "version: \"2\"\nname: twins\nstages:\n  \
        one:\n    run: same\n    outputs: {o: o}\n  \
        other:\n    run: same\n    outputs: {o: o}\n";
    let scene = Scene::new(text, |_| Script::exits(0).after(3).writing("o", "1")).await;
    let run = scene.begin(1).await;
    let (ended, heard) = scene.go(run, 1).await;
    assert_eq!(ended.unwrap(), RunOutcome::Done);
    assert_eq!(scene.runtime.started().len(), 1, "{heard:?}");
}
