//! Services: what they go through, what stops them, what comes after a crash.

use super::*;
use crate::names::ReleaseId;
use crate::rollout::{Promotion, RolloutFailure};

fn id(number: u128) -> ReleaseId {
    ReleaseId::new(0, number)
}

/// `serve`, verified by `smoke` (task 1), and `after`, which needs it.
fn serving() -> (Arc<Graph>, Facts) {
    Builder::new()
        .task("serve", &[])
        .service("serve", Some("smoke"))
        .task("after", &["serve"])
        .build()
}

fn due(task: usize) -> Input {
    let resolution = Resolution::Release { why: Vec::new(), asked: None };
    let live = BTreeMap::from([("serve".parse().unwrap(), Some(id(9)))]);
    Input::Resolved { task, resolution, live }
}

fn made(task: usize, number: u128) -> Input {
    let made = Ok((id(number), u64::try_from(number).unwrap()));
    Input::ReleaseMade { task, made }
}

fn prepared(task: usize, number: u128) -> Input {
    Input::Prepared { task, release: id(number), result: Ok(()) }
}

fn promotion(task: usize, number: u128, promotion: Promotion) -> Input {
    Input::PromotionEnded { task, release: id(number), promotion }
}

fn abandoned(task: usize, number: u128) -> Input {
    Input::Abandoned { task, release: id(number), log: vec!["bye".to_owned()] }
}

fn failure() -> RolloutFailure {
    RolloutFailure { why: "replica 1 never listened".to_owned(), log: vec!["hm".to_owned()] }
}

/// The first word of everything said, and the task of a command.
fn short(hand: &mut Hand) -> Vec<String> {
    let said = hand.said();
    let first = |line: String| match line.split_once(" {") {
        Some((word, _)) => word.to_owned(),
        None => line,
    };
    said.into_iter().map(first).collect()
}

impl Hand {
    /// To the running job of `smoke`.
    fn verifying(&mut self) -> &mut Self {
        self.put(due(0)).put(made(0, 1)).put(prepared(0, 1)).put(miss(1));
        self.said();
        self
    }
}

#[test]
fn a_release_is_prepared_verified_and_promoted() {
    let (graph, mut facts) = serving();
    facts.jobs = 1;
    let mut hand = Hand::new(graph, facts);
    hand.put(due(0));
    assert_eq!(short(&mut hand), ["LiveSeen", "> resolve serve[1]", "> release serve[1]"]);
    hand.put(made(0, 1));
    assert_eq!(short(&mut hand), ["RolloutStarted", "> prepare serve[1]"]);
    hand.put(prepared(0, 1)).put(prepared(0, 1));
    assert_eq!(short(&mut hand), ["RolloutPrepared", "> resolve smoke[1]"]);
    hand.put(miss(1));
    assert_eq!(short(&mut hand), [&format!("started smoke[1] 1 {UNCACHED}"), "> start smoke[1]"]);
    hand.done(1);
    assert_eq!(
        short(&mut hand),
        [
            "ended smoke[1] 1",
            "done smoke[1]",
            "Verified",
            "> collect smoke[1]",
            &format!("> promote serve[1] {}", id(9)),
        ]
    );
    hand.put(promotion(0, 1, Promotion::Promoted(Some(id(9)))));
    assert_eq!(short(&mut hand), ["RolloutPromoted", "> resolve after[1]"]);
    hand.put(hit(2));
    assert_eq!(hand.run.outcome(), Some(RunOutcome::Done));
}

#[test]
fn a_gate_that_does_not_pass_keeps_and_is_asked_again_by_resume() {
    let (graph, facts) = serving();
    let mut hand = Hand::new(Arc::clone(&graph), facts.clone());
    let asked = Asked { failed: Some("false".to_owned()), values: BTreeMap::new(), live: None };
    hand.put(resolved(0, Resolution::Kept(Box::new(asked))));
    assert_eq!(
        short(&mut hand),
        ["GateDecided", "skipped after[1]", "end Kept", "> resolve serve[1]"]
    );
    let mut journal = hand.journal.clone();
    journal.push(RunEvent::Reopened { by: owner(), epoch: 2 });
    let mut hand = Hand::from(graph, facts, journal);
    hand.put(resolved(0, Resolution::Unchanged { release: id(9), number: 9, changed: Vec::new() }));
    assert_eq!(short(&mut hand), ["RolloutUnchanged", "> resolve serve[1]", "> resolve after[1]"]);
    hand.put(hit(2));
    assert_eq!(hand.run.outcome(), Some(RunOutcome::Done));
}

