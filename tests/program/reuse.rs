//! What runs again and what does not, and that flowrun says why.

use crate::place::Place;

const PIPELINE: &str = r#"
version: "2"
name: small
params: {seed: 7, other: 1}
stages:
  prepare:
    run: cat words.txt > data.txt; echo "$FLOWRUN_PARAMS" >> data.txt
    files: [words.txt]
    params: [seed]
    outputs: {data: data.txt}
  train:
    run: [sh, train.sh, "${{ params.other }}"]
    files: [train.sh]
    inputs: {data: prepare.data}
    outputs: {model: model/}
    metrics: metrics.json
    timeout: 5m
  evaluate:
    run: cat "$FLOWRUN_INPUT_MODEL/weights" > report.txt
    files: []
    inputs: {model: train.model}
    outputs: {report: report.txt}
"#;

fn small() -> Place {
    let place = Place::repo();
    place.write("pipeline.yaml", PIPELINE);
    place.write("words.txt", "one two three\n");
    place.write(
        "train.sh",
        "mkdir -p model\nwc -w < \"$FLOWRUN_INPUT_DATA\" > model/weights\necho '{\"words\": 3}' > metrics.json\n",
    );
    place.commit("first");
    place
}

#[test]
fn the_second_apply_reuses_everything_and_says_so() {
    let place = small();
    place.run(&["apply"]).success();
    assert_eq!(place.states(), ["prepare done", "train done", "evaluate done"]);
    let again = place.run(&["apply"]).success();
    assert_eq!(place.states(), ["prepare reused", "train reused", "evaluate reused"]);
    assert!(again.stderr.contains("3 reused"), "{}", again.stderr);
    assert_eq!(place.run(&["plan", "--exit-code"]).code, 0);
}

#[test]
fn a_changed_parameter_runs_what_depends_on_it_and_names_it() {
    let place = small();
    place.run(&["apply"]).success();
    let plan = place.run(&["plan", "--param", "other=2", "--exit-code"]);
    assert_eq!(plan.code, 10);
    assert!(
        plan.stdout.contains("params.other") && plan.stdout.contains("1 → 2"),
        "{}",
        plan.stdout
    );

    place.run(&["apply", "--param", "other=2"]).success();
    // `evaluate` gets the same model from the new training: early cut-off.
    assert_eq!(place.states(), ["prepare reused", "train done", "evaluate reused"]);
    let why = place.run(&["why", "latest", "train"]).success();
    assert!(why.stdout.contains("1 → 2"), "{}", why.stdout);

    place.run(&["apply", "--param", "seed=8"]).success();
    // The old value of `other` has its record, but the data are new.
    assert_eq!(place.states(), ["prepare done", "train done", "evaluate reused"]);
}

#[test]
fn what_no_stage_sees_runs_nothing() {
    let place = small();
    place.run(&["apply"]).success();
    place.write("README.md", "unrelated\n");
    place.commit("unrelated");
    place.run(&["apply"]).success();
    assert_eq!(place.states(), ["prepare reused", "train reused", "evaluate reused"]);

    place.write("pipeline.yaml", &PIPELINE.replace("timeout: 5m", "timeout: 9m\n    retries: 2"));
    place.run(&["apply"]).success();
    assert_eq!(place.states(), ["prepare reused", "train reused", "evaluate reused"]);
}

#[test]
fn a_changed_file_runs_the_stage_that_sees_it() {
    let place = small();
    place.run(&["apply"]).success();
    place.write("words.txt", "one two three four\n");
    place.run(&["apply"]).success();
    assert_eq!(place.states(), ["prepare done", "train done", "evaluate done"]);
    let why = place.run(&["why", "latest", "prepare"]).success();
    assert!(why.stdout.contains("file"), "{}", why.stdout);
    let why = place.run(&["why", "latest", "train"]).success();
    assert!(why.stdout.contains("inputs.data"), "{}", why.stdout);
}

