//! A run that another host began, and a store that is away for a while.

use super::*;
use crate::event::{Reason, Usage};
use crate::names::JobName;

/// What another host journalled of the first attempt of `one`; `end`: also how its job ended.
async fn begun_elsewhere(scene: &Scene, end: Option<JobEnd>) -> RunId {
    let run = scene.begin(1).await;
    let task = TaskId { stage: "one".parse().unwrap(), copy: 1 };
    let mut events = vec![RunEvent::AttemptStarted {
        task: task.clone(),
        attempt: 1,
        key: None,
        why: Reason::FirstTime,
        job: JobName::new(run, 1, 1),
        host: "elsewhere".to_owned(),
    }];
    if let Some(end) = end {
        let usage = Usage::default();
        events.push(RunEvent::AttemptEnded { task, attempt: 1, end, usage });
    }
    scene.state.append(run, 1, 1, &events, &[]).await.unwrap();
    scene.state.take_over(run, &owner(), 1).await.unwrap();
    run
}

#[tokio::test]
async fn an_attempt_of_another_host_is_lost_and_done_again_here() {
    let scene = Scene::new(TWO, obedient).await;
    let run = begun_elsewhere(&scene, None).await;
    let (ended, heard) = scene.go(run, 2).await;
    assert_eq!(ended.unwrap(), RunOutcome::Done);
    assert!(heard[0].starts_with("ended one Lost"), "{heard:?}");
    assert!(heard.contains(&"started one 2".to_owned()), "{heard:?}");
    assert!(!heard.iter().any(|word| word.starts_with("adopted")), "{heard:?}");
    // `TWO` has no retries: the lost attempt used none up.
    assert_eq!(scene.runtime.started().len(), 2);
}

#[tokio::test]
async fn what_ended_well_elsewhere_and_was_not_collected_is_done_again() {
    let scene = Scene::new(TWO, obedient).await;
    let run = begun_elsewhere(&scene, Some(JobEnd::Exited(0))).await;
    let (ended, heard) = scene.go(run, 2).await;
    assert_eq!(ended.unwrap(), RunOutcome::Done);
    assert!(heard.contains(&"started one 2".to_owned()), "{heard:?}");
    assert!(heard.contains(&"done one".to_owned()), "{heard:?}");
}

#[tokio::test]
async fn an_interrupt_of_a_run_with_jobs_elsewhere_ends_it() {
    let scene = Scene::new(TWO, obedient).await;
    let run = begun_elsewhere(&scene, None).await;
    let (_sender, stop) = watch::channel(Stop::Gently);
    let mut heard = Heard::default();
    let ended = scene.drive(run, 2, &mut heard, stop).await;
    assert_eq!(ended.unwrap(), RunOutcome::Cancelled);
    assert!(scene.runtime.started().is_empty());
}

#[tokio::test]
async fn a_store_that_is_away_is_waited_for() {
    let scene = Scene::new(TWO, obedient).await;
    let run = scene.begin(1).await;
    scene.store.away.store(2, Ordering::SeqCst);
    let (ended, heard) = scene.go(run, 1).await;
    assert_eq!(ended.unwrap(), RunOutcome::Done);
    let said: Vec<&String> = heard.iter().filter(|word| word.contains("store")).collect();
    assert_eq!(said.len(), 2, "{heard:?}");
    assert!(said[0].starts_with("away store ") && said[1] == "back store", "{heard:?}");
}