#[test]
fn a_release_outside_the_selection_is_not_made() {
    let (graph, facts) = Builder::new()
        .task("serve", &[])
        .service("serve", None)
        .part("serve", Part::ReuseOnly)
        .build();
    let mut hand = Hand::new(graph, facts);
    hand.put(due(0));
    assert_eq!(
        short(&mut hand)[1..],
        ["failed serve[1] NotReusable", "end Failed", "> resolve serve[1]"]
    );
}

#[test]
fn what_never_gets_ready_is_abandoned_and_fails() {
    let (graph, facts) = serving();
    let mut hand = Hand::new(graph, facts);
    hand.put(due(0)).put(made(0, 1));
    hand.said();
    hand.put(Input::Prepared { task: 0, release: id(1), result: Err(failure()) });
    assert_eq!(short(&mut hand), ["RolloutAbandoned", "> abandon serve[1]"]);
    hand.put(abandoned(0, 1));
    let cause = "failed serve[1] Rollout { why: \"replica 1 never listened\", log: [\"hm\"] }";
    assert_eq!(hand.said(), [cause, "blocked after[1] serve[1]", "end Failed"]);
}

#[test]
fn what_does_not_pass_verify_fails_with_its_log() {
    let (graph, facts) = serving();
    let retries = Retries { max: 1, ..Retries::default() };
    let mut facts = facts;
    facts.tasks[1].retries = retries;
    let mut hand = Hand::new(Arc::clone(&graph), facts.clone());
    hand.verifying().ended(1, JobEnd::Exited(1));
    assert_eq!(short(&mut hand), ["ended smoke[1] 1", "retry smoke[1]", "> sleep smoke[1]"]);
    hand.put(Input::BackoffOver { task: 1 }).put(miss(1));
    hand.said();
    hand.ended(1, JobEnd::Exited(1));
    assert_eq!(
        short(&mut hand),
        [
            "ended smoke[1] 2",
            "failed smoke[1] Job(Exited(1))",
            "Verified",
            "RolloutAbandoned",
            "> abandon serve[1] smoke[1] 2",
        ]
    );
    hand.put(abandoned(0, 1));
    let cause =
        "failed serve[1] Rollout { why: \"`smoke[1]` did not pass: exit code 1\", log: [\"bye\"] }";
    assert_eq!(hand.said(), [cause, "blocked after[1] serve[1]", "end Failed"]);

    // Opened again, it is a new release, and the numbers of attempts go on.
    let mut journal = hand.journal.clone();
    journal.push(RunEvent::Reopened { by: owner(), epoch: 2 });
    let mut hand = Hand::from(graph, facts, journal);
    hand.put(due(0)).put(made(0, 2)).put(prepared(0, 2)).put(miss(1));
    assert!(hand.said().contains(&"started smoke[1] 3 Retry { of: 2 }".to_owned()));
}

#[test]
fn another_live_release_means_to_look_again() {
    let (graph, facts) = serving();
    let mut hand = Hand::new(graph, facts);
    hand.verifying().done(1);
    hand.said();
    hand.put(promotion(0, 1, Promotion::LiveIs(Some(id(5)))));
    assert_eq!(short(&mut hand), ["RolloutAbandoned", "> abandon serve[1]"]);
    hand.put(abandoned(0, 1));
    assert_eq!(short(&mut hand), ["> resolve serve[1]"]);
    hand.verifying_again();
    hand.done(1);
    assert!(hand.said().contains(&format!("> promote serve[1] {}", id(5))));
}

impl Hand {
    fn verifying_again(&mut self) {
        let resolution = Resolution::Release { why: Vec::new(), asked: None };
        let live = BTreeMap::from([("serve".parse().unwrap(), Some(id(5)))]);
        self.put(Input::Resolved { task: 0, resolution, live });
        self.put(made(0, 2)).put(prepared(0, 2)).put(miss(1));
        self.said();
    }
}

#[test]
fn a_judged_live_release_that_is_live_no_more_fails() {
    let (graph, facts) = Builder::new()
        .task("judge", &[])
        .task("serve", &["judge"])
        .service("serve", None)
        .judges("judge", "serve")
        .build();
    let mut hand = Hand::new(graph, facts);
    hand.put(hit(0)).put(due(1)).put(made(1, 1)).put(prepared(1, 1));
    hand.put(promotion(1, 1, Promotion::LiveIs(None))).put(abandoned(1, 1));
    let last = hand.said();
    let cause = "failed serve[1] LiveChanged { service: StageName(\"serve\") }";
    assert!(last.contains(&cause.to_owned()), "{last:?}");
}

