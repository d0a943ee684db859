//! The state on real files.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::digest::Digest;
use crate::event::{
    Created, Failure, JOURNAL_VERSION, JobEnd, KEY_FORMAT, KeyParts, Metrics, Reason, RunEvent,
    RunOutcome, Selection, Skip, SnapshotId, Usage,
};
use crate::names::{JobName, Owner, TaskId};
use crate::scalar::Scalar;

fn pipeline() -> PipelineName {
    "iris".parse().unwrap()
}

fn id(number: u64) -> RunId {
    RunId::new(1_700_000_000_000 + number, u128::from(number))
}

fn owner() -> Owner {
    Owner { host: "here".to_owned(), pid: 7, user: "ann@here".to_owned() }
}

fn task(stage: &str, copy: u32) -> TaskId {
    TaskId { stage: stage.parse().unwrap(), copy }
}

fn created() -> Created {
    Created {
        version: JOURNAL_VERSION,
        pipeline: pipeline(),
        snapshot: SnapshotId {
            tree: "t".repeat(40),
            commit: Some("c".repeat(40)),
            reference: None,
            dirty: false,
            base: String::new(),
            origin: "/repo".to_owned(),
        },
        file: Digest::of(b"file"),
        params: BTreeMap::from([("seed".parse().unwrap(), Scalar::plain("7"))]),
        selection: Selection::default(),
        cause: "cli".to_owned(),
    }
}

fn parts(text: &str) -> KeyParts {
    KeyParts {
        format: KEY_FORMAT,
        command: vec![text.to_owned()],
        env: BTreeMap::new(),
        environment: Digest::of(b"environment"),
        platform: "linux/x86_64 3.12.1".to_owned(),
        files: Digest::of(b"files"),
        inputs: BTreeMap::new(),
        params: BTreeMap::new(),
        matrix: BTreeMap::new(),
        outputs: BTreeMap::new(),
        metrics: None,
        values: None,
        workdir: String::new(),
        network: String::new(),
        secrets: BTreeMap::new(),
    }
}

