//! Wishes, timeouts, hooks, and what comes after a crash.

use super::*;

#[test]
fn a_wish_stops_what_runs_and_leaves_the_rest() {
    let (graph, facts) = Builder::new().task("a", &[]).task("b", &["a"]).task("c", &[]).build();
    let mut hand = Hand::new(graph, facts);
    hand.put(miss(0));
    hand.said();
    hand.put(stop(false));
    assert_eq!(hand.said(), ["StopWished { by: \"me\", kill: false }", "> stop a[1] false"]);
    hand.put(miss(2)).put(stop(false));
    assert_eq!(hand.said(), [""; 0]);
    hand.put(stop(true));
    assert_eq!(hand.said(), ["StopWished { by: \"me\", kill: true }", "> stop a[1] true"]);
    hand.ended(0, JobEnd::Cancelled);
    assert_eq!(hand.said(), ["ended a[1] 1", "cancelled a[1]", "end Cancelled"]);
}

#[test]
fn a_wish_ends_a_pause() {
    let retries = Retries { max: 1, ..Retries::default() };
    let (graph, facts) =
        Builder::new().task("a", &[]).facts("a", |facts| facts.retries = retries.clone()).build();
    let mut hand = Hand::new(graph, facts);
    hand.put(miss(0)).ended(0, JobEnd::Exited(1));
    hand.said();
    hand.put(stop(false));
    assert_eq!(
        hand.said(),
        ["StopWished { by: \"me\", kill: false }", "cancelled a[1]", "end Cancelled"]
    );
}

#[test]
fn the_timeout_of_the_run_fails_what_ran() {
    let (graph, facts) = Builder::new().task("a", &[]).task("b", &["a"]).build();
    let mut hand = Hand::new(graph, facts);
    hand.put(miss(0));
    hand.said();
    hand.put(Input::RunTimedOut).ended(0, JobEnd::Cancelled);
    assert_eq!(
        hand.said(),
        [
            "RunTimedOut",
            "ended a[1] 1",
            "failed a[1] RunTimedOut",
            "blocked b[1] a[1]",
            "end Failed",
            "> stop a[1] false"
        ]
    );
}

#[test]
fn hooks_run_after_the_tasks_and_do_not_change_the_outcome() {
    let (graph, facts) = Builder::new().task("a", &[]).on_failure("alert").on_exit("clean").build();
    let mut hand = Hand::new(graph, facts);
    hand.put(miss(0)).ended(0, JobEnd::Exited(1));
    assert_eq!(hand.said().last().unwrap(), "> resolve alert[1]");
    hand.put(miss(1));
    assert_eq!(hand.said().last().unwrap(), "> start alert[1] Failed");
    hand.ended(1, JobEnd::Exited(1));
    assert_eq!(
        hand.said(),
        ["ended alert[1] 1", "failed alert[1] Job(Exited(1))", "> resolve clean[1]"]
    );
    hand.put(miss(2)).done(2);
    assert_eq!(hand.run.outcome(), Some(RunOutcome::Failed));

    // Opened again, they run again.
    let mut journal = hand.journal.clone();
    journal.push(RunEvent::Reopened { by: owner(), epoch: 2 });
    let mut hand = Hand::from(Arc::clone(hand.run.graph()), hand.run.facts.clone(), journal);
    hand.put(miss(0)).done(0);
    hand.said();
    hand.put(miss(2));
    assert_eq!(hand.said().last().unwrap(), "> start clean[1] Done");
    hand.done(2);
    assert_eq!(hand.run.outcome(), Some(RunOutcome::Done));
}

#[test]
fn on_exit_runs_after_a_cancel_and_not_after_a_kill() {
    let build = || Builder::new().task("a", &[]).on_exit("clean").build();
    let (graph, facts) = build();
    let mut hand = Hand::new(graph, facts);
    hand.put(miss(0)).put(stop(false)).ended(0, JobEnd::Cancelled).put(miss(1));
    assert_eq!(hand.said().last().unwrap(), "> start clean[1] Cancelled");
    hand.put(stop(true));
    assert_eq!(hand.said().last().unwrap(), "> stop clean[1] true");
    hand.ended(1, JobEnd::Cancelled);
    assert_eq!(hand.run.outcome(), Some(RunOutcome::Cancelled));

    let (graph, facts) = build();
    let mut hand = Hand::new(graph, facts);
    hand.put(miss(0)).put(stop(true));
    hand.said();
    hand.ended(0, JobEnd::Cancelled);
    assert_eq!(hand.said(), ["ended a[1] 1", "cancelled a[1]", "end Cancelled"]);
}

