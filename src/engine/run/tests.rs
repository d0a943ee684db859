//! Rules one by one, then all of them at random.

mod chance;
mod ending;
mod rollouts;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::world::{Builder, Dice, Fate, World, created, owner, random_graph, recorded, reused};
use super::*;
use crate::digest::Digest;
use crate::event::{JobEnd, Moved, NotCached, Usage};
use crate::names::TaskId;
use crate::plan::graph::Part;
use crate::spec::pipeline::{OnOom, Pick, Retries};
use crate::state::Recorded;

/// Drives the machine by hand and demands that every event and command is accounted for.
struct Hand {
    run: Run,
    events: Vec<RunEvent>,
    commands: Vec<Command>,
    journal: Vec<RunEvent>,
}

impl Hand {
    fn new(graph: Arc<Graph>, facts: Facts) -> Self {
        Self::from(graph, facts, vec![created()])
    }

    fn from(graph: Arc<Graph>, facts: Facts, journal: Vec<RunEvent>) -> Self {
        let (run, step) = Run::recover(graph, facts, &recorded(journal.clone())).unwrap();
        let mut hand = Self { run, events: vec![], commands: vec![], journal };
        hand.hear(step);
        hand
    }

    fn hear(&mut self, step: Step) {
        self.run.check().unwrap();
        self.journal.extend(step.events.iter().cloned());
        self.events.extend(step.events);
        self.commands.extend(step.commands);
    }

    fn put(&mut self, input: Input) -> &mut Self {
        let step = self.run.step(input);
        self.hear(step);
        self
    }

    fn put_all(&mut self, inputs: Vec<Input>) -> &mut Self {
        let step = self.run.steps(inputs);
        self.hear(step);
        self
    }

    /// Everything said since the last call, shortened; nothing else was said.
    fn said(&mut self) -> Vec<String> {
        let graph = Arc::clone(self.run.graph());
        let name = |task: &TaskId| graph.tasks[graph.find(task).unwrap()].label.clone();
        let label = |task: usize| graph.tasks[task].label.clone();
        let events = std::mem::take(&mut self.events).into_iter().map(|event| match event {
            RunEvent::AttemptStarted { task, attempt, why, .. } => {
                format!("started {} {attempt} {why:?}", name(&task))
            }
            RunEvent::AttemptEnded { task, attempt, .. } => {
                format!("ended {} {attempt}", name(&task))
            }
            RunEvent::TaskDone { task, .. } => format!("done {}", name(&task)),
            RunEvent::TaskReused { task, .. } => format!("reused {}", name(&task)),
            RunEvent::TaskSkipped { task, .. } => format!("skipped {}", name(&task)),
            RunEvent::TaskBlocked { task, by } => format!("blocked {} {}", name(&task), name(&by)),
            RunEvent::TaskFailed { task, cause } => format!("failed {} {cause:?}", name(&task)),
            RunEvent::TaskCancelled { task } => format!("cancelled {}", name(&task)),
            RunEvent::RetryScheduled { task, .. } => format!("retry {}", name(&task)),
            RunEvent::Picked { stage, copy, value, .. } => format!("picked {stage} {copy} {value}"),
            RunEvent::Ended { outcome } => format!("end {outcome:?}"),
            other => format!("{other:?}"),
        });
        let mut said: Vec<String> = events.collect();
        for command in std::mem::take(&mut self.commands) {
            said.push(match command {
                Command::Resolve { task } => format!("> resolve {}", label(task)),
                Command::Claim { task, .. } => format!("> claim {}", label(task)),
                Command::AwaitClaim { task, .. } => format!("> await {}", label(task)),
                Command::Start { task, grant, outcome, .. } => {
                    let outcome = outcome.map(|outcome| format!(" {outcome:?}"));
                    let gpus = if grant.gpus.is_empty() {
                        String::new()
                    } else {
                        format!(" {:?}", grant.gpus)
                    };
                    format!("> start {}{gpus}{}", label(task), outcome.unwrap_or_default())
                }
                Command::Adopt { task, attempt, .. } => {
                    format!("> adopt {} {attempt}", label(task))
                }
                Command::Collect { task, .. } => format!("> collect {}", label(task)),
                Command::Sleep { task, .. } => format!("> sleep {}", label(task)),
                Command::StopJob { task, kill, .. } => format!("> stop {} {kill}", label(task)),
                Command::Tell { task, why } => match why {
                    Waiting::Slot => format!("> tell {} slot", label(task)),
                    Waiting::Resources => format!("> tell {} resources", label(task)),
                    _ => continue,
                },
                Command::Release { task } => format!("> release {}", label(task)),
                Command::Prepare { task, .. } => format!("> prepare {}", label(task)),
                Command::Promote { task, if_live_is, .. } => {
                    let live = if_live_is.map(|live| format!(" {live}"));
                    format!("> promote {}{}", label(task), live.unwrap_or_default())
                }
                Command::Abandon { task, log_of, .. } => {
                    let log = log_of.map(|(task, attempt)| format!(" {} {attempt}", label(task)));
                    format!("> abandon {}{}", label(task), log.unwrap_or_default())
                }
            });
        }
        said
    }

