//! Builders for the tests of reports.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Write};
use std::sync::{Arc, Mutex};

use crate::digest::Digest;
use crate::event::testing::{created, snapshot};
use crate::event::{
    Created, Failure, JobEnd, Metrics, Moved, Notice, Reason, RunEvent, RunOutcome, Selection,
    SnapshotId, Stream,
};
use crate::names::{JobName, Owner, RunId, StageName, TaskId};
use crate::release::Fate;
use crate::scalar::Scalar;
use crate::state::{ReleaseRow, RunRow, RunState, TaskReason, TaskRow};

pub(super) fn run() -> RunId {
    RunId::new(1_700_000_000_000, 1)
}

pub(super) fn other_run() -> RunId {
    RunId::new(1_700_000_360_000, 2)
}

pub(super) fn task(stage: &str, copy: u32) -> TaskId {
    TaskId { stage: stage.parse().unwrap(), copy }
}

/// `prepare`, `train[trees=50]`, `train[trees=100]`, `evaluate`.
pub(super) fn tasks() -> Vec<(TaskId, String)> {
    vec![
        (task("prepare", 1), "prepare".to_owned()),
        (task("train", 1), "train[trees=50]".to_owned()),
        (task("train", 2), "train[trees=100]".to_owned()),
        (task("evaluate", 1), "evaluate".to_owned()),
    ]
}

pub(super) fn tally(durations: &[(TaskId, f64)]) -> super::Tally {
    let name = |text: &str| text.parse::<StageName>().unwrap();
    let needs = BTreeMap::from([
        (name("train"), vec![name("prepare")]),
        (name("evaluate"), vec![name("prepare"), name("train")]),
    ]);
    super::Tally::new(run(), tasks(), needs, &durations.iter().cloned().collect(), 2)
}

pub(super) fn started(task: &TaskId, attempt: u32) -> RunEvent {
    RunEvent::AttemptStarted {
        task: task.clone(),
        attempt,
        key: None,
        why: if attempt == 1 { Reason::Forced } else { Reason::Retry { of: attempt - 1 } },
        job: JobName::new(run(), 3, attempt),
        host: "here".to_owned(),
    }
}

pub(super) fn done(task: &TaskId) -> RunEvent {
    RunEvent::TaskDone {
        task: task.clone(),
        key: None,
        outputs: BTreeMap::new(),
        metrics: Metrics::from([("accuracy".to_owned(), 0.95)]),
        values: BTreeMap::new(),
        moved: Moved::default(),
    }
}

pub(super) fn reused(task: &TaskId) -> RunEvent {
    RunEvent::TaskReused {
        task: task.clone(),
        key: Digest::of(b"key"),
        from: run(),
        outputs: BTreeMap::new(),
        metrics: Metrics::new(),
        values: BTreeMap::new(),
        made: None,
        moved: Moved::default(),
    }
}

pub(super) fn line(task: &TaskId, text: &str) -> Notice {
    Notice::Line { task: task.clone(), attempt: 1, stream: Stream::Stdout, text: text.to_owned() }
}

pub(super) fn run_row(id: RunId, state: RunState) -> RunRow {
    let ended = matches!(state, RunState::Ended(_));
    RunRow {
        id,
        created: Created {
            snapshot: SnapshotId { dirty: true, ..snapshot() },
            params: BTreeMap::from([
                ("learning_rate".parse().unwrap(), Scalar::plain("0.1")),
                ("seed".parse().unwrap(), Scalar::plain("7")),
            ]),
            selection: Selection {
                until: ["evaluate".parse().unwrap()].into(),
                ..Selection::default()
            },
            ..created()
        },
        state,
        wish: None,
        owner: (!ended).then(|| Owner {
            host: "here".to_owned(),
            pid: 7,
            user: "ann@here".to_owned(),
        }),
        epoch: 1,
        made_at: 1_700_000_000_000,
        ended_at: ended.then_some(1_700_000_072_400),
    }
}

pub(super) fn failed_run() -> RunRow {
    run_row(run(), RunState::Ended(RunOutcome::Failed))
}

pub(super) fn task_row(id: TaskId, label: &str, state: &str) -> TaskRow {
    TaskRow {
        task: id,
        label: label.to_owned(),
        state: state.to_owned(),
        reason: None,
        key: None,
        reused_from: None,
        outputs: BTreeMap::new(),
        values: BTreeMap::new(),
        attempts: 0,
        started_at: None,
        ended_at: None,
    }
}

/// Release `number` of `iris/serve`.
pub(super) fn release_row(number: u64, fate: Fate) -> ReleaseRow {
    let release = crate::release::testing::release(number);
    let fate_at = release.made_at;
    ReleaseRow { release, fate, fate_at }
}

/// Where a report writes in a test.
#[derive(Debug, Clone, Default)]
pub(super) struct Shared(Arc<Mutex<Written>>);

#[derive(Debug, Default)]
struct Written {
    bytes: Vec<u8>,
    writes: usize,
    closed: bool,
}

impl Shared {
    /// A pipe whose reader is gone.
    pub(super) fn closed() -> Self {
        let shared = Self::default();
        shared.0.lock().unwrap().closed = true;
        shared
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().bytes.clone()).unwrap()
    }

    pub(super) fn writes(&self) -> usize {
        self.0.lock().unwrap().writes
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut written = self.0.lock().unwrap();
        written.writes += 1;
        if written.closed {
            return Err(Error::from(ErrorKind::BrokenPipe));
        }
        written.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What became of the tasks of [`failed_run`].
pub(super) fn failed_tasks() -> Vec<TaskRow> {
    let mut reused = task_row(task("prepare", 1), "prepare", "reused");
    reused.reused_from = Some(run());
    let mut done = task_row(task("train", 2), "train[trees=100]", "done");
    done.reason = Some(TaskReason::Ran(Reason::Forced));
    (done.attempts, done.started_at, done.ended_at) = (1, Some(1000), Some(13_300));
    let mut failed = task_row(task("evaluate", 1), "evaluate", "failed");
    failed.reason = Some(TaskReason::Failed(Failure::Job(JobEnd::OutOfMemory { limit: 1 << 30 })));
    (failed.attempts, failed.started_at, failed.ended_at) = (2, Some(14_000), Some(14_400));
    let mut blocked = task_row(task("package", 1), "package", "blocked");
    blocked.reason = Some(TaskReason::BlockedBy(task("evaluate", 1)));
    vec![reused, done, failed, blocked]
}
