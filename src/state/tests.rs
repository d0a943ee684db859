//! The state over both databases: on files always, in Postgres when `FLOWRUN_TEST_POSTGRES` says where one is (`tests/run` does).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;

use super::statement::statement;
use super::*;
use crate::digest::Digest;
use crate::event::{
    Created, Failure, FieldChange, JobEnd, KeyParts, Metrics, Moved, Reason, RunEvent, RunOutcome,
    Skip, Usage, testing,
};
use crate::names::{JobName, Owner, ReleaseId, TaskId};
use crate::scalar::Scalar;

/// Makes of each function two tests: one on files, one in Postgres.
macro_rules! both {
    ($($name:ident),+ $(,)?) => {
        mod on_files {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $name() {
                    super::$name(&super::World::on_files()).await;
                }
            )+
        }
        in_postgres!($($name),+);
    };
}

/// Makes of each function a test in Postgres.
macro_rules! in_postgres {
    ($($name:ident),+ $(,)?) => {
        mod in_postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $name() {
                    if let Some(world) = super::World::in_postgres() {
                        super::$name(&world).await;
                        world.end().await;
                    }
                }
            )+
        }
    };
}

mod files;
mod history;
mod lost;
mod ownership;
mod rollouts;
mod runs;
mod services;
mod shared;

/// Where a Postgres for tests is. Each test makes a schema of its own in it.
const POSTGRES: &str = "FLOWRUN_TEST_POSTGRES";

/// A place for one test.
#[derive(Clone)]
pub(super) struct World {
    pub(super) home: Arc<tempfile::TempDir>,
    pub(super) place: StatePlace,
    schema: String,
}

impl World {
    pub(super) fn on_files() -> Self {
        let home = Arc::new(tempfile::tempdir().unwrap());
        Self { home, place: StatePlace::Home, schema: String::new() }
    }

    /// None where there is no Postgres.
    pub(super) fn in_postgres() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        #[expect(clippy::disallowed_methods, reason = "tests are told of their database this way")]
        let Ok(url) = std::env::var(POSTGRES) else {
            eprintln!("not run: {POSTGRES} is not set");
            return None;
        };
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let schema = format!("test_{}_{number}", std::process::id());
        let sign = if url.contains('?') { '&' } else { '?' };
        let place = format!("{url}{sign}schema={schema}").parse().unwrap();
        Some(Self { home: Arc::new(tempfile::tempdir().unwrap()), place, schema })
    }

    /// What another process of the home would have.
    pub(super) async fn open(&self) -> State {
        State::open_at(self.home.path(), &self.place).await.unwrap()
    }

    /// The same state seen from another home.
    pub(super) fn elsewhere(&self) -> Self {
        Self { home: Arc::new(tempfile::tempdir().unwrap()), ..self.clone() }
    }

    pub(super) async fn end(&self) {
        let state = self.open().await;
        let sql = format!("DROP SCHEMA {} CASCADE", self.schema);
        say(&state, sql).await;
    }
}

/// Whoever made a run on Postgres has its lease; afterwards nobody has, and every process may append with the right epoch.
pub(super) async fn free(state: &State) {
    if state.inner.database.shared().is_some() {
        say(state, "UPDATE run SET lease_holder = NULL, lease_until = NULL").await;
    }
}

/// Says anything to the database. Returns how many rows it touched.
pub(super) async fn say(state: &State, sql: impl Into<String>) -> u64 {
    let mut writer = state.inner.database.writer().await.unwrap();
    statement(sqlx::AssertSqlSafe(sql.into())).execute(&mut writer).await.unwrap()
}

pub(super) fn pipeline() -> PipelineName {
    "iris".parse().unwrap()
}

pub(super) fn id(number: u64) -> RunId {
    RunId::new(1_700_000_000_000 + number, u128::from(number))
}

pub(super) fn owner() -> Owner {
    Owner { host: "here".to_owned(), pid: 7, user: "ann@here".to_owned() }
}

pub(super) fn task(stage: &str, copy: u32) -> TaskId {
    TaskId { stage: stage.parse().unwrap(), copy }
}

pub(super) fn created() -> Created {
    let params = BTreeMap::from([("seed".parse().unwrap(), Scalar::plain("7"))]);
    Created { pipeline: pipeline(), params, ..testing::created() }
}

pub(super) fn parts(text: &str) -> KeyParts {
    KeyParts::of_no_stage(vec![text.to_owned()])
}

pub(super) fn started(task: &TaskId, attempt: u32, key: Option<Digest>, run: RunId) -> RunEvent {
    RunEvent::AttemptStarted {
        task: task.clone(),
        attempt,
        key,
        why: if attempt == 1 { Reason::FirstTime } else { Reason::Retry { of: attempt - 1 } },
        job: JobName::new(
            run,
            task.copy + task.stage.as_str().bytes().map(u32::from).sum::<u32>() * 100,
            attempt,
        ),
        host: "here".to_owned(),
    }
}

pub(super) fn ended(task: &TaskId, attempt: u32, code: i32) -> RunEvent {
    RunEvent::AttemptEnded {
        task: task.clone(),
        attempt,
        end: JobEnd::Exited(code),
        usage: Usage { peak_memory: 10, cpu_ms: 20, wall_ms: 30 },
    }
}

pub(super) fn done(task: &TaskId, key: Option<Digest>) -> RunEvent {
    RunEvent::TaskDone {
        task: task.clone(),
        key,
        outputs: BTreeMap::from([("model".parse().unwrap(), Digest::of(b"model"))]),
        metrics: Metrics::from([("accuracy".to_owned(), 0.5)]),
        values: BTreeMap::from([("best".to_owned(), Scalar::plain("1.10"))]),
        moved: Moved::default(),
    }
}

pub(super) fn reused(task: &TaskId, key: Digest, from: RunId) -> RunEvent {
    RunEvent::TaskReused {
        task: task.clone(),
        key,
        from,
        outputs: BTreeMap::from([("model".parse().unwrap(), Digest::of(b"model"))]),
        metrics: Metrics::from([("accuracy".to_owned(), 0.5)]),
        values: BTreeMap::new(),
        made: None,
        moved: Moved::default(),
    }
}

pub(super) fn finished(outcome: RunOutcome) -> RunEvent {
    RunEvent::Ended { outcome }
}

pub(super) async fn state_with_run(world: &World, run: RunId, tasks: &[TaskId]) -> State {
    let state = world.open().await;
    state.bind_pipeline(&pipeline(), "/repo", 1, false).await.unwrap();
    add_run(&state, run, tasks).await;
    state
}

pub(super) async fn add_run(state: &State, run: RunId, tasks: &[TaskId]) {
    let tasks: Vec<_> = tasks
        .iter()
        .map(|task| (task.clone(), format!("{}[{}]", task.stage, task.copy), BTreeMap::new()))
        .collect();
    state.create_run(run, &created(), &tasks, &owner(), 1000).await.unwrap();
}