    fn ended(&mut self, task: usize, end: JobEnd) -> &mut Self {
        let attempt = self.run.tasks[task].attempts;
        let (usage, beside) = (Usage::default(), Circumstance::Usual);
        self.put(Input::JobEnded { task, attempt, end, usage, at: 1000, beside })
    }

    fn collected(&mut self, task: usize, metrics: &[(&str, f64)]) -> &mut Self {
        let attempt = self.run.tasks[task].attempts;
        let metrics = metrics.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        let product = Product {
            key: None,
            outputs: BTreeMap::new(),
            metrics,
            values: BTreeMap::new(),
            moved: Moved::default(),
        };
        self.put(Input::Collected { task, attempt, result: Ok(product), at: 1000 })
    }

    /// From its start to its end.
    fn done(&mut self, task: usize) -> &mut Self {
        self.ended(task, JobEnd::Exited(0)).collected(task, &[])
    }
}

fn resolved(task: usize, resolution: Resolution) -> Input {
    Input::Resolved { task, resolution, live: BTreeMap::new() }
}

fn miss(task: usize) -> Input {
    let why = Reason::NotCached(NotCached::NoOutputs);
    resolved(task, Resolution::Miss { key: None, why })
}

fn keyed(task: usize) -> Input {
    let key = Some(Digest::of(&task.to_le_bytes()));
    resolved(task, Resolution::Miss { key, why: Reason::FirstTime })
}

fn hit(task: usize) -> Input {
    let reused = reused(task, Digest::of(b"key"));
    resolved(task, Resolution::Hit(Box::new(reused)))
}

fn stop(kill: bool) -> Input {
    Input::StopWished { by: "me".to_owned(), kill }
}

const UNCACHED: &str = "NotCached(NoOutputs)";

#[test]
fn a_chain_runs_in_order() {
    let (graph, facts) = Builder::new().task("a", &[]).task("b", &["a"]).build();
    let mut hand = Hand::new(graph, facts);
    assert_eq!(hand.said(), ["> resolve a[1]"]);
    hand.put(keyed(0));
    assert_eq!(hand.said(), ["> claim a[1]"]);
    hand.put(Input::Claimed { task: 0, answer: ClaimAnswer::Ours });
    assert_eq!(hand.said(), ["started a[1] 1 FirstTime", "> start a[1]"]);
    hand.ended(0, JobEnd::Exited(0));
    assert_eq!(hand.said(), ["ended a[1] 1", "> collect a[1]"]);
    hand.collected(0, &[]);
    assert_eq!(hand.said(), ["done a[1]", "> resolve b[1]"]);
    hand.put(hit(1));
    assert_eq!(hand.said(), ["reused b[1]", "end Done"]);
    assert_eq!(hand.run.outcome(), Some(RunOutcome::Done));
}

