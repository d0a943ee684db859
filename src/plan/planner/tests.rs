use super::*;
use crate::address::Wanted;
use crate::digest::Digest;
use crate::event::Selection;
use crate::plan::OutsideFact;
use crate::plan::show::{detail, json, tree, word};
use crate::plan::testing::{World, context, name, names, read};
use crate::scalar::Scalar;

const IRIS: &str = r#"
version: "2"
name: iris
params: {seed: 7}
stages:
  train: {run: make, params: [seed], outputs: {model: model/}}
  evaluate:
    run: judge
    inputs: {model: train.model, current: {live: serve.model, optional: true}}
    metrics: m.json
  smoke: {run: smoke}
  serve:
    run: serve ${{ inputs.model }}
    inputs: {model: train.model}
    service:
      port: 8000
      replicas: 2
      verify: smoke
      gate:
        - ${{ evaluate.metrics.score >= 0.5 }}
        - ${{ not live or evaluate.metrics.score >= live.evaluate.metrics.score }}
  call: {run: "call ${{ services.serve.url }}"}
"#;

fn iris() -> (Pipeline, World) {
    (read(IRIS), World::default())
}

fn seed(seed: &str) -> KeyContext {
    let mut context = reached();
    context.params.insert(name("seed"), Scalar::plain(seed));
    context
}

/// A context in which services have addresses.
fn reached() -> KeyContext {
    let url = |(service, port)| (name(service), format!("http://127.0.0.1:{port}"));
    let mut context = context();
    context.service_urls = [("serve", 8000), ("store", 8000), ("web", 8001)].map(url).into();
    context
}

/// Every task in the run with its verdict and its reason.
fn told(pipeline: &Pipeline, plan: &Plan, selection: &Selection) -> Vec<String> {
    let graph = Graph::new(pipeline, selection);
    (0..graph.tasks.len())
        .filter(|index| graph.tasks[*index].part != Part::Out)
        .map(|index| {
            let detail = detail(pipeline, &graph, plan, index).unwrap_or_default();
            let label = &graph.tasks[index].label;
            format!("{} {label}: {detail}", word(&plan.verdicts[index]))
        })
        .collect()
}

fn planned(world: &mut World, pipeline: &Pipeline, context: &KeyContext) -> (Plan, Vec<String>) {
    let plan = world.plan(pipeline, context);
    let told = told(pipeline, &plan, &Selection::default());
    (plan, told)
}

#[test]
fn a_first_release_depends_on_what_it_takes() {
    let (pipeline, mut world) = iris();
    let (plan, told) = planned(&mut world, &pipeline, &seed("7"));
    assert_eq!(
        told[2..],
        [
            "depends serve: rolls out if `train.model` changes; gate: 2 expressions; verify: smoke",
            "depends call: runs unless `serve` is kept",
        ]
    );
    assert!(plan.would_run());
}

#[test]
fn after_a_promotion_the_judge_runs_once_more_and_nothing_restarts() {
    let (pipeline, mut world) = iris();
    let better = |_: &TaskId| Some(0.9);
    world.run(&pipeline, &seed("7"), &better);
    let (plan, told) = planned(&mut world, &pipeline, &seed("7"));
    assert_eq!(told[0], "reuse train: ");
    assert!(told[1].starts_with("run evaluate: inputs.current: b3:"), "{told:?}");
    assert_eq!(told[2], "unchanged serve: serve@1");
    assert_eq!(told[3], "run call: not cached: has no outputs, metrics or values");
    assert!(plan.would_run());

    world.run(&pipeline, &seed("7"), &better);
    let (plan, told) = planned(&mut world, &pipeline, &seed("7"));
    assert_eq!(told[..3], ["reuse train: ", "reuse evaluate: ", "unchanged serve: serve@1"]);
    assert!(plan.would_run(), "`call` always runs");

    let quiet = read(&IRIS[..IRIS.find("  call:").unwrap()]);
    assert!(!world.plan(&quiet, &seed("7")).would_run());
}

