use std::collections::BTreeMap;

use super::*;
use crate::plan::resolve_selection;
use crate::plan::testing::{Draft, name, names, pipeline, stage, task_id};

fn diamond() -> Pipeline {
    pipeline([
        stage("join").takes(&["left", "right"]),
        stage("left").takes(&["top"]),
        stage("right").takes(&["top"]),
        stage("top"),
        stage("after").takes(&["join"]),
        stage("alone"),
    ])
}

fn parts(pipeline: &Pipeline, selection: &Selection) -> BTreeMap<String, Part> {
    Graph::new(pipeline, selection).tasks.into_iter().map(|task| (task.label, task.part)).collect()
}

/// `wanted`, `forced` and `reuse` by name; all others are out.
fn assert_parts(
    pipeline: &Pipeline,
    selection: &Selection,
    wanted: &[&str],
    forced: &[&str],
    reuse: &[&str],
) {
    for (label, part) in parts(pipeline, selection) {
        let label = label.as_str();
        let expected = if forced.contains(&label) {
            Part::Forced
        } else if wanted.contains(&label) {
            Part::Wanted
        } else if reuse.contains(&label) {
            Part::ReuseOnly
        } else {
            Part::Out
        };
        assert_eq!(part, expected, "{label} with {selection:?}");
    }
}

#[test]
fn copies_stand_in_matrix_order_and_numbers_in_file_order() {
    let pipeline = pipeline([
        stage("a").takes(&["train"]),
        stage("train").matrix(&[("trees", &["50", "100"]), ("depth", &["1", "3", "1.10"])]),
        stage("z"),
    ]);
    let graph = Graph::new(&pipeline, &Selection::default());
    let labels: Vec<&str> = graph.tasks.iter().map(|task| task.label.as_str()).collect();
    assert_eq!(
        labels,
        [
            "a",
            "train[trees=50,depth=1]",
            "train[trees=50,depth=3]",
            "train[trees=50,depth=1.10]",
            "train[trees=100,depth=1]",
            "train[trees=100,depth=3]",
            "train[trees=100,depth=1.10]",
            "z"
        ]
    );
    assert_eq!(graph.copies(&name("train")), 1..7);
    assert_eq!(graph.copies(&name("nothing")).len(), 0);
    assert_eq!(graph.find(&task_id("train", 1)), Some(1));
    assert_eq!(graph.find(&task_id("train", 6)), Some(6));
    for absent in [task_id("train", 0), task_id("train", 7), task_id("nothing", 1)] {
        assert_eq!(graph.find(&absent), None);
    }
    assert_eq!(*graph.tasks[0].needs, [1, 2, 3, 4, 5, 6], "all copies");
    assert_eq!(*graph.tasks[3].needed_by, [0]);
    assert!(Arc::ptr_eq(&graph.tasks[1].needed_by, &graph.tasks[2].needed_by));
}

#[test]
fn depth_is_the_longest_remaining_path_within_the_run() {
    let graph = Graph::new(&diamond(), &Selection::default());
    let depth = |graph: &Graph, stage: &str| graph.tasks[graph.copies(&name(stage)).start].depth;
    for (stage, expected) in [("top", 4), ("left", 3), ("join", 2), ("after", 1), ("alone", 1)] {
        assert_eq!(depth(&graph, stage), expected, "{stage}");
    }
    let until = Selection { until: names(&["left"]), ..Selection::default() };
    assert_eq!(depth(&Graph::new(&diamond(), &until), "top"), 2);
}

#[test]
fn only_wants_itself_and_reuses_what_it_needs() {
    let selection = Selection { only: names(&["join"]), ..Selection::default() };
    assert_parts(&diamond(), &selection, &["join"], &[], &["left", "right", "top"]);
}

#[test]
fn from_runs_again_and_wants_what_depends_on_it() {
    let selection = Selection { from: names(&["left"]), ..Selection::default() };
    assert_parts(&diamond(), &selection, &["join", "after"], &["left"], &["right", "top"]);
}

#[test]
fn until_wants_all_that_is_needed() {
    let selection = Selection { until: names(&["join"]), ..Selection::default() };
    assert_parts(&diamond(), &selection, &["join", "left", "right", "top"], &[], &[]);
}

#[test]
fn force_deselects_nothing_and_is_wanted_in_any_case() {
    let all = ["join", "left", "right", "after", "alone"];
    let selection = Selection { force: names(&["top"]), ..Selection::default() };
    assert_parts(&diamond(), &selection, &all, &["top"], &[]);
    let selection =
        Selection { only: names(&["join"]), force: names(&["top"]), ..Selection::default() };
    assert_parts(&diamond(), &selection, &["join"], &["top"], &["left", "right"]);
}