#[test]
fn no_tasks_is_done_at_once() {
    let (graph, facts) = Builder::new().task("a", &[]).part("a", Part::Out).build();
    assert_eq!(Hand::new(graph, facts).said(), ["end Done"]);
}

#[test]
fn a_claim_held_elsewhere_holds_no_slot() {
    let (graph, mut facts) = Builder::new().task("a", &[]).task("b", &[]).build();
    facts.jobs = 1;
    let mut hand = Hand::new(graph, facts);
    hand.put_all(vec![keyed(0), keyed(1)]);
    assert_eq!(
        hand.said(),
        ["> resolve a[1]", "> resolve b[1]", "> claim a[1]", "> tell b[1] slot"]
    );
    let answer = ClaimAnswer::Held { by: "run 2".to_owned() };
    hand.put(Input::Claimed { task: 0, answer });
    assert_eq!(hand.said(), ["> await a[1]", "> claim b[1]"]);
    hand.put(Input::ClaimFree { task: 0 });
    assert_eq!(hand.said(), ["> resolve a[1]"]);
    hand.put(hit(0));
    assert_eq!(hand.said(), ["reused a[1]"]);
    let answer = ClaimAnswer::Hit(Box::new(reused(1, Digest::of(b"key"))));
    hand.put(Input::Claimed { task: 1, answer });
    assert_eq!(hand.said(), ["reused b[1]", "end Done"]);
}

#[test]
fn the_longest_remaining_path_goes_first() {
    let (graph, mut facts) = Builder::new().task("a", &[]).task("b", &[]).task("c", &["b"]).build();
    facts.jobs = 1;
    let mut hand = Hand::new(graph, facts);
    hand.put_all(vec![miss(0), miss(1)]);
    assert_eq!(
        hand.said(),
        [
            &format!("started b[1] 1 {UNCACHED}") as &str,
            "> resolve b[1]",
            "> resolve a[1]",
            "> start b[1]",
            "> tell a[1] slot"
        ]
    );
}

#[test]
fn a_failure_blocks_what_needs_it_and_starts_nothing_new() {
    let (graph, mut facts) = Builder::new()
        .task("a", &[])
        .task("b", &["a"])
        .task("c", &["b"])
        .task("d", &[])
        .task("e", &["d"])
        .task("f", &[])
        .build();
    facts.jobs = 2;
    let mut hand = Hand::new(graph, facts);
    hand.put_all(vec![miss(0), miss(3), miss(5)]);
    hand.said();
    hand.ended(0, JobEnd::Exited(1));
    assert_eq!(
        hand.said(),
        ["ended a[1] 1", "failed a[1] Job(Exited(1))", "blocked b[1] a[1]", "blocked c[1] a[1]"]
    );
    hand.done(3);
    assert_eq!(hand.said(), ["ended d[1] 1", "done d[1]", "end Failed", "> collect d[1]"]);
}

#[test]
fn keep_going_does_what_does_not_need_the_failure() {
    let (graph, mut facts) =
        Builder::new().task("a", &[]).task("b", &["a"]).task("d", &[]).task("e", &["d"]).build();
    facts.keep_going = true;
    let mut hand = Hand::new(graph, facts);
    hand.put_all(vec![miss(0), miss(2)]);
    hand.ended(0, JobEnd::Exited(1)).done(2);
    hand.said();
    hand.put(miss(3)).done(3);
    assert_eq!(hand.said().last().unwrap(), "> collect e[1]");
    assert_eq!(hand.run.outcome(), Some(RunOutcome::Failed));
}

#[test]
fn when_skips_what_needs_it() {
    let (graph, facts) = Builder::new().task("a", &[]).task("b", &["a"]).build();
    let mut hand = Hand::new(graph, facts);
    hand.put(resolved(0, Resolution::Skip { when: "false".to_owned() }));
    assert_eq!(hand.said(), ["skipped a[1]", "skipped b[1]", "end Done", "> resolve a[1]"]);
}