fn started(task: &TaskId, attempt: u32, key: Option<Digest>, run: RunId) -> RunEvent {
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

fn ended(task: &TaskId, attempt: u32, code: i32) -> RunEvent {
    RunEvent::AttemptEnded {
        task: task.clone(),
        attempt,
        end: JobEnd::Exited(code),
        usage: Usage { peak_memory: 10, cpu_ms: 20, wall_ms: 30 },
    }
}

fn done(task: &TaskId, key: Option<Digest>) -> RunEvent {
    RunEvent::TaskDone {
        task: task.clone(),
        key,
        outputs: BTreeMap::from([("model".parse().unwrap(), Digest::of(b"model"))]),
        metrics: Metrics::from([("accuracy".to_owned(), 0.5)]),
        values: BTreeMap::from([("best".to_owned(), Scalar::plain("1.10"))]),
    }
}

fn reused(task: &TaskId, key: Digest, from: RunId) -> RunEvent {
    RunEvent::TaskReused {
        task: task.clone(),
        key,
        from,
        outputs: BTreeMap::from([("model".parse().unwrap(), Digest::of(b"model"))]),
        metrics: Metrics::from([("accuracy".to_owned(), 0.5)]),
        values: BTreeMap::new(),
    }
}

fn finished(outcome: RunOutcome) -> RunEvent {
    RunEvent::Ended { outcome }
}

async fn state_with_run(home: &Path, run: RunId, tasks: &[TaskId]) -> State {
    let state = State::open(home).await.unwrap();
    state.bind_pipeline(&pipeline(), "/repo", 1, false).await.unwrap();
    add_run(&state, run, tasks).await;
    state
}

async fn add_run(state: &State, run: RunId, tasks: &[TaskId]) {
    let tasks: Vec<_> = tasks
        .iter()
        .map(|task| (task.clone(), format!("{}[{}]", task.stage, task.copy), BTreeMap::new()))
        .collect();
    state.create_run(run, &created(), &tasks, &owner(), 1000).await.unwrap();
}

#[tokio::test]
async fn a_run_from_made_to_reopened() {
    let home = tempfile::tempdir().unwrap();
    // The order of the file, not of the alphabet.
    let tasks = [task("prepare", 1), task("evaluate", 1), task("assess", 1)];
    let run = id(1);
    let state = state_with_run(home.path(), run, &tasks).await;
    state.activate(run).await.unwrap();
    let key = parts("train").key();
    state
        .append(
            run,
            FIRST_EPOCH,
            2000,
            &[
                started(&tasks[0], 1, Some(key), run),
                RunEvent::TaskSkipped {
                    task: tasks[2].clone(),
                    why: Skip::When("false".to_owned()),
                },
            ],
            &[parts("train")],
        )
        .await
        .unwrap();
    state
        .append(
            run,
            FIRST_EPOCH,
            3000,
            &[
                ended(&tasks[0], 1, 1),
                RunEvent::TaskFailed {
                    task: tasks[0].clone(),
                    cause: Failure::Job(JobEnd::Exited(1)),
                },
                RunEvent::TaskBlocked { task: tasks[1].clone(), by: tasks[0].clone() },
                finished(RunOutcome::Failed),
            ],
            &[],
        )
        .await
        .unwrap();

    let row = state.run(run).await.unwrap().unwrap();
    assert_eq!(row.state, RunState::Ended(RunOutcome::Failed));
    assert_eq!((row.owner, row.ended_at, row.created), (None, Some(3000), created()));
    let rows = state.tasks(run).await.unwrap();
    let told: Vec<_> = rows
        .iter()
        .map(|row| (row.label.as_str(), row.state.as_str(), row.reason.clone()))
        .collect();
    assert_eq!(
        told,
        [
            ("prepare[1]", "failed", Some(TaskReason::Failed(Failure::Job(JobEnd::Exited(1))))),
            ("evaluate[1]", "blocked", Some(TaskReason::BlockedBy(tasks[0].clone()))),
            ("assess[1]", "skipped", Some(TaskReason::Skipped(Skip::When("false".to_owned())))),
        ]
    );
    assert_eq!((rows[0].key, rows[0].attempts), (Some(key), 1));
    assert_eq!((rows[0].started_at, rows[0].ended_at), (Some(2000), Some(3000)));
    let attempts = state.attempts(run).await.unwrap();
    assert_eq!(attempts[0].end, Some(JobEnd::Exited(1)));
    assert_eq!(attempts[0].usage, Usage { peak_memory: 10, cpu_ms: 20, wall_ms: 1000 });
    assert_eq!(state.parts(key).await.unwrap(), Some(parts("train")));

    let epoch = state.take_over(run, &owner(), 4000).await.unwrap();
    assert_eq!(epoch, FIRST_EPOCH + 1);
    let row = state.run(run).await.unwrap().unwrap();
    assert_eq!((row.state, row.owner, row.ended_at), (RunState::Active, Some(owner()), None));
    let states: Vec<_> =
        state.tasks(run).await.unwrap().into_iter().map(|row| (row.state, row.reason)).collect();
    assert_eq!(states[0], ("waiting".to_owned(), None));
    assert_eq!(states[1], ("waiting".to_owned(), None));
    assert_eq!(states[2].0, "skipped");
    let events = state.events(run, 0).await.unwrap();
    assert_eq!(
        events.iter().map(|event| event.seq).collect::<Vec<_>>(),
        (1..=8).collect::<Vec<_>>()
    );
    assert_eq!(events[7].event, RunEvent::Reopened { by: owner(), epoch });
    assert_eq!(state.events(run, 7).await.unwrap(), events[7..]);
}

#[tokio::test]
async fn an_old_epoch_writes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let run = id(1);
    let state = state_with_run(home.path(), run, &[task("train", 1)]).await;
    state.wish(run, Wish::Kill).await.unwrap();
    let epoch = state.take_over(run, &owner(), 2000).await.unwrap();
    assert_eq!(state.wished(run).await.unwrap(), None, "the wish was for the owner before");
    let before = state.events(run, 0).await.unwrap();
    let refused = state
        .append(run, FIRST_EPOCH, 3000, &[started(&task("train", 1), 1, None, run)], &[])
        .await;
    assert!(matches!(refused, Err(StateError::Fenced { run: of }) if of == run));
    assert_eq!(state.events(run, 0).await.unwrap(), before);
    assert_eq!(state.tasks(run).await.unwrap()[0].state, "waiting");
    state.append(run, epoch, 3000, &[started(&task("train", 1), 1, None, run)], &[]).await.unwrap();
    assert_eq!(state.tasks(run).await.unwrap()[0].state, "running");
}

