use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::digest::Digest;
use crate::event::{FieldChange, NotCached, Selection};
use crate::plan::show::word;
use crate::plan::testing::{Draft, MADE_AT, World, context, name, names, pipeline, stage, task_id};
use crate::plan::{Graph, KeyContext};
use crate::scalar::Scalar;
use crate::spec::Pipeline;

fn no_metric(_: &TaskId) -> Option<f64> {
    None
}

/// The verdicts as words, in file order.
fn words_of(plan: &Plan) -> Vec<&'static str> {
    plan.verdicts.iter().map(word).collect()
}

fn failure_of(verdict: &Verdict) -> &str {
    match verdict {
        Verdict::Fail { why } => why,
        other => panic!("{other:?} is no failure"),
    }
}

/// prepare → train → evaluate; `prepare` names the param `seed`.
fn chain() -> (Pipeline, KeyContext) {
    let pipeline = pipeline([
        stage("prepare").with(|stage| stage.params = vec![name("seed")]),
        stage("train").takes(&["prepare"]),
        stage("evaluate").takes(&["train"]),
    ]);
    let mut context = context();
    context.params.insert(name("seed"), Scalar::plain("7"));
    (pipeline, context)
}

#[test]
fn a_first_plan_runs_the_first_and_the_rest_depends() {
    let (pipeline, context) = chain();
    let plan = World::default().plan(&pipeline, &context);
    assert!(matches!(plan.verdicts[0], Verdict::Run { key: Some(_), why: Reason::FirstTime }));
    assert_eq!(plan.verdicts[1], Verdict::Depends { on: [task_id("prepare", 1)].into() });
    assert_eq!(plan.verdicts[2], Verdict::Depends { on: [task_id("train", 1)].into() });
    assert!(plan.would_run());
}

#[test]
fn unchanged_work_is_reused() {
    let (pipeline, context) = chain();
    let mut world = World::default();
    world.run(&pipeline, &context, &no_metric);
    let plan = world.plan(&pipeline, &context);
    assert_eq!(words_of(&plan), ["reuse", "reuse", "reuse"]);
    assert!(!plan.would_run());
}

#[test]
fn a_changed_param_is_named() {
    let (pipeline, mut context) = chain();
    let mut world = World::default();
    world.run(&pipeline, &context, &no_metric);
    context.params.insert(name("seed"), Scalar::plain("8"));
    let plan = world.plan(&pipeline, &context);
    let Verdict::Run { why: Reason::Changed(changes), .. } = &plan.verdicts[0] else {
        panic!("{plan:?}");
    };
    let expected = FieldChange {
        field: "params.seed".to_owned(),
        was: Some("7".to_owned()),
        is: Some("8".to_owned()),
    };
    assert_eq!(*changes, [expected]);
    assert_eq!(words_of(&plan), ["run", "depends", "depends"]);
}

#[test]
fn equal_outputs_cut_the_run_off_early() {
    let (pipeline, mut context) = chain();
    let mut world = World { same_outputs: true, ..World::default() };
    world.run(&pipeline, &context, &no_metric);
    context.params.insert(name("seed"), Scalar::plain("8"));
    let before = world.plan(&pipeline, &context);
    assert_eq!(words_of(&before), ["run", "depends", "depends"]);
    let records = world.records.len();
    world.run(&pipeline, &context, &no_metric);
    assert_eq!(world.records.len(), records + 1, "only `prepare` has a new key");
    assert_eq!(words_of(&world.plan(&pipeline, &context)), ["reuse", "reuse", "reuse"]);
}

#[test]
fn a_record_that_is_gone_or_broken_is_told_from_a_change() {
    let (pipeline, context) = chain();
    let mut world = World::default();
    world.run(&pipeline, &context, &no_metric);
    let Verdict::Reuse { key } = world.plan(&pipeline, &context).verdicts[0] else { panic!() };
    let record = world.records.remove(&key).unwrap();
    let plan = world.plan(&pipeline, &context);
    assert_eq!(plan.verdicts[0], Verdict::Run { key: Some(key), why: Reason::NoRecord });

    world.records.insert(key, record);
    let missing = vec![Digest::of(b"lost")];
    world.broken.insert(key, missing.clone());
    let plan = world.plan(&pipeline, &context);
    let why = Reason::RecordBroken { missing };
    assert_eq!(plan.verdicts[0], Verdict::Run { key: Some(key), why });
}

