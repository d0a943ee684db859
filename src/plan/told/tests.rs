use std::collections::BTreeMap;

use super::*;
use crate::digest::Digest;
use crate::event::{Failure, FieldChange, JobEnd, Moved, RunOutcome, Skip, Usage};
use crate::names::{JobName, Owner, RunId};
use crate::plan::testing::{name, task_id};
use crate::scalar::Scalar;

fn run() -> RunId {
    RunId::new(1, 1)
}

fn started(attempt: u32, why: Reason) -> RunEvent {
    RunEvent::AttemptStarted {
        task: task_id("train", 1),
        attempt,
        key: None,
        why,
        job: JobName::new(run(), 1, attempt),
        host: "here".to_owned(),
    }
}

fn ended(attempt: u32, end: JobEnd, wall_ms: u64) -> RunEvent {
    let usage = Usage { wall_ms, ..Usage::default() };
    RunEvent::AttemptEnded { task: task_id("train", 1), attempt, end, usage }
}

fn of_train(events: &[RunEvent]) -> Vec<String> {
    let label = |task: &TaskId| match task.copy {
        1 => task.stage.to_string(),
        copy => format!("{}[{copy}]", task.stage),
    };
    told(events, &task_id("train", 1), &label, &BTreeMap::new())
}

#[test]
fn a_retry_is_told_with_both_ends() {
    let events = [
        started(1, Reason::FirstTime),
        ended(1, JobEnd::Exited(3), 1500),
        RunEvent::RetryScheduled { task: task_id("train", 1), not_before: 5 },
        started(2, Reason::Retry { of: 1 }),
        ended(2, JobEnd::Exited(0), 61_400),
        RunEvent::TaskDone {
            task: task_id("train", 1),
            key: None,
            outputs: BTreeMap::new(),
            metrics: BTreeMap::new(),
            values: BTreeMap::new(),
            moved: Moved::default(),
        },
        RunEvent::Ended { outcome: RunOutcome::Done },
    ];
    assert_eq!(
        of_train(&events),
        [
            "attempt 1 ran: first run of this task",
            "attempt 1 ended after 1.5s: exit code 3",
            "another attempt was scheduled",
            "attempt 2 retried attempt 1",
            "attempt 2 ended after 1m 1s: exit code 0",
            "done",
        ]
    );
}

#[test]
fn a_run_that_was_left_says_why_until_it_is_taken_over() {
    let by = || Owner { host: "here".to_owned(), pid: 1, user: "me".to_owned() };
    let left = || RunEvent::Left { why: "the disk is full".to_owned() };
    let nothing = "nothing happened to it yet";
    let why = "its flowrun left the run: the disk is full";
    assert_eq!(of_train(&[left()]), [nothing, why]);
    let runs = "attempt 1 ran: first run of this task";
    assert_eq!(of_train(&[started(1, Reason::FirstTime), left()]), [runs, why]);
    assert_eq!(of_train(&[left(), RunEvent::TakenOver { by: by(), epoch: 2 }]), [nothing]);
    let cancelled = RunEvent::TaskCancelled { task: task_id("train", 1) };
    assert!(!of_train(&[cancelled, left()]).contains(&why.to_owned()), "it was over");
}

#[test]
fn other_tasks_are_not_told_of() {
    let events = [RunEvent::TaskCancelled { task: task_id("train", 2) }];
    assert_eq!(of_train(&events), ["nothing happened to it yet"]);
}

#[test]
fn reuse_skip_block_and_failure_name_their_cause() {
    let key = Digest::of(b"key");
    let reused = RunEvent::TaskReused {
        task: task_id("train", 1),
        key,
        from: run(),
        outputs: BTreeMap::new(),
        metrics: BTreeMap::new(),
        values: BTreeMap::new(),
        made: None,
        moved: Moved::default(),
    };
    let task = task_id("train", 1);
    let cases = [
        (reused, format!("reused from run {}: its key b3:{} has a record", run(), key.short())),
        (
            RunEvent::TaskSkipped { task: task.clone(), why: Skip::When("false".to_owned()) },
            "skipped: its `when` is false: false".to_owned(),
        ),
        (
            RunEvent::TaskSkipped { task: task.clone(), why: Skip::Needs(task_id("prepare", 2)) },
            "skipped: it needs `prepare[2]`, which was skipped".to_owned(),
        ),
        (
            RunEvent::TaskBlocked { task: task.clone(), by: task_id("prepare", 1) },
            "blocked: it needs `prepare`, which did not end well".to_owned(),
        ),
        (
            RunEvent::TaskFailed { task, cause: Failure::Job(JobEnd::Signalled(9)) },
            "failed: killed by signal 9 (KILL)".to_owned(),
        ),
    ];
    for (event, expected) in cases {
        assert_eq!(of_train(&[event]), [expected]);
    }
}