#[test]
fn a_stage_sees_only_its_files_and_params() {
    let place = small();
    place.write(
        "pipeline.yaml",
        &PIPELINE.replace(
            "run: cat words.txt > data.txt",
            "run: ls; test ! -e train.sh; cat words.txt > data.txt",
        ),
    );
    place.run(&["apply"]).success();
    let log = place.run(&["logs", "latest", "prepare"]).success();
    assert_eq!(log.stdout.trim(), "words.txt");
    // `other` is not named by `prepare`.
    let data = place.output("prepare", "data");
    assert!(data.contains(r#"{"seed":7}"#), "{data}");
}

#[test]
fn a_file_that_is_not_there_is_said_before_the_stage_misses_it() {
    let place = small();
    place.write(
        "pipeline.yaml",
        &PIPELINE.replace("files: [words.txt]", "files: [words.txt, wrods.txt, \"lib/**\"]"),
    );
    let plan = place.run(&["plan"]).success();
    for glob in ["`wrods.txt`", "`lib/**`"] {
        assert!(plan.stderr.contains(glob), "{}", plan.stderr);
    }
    assert!(!plan.stderr.contains("`words.txt`"), "{}", plan.stderr);
}

#[test]
fn force_only_from_and_until_choose_stages() {
    let place = small();
    place.run(&["apply"]).success();
    place.run(&["apply", "--force", "train"]).success();
    assert_eq!(place.states(), ["prepare reused", "train done", "evaluate reused"]);
    place.run(&["apply", "--only", "train"]).success();
    assert_eq!(place.states()[1], "train reused");
    place.run(&["apply", "--from", "train"]).success();
    assert_eq!(place.states()[..2], ["prepare reused", "train done"]);
    place.run(&["apply", "--until", "train", "--param", "seed=9"]).success();
    assert_eq!(place.states()[..2], ["prepare done", "train done"]);
    assert!(!place.states()[2].ends_with("done"));

    let missing = place.run(&["apply", "--only", "train", "--param", "seed=10"]);
    assert_eq!(missing.code, 4);
    assert!(missing.stderr.contains("prepare"), "{}", missing.stderr);
    let unknown = place.run(&["apply", "--only", "trian"]);
    assert_eq!(unknown.code, 2);
    assert!(unknown.stderr.contains("did you mean `train`"), "{}", unknown.stderr);
}

#[test]
fn cache_can_be_off_only_or_young() {
    let place = Place::repo();
    let text = |cache: &str| {
        format!(
            "version: \"2\"\nname: cached\nstages:\n  one:\n    run: date +%N > o\n    files: []\n    outputs: {{o: o}}\n    cache: {cache}\n"
        )
    };
    place.write("pipeline.yaml", &text("only"));
    place.commit("first");
    let miss = place.run(&["apply"]);
    assert_eq!(miss.code, 4, "{}", miss.stderr);
    place.write("pipeline.yaml", &text("24h"));
    place.run(&["apply"]).success();
    place.run(&["apply"]).success();
    assert_eq!(place.states(), ["one reused"]);
    place.write("pipeline.yaml", &text("only"));
    place.run(&["apply"]).success();
    assert_eq!(place.states(), ["one reused"]);
    place.write("pipeline.yaml", &text("false"));
    place.run(&["apply"]).success();
    assert_eq!(place.states(), ["one done"]);
}

#[test]
fn a_record_whose_artifact_is_gone_is_a_miss_with_that_reason() {
    let place = small();
    place.run(&["apply"]).success();
    for blob in place.store_files("blob") {
        if fs_err::read_to_string(&blob).is_ok_and(|text| text.trim() == "4") {
            fs_err::remove_file(&blob).unwrap();
        }
    }
    place.run(&["apply"]).success();
    assert_eq!(place.states()[..2], ["prepare reused", "train done"]);
    let why = place.run(&["why", "latest", "train"]).success();
    assert!(why.stdout.contains("b3:"), "{}", why.stdout);
}

#[test]
fn copies_run_side_by_side_and_the_best_goes_on() {
    let place = Place::repo();
    place.write(
        "pipeline.yaml",
        r#"
version: "2"
name: best
stages:
  train:
    run: [sh, -c, 'echo "$1" > model; echo "{\"score\": $2}" > metrics.json', x, "${{ matrix.size }}", "0.${{ matrix.size }}"]
    files: []
    matrix: {size: [50, 90, 70]}
    pick: {max: score}
    outputs: {model: model}
    metrics: metrics.json
  report:
    run: cat "$FLOWRUN_INPUT_MODEL"; echo "score ${{ train.metrics.score }}"
    files: []
    inputs: {model: train.model}
  only_if_bad:
    run: echo never
    when: ${{ train.metrics.score < 0.5 }}
  after:
    run: echo never
    needs: [only_if_bad]
"#,
    );
    place.commit("first");
    place.run(&["apply"]).success();
    assert_eq!(
        place.states(),
        [
            "train[size=50] done",
            "train[size=90] done",
            "train[size=70] done",
            "report done",
            "only_if_bad skipped",
            "after skipped"
        ]
    );
    let why = place.run(&["why", "only_if_bad"]).success();
    assert!(why.stdout.contains("train.metrics.score < 0.5"), "{}", why.stdout);
    let log = place.run(&["logs", "latest", "report"]).success();
    assert_eq!(log.stdout, "90\nscore 0.9\n");
}