#[test]
fn a_wish_to_stop_abandons_what_is_not_live_yet() {
    // While it is prepared.
    let (graph, facts) = serving();
    let mut hand = Hand::new(Arc::clone(&graph), facts.clone());
    hand.put(due(0)).put(made(0, 1));
    hand.said();
    hand.put(stop(false)).put(prepared(0, 1));
    assert_eq!(short(&mut hand), ["StopWished", "RolloutAbandoned", "> abandon serve[1]"]);
    hand.put(abandoned(0, 1));
    assert_eq!(short(&mut hand), ["cancelled serve[1]", "end Cancelled"]);

    // While `smoke` runs: only after it.
    let mut hand = Hand::new(Arc::clone(&graph), facts.clone());
    hand.verifying().put(stop(false));
    assert_eq!(short(&mut hand), ["StopWished", "> stop smoke[1] false"]);
    hand.ended(1, JobEnd::Cancelled);
    assert_eq!(
        short(&mut hand),
        ["ended smoke[1] 1", "cancelled smoke[1]", "RolloutAbandoned", "> abandon serve[1]"]
    );
    hand.put(abandoned(0, 1));
    assert_eq!(hand.run.outcome(), Some(RunOutcome::Cancelled));

    // While it is promoted: that is finished.
    let mut hand = Hand::new(graph, facts);
    hand.verifying().done(1).put(stop(true));
    hand.put(promotion(0, 1, Promotion::Promoted(None)));
    assert_eq!(hand.run.outcome(), Some(RunOutcome::Cancelled));
    assert!(hand.journal.iter().any(|event| matches!(event, RunEvent::RolloutPromoted { .. })));
}

#[test]
fn the_timeout_of_the_run_fails_a_rollout() {
    let (graph, facts) = serving();
    let mut hand = Hand::new(graph, facts);
    hand.put(due(0)).put(made(0, 1)).put(prepared(0, 1));
    hand.said();
    hand.put(Input::RunTimedOut);
    assert_eq!(short(&mut hand), ["RunTimedOut", "RolloutAbandoned", "> abandon serve[1]"]);
    hand.put(abandoned(0, 1));
    assert_eq!(hand.said()[0], "failed serve[1] RunTimedOut");
}

#[test]
fn a_rollout_that_began_outlives_the_failure_of_another_task() {
    let (graph, mut facts) = Builder::new()
        .task("serve", &[])
        .service("serve", Some("smoke"))
        .task("other", &[])
        .task("late", &[])
        .build();
    facts.jobs = 1;
    let mut hand = Hand::new(graph, facts);
    hand.put(due(0)).put(made(0, 1)).put(miss(2)).put(prepared(0, 1)).put(miss(1)).put(miss(3));
    hand.said();
    hand.ended(2, JobEnd::Exited(1));
    let said = hand.said();
    assert!(said.contains(&"> start smoke[1]".to_owned()), "{said:?}");
    hand.done(1).put(promotion(0, 1, Promotion::Promoted(None)));
    assert_eq!(hand.run.outcome(), Some(RunOutcome::Failed));
    assert!(!hand.run.is_live(3));
}

#[test]
fn a_recovered_rollout_goes_on_where_it_was() {
    let (graph, facts) = serving();
    let mut hand = Hand::new(Arc::clone(&graph), facts.clone());
    hand.verifying().done(1);
    let whole = hand.journal.clone();
    let after = |last: fn(&RunEvent) -> bool| {
        let length = whole.iter().position(last).unwrap() + 1;
        let mut journal = whole[..length].to_vec();
        journal.push(RunEvent::TakenOver { by: owner(), epoch: 2 });
        Hand::from(Arc::clone(&graph), facts.clone(), journal).said()
    };
    let started = after(|event| matches!(event, RunEvent::RolloutStarted { .. }));
    assert_eq!(started, ["> prepare serve[1]"]);
    let prepared = after(|event| matches!(event, RunEvent::RolloutPrepared { .. }));
    assert_eq!(prepared, ["> resolve smoke[1]"]);
    let running = after(|event| matches!(event, RunEvent::AttemptStarted { .. }));
    assert_eq!(running, ["> adopt smoke[1] 1"]);
    let over = after(|event| matches!(event, RunEvent::TaskDone { .. }));
    assert_eq!(over.last().unwrap(), &format!("> promote serve[1] {}", id(9)));
    let verified = after(|event| matches!(event, RunEvent::Verified { .. }));
    assert_eq!(verified, [format!("> promote serve[1] {}", id(9))]);
}

