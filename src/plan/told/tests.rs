use std::collections::BTreeMap;

use super::*;
use crate::digest::Digest;
use crate::event::{Failure, JobEnd, RunOutcome, Skip, Usage};
use crate::names::{JobName, Owner, RunId};
use crate::plan::testing::{name, task_id};

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
    told(events, &task_id("train", 1), &|task| match task.copy {
        1 => task.stage.to_string(),
        copy => format!("{}[{copy}]", task.stage),
    })
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