#[test]
fn a_gate_over_results_that_are_there_is_asked_by_the_plan() {
    let (pipeline, mut world) = iris();
    let score = |seed: &str, score: f64, world: &mut World| {
        let kept = world.live.clone();
        world.run(&pipeline, &self::seed(seed), &move |_| Some(score));
        if !kept.is_empty() {
            world.live = kept;
        }
    };
    score("7", 0.9, &mut world);
    // Both models were judged on this data, and the release was abandoned, say.
    score("8", 0.7, &mut world);
    let (plan, told) = planned(&mut world, &pipeline, &seed("8"));
    assert_eq!(
        told[2..],
        [
            "keep serve: the gate `not live or evaluate.metrics.score >= live.evaluate.metrics.score` is false: \
             evaluate.metrics.score = 0.7, live.evaluate.metrics.score = 0.9",
            "skip call: `serve` is kept",
        ]
    );
    assert!(!plan.would_run());
    score("9", 0.95, &mut world);
    let (plan, told) = planned(&mut world, &pipeline, &seed("9"));
    assert!(told[2].starts_with("rollout serve: inputs.model changed (b3:"), "{told:?}");
    assert!(told[2].ends_with("; gate: holds; verify: smoke"), "{told:?}");
    assert_eq!(told[3], "run call: not cached: has no outputs, metrics or values");
    assert!(plan.would_run());
}

const STORE: &str = r#"
version: "2"
name: store
volumes: {data: {}}
stages:
  store:
    run: store --fast
    volumes: {data: db}
    service: {port: 8000}
  web:
    run: web ${{ services.store.url }}
    service: {port: 8001, listen: 8001, replicas: 3, route: /}
  load: {run: load, needs: [web], outputs: {o: o}, cache: true}
"#;

#[test]
fn what_is_replaced_in_place_is_said() {
    let pipeline = read(STORE);
    let mut world = World::default();
    let (_, told) = planned(&mut world, &pipeline, &reached());
    assert_eq!(
        told,
        [
            "rollout store: first release; replaced in place: it has volumes",
            "rollout web: first release; replaced in place: it insists on its own port (`listen`), so it has one replica",
            "run load: first run of this task",
        ]
    );
    world.run(&pipeline, &reached(), &|_| None);
    let faster =
        read(&STORE.replace("--fast", "--faster").replace("replicas: 3, route: /", "route: /x"));
    let (plan, told) = planned(&mut world, &faster, &reached());
    assert_eq!(
        told,
        [
            "rollout store: command: store --fast → store --faster; replaced in place: it has volumes",
            "unchanged web: web@1, changed in place: replicas: 3 → 1, route: / → /x",
            "reuse load: ",
        ]
    );
    assert!(plan.would_run());
    let moved = read(&STORE.replace("route: /", "route: /x"));
    assert!(world.plan(&moved, &reached()).would_run(), "a route changes");
    assert!(!world.plan(&pipeline, &reached()).would_run());
}

#[test]
fn outside_the_selection_a_service_must_be_live_as_it_is() {
    let pipeline = read(STORE);
    let mut world = World::default();
    let selection = Selection { only: names(&["load"]), ..Selection::default() };
    let plan = world.plan_selected(&pipeline, &reached(), &selection);
    assert_eq!(
        told(&pipeline, &plan, &selection)[..2],
        [
            "fail store: not selected and it would be rolled out (nothing of it is live): run without `--only` and `--from`, or select it too",
            "fail web: it needs `store`, which would fail",
        ]
    );
    world.run(&pipeline, &reached(), &|_| None);
    let plan = world.plan_selected(&pipeline, &reached(), &selection);
    let words = told(&pipeline, &plan, &selection);
    assert_eq!(words, ["unchanged store: store@1", "unchanged web: web@1", "reuse load: "]);
}