#[test]
fn forced_stages_run_without_a_look_at_their_record() {
    let (pipeline, context) = chain();
    let mut world = World::default();
    world.run(&pipeline, &context, &no_metric);
    let force = Selection { force: names(&["train"]), ..Selection::default() };
    let plan = world.plan_selected(&pipeline, &context, &force);
    assert!(matches!(plan.verdicts[1], Verdict::Run { key: Some(_), why: Reason::Forced }));
    assert_eq!(words_of(&plan), ["reuse", "run", "depends"]);
    assert_eq!(world.looked_up, 1, "`prepare` only");
}

#[test]
fn what_is_not_selected_is_reused_or_fails_with_the_mend() {
    let (pipeline, context) = chain();
    let mut world = World::default();
    let only = Selection { only: names(&["evaluate"]), ..Selection::default() };
    let plan = world.plan_selected(&pipeline, &context, &only);
    let why = failure_of(&plan.verdicts[0]);
    assert!(
        why.starts_with("not selected and has no record (first run of this task): run without")
    );
    assert_eq!(failure_of(&plan.verdicts[1]), "it needs `prepare`, which would fail");
    assert_eq!(failure_of(&plan.verdicts[2]), "it needs `train`, which would fail");

    world.run(&pipeline, &context, &no_metric);
    let plan = world.plan_selected(&pipeline, &context, &only);
    assert_eq!(words_of(&plan), ["reuse", "reuse", "reuse"]);
    let from = Selection { from: names(&["train"]), ..Selection::default() };
    let plan = world.plan_selected(&pipeline, &context, &from);
    assert_eq!(words_of(&plan), ["reuse", "run", "depends"]);
    let until = Selection { until: names(&["train"]), ..Selection::default() };
    let plan = world.plan_selected(&pipeline, &context, &until);
    assert_eq!(words_of(&plan), ["reuse", "reuse", "out"]);
}

#[test]
fn what_is_never_cached_runs_and_cannot_be_reused() {
    let pipeline = pipeline([
        stage("prepare"),
        stage("log").needs(&["prepare"]).without_outputs(),
        stage("fresh").cache(Cache::Off),
        stage("use_fresh").takes(&["fresh"]),
    ]);
    let context = context();
    let plan = World::default().plan(&pipeline, &context);
    let not_cached = |why| Verdict::Run { key: None, why: Reason::NotCached(why) };
    assert_eq!(plan.verdicts[1], not_cached(NotCached::NoOutputs));
    assert_eq!(plan.verdicts[2], not_cached(NotCached::Off));
    let only = Selection { only: names(&["use_fresh"]), ..Selection::default() };
    let plan = World::default().plan_selected(&pipeline, &context, &only);
    assert!(failure_of(&plan.verdicts[2]).starts_with("not selected and never cached"));
}

#[test]
fn waiting_alone_does_not_hide_a_known_key() {
    let pipeline = pipeline([
        stage("lint").without_outputs(),
        stage("train").needs(&["lint"]),
        stage("report").takes(&["train"]),
    ]);
    let context = context();
    let mut world = World::default();
    world.run(&pipeline, &context, &no_metric);
    assert_eq!(words_of(&world.plan(&pipeline, &context)), ["run", "reuse", "reuse"]);
}

#[test]
fn a_record_older_than_cache_allows_has_expired() {
    let draft = |seconds| stage("fetch").cache(Cache::For(Duration::from_secs(seconds)));
    let context = context();
    let mut world = World::default();
    world.run(&pipeline([draft(5)]), &context, &no_metric);
    // The plan looks five seconds after the record was made.
    assert_eq!(words_of(&world.plan(&pipeline([draft(5)]), &context)), ["reuse"]);
    let plan = world.plan(&pipeline([draft(4)]), &context);
    let why = Reason::Expired { age: Duration::from_secs(5) };
    assert!(matches!(&plan.verdicts[0], Verdict::Run { why: is, .. } if *is == why));
    assert_eq!(world.records.values().next().unwrap().made_at, MADE_AT);
}

#[test]
fn cache_only_reuses_or_fails() {
    let pipeline = pipeline([stage("train").cache(Cache::Only)]);
    let context = context();
    let mut world = World::default();
    let plan = world.plan(&pipeline, &context);
    assert_eq!(
        failure_of(&plan.verdicts[0]),
        "`cache: only` and it has no record (first run of this task)"
    );
    world.run(&pipeline, &context, &no_metric);
    assert_eq!(words_of(&world.plan(&pipeline, &context)), ["reuse"]);
}