#[test]
fn what_must_be_reused_and_is_not_there_fails() {
    let (graph, facts) = Builder::new().task("a", &[]).part("a", Part::ReuseOnly).build();
    let mut hand = Hand::new(graph, facts);
    hand.said();
    hand.put(keyed(0));
    assert_eq!(hand.said(), ["failed a[1] NotReusable { why: \"no record\" }", "end Failed"]);
}

#[test]
fn retries_are_used_up_and_numbers_go_on() {
    let retries = Retries { max: 1, backoff: Duration::from_secs(10), on_oom: None };
    let (graph, facts) =
        Builder::new().task("a", &[]).facts("a", |facts| facts.retries = retries.clone()).build();
    let mut hand = Hand::new(Arc::clone(&graph), facts.clone());
    hand.put(miss(0));
    hand.said();
    hand.ended(0, JobEnd::Exited(1));
    let until = hand.commands.iter().find_map(|command| match command {
        Command::Sleep { until, .. } => Some(*until),
        _ => None,
    });
    assert!((9_000..=13_000).contains(&until.unwrap()), "{until:?}");
    assert_eq!(hand.said(), ["ended a[1] 1", "retry a[1]", "> sleep a[1]"]);
    hand.put(Input::BackoffOver { task: 0 }).put(miss(0));
    assert_eq!(hand.said(), ["started a[1] 2 Retry { of: 1 }", "> resolve a[1]", "> start a[1]"]);
    hand.ended(0, JobEnd::Exited(1));
    assert_eq!(hand.said(), ["ended a[1] 2", "failed a[1] Job(Exited(1))", "end Failed"]);

    let mut journal = hand.journal.clone();
    journal.push(RunEvent::Reopened { by: owner(), epoch: 2 });
    let mut hand = Hand::from(graph, facts, journal);
    hand.put(miss(0));
    assert_eq!(hand.said(), ["started a[1] 3 Retry { of: 2 }", "> resolve a[1]", "> start a[1]"]);
    hand.ended(0, JobEnd::Exited(1));
    assert_eq!(hand.said(), ["ended a[1] 3", "retry a[1]", "> sleep a[1]"]);
}

#[test]
fn lost_attempts_use_up_no_retries_and_are_bounded() {
    let (graph, facts) = Builder::new().task("a", &[]).build();
    let mut hand = Hand::new(graph, facts);
    for attempt in 1..=5 {
        hand.put(miss(0));
        hand.said();
        hand.ended(0, JobEnd::Lost { why: "gone".to_owned() });
        if attempt < 5 {
            assert_eq!(
                hand.said(),
                [&format!("ended a[1] {attempt}") as &str, "retry a[1]", "> sleep a[1]"]
            );
            hand.put(Input::BackoffOver { task: 0 });
        }
    }
    assert_eq!(hand.said().last().unwrap(), "end Failed");
}

#[test]
fn who_writes_into_an_input_is_not_tried_again() {
    let retries = Retries { max: 3, ..Retries::default() };
    let (graph, facts) =
        Builder::new().task("a", &[]).facts("a", |facts| facts.retries = retries.clone()).build();
    let mut hand = Hand::new(graph, facts);
    hand.put(miss(0));
    hand.said();
    hand.put(Input::JobEnded {
        task: 0,
        attempt: 1,
        end: JobEnd::Exited(1),
        usage: Usage::default(),
        at: 0,
        beside: Circumstance::SpoiltInput("data".parse().unwrap()),
    });
    assert_eq!(
        hand.said(),
        ["ended a[1] 1", "failed a[1] InputChanged { input: InputName(\"data\") }", "end Failed"]
    );
}

#[test]
fn out_of_memory_asks_for_more() {
    let on_oom = Some(OnOom { factor: 2.0, max: Some(700) });
    let retries = Retries { max: 2, on_oom, ..Retries::default() };
    let (graph, facts) = Builder::new()
        .task("a", &[])
        .facts("a", |facts| {
            facts.retries = retries.clone();
            facts.memory = Some(300);
        })
        .build();
    let mut hand = Hand::new(graph, facts);
    let mut memory = Vec::new();
    for _ in 0..3 {
        hand.put(miss(0));
        for command in &hand.commands {
            if let Command::Start { grant, .. } = command {
                memory.push(grant.memory);
            }
        }
        hand.said();
        hand.ended(0, JobEnd::OutOfMemory { limit: 300 }).put(Input::BackoffOver { task: 0 });
    }
    assert_eq!(memory, [300, 600, 700]);
    assert_eq!(hand.run.outcome(), Some(RunOutcome::Failed));
}

