use super::*;
use crate::event::Selection;
use crate::names::TaskId;
use crate::plan::testing::{World, context, name, names, pipeline, stage};
use crate::plan::{Graph, KeyContext};
use crate::scalar::Scalar;

fn shown() -> (Pipeline, Graph, Plan) {
    let pipeline = pipeline([
        stage("prepare"),
        stage("train")
            .takes(&["prepare"])
            .matrix(&[("trees", &["50", "100"])])
            .pick_max("score")
            .with(|stage| stage.params = vec![name("seed")]),
        stage("evaluate").takes(&["train"]),
        stage("log").needs(&["evaluate"]).without_outputs(),
    ]);
    let with_seed = |seed: &str| -> KeyContext {
        let mut context = context();
        context.params.insert(name("seed"), Scalar::plain(seed));
        context
    };
    let mut world = World::default();
    world.run(&pipeline, &with_seed("7"), &|task: &TaskId| Some(f64::from(task.copy)));
    let selection = Selection::default();
    let plan = world.plan_selected(&pipeline, &with_seed("8"), &selection);
    let graph = Graph::new(&pipeline, &selection);
    (pipeline, graph, plan)
}

#[test]
fn the_tree_shows_verdicts_reasons_and_counts() {
    let (pipeline, graph, plan) = shown();
    insta::assert_snapshot!(tree(&pipeline, &graph, &plan, false), @r##"
    reuse    prepare
    run        train[trees=50]   params.seed: 7 → 8
    run        train[trees=100]  params.seed: 7 → 8
    depends      evaluate        runs if `train.out` changes
    run            log           not cached: has no outputs, metrics or values

    1 to reuse, 3 to run, 1 depends
    "##);
    let coloured = tree(&pipeline, &graph, &plan, true);
    assert!(coloured.contains("\u{1b}[32mrun     \u{1b}[0m"), "{coloured:?}");
}

#[test]
fn many_alike_copies_stand_on_one_line() {
    let copies: Vec<String> = (1..=100).map(|number| number.to_string()).collect();
    let copies: Vec<&str> = copies.iter().map(String::as_str).collect();
    let pipeline = pipeline([stage("train").matrix(&[("n", &copies)])]);
    let plan = World::default().plan(&pipeline, &context());
    let graph = Graph::new(&pipeline, &Selection::default());
    insta::assert_snapshot!(tree(&pipeline, &graph, &plan, false), @r##"
    run      train[n=1] … train[n=100] (100 copies)  first run of this task

    100 to run
    "##);
}

#[test]
fn what_is_not_selected_is_only_counted() {
    let hook = stage("alert").with(|stage| stage.outside_dag = true);
    let pipeline = pipeline([stage("one"), stage("two"), hook]);
    let selection = Selection { only: names(&["two"]), ..Selection::default() };
    let plan = World::default().plan_selected(&pipeline, &context(), &selection);
    let graph = Graph::new(&pipeline, &selection);
    insta::assert_snapshot!(tree(&pipeline, &graph, &plan, false), @r##"
    run      two  first run of this task

    1 to run, 1 not in this run
    "##);
}

#[test]
fn pictures_have_boxes_and_arrows() {
    let (pipeline, graph, plan) = shown();
    insta::assert_snapshot!(dot(&pipeline, &graph, &plan), @r##"
    digraph "test" {
      rankdir=LR;
      node [shape=box, style="rounded,filled", fontname="sans-serif"];
      t1 [label="prepare\nreuse", fillcolor="#e0e0e0", tooltip="reuse"];
      t2 [label="train[trees=50]\nrun", fillcolor="#b7e1a1", tooltip="params.seed: 7 → 8"];
      t3 [label="train[trees=100]\nrun", fillcolor="#b7e1a1", tooltip="params.seed: 7 → 8"];
      t4 [label="evaluate\ndepends", fillcolor="#a8dadc", tooltip="runs if `train.out` changes"];
      t5 [label="log\nrun", fillcolor="#b7e1a1", tooltip="not cached: has no outputs, metrics or values"];
      t1 -> t2;
      t1 -> t3;
      t2 -> t4;
      t3 -> t4;
      t4 -> t5;
    }
    "##);
    insta::assert_snapshot!(mermaid(&pipeline, &graph, &plan), @r##"
    flowchart LR
      t1["prepare<br/>reuse"]
      t2["train[trees=50]<br/>run"]
      t3["train[trees=100]<br/>run"]
      t4["evaluate<br/>depends"]
      t5["log<br/>run"]
      t1 --> t2
      t1 --> t3
      t2 --> t4
      t3 --> t4
      t4 --> t5
      style t1 fill:#e0e0e0,color:#000
      style t2 fill:#b7e1a1,color:#000
      style t3 fill:#b7e1a1,color:#000
      style t4 fill:#a8dadc,color:#000
      style t5 fill:#b7e1a1,color:#000
    "##);
}

#[test]
fn texts_cannot_move_the_cursor() {
    let pipeline = pipeline([stage("train").matrix(&[("n", &["a\u{1b}[2J\nb"])])]);
    let plan = World::default().plan(&pipeline, &context());
    let graph = Graph::new(&pipeline, &Selection::default());
    let tree = tree(&pipeline, &graph, &plan, false);
    assert!(tree.starts_with("run      train[n=a␛[2J␊b]  first"), "{tree}");
}

#[test]
fn texts_cannot_break_out_of_a_picture() {
    let pipeline = pipeline([stage("train").matrix(&[("n", &["a\"]<b>", "\\"])])]);
    let plan = World::default().plan(&pipeline, &context());
    let graph = Graph::new(&pipeline, &Selection::default());
    assert!(dot(&pipeline, &graph, &plan).contains(r#"train[n=a\"]<b>]\nrun"#));
    assert!(dot(&pipeline, &graph, &plan).contains(r"train[n=\\]\nrun"));
    assert!(mermaid(&pipeline, &graph, &plan).contains("train[n=a#quot;]&lt;b&gt;]<br/>run"));
}

#[test]
fn data_holds_what_the_tree_says() {
    let (pipeline, graph, plan) = shown();
    let data = json(&pipeline, &graph, &plan);
    assert_eq!(data["counts"]["run"], 3);
    assert_eq!(data["tasks"][0]["verdict"], "reuse");
    assert!(data["tasks"][0]["key"].as_str().is_some_and(|key| key.starts_with("b3:")));
    let train = &data["tasks"][2];
    assert_eq!(train["task"], "train[trees=100]");
    assert_eq!(train["matrix"]["trees"], 100);
    assert_eq!(train["reason"]["changed"][0]["field"], "params.seed");
    assert_eq!(train["detail"], "params.seed: 7 → 8");
    assert_eq!(data["tasks"][3]["on"][0]["stage"], "train");
    assert_eq!(data["tasks"][3]["needs"][0], "train");
}