#[test]
fn a_recovered_abandonment_is_finished_and_what_followed_follows() {
    type Mishap = fn(&mut Hand);
    let (graph, facts) = serving();
    let cases: [(Mishap, &str); 3] = [
        (
            |hand| {
                hand.put(stop(false));
            },
            "> resolve serve[1]",
        ),
        (
            |hand| {
                hand.put(Input::RunTimedOut);
            },
            "failed serve[1] RunTimedOut",
        ),
        (
            |hand| {
                let result = Err(failure());
                hand.put(Input::Prepared { task: 0, release: id(1), result });
            },
            "failed serve[1] Rollout { why: \"replica 1 never listened\", log: [\"bye\"] }",
        ),
    ];
    for (act, follows) in cases {
        let mut hand = Hand::new(Arc::clone(&graph), facts.clone());
        hand.put(due(0)).put(made(0, 1));
        act(&mut hand);
        let mut journal = hand.journal.clone();
        journal.push(RunEvent::TakenOver { by: owner(), epoch: 2 });
        let mut hand = Hand::from(Arc::clone(&graph), facts.clone(), journal);
        assert_eq!(hand.said(), ["> abandon serve[1]"]);
        hand.put(abandoned(0, 1));
        assert_eq!(hand.said()[0], follows);
    }
}

#[test]
fn a_journal_of_rollouts_that_cannot_be_is_refused() {
    let (graph, facts) = serving();
    let task = |stage: &str| TaskId { stage: stage.parse().unwrap(), copy: 1 };
    let started = |stage: &str| RunEvent::RolloutStarted {
        task: task(stage),
        release: id(1),
        number: 1,
        why: Vec::new(),
    };
    let prepared = RunEvent::RolloutPrepared { task: task("serve"), release: id(1) };
    let verified = RunEvent::Verified { task: task("serve"), release: id(1), passed: true };
    let promoted =
        RunEvent::RolloutPromoted { task: task("serve"), release: id(1), replaced: None };
    let smoke = RunEvent::AttemptStarted {
        task: task("smoke"),
        attempt: 1,
        key: None,
        why: Reason::FirstTime,
        job: JobName::new(facts.run, 2, 1),
        host: String::new(),
    };
    let cases: Vec<(Vec<RunEvent>, &str)> = vec![
        (vec![prepared.clone()], "was not started"),
        (vec![started("serve"), started("serve")], "began again"),
        (vec![started("serve"), verified], "before it was prepared"),
        (vec![started("serve"), prepared.clone(), promoted], "before it was verified"),
        (vec![started("serve"), smoke], "no release of serve[1] was prepared"),
        (vec![started("serve"), prepared.clone(), prepared], "prepared twice"),
    ];
    for (events, expected) in cases {
        let mut journal = vec![created()];
        journal.extend(events);
        let refused = Run::recover(Arc::clone(&graph), facts.clone(), &recorded(journal));
        let why = refused.err().unwrap().to_string();
        assert!(why.contains(expected), "{why}");
    }
}

#[test]
fn a_run_that_ended_before_a_service_was_looked_at_again_can_be_read_and_goes_on() {
    let (graph, facts) = serving();
    let task = TaskId { stage: "serve".parse().unwrap(), copy: 1 };
    let release = id(1);
    let mut journal = vec![
        created(),
        RunEvent::RolloutStarted { task: task.clone(), release, number: 1, why: Vec::new() },
        RunEvent::RolloutAbandoned {
            task,
            release,
            why: "another release is live by now; the service is looked at again".to_owned(),
        },
        RunEvent::StopWished { by: "me".to_owned(), kill: false },
        RunEvent::Ended { outcome: RunOutcome::Cancelled },
    ];
    let (run, _) =
        Run::recover(Arc::clone(&graph), facts.clone(), &recorded(journal.clone())).unwrap();
    assert_eq!(run.check(), Ok(()));

    journal.push(RunEvent::Reopened { by: owner(), epoch: 2 });
    let mut hand = Hand::from(graph, facts, journal);
    assert_eq!(hand.said(), ["> resolve serve[1]"]);
}