#[test]
fn a_service_that_left_the_file_goes() {
    let pipeline = read(STORE);
    let mut world = World::default();
    world.run(&pipeline, &reached(), &|_| None);
    let left = read(&STORE[..STORE.find("  web:").unwrap()]);
    let plan = world.plan(&left, &reached());
    let graph = Graph::new(&left, &Selection::default());
    insta::assert_snapshot!(tree(&left, &graph, &plan, false), @r##"
    unchanged store  store@1

    `web` leaves the file: it will be taken down
    1 unchanged
    "##);
    assert!(plan.would_run());
    let data = json(&left, &graph, &plan);
    assert_eq!(data["leaving"], serde_json::json!(["web"]));
    assert_eq!(
        data["tasks"][0]["service"],
        serde_json::json!({
            "live": 1, "gate": [], "verify": null, "in_place": "it has volumes", "adjust": [],
        })
    );
}

#[test]
fn the_tree_shows_services_beside_stages() {
    let (pipeline, mut world) = iris();
    world.run(&pipeline, &seed("7"), &|_| Some(0.9));
    world.run(&pipeline, &seed("7"), &|_| Some(0.9));
    let served = read(&IRIS.replace("run: serve", "run: serve -v"));
    let graph = Graph::new(&served, &Selection::default());
    let plan = world.plan(&served, &seed("7"));
    insta::assert_snapshot!(tree(&served, &graph, &plan, false), @r##"
    reuse    train
    reuse      evaluate
    rollout      serve   command: serve ${{ inputs.model }} → serve -v ${{ inputs.model }}; gate: holds; verify: smoke
    run            call  not cached: has no outputs, metrics or values

    2 to reuse, 1 to run, 1 to roll out
    "##);
}

#[test]
fn an_error_of_a_services_texts_is_a_failure_of_the_plan() {
    let (_, mut world) = iris();
    let wrong = read(&IRIS.replace("${{ inputs.model }}", "${{ inputs.model | upper }}"));
    world.run(&wrong, &seed("7"), &|_| Some(0.9));
    let (_, told) = planned(&mut world, &wrong, &seed("7"));
    assert!(
        told[2].starts_with(
            "fail serve: `${{ inputs.model | upper }}`: changes a value that is known"
        ),
        "{told:?}"
    );
    assert_eq!(told[3], "fail call: it needs `serve`, which would fail");
}

#[test]
fn an_input_that_has_to_be_fetched_decides() {
    let url = "file:///srv/data.csv";
    let text = format!(
        "version: '2'\nname: a\nstages:\n  get: {{run: x, inputs: {{data: {{url: '{url}'}}}}, outputs: {{o: o}}}}\n  \
         use: {{run: y, inputs: {{o: get.o}}, outputs: {{p: p}}}}\n  other: {{run: z, outputs: {{q: q}}}}\n"
    );
    let (pipeline, context) = (read(&text), context());
    let id = Wanted { address: url.parse().unwrap(), expected: None, token: None }.id();
    let mut world = World::default();
    let why = |plan: &Plan| match &plan.verdicts[0] {
        Verdict::Run { key: None, why } => crate::plan::why::words(why),
        other => panic!("{other:?}"),
    };
    let plan = world.plan(&pipeline, &context);
    assert_eq!(why(&plan), "its input `data` has to be fetched");
    assert!(matches!(plan.verdicts[1], Verdict::Depends { .. }));
    world.outside.insert(id, OutsideFact::Fetched(Digest::of(b"one")));
    world.run(&pipeline, &context, &|_| None);
    let reused = |plan: &Plan| plan.counts().reuse;
    assert_eq!(reused(&world.plan(&pipeline, &context)), 3);
    world.outside.insert(id, OutsideFact::Changed);
    let plan = world.plan(&pipeline, &context);
    assert_eq!(why(&plan), "its input `data` changed at its source");
    assert_eq!(reused(&plan), 1);
    let only = Selection { only: ["use".parse().unwrap()].into(), ..Selection::default() };
    let plan = world.plan_selected(&pipeline, &context, &only);
    assert!(matches!(plan.verdicts[0], Verdict::Fail { .. }), "{plan:?}");
    world.outside.insert(id, OutsideFact::Fetched(Digest::of(b"two")));
    let plan = world.plan(&pipeline, &context);
    let Verdict::Run { key: Some(_), why } = &plan.verdicts[0] else { panic!("{plan:?}") };
    assert!(crate::plan::why::words(why).starts_with("inputs.data changed (b3:"));
}
