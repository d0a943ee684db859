//! Rollouts in the rows of tasks, and rows made anew from any journal.

use proptest::strategy::ValueTree;

use super::*;

both! {
    a_rollout_and_a_gate_in_the_rows,
    rebuilt_is_as_it_was,
}

fn release() -> ReleaseId {
    ReleaseId::new(1_700_000_000_000, 3)
}

fn gate(task: &TaskId, passed: bool) -> RunEvent {
    RunEvent::GateDecided {
        task: task.clone(),
        passed,
        failed: (!passed).then(|| "accuracy > live.accuracy".to_owned()),
        values: BTreeMap::from([
            ("accuracy".to_owned(), Some(Scalar::plain("0.9"))),
            ("live.accuracy".to_owned(), None),
        ]),
        live: Some(release()),
    }
}

fn change() -> FieldChange {
    FieldChange { field: "params.seed".to_owned(), was: Some("7".to_owned()), is: None }
}

fn rolling_out(task: &TaskId) -> RunEvent {
    RunEvent::RolloutStarted {
        task: task.clone(),
        release: release(),
        number: 3,
        why: vec![change()],
    }
}

async fn a_rollout_and_a_gate_in_the_rows(world: &World) {
    let run = id(1);
    let tasks = ["serve", "check", "report", "web", "unused"].map(|stage| task(stage, 1)).to_vec();
    let [serve, check, report, web, unused] = [0, 1, 2, 3, 4].map(|at| tasks[at].clone());
    let state = state_with_run(world, run, &tasks).await;
    state.activate(run).await.unwrap();
    let told = async |at: usize| {
        let row = state.tasks(run).await.unwrap().swap_remove(at);
        (row.state, row.started_at, row.ended_at, row.reason)
    };
    let append = async |epoch, now, events: &[RunEvent]| {
        state.append(run, epoch, now, events, &[]).await.unwrap();
    };
    let released = || TaskReason::Released { release: release(), number: 3, why: vec![change()] };

    append(FIRST_EPOCH, 10, &[gate(&web, true), rolling_out(&web)]).await;
    assert_eq!(told(3).await, ("rolling_out".to_owned(), Some(10), None, Some(released())));
    let promoted = RunEvent::RolloutPromoted { task: web, release: release(), replaced: None };
    append(FIRST_EPOCH, 20, &[promoted]).await;
    assert_eq!(told(3).await, ("done".to_owned(), Some(10), Some(20), Some(released())));

    let skipped = |task: &TaskId, why| RunEvent::TaskSkipped { task: task.clone(), why };
    append(
        FIRST_EPOCH,
        30,
        &[
            gate(&serve, false),
            skipped(&check, Skip::Needs(serve.clone())),
            skipped(&report, Skip::Needs(check.clone())),
            skipped(&unused, Skip::When("false".to_owned())),
            finished(RunOutcome::Kept),
        ],
    )
    .await;
    let (stands, _, ended, reason) = told(0).await;
    assert_eq!((stands.as_str(), ended), ("kept", Some(30)));
    let Some(TaskReason::Gate(decision)) = reason else { panic!("no gate: {reason:?}") };
    assert_eq!(decision.failed.as_deref(), Some("accuracy > live.accuracy"));
    assert_eq!((decision.passed, decision.live), (false, Some(release())));
    assert_eq!(decision.values["live.accuracy"], None);

    // Resumed, the gate is asked again, and what hung on it may run.
    let epoch = state.take_over(run, &owner(), 40).await.unwrap();
    for at in 0..3 {
        assert_eq!(told(at).await, ("waiting".to_owned(), None, None, None));
    }
    assert_eq!(told(3).await.0, "done");
    assert_eq!(told(4).await.0, "skipped");

    // Cut off in a rollout, it starts afresh too.
    append(epoch, 50, &[rolling_out(&serve), finished(RunOutcome::Cancelled)]).await;
    let epoch = state.take_over(run, &owner(), 60).await.unwrap();
    assert_eq!(told(0).await, ("waiting".to_owned(), None, None, None));
    let unchanged = RunEvent::RolloutUnchanged {
        task: serve,
        release: release(),
        number: 3,
        changed: Vec::new(),
    };
    append(epoch, 70, &[unchanged]).await;
    let same = TaskReason::Unchanged { release: release(), number: 3, changed: Vec::new() };
    assert_eq!(told(0).await, ("reused".to_owned(), None, Some(70), Some(same)));
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
        9 => vec![gate(task, true)],
        10 => vec![gate(task, false)],
        11 => vec![
            rolling_out(task),
            RunEvent::RolloutPrepared { task: task.clone(), release: release() },
        ],
        12 => vec![RunEvent::RolloutPromoted {
            task: task.clone(),
            release: release(),
            replaced: None,
        }],
        13 => vec![RunEvent::RolloutAbandoned {
            task: task.clone(),
            release: release(),
            why: "no".to_owned(),
        }],
        14 => {
            vec![RunEvent::RolloutUnchanged {
                task: task.clone(),
                release: release(),
                number: 3,
                changed: Vec::new(),
            }]
        }
        15 => vec![RunEvent::TaskSkipped {
            task: task.clone(),
            why: Skip::Needs(self::task("prepare", 1)),
        }],
        16 => vec![RunEvent::StopWished { by: "ann".to_owned(), kill: false }],
        _ => vec![finished(RunOutcome::Failed)],
    }
}

/// A script may be done, journalled and taken over in any way.
async fn rebuilt_is_as_it_was(world: &World) {
    let script = proptest::collection::vec((0..18_u8, 0..3_usize, any::<bool>()), 1..40);
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let state = world.open().await;
    state.bind_pipeline(&pipeline(), "/repo", 1, false).await.unwrap();
    let cases = if world.place == StatePlace::Home { 40 } else { 10 };
    for case in 1..=cases {
        let script = script.new_tree(&mut runner).unwrap().current();
        check_script(&state, id(case), script).await;
    }
}

async fn check_script(state: &State, run: RunId, script: Vec<(u8, usize, bool)>) {
    let told = format!("{script:?}");
    let tasks = [task("prepare", 1), task("train", 1), task("train", 2)];
    add_run(state, run, &tasks).await;
    let mut epoch = FIRST_EPOCH;
    let (mut attempts, mut batch) = ([0; 3], Vec::new());
    for (now, (kind, which, send)) in (1_u64..).zip(script) {
        batch.extend(event_of(kind, &tasks[which], &mut attempts[which], run));
        if kind == 17 || send {
            state.append(run, epoch, now, &batch, &[]).await.unwrap();
            batch.clear();
        }
        if kind == 17 {
            epoch = state.take_over(run, &owner(), now).await.unwrap();
        }
    }
    state.append(run, epoch, 99, &batch, &[]).await.unwrap();
    let all = async || {
        (
            state.run(run).await.unwrap(),
            state.tasks(run).await.unwrap(),
            state.attempts(run).await.unwrap(),
            state.metrics(run).await.unwrap(),
        )
    };
    let before = all().await;
    // Damage, so that a rebuild that does nothing is seen.
    let damage = "UPDATE task SET state = 'damaged', attempts = 77, \"values\" = NULL";
    say(state, format!("{damage} WHERE run = '{run}'")).await;
    say(state, format!("DELETE FROM attempt WHERE run = '{run}'")).await;
    state.rebuild(run).await.unwrap();
    assert_eq!(all().await, before, "{told}");
    let end = [finished(RunOutcome::Cancelled)];
    if state.run(run).await.unwrap().unwrap().state == RunState::Active {
        state.append(run, epoch, 100, &end, &[]).await.unwrap();
    }
}