#[tokio::test]
async fn one_active_run_per_pipeline() {
    let home = tempfile::tempdir().unwrap();
    let state = state_with_run(home.path(), id(1), &[]).await;
    add_run(&state, id(2), &[]).await;
    state.activate(id(1)).await.unwrap();
    state.activate(id(1)).await.unwrap();
    assert!(matches!(state.activate(id(2)).await, Err(StateError::Active { run }) if run == id(1)));
    state.append(id(1), FIRST_EPOCH, 5, &[finished(RunOutcome::Cancelled)], &[]).await.unwrap();
    state.activate(id(2)).await.unwrap();
    let reopened = state.take_over(id(1), &owner(), 6).await;
    assert!(matches!(reopened, Err(StateError::Active { run }) if run == id(2)));
    let row = state.run(id(1)).await.unwrap().unwrap();
    assert_eq!((row.epoch, row.state), (FIRST_EPOCH, RunState::Ended(RunOutcome::Cancelled)));
    assert_eq!(state.events(id(1), 0).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_name_has_one_origin() {
    let home = tempfile::tempdir().unwrap();
    let state = State::open(home.path()).await.unwrap();
    state.bind_pipeline(&pipeline(), "/a", 1, false).await.unwrap();
    state.bind_pipeline(&pipeline(), "/a", 2, false).await.unwrap();
    let other = state.bind_pipeline(&pipeline(), "/b", 3, false).await;
    assert!(matches!(other, Err(StateError::OtherOrigin { bound, .. }) if bound == "/a"));
    state.bind_pipeline(&pipeline(), "/b", 4, true).await.unwrap();
    state.bind_pipeline(&pipeline(), "/b", 5, false).await.unwrap();
}

#[tokio::test]
async fn two_openers_make_one_private_state() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let opened = futures_util::future::join_all((0..8).map(|_| State::open(&home))).await;
    let mut ids = Vec::new();
    for state in opened {
        ids.push(state.unwrap().installation().await.unwrap());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
    assert!(ids[0].parse::<RunId>().is_ok());
    let mode = |path: &Path| fs_err::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&home.join("state.db")), 0o600);
    assert_eq!(mode(&home), 0o700);
}