fn matrix_with_pick() -> Pipeline {
    pipeline([
        stage("train").matrix(&[("trees", &["1", "2", "3"])]).pick_max("score"),
        stage("evaluate").takes(&["train"]),
    ])
}

#[test]
fn the_winner_of_reused_copies_decides_what_comes_after() {
    let (pipeline, context) = (matrix_with_pick(), context());
    let mut world = World::default();
    let score = |task: &TaskId| Some(if task.copy == 2 { 0.9 } else { 0.5 });
    world.run(&pipeline, &context, &score);
    let plan = world.plan(&pipeline, &context);
    assert_eq!(words_of(&plan), ["reuse", "reuse", "reuse", "reuse"]);

    let Verdict::Reuse { key } = plan.verdicts[2] else { panic!() };
    world.records.get_mut(&key).unwrap().metrics.insert("score".to_owned(), 1.0);
    let plan = world.plan(&pipeline, &context);
    let Verdict::Run { why: Reason::Changed(changes), .. } = &plan.verdicts[3] else {
        panic!("{plan:?}");
    };
    assert_eq!(changes[0].field, "inputs.train", "copy 3 wins now");
}

#[test]
fn one_copy_that_runs_leaves_the_winner_open() {
    let (pipeline, context) = (matrix_with_pick(), context());
    let mut world = World::default();
    world.run(&pipeline, &context, &|_| Some(0.5));
    let Verdict::Reuse { key } = world.plan(&pipeline, &context).verdicts[1] else { panic!() };
    world.records.remove(&key);
    let plan = world.plan(&pipeline, &context);
    assert_eq!(words_of(&plan), ["reuse", "run", "reuse", "depends"]);
    assert_eq!(plan.verdicts[3], Verdict::Depends { on: [task_id("train", 2)].into() });
}

#[test]
fn without_the_metric_nobody_wins() {
    let (pipeline, context) = (matrix_with_pick(), context());
    let mut world = World::default();
    world.run(&pipeline, &context, &no_metric);
    let plan = world.plan(&pipeline, &context);
    assert_eq!(words_of(&plan), ["reuse", "reuse", "reuse", "fail"]);
}

#[test]
fn an_open_when_makes_all_below_depend() {
    let pipeline = pipeline([
        stage("evaluate"),
        stage("promote").when("evaluate").without_outputs(),
        stage("after").needs(&["promote"]),
        stage("log").needs(&["after"]).without_outputs(),
    ]);
    let plan = World::default().plan(&pipeline, &context());
    assert_eq!(plan.verdicts[1], Verdict::Depends { on: [task_id("evaluate", 1)].into() });
    assert_eq!(plan.verdicts[2], Verdict::Depends { on: [task_id("promote", 1)].into() });
    assert_eq!(plan.verdicts[3], Verdict::Depends { on: [task_id("after", 1)].into() });
}

#[test]
fn ten_thousand_tasks_are_looked_up_once_each() {
    let copies: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
    let copies: Vec<&str> = copies.iter().map(String::as_str).collect();
    let stages = (0..10).map(|number| {
        let draft = stage(&format!("s{number}")).matrix(&[("n", &copies)]);
        if number == 0 { draft } else { draft.needs(&[&format!("s{}", number - 1)]) }
    });
    let pipeline = pipeline(stages);
    let context = context();
    let mut world = World::default();
    world.run(&pipeline, &context, &no_metric);
    let plan = world.plan(&pipeline, &context);
    assert_eq!(plan.counts(), Counts { reuse: 10_000, ..Counts::default() });
    assert_eq!(world.looked_up, 10_000);
}

/// Stages in a shuffled file order, each with the stages it takes from and waits for (always of lower rank), copies and kind.
#[derive(Debug, Clone)]
struct Shape {
    rank: usize,
    takes: Vec<usize>,
    waits: Vec<usize>,
    copies: usize,
    cached: bool,
    known: bool,
}

fn shapes() -> impl Strategy<Value = Vec<Shape>> {
    (1_usize..12).prop_flat_map(|count| {
        let one = |rank: usize| {
            let above = prop::collection::vec(0..rank.max(1), 0..3.min(rank + 1));
            (above.clone(), above, 1_usize..4, prop::bool::weighted(0.8), any::<bool>()).prop_map(
                move |(takes, waits, copies, cached, known)| Shape {
                    rank,
                    takes: takes.into_iter().filter(|need| *need < rank).collect(),
                    waits: waits.into_iter().filter(|need| *need < rank).collect(),
                    copies,
                    cached,
                    known,
                },
            )
        };
        (0..count).map(one).collect::<Vec<_>>().prop_shuffle()
    })
}

