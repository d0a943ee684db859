//! The life of runs, and their journal.

use super::*;

both! {
    a_run_from_made_to_reopened,
    an_old_epoch_writes_nothing,
    why_a_run_was_left_is_known_until_it_is_taken_over,
    one_active_run_per_pipeline,
    a_refusal_by_a_run_that_has_just_ended_is_no_error,
    a_name_has_one_origin,
    writers_at_once_leave_no_gap,
    what_is_cut_off_midway_leaves_nothing,
}

/// Between the refusal and the question by whom, the other run may end.
async fn a_refusal_by_a_run_that_has_just_ended_is_no_error(world: &World) {
    let state = state_with_run(world, id(1), &[]).await;
    let mut writer = state.inner.database.writer().await.unwrap();
    let sql = "INSERT INTO pipeline (name, origin, made_at) VALUES ('iris', '/repo', 1)";
    let refused = statement(sql).execute(&mut writer).await;
    assert!(refused.is_err());
    let by = super::super::runs::or_active(&mut writer, id(1), refused).await.unwrap();
    assert_eq!(by, Err(None));
}

async fn a_run_from_made_to_reopened(world: &World) {
    // The order of the file, not of the alphabet.
    let tasks = [task("prepare", 1), task("evaluate", 1), task("assess", 1)];
    let run = id(1);
    let state = state_with_run(world, run, &tasks).await;
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

async fn an_old_epoch_writes_nothing(world: &World) {
    let run = id(1);
    let state = state_with_run(world, run, &[task("train", 1)]).await;
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

async fn why_a_run_was_left_is_known_until_it_is_taken_over(world: &World) {
    let run = id(1);
    let state = state_with_run(world, run, &[task("train", 1)]).await;
    assert_eq!(state.why_left(run).await.unwrap(), None);
    for (epoch, why) in [(FIRST_EPOCH, "the disk is full"), (FIRST_EPOCH + 1, "no network")] {
        let left = RunEvent::Left { why: why.to_owned() };
        state.append(run, epoch, 2000, &[left], &[]).await.unwrap();
        assert_eq!(state.why_left(run).await.unwrap().as_deref(), Some(why));
        assert_eq!(state.take_over(run, &owner(), 3000).await.unwrap(), epoch + 1);
        assert_eq!(state.why_left(run).await.unwrap(), None);
    }
}

async fn one_active_run_per_pipeline(world: &World) {
    let state = state_with_run(world, id(1), &[]).await;
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

async fn a_name_has_one_origin(world: &World) {
    let state = world.open().await;
    state.bind_pipeline(&pipeline(), "/a", 1, false).await.unwrap();
    state.bind_pipeline(&pipeline(), "/a", 2, false).await.unwrap();
    let other = state.bind_pipeline(&pipeline(), "/b", 3, false).await;
    assert!(matches!(other, Err(StateError::OtherOrigin { bound, .. }) if bound == "/a"));
    state.bind_pipeline(&pipeline(), "/b", 4, true).await.unwrap();
    state.bind_pipeline(&pipeline(), "/b", 5, false).await.unwrap();
}

async fn writers_at_once_leave_no_gap(world: &World) {
    let run = id(1);
    let tasks: Vec<_> = (1..=4).map(|copy| task("train", copy)).collect();
    free(&state_with_run(world, run, &tasks).await).await;
    let writers = tasks.iter().cloned().map(|task| {
        let world = world.clone();
        tokio::spawn(async move {
            // A state of its own: what another process would have.
            let state = world.open().await;
            for attempt in 1..=25 {
                let events = [started(&task, attempt, None, run), ended(&task, attempt, 1)];
                state.append(run, FIRST_EPOCH, u64::from(attempt), &events, &[]).await.unwrap();
            }
        })
    });
    for result in futures_util::future::join_all(writers).await {
        result.unwrap();
    }
    let state = world.open().await;
    let seqs: Vec<_> = state.events(run, 0).await.unwrap().iter().map(|event| event.seq).collect();
    assert_eq!(seqs, (1..=201).collect::<Vec<_>>());
    assert!(state.tasks(run).await.unwrap().iter().all(|task| task.attempts == 25));
    assert_eq!(state.attempts(run).await.unwrap().len(), 100);
}

async fn what_is_cut_off_midway_leaves_nothing(world: &World) {
    let run = id(1);
    let tasks: Vec<_> = (1..=500).map(|copy| task("train", copy)).collect();
    let state = state_with_run(world, run, &tasks).await;
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