#[test]
fn a_recovered_run_adopts_collects_and_sleeps() {
    let retries = Retries { max: 1, ..Retries::default() };
    let (graph, facts) = Builder::new()
        .copies("a", &[], 4)
        .facts("a", |facts| facts.retries = retries.clone())
        .build();
    let mut hand = Hand::new(Arc::clone(&graph), facts.clone());
    hand.put_all(vec![miss(0), miss(1), miss(2), miss(3)]);
    hand.ended(1, JobEnd::Exited(0)).ended(2, JobEnd::Exited(1));
    let mut journal = hand.journal.clone();
    journal.push(RunEvent::TakenOver { by: owner(), epoch: 2 });
    let mut hand = Hand::from(graph, facts, journal);
    assert_eq!(hand.said(), ["> adopt a[1] 1", "> collect a[2]", "> sleep a[3]", "> adopt a[4] 1"]);
}

#[test]
fn a_bad_end_that_nobody_saw_is_tried_again_once() {
    let (graph, facts) = Builder::new().task("a", &[]).task("b", &[]).build();
    let mut hand = Hand::new(Arc::clone(&graph), facts.clone());
    hand.put_all(vec![miss(0), miss(1)]);
    let mut journal = hand.journal.clone();
    journal.push(RunEvent::TakenOver { by: owner(), epoch: 2 });
    let mut hand = Hand::from(graph, facts, journal);
    hand.said();
    let unseen = |task, attempt, beside| Input::JobEnded {
        task,
        attempt,
        end: JobEnd::Exited(1),
        usage: Usage::default(),
        at: 1000,
        beside,
    };
    hand.put(unseen(0, 1, Circumstance::Unseen));
    assert_eq!(hand.said(), ["ended a[1] 1", "retry a[1]", "> sleep a[1]"]);
    hand.put_all(vec![Input::BackoffOver { task: 0 }, miss(0)]);
    hand.said();
    hand.put(unseen(1, 1, Circumstance::SpoiltInput("data".parse().unwrap())));
    let spoilt = "failed b[1] InputChanged { input: InputName(\"data\") }";
    assert_eq!(hand.said(), ["ended b[1] 1", spoilt]);
    hand.ended(0, JobEnd::Exited(1));
    assert_eq!(hand.said(), ["ended a[1] 2", "failed a[1] Job(Exited(1))", "end Failed"]);
}

#[test]
fn an_ended_run_says_nothing() {
    let (graph, facts) = Builder::new().task("a", &[]).build();
    let ended = RunEvent::Ended { outcome: RunOutcome::Cancelled };
    let (run, step) = Run::recover(graph, facts, &recorded([created(), ended])).unwrap();
    assert_eq!((run.outcome(), step), (Some(RunOutcome::Cancelled), Step::default()));
}

#[test]
fn a_journal_that_cannot_be_is_refused() {
    let (graph, facts) = Builder::new().task("a", &[]).task("b", &["a"]).build();
    let id = |stage: &str| TaskId { stage: stage.parse().unwrap(), copy: 1 };
    let started = |stage: &str, attempt| RunEvent::AttemptStarted {
        task: id(stage),
        attempt,
        key: None,
        why: Reason::FirstTime,
        job: JobName::new(facts.run, 1, attempt),
        host: String::new(),
    };
    let ended = RunEvent::Ended { outcome: RunOutcome::Done };
    let cases: Vec<(Vec<RunEvent>, &str)> = vec![
        (vec![], "empty"),
        (vec![ended.clone()], "begins with"),
        (vec![created(), created()], "begins with"),
        (vec![created(), ended, started("a", 1)], "after the run ended"),
        (vec![created(), started("b", 1)], "b[1] began before a[1]"),
        (vec![created(), started("c", 1)], "there is no task"),
        (vec![created(), started("a", 2)], "attempt 2 after 0"),
        (vec![created(), started("a", 1), started("a", 2)], "while it ran"),
        (vec![created(), RunEvent::RetryScheduled { task: id("a"), not_before: 0 }], "retry"),
    ];
    for (journal, expected) in cases {
        let refused = Run::recover(Arc::clone(&graph), facts.clone(), &recorded(journal));
        let why = refused.err().unwrap().to_string();
        assert!(why.contains(expected), "{why}");
    }
}

#[test]
fn a_cycle_is_stuck() {
    let (graph, facts) = Builder::new().task("a", &[]).task("b", &["a"]).build();
    let mut graph = Graph::clone(&graph);
    graph.tasks[0].needs = [1].into();
    let (run, step) = Run::recover(Arc::new(graph), facts, &recorded([created()])).unwrap();
    assert_eq!(step, Step::default());
    assert!(run.stuck().unwrap().contains("a[1], b[1]"));
}