#[test]
fn from_and_until_meet() {
    let selection =
        Selection { from: names(&["left"]), until: names(&["join"]), ..Selection::default() };
    assert_parts(&diamond(), &selection, &["join"], &["left"], &["right", "top"]);
    let apart =
        Selection { from: names(&["after"]), until: names(&["top"]), ..Selection::default() };
    assert_parts(&diamond(), &apart, &[], &[], &[]);
}

#[test]
fn what_gives_nothing_is_not_waited_for_unless_selected() {
    let pipeline = pipeline([
        stage("prepare"),
        stage("lint").without_outputs().needs(&["prepare"]),
        stage("train").needs(&["lint"]),
    ]);
    let only = Selection { only: names(&["train"]), ..Selection::default() };
    assert_parts(&pipeline, &only, &["train"], &[], &[]);
    let graph = Graph::new(&pipeline, &only);
    assert!(graph.tasks[2].needs.is_empty());
    assert!(Graph::new(&pipeline, &Selection::default()).tasks[1].needed_by.contains(&2));
}

#[test]
fn hooks_are_out_and_nobody_waits_for_them() {
    let mut pipeline = pipeline([
        stage("train"),
        stage("alert").needs(&["train"]).with(|stage| stage.outside_dag = true),
        stage("tidy").with(|stage| stage.outside_dag = true),
    ]);
    pipeline.on_failure = Some(name("alert"));
    pipeline.on_exit = Some(name("tidy"));
    let graph = Graph::new(&pipeline, &Selection::default());
    assert_eq!((graph.on_failure, graph.on_exit), (Some(1), Some(2)));
    assert_parts(&pipeline, &Selection::default(), &["train"], &[], &[]);
    assert!(graph.tasks[0].needed_by.is_empty());
    assert_eq!(*graph.tasks[1].needs, [0]);
    assert_eq!(graph.tasks[0].depth, 1);
    let from = Selection { from: names(&["train"]), ..Selection::default() };
    assert_parts(&pipeline, &from, &[], &["train"], &[]);
}

#[test]
fn selections_name_stages_that_are_there() {
    let mut pipeline = diamond();
    pipeline.stages.extend([stage("alert")].map(|Draft(mut stage)| {
        stage.outside_dag = true;
        (stage.name.clone(), stage)
    }));
    pipeline.on_failure = Some(name("alert"));
    let ask = |text: &str| resolve_selection(&pipeline, &[text.to_owned()], &[], &[], &[]);
    assert_eq!(ask("join").map(|selection| selection.only), Ok(names(&["join"])));
    let message = |text: &str| {
        let error = ask(text).unwrap_err();
        format!("{error}: {}", error.help(&pipeline))
    };
    insta::assert_snapshot!(
        ["jion", "zzzzzz", "join[trees=100]", "jion[trees=100]", "alert"].map(message).join("\n"),
        @r#"
    there is no stage `jion`: did you mean `join`?
    there is no stage `zzzzzz`: use one of `join`, `left`, `right`, `top`, `after` and `alone`
    `join[trees=100]` is one copy of a stage: name `join`, which means all its copies
    there is no stage `jion[trees=100]`: did you mean `join`?
    stage `alert` is called by `on_failure` and cannot be selected: use one of `join`, `left`, `right`, `top`, `after` and `alone`
    "#
    );
}

#[test]
fn dense_edges_are_shared() {
    let copies: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
    let copies: Vec<&str> = copies.iter().map(String::as_str).collect();
    let pipeline = pipeline([
        stage("one").matrix(&[("n", &copies)]),
        stage("two").matrix(&[("n", &copies)]).needs(&["one"]),
    ]);
    let graph = Graph::new(&pipeline, &Selection::default());
    assert_eq!(graph.tasks[1999].needs.len(), 1000);
    assert!(Arc::ptr_eq(&graph.tasks[1000].needs, &graph.tasks[1999].needs));
}

#[test]
fn a_service_knows_the_task_that_verifies_it() {
    let pipeline = crate::plan::testing::read(
        "version: '2'\nname: p\nstages:\n  train: {run: make, outputs: {m: m}, matrix: {n: [1, 2]}}\n  data: {run: make, outputs: {d: d}}\n  \
         smoke: {run: smoke, inputs: {d: data.d}}\n  serve: {run: serve, needs: [train], service: {port: 8000, verify: smoke}}\n  \
         other: {run: serve, service: {port: 8001}}\n",
    );
    let graph = Graph::new(&pipeline, &Selection::default());
    let task = |stage: &str| graph.copies(&name(stage)).start;
    assert_eq!(graph.verify_of(task("serve")), Some(task("smoke")));
    assert_eq!(graph.verify_of(task("other")), None);
    assert_eq!(graph.verify_of(task("train")), None);
    assert_eq!(graph.tasks[task("smoke")].part, Part::Out);
    assert!(graph.tasks[task("smoke")].needed_by.is_empty());
    assert!(graph.tasks[task("serve")].needs.contains(&task("data")), "what its verify needs");
    assert_eq!(*graph.tasks[task("data")].needed_by, [task("serve")]);
}