#[test]
fn graphics_processors_are_handed_out_by_number() {
    let (graph, facts) =
        Builder::new().copies("a", &[], 3).facts("a", |facts| facts.gpu = 1).build();
    let mut hand = Hand::new(graph, facts);
    hand.said();
    hand.put_all(vec![miss(0), miss(1), miss(2)]);
    let said = hand.said();
    assert_eq!(said[2..], ["> start a[1] [0]", "> start a[2] [1]", "> tell a[3] resources"]);
    hand.done(1);
    assert!(hand.said().contains(&"> start a[3] [1]".to_owned()));
}

#[test]
fn more_than_the_machine_has_fails_at_once() {
    let (graph, facts) =
        Builder::new().task("a", &[]).facts("a", |facts| facts.cpu = Some(9.5)).build();
    let mut hand = Hand::new(graph, facts);
    hand.said();
    hand.put(miss(0));
    assert_eq!(
        hand.said()[0],
        "failed a[1] Resources { why: \"it asks for 9.5 processors and there are 8\" }"
    );
}

#[test]
fn a_large_task_does_not_starve() {
    let (graph, mut facts) = Builder::new()
        .task("large", &[])
        .copies("small", &[], 40)
        .facts("large", |facts| facts.cpu = Some(8.0))
        .facts("small", |facts| facts.cpu = Some(1.0))
        .build();
    facts.jobs = 8;
    let mut hand = Hand::new(graph, facts);
    hand.put(miss(1));
    hand.put_all((0..41).filter(|task| *task != 1).map(miss).collect());
    let mut started: Vec<usize> = Vec::new();
    while !started.contains(&0) {
        for command in std::mem::take(&mut hand.commands) {
            if let Command::Start { task, .. } = command {
                started.push(task);
            }
        }
        if let Some(task) = (1..41).find(|task| hand.run.is_live(*task)) {
            hand.done(task);
        }
    }
    assert!(started.len() < 12, "{started:?}");
}

#[test]
fn the_best_copy_is_picked_and_the_first_wins_a_tie() {
    let (graph, mut facts) = Builder::new().copies("a", &[], 3).task("b", &["a"]).build();
    let pick = Pick { metric: "accuracy".to_owned(), largest: true };
    facts.picks.insert("a".parse().unwrap(), pick);
    let mut hand = Hand::new(Arc::clone(&graph), facts.clone());
    hand.put_all(vec![miss(0), miss(1), miss(2)]);
    for task in 0..3 {
        hand.ended(task, JobEnd::Exited(0));
    }
    hand.collected(2, &[("accuracy", 0.9)]).collected(0, &[]);
    hand.said();
    hand.collected(1, &[("accuracy", 0.9)]);
    assert_eq!(hand.said(), ["done a[2]", "picked a 2 0.9", "> resolve b[1]"]);

    let mut hand = Hand::new(graph, facts);
    hand.put_all(vec![miss(0), miss(1), miss(2)]);
    hand.done(0).done(1);
    hand.said();
    hand.done(2);
    assert_eq!(
        hand.said(),
        [
            "ended a[3] 1",
            "failed a[3] PickImpossible { metric: \"accuracy\" }",
            "blocked b[1] a[3]",
            "end Failed",
            "> collect a[3]"
        ]
    );
}

#[test]
fn a_rehearsal_does_every_task_once() {
    let (graph, facts) = Builder::new().task("a", &[]).copies("b", &["a"], 50).build();
    let RunEvent::Created(made) = created() else { unreachable!() };
    let told = rehearse(graph, facts, *made).unwrap();
    assert_eq!((told.outcome, told.attempts), (Some(RunOutcome::Done), 51));
}