#[tokio::test]
async fn a_newer_state_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let state = State::open(home.path()).await.unwrap();
    sqlx::query("PRAGMA user_version = 99")
        .execute(&mut *state.inner.writer.lock().await)
        .await
        .unwrap();
    let error = State::open(home.path()).await.unwrap_err().to_string();
    assert!(error.contains("newer flowrun"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_at_once_leave_no_gap() {
    let home = tempfile::tempdir().unwrap();
    let run = id(1);
    let tasks: Vec<_> = (1..=4).map(|copy| task("train", copy)).collect();
    state_with_run(home.path(), run, &tasks).await;
    let writers = tasks.iter().cloned().map(|task| {
        let home = home.path().to_path_buf();
        tokio::spawn(async move {
            // A state of its own: what another process would have.
            let state = State::open(&home).await.unwrap();
            for attempt in 1..=25 {
                let events = [started(&task, attempt, None, run), ended(&task, attempt, 1)];
                state.append(run, FIRST_EPOCH, u64::from(attempt), &events, &[]).await.unwrap();
            }
        })
    });
    for result in futures_util::future::join_all(writers).await {
        result.unwrap();
    }
    let state = State::open(home.path()).await.unwrap();
    let seqs: Vec<_> = state.events(run, 0).await.unwrap().iter().map(|event| event.seq).collect();
    assert_eq!(seqs, (1..=201).collect::<Vec<_>>());
    assert!(state.tasks(run).await.unwrap().iter().all(|task| task.attempts == 25));
    assert_eq!(state.attempts(run).await.unwrap().len(), 100);
}

#[tokio::test]
async fn what_is_cut_off_midway_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let run = id(1);
    let tasks: Vec<_> = (1..=500).map(|copy| task("train", copy)).collect();
    let state = state_with_run(home.path(), run, &tasks).await;
    let key = parts("train").key();
    let events: Vec<_> = tasks.iter().map(|task| reused(task, key, id(0))).collect();
    // Polled a few times and dropped, at every depth until one goes through.
    for polls in 0.. {
        let mut append = Box::pin(state.append(run, FIRST_EPOCH, 9, &events, &[]));
        let mut left = polls;
        let through = std::future::poll_fn(|context| {
            if left == 0 {
                return std::task::Poll::Ready(false);
            }
            left -= 1;
            append.as_mut().poll(context).map(|result| {
                result.unwrap();
                true
            })
        })
        .await;
        drop(append);
        let written = state.events(run, 0).await.unwrap().len() - 1;
        if through {
            assert_eq!(written, events.len());
            break;
        }
        // The commit itself may have been under way: all or nothing.
        assert!(written == 0 || written == events.len(), "{written} events");
        let moved = state.tasks(run).await.unwrap().iter().filter(|t| t.state == "reused").count();
        assert_eq!(moved, written);
        if written > 0 {
            break;
        }
    }
}

#[tokio::test]
async fn history_gives_the_newest_keys_and_median_durations() {
    let home = tempfile::tempdir().unwrap();
    let (train, judge) = (task("train", 1), task("judge", 1));
    let state = State::open(home.path()).await.unwrap();
    state.bind_pipeline(&pipeline(), "/repo", 1, false).await.unwrap();
    for (number, took) in [(1, 1000), (2, 5000), (3, 3000)] {
        let run = id(number);
        add_run(&state, run, &[train.clone(), judge.clone()]).await;
        let text = format!("run {number}");
        let key = parts(&text).key();
        let begin = [started(&train, 1, Some(key), run), started(&judge, 1, Some(key), run)];
        state.append(run, FIRST_EPOCH, 0, &begin, &[parts(&text)]).await.unwrap();
        let mut events = vec![ended(&train, 1, 0), done(&train, Some(key)), ended(&judge, 1, 1)];
        events.push(if number == 1 {
            done(&judge, Some(key))
        } else {
            RunEvent::TaskFailed { task: judge.clone(), cause: Failure::RunTimedOut }
        });
        events.push(finished(RunOutcome::Done));
        state.append(run, FIRST_EPOCH, took, &events, &[]).await.unwrap();
    }
    let keys = state.last_keys(&pipeline(), None).await.unwrap();
    assert_eq!(keys[&train], parts("run 3"));
    assert_eq!(keys[&judge], parts("run 1"));
    assert_eq!(state.last_keys(&pipeline(), Some(id(2))).await.unwrap()[&train], parts("run 1"));
    assert_eq!(state.keys_of_run(id(2)).await.unwrap()[&train], parts("run 2"));
    let durations = state.durations(&pipeline()).await.unwrap();
    assert_eq!(durations, BTreeMap::from([(train.clone(), 3.0)]));
    assert_eq!(state.metrics(id(1)).await.unwrap()[&train]["accuracy"].to_string(), "0.5");

    state.delete_run(id(1)).await.unwrap();
    assert_eq!(state.run(id(1)).await.unwrap(), None);
    assert_eq!(state.forget_unused_parts().await.unwrap(), 1);
    assert_eq!(state.find_run("latest").await.unwrap(), FoundRun::One(id(3)));
    let text = id(2).to_string().to_ascii_lowercase();
    assert_eq!(state.find_run(&text[..26]).await.unwrap(), FoundRun::One(id(2)));
    assert_eq!(state.find_run("01").await.unwrap(), FoundRun::Several(vec![id(3), id(2)]));
    assert_eq!(state.find_run("%").await.unwrap(), FoundRun::Missing);
    let limit = RunFilter { limit: Some(1), ..RunFilter::default() };
    assert_eq!(state.runs(&limit).await.unwrap()[0].id, id(3));
    let unended = RunFilter { pipeline: Some(pipeline()), unended: true, limit: None };
    assert_eq!(state.runs(&unended).await.unwrap(), []);
}

#[tokio::test]
async fn wishes_only_rise() {
    let home = tempfile::tempdir().unwrap();
    let state = state_with_run(home.path(), id(1), &[]).await;
    for (wish, then) in
        [(Wish::Stop, Wish::Stop), (Wish::Kill, Wish::Kill), (Wish::Stop, Wish::Kill)]
    {
        state.wish(id(1), wish).await.unwrap();
        assert_eq!(state.wished(id(1)).await.unwrap(), Some(then));
    }
}

/// What may happen to a task, as numbers that a generator can make.
fn event_of(kind: u8, task: &TaskId, attempts: &mut u32, run: RunId) -> Vec<RunEvent> {
    let key = parts(task.stage.as_str()).key();
    match kind {
        0 => vec![reused(task, key, id(0))],
        1 => vec![RunEvent::TaskSkipped { task: task.clone(), why: Skip::Needs(task.clone()) }],
        2 => vec![RunEvent::TaskBlocked { task: task.clone(), by: task.clone() }],
        3 => {
            *attempts += 1;
            vec![started(task, *attempts, Some(key), run)]
        }
        4 => vec![ended(task, *attempts, i32::from(kind))],
        5 => vec![RunEvent::RetryScheduled { task: task.clone(), not_before: 9 }],
        6 => vec![done(task, None)],
        7 => vec![RunEvent::TaskFailed { task: task.clone(), cause: Failure::RunTimedOut }],
        8 => vec![RunEvent::TaskCancelled { task: task.clone() }],
        9 => vec![RunEvent::StopWished { by: "ann".to_owned(), kill: false }],
        _ => vec![finished(RunOutcome::Failed)],
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn rebuilt_is_as_it_was(script in proptest::collection::vec((0..11_u8, 0..3_usize, any::<bool>()), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let home = tempfile::tempdir().unwrap();
            let run = id(1);
            let tasks = [task("prepare", 1), task("train", 1), task("train", 2)];
            let state = state_with_run(home.path(), run, &tasks).await;
            let mut epoch = FIRST_EPOCH;
            let (mut attempts, mut batch) = ([0; 3], Vec::new());
            for (now, (kind, which, send)) in (1_u64..).zip(script) {
                batch.extend(event_of(kind, &tasks[which], &mut attempts[which], run));
                if kind == 10 || send {
                    state.append(run, epoch, now, &batch, &[]).await.unwrap();
                    batch.clear();
                }
                if kind == 10 {
                    epoch = state.take_over(run, &owner(), now).await.unwrap();
                }
            }
            state.append(run, epoch, 99, &batch, &[]).await.unwrap();
            let all = || async {
                (
                    state.run(run).await.unwrap(),
                    state.tasks(run).await.unwrap(),
                    state.attempts(run).await.unwrap(),
                    state.metrics(run).await.unwrap(),
                )
            };
            let before = all().await;
            // Damage, so that a rebuild that does nothing is seen.
            sqlx::query("UPDATE task SET state = 'damaged', attempts = 77, \"values\" = NULL")
                .execute(&mut *state.inner.writer.lock().await).await.unwrap();
            sqlx::query("DELETE FROM attempt").execute(&mut *state.inner.writer.lock().await).await.unwrap();
            state.rebuild(run).await.unwrap();
            assert_eq!(all().await, before);
        });
    }
}