fn drawn(shapes: &[Shape]) -> Pipeline {
    let gives = |rank: usize| shapes.iter().any(|shape| shape.rank == rank && shape.copies == 1);
    pipeline(shapes.iter().map(|shape| {
        let mut draft: Draft = stage(&format!("s{}", shape.rank));
        let mut needs: Vec<usize> = Vec::new();
        for need in shape.takes.iter().chain(&shape.waits) {
            if needs.contains(need) {
                continue;
            }
            needs.push(*need);
            let need_name = format!("s{need}");
            // A matrix without `pick` gives no output that can be named.
            draft = if shape.takes.contains(need) && gives(*need) {
                draft.takes(&[&need_name])
            } else {
                draft.needs(&[&need_name])
            };
        }
        if shape.copies > 1 {
            let values = ["1", "2", "3"];
            draft = draft.matrix(&[("n", &values[..shape.copies])]);
        }
        if shape.cached { draft } else { draft.cache(Cache::Off) }
    }))
}

proptest! {
    #[test]
    fn every_task_in_the_run_gets_a_verdict_that_fits_what_it_needs(
        shapes in shapes(),
        only in prop::option::of(0_usize..12),
        from in prop::option::of(0_usize..12),
        until in prop::option::of(0_usize..12),
        force in prop::option::of(0_usize..12),
    ) {
        let pipeline = drawn(&shapes);
        let stages = |number: Option<usize>| -> BTreeSet<StageName> {
            number.filter(|number| *number < shapes.len()).map(|number| name(&format!("s{number}")))
                .into_iter().collect()
        };
        let selection = Selection {
            only: stages(only), from: stages(from), until: stages(until), force: stages(force),
        };
        let context = context();
        let mut world = World::default();
        world.run(&pipeline, &context, &no_metric);
        let unknown: Vec<String> =
            shapes.iter().filter(|shape| !shape.known).map(|shape| format!("s{}", shape.rank)).collect();
        world.records.retain(|_, record| {
            !unknown.iter().any(|stage| record.parts.command[3] == format!("make {stage}"))
        });

        let graph = Graph::new(&pipeline, &selection);
        let plan = world.plan_selected(&pipeline, &context, &selection);
        prop_assert_eq!(&plan, &world.plan_selected(&pipeline, &context, &selection));
        prop_assert_eq!(plan.verdicts.len(), graph.tasks.len());
        for (task, verdict) in graph.tasks.iter().zip(&plan.verdicts) {
            let needs: Vec<&Verdict> = task.needs.iter().map(|need| &plan.verdicts[*need]).collect();
            let fails_above = needs.iter().any(|need| matches!(need, Verdict::Fail { .. }));
            prop_assert_eq!(task.part == Part::Out, *verdict == Verdict::Out, "{}", task.label);
            match verdict {
                Verdict::Out => continue,
                Verdict::Reuse { key } => {
                    prop_assert!(world.records.contains_key(key));
                    prop_assert!(task.part != Part::Forced);
                }
                Verdict::Run { why, .. } => {
                    prop_assert!(task.part != Part::ReuseOnly, "{}", task.label);
                    prop_assert!(task.part != Part::Forced || matches!(why, Reason::Forced | Reason::NotCached(_)));
                }
                Verdict::Depends { on } => {
                    prop_assert!(!on.is_empty() && on.is_sorted_by_key(|task| graph.find(task)));
                    for above in on.iter() {
                        let index = graph.find(above).unwrap();
                        prop_assert!(task.needs.contains(&index));
                        prop_assert!(["run", "depends"].contains(&word(&plan.verdicts[index])));
                    }
                }
                Verdict::Skip => prop_assert!(false, "nothing here has a `when`"),
                Verdict::Unchanged { .. } | Verdict::RollOut { .. } | Verdict::Keep { .. } => {
                    prop_assert!(false, "nothing here is a service");
                }
                Verdict::Fail { .. } => prop_assert!(fails_above || task.part == Part::ReuseOnly),
            }
            prop_assert!(!fails_above || word(verdict) == "fail");
            prop_assert!(needs.iter().all(|need| **need != Verdict::Out), "{} needs what is out", task.label);
            for need in task.needs.iter() {
                prop_assert!(graph.tasks[*need].needed_by.contains(&graph.find(&task.id).unwrap()));
                prop_assert!(graph.tasks[*need].depth > task.depth);
            }
        }
    }
}