#[test]
fn a_resumed_run_begins_a_failed_task_afresh() {
    let by = Owner { host: "here".to_owned(), pid: 1, user: "me".to_owned() };
    let cause = Failure::Job(JobEnd::Exited(1));
    let events = [
        RunEvent::TaskFailed { task: task_id("train", 1), cause },
        RunEvent::Ended { outcome: RunOutcome::Failed },
        RunEvent::Reopened { by, epoch: 2 },
        RunEvent::Ended { outcome: RunOutcome::Cancelled },
    ];
    assert_eq!(
        of_train(&events),
        [
            "failed: exit code 1",
            "the run was resumed",
            "the run ended cancelled before it was done",
        ]
    );
}

#[test]
fn a_run_that_ended_first_and_was_resumed_is_told() {
    let by = Owner { host: "here".to_owned(), pid: 1, user: "me".to_owned() };
    let events = [
        started(1, Reason::Forced),
        RunEvent::Ended { outcome: RunOutcome::Cancelled },
        RunEvent::Reopened { by, epoch: 2 },
        RunEvent::Picked {
            stage: name("train"),
            copy: 2,
            metric: "accuracy".to_owned(),
            value: 0.5,
        },
    ];
    assert_eq!(
        of_train(&events),
        [
            "attempt 1 ran: forced",
            "the run ended cancelled before it was done",
            "the run was resumed",
            "not picked: `train[2]` has the best accuracy, 0.5",
        ]
    );
}

#[test]
fn a_failed_environment_tells_its_last_line() {
    let log = "resolving\nerror: no such package\n\n".to_owned();
    assert_eq!(
        failure(&Failure::Environment { log }),
        "its environment could not be built: error: no such package"
    );
}

fn of_serve(events: &[RunEvent]) -> Vec<String> {
    let numbers = BTreeMap::from([(ReleaseId::new(3, 3), 3)]);
    told(events, &task_id("serve", 1), &|task| task.stage.to_string(), &numbers)
}

fn gate(passed: bool) -> RunEvent {
    let value = |text: &str| Some(Scalar::plain(text));
    RunEvent::GateDecided {
        task: task_id("serve", 1),
        passed,
        failed: (!passed).then(|| "a.metrics.x >= live.a.metrics.x".to_owned()),
        values: BTreeMap::from([
            ("a.metrics.x".to_owned(), value("0.91")),
            ("live.a.metrics.x".to_owned(), value("0.94")),
        ]),
        live: Some(ReleaseId::new(3, 3)),
    }
}

fn rollout(number: u64) -> RunEvent {
    let change = FieldChange {
        field: "params.seed".to_owned(),
        was: Some("7".to_owned()),
        is: Some("8".to_owned()),
    };
    let release = ReleaseId::new(number, 0);
    RunEvent::RolloutStarted { task: task_id("serve", 1), release, number, why: vec![change] }
}

#[test]
fn a_rollout_is_told_from_its_gate_to_its_end() {
    let (task, release) = (task_id("serve", 1), ReleaseId::new(4, 0));
    let replaced = Some(ReleaseId::new(3, 3));
    let events = [
        gate(true),
        rollout(4),
        RunEvent::RolloutPrepared { task: task.clone(), release },
        RunEvent::Verified { task: task.clone(), release, passed: true },
        RunEvent::RolloutPromoted { task: task.clone(), release, replaced },
        RunEvent::Ended { outcome: RunOutcome::Done },
    ];
    assert_eq!(
        of_serve(&events),
        [
            "its gate passed: a.metrics.x = 0.91, live.a.metrics.x = 0.94",
            "release 4 was rolled out: params.seed: 7 → 8",
            "release 4 became ready",
            "release 4 was verified",
            "release 4 went live and replaced release 3",
        ]
    );
    let why = "not ready within 1m".to_owned();
    let cause = Failure::Rollout { why: why.clone(), log: Vec::new() };
    let events = [
        rollout(5),
        RunEvent::RolloutAbandoned { task: task.clone(), release: ReleaseId::new(5, 0), why },
        RunEvent::TaskFailed { task, cause },
    ];
    assert_eq!(
        of_serve(&events),
        [
            "release 5 was rolled out: params.seed: 7 → 8",
            "release 5 was given up: not ready within 1m",
            "failed: not ready within 1m",
        ]
    );
}

#[test]
fn what_was_kept_or_unchanged_says_why() {
    let kept = "kept release 3: the gate `a.metrics.x >= live.a.metrics.x` is false: \
                a.metrics.x = 0.91, live.a.metrics.x = 0.94";
    let after = task_id("after", 1);
    let events = [
        gate(false),
        RunEvent::TaskSkipped { task: after.clone(), why: Skip::Needs(task_id("serve", 1)) },
        RunEvent::Ended { outcome: RunOutcome::Kept },
    ];
    assert_eq!(of_serve(&events), [kept]);
    assert_eq!(
        told(&events, &after, &|task| task.stage.to_string(), &BTreeMap::new()),
        ["skipped: it needs `serve`, whose gate kept the live release"]
    );
    let release = ReleaseId::new(3, 3);
    let same = RunEvent::RolloutUnchanged {
        task: task_id("serve", 1),
        release,
        number: 3,
        changed: Vec::new(),
    };
    assert_eq!(
        of_serve(&[same]),
        ["unchanged: nothing that decides how release 3 behaves differs; no gate was asked"]
    );
}
