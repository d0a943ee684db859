//! Two homes, as of two machines, with one store between them.

use serde_json::Value;

use crate::colleagues::Colleagues;

/// What `train` makes is the report too.
const REPORT: &str = r#"  report:
    run: cat "$FLOWRUN_INPUT_MODEL" > report.txt
    files: []
    inputs: {model: train.model}
    outputs: {report: report.txt}
"#;

fn team() -> Colleagues {
    Colleagues::new(REPORT, None)
}

/// Lets `to` see the runs of `from`, as a database between both would.
fn share_state(team: &Colleagues, from: &str, to: &str) {
    fs_err::create_dir_all(team.home(to)).unwrap();
    let state = |who: &str| team.home(who).join("state.db");
    fs_err::os::unix::fs::symlink(state(from), state(to)).unwrap();
}

#[test]
fn a_colleague_gets_finished_stages_and_is_told_from_whom() {
    let team = team();
    team.open_gate();
    team.run("ann", &["apply"]).success();
    let run = team.json("ann", &["status", "latest"])["run"].as_str().unwrap().to_owned();

    let plan = team.run("bob", &["plan"]).success().stdout;
    assert!(plan.contains(&format!("from run {run} by ann@")), "{plan}");
    assert!(plan.contains("results come from the store at "), "{plan}");
    let plan = team.json("bob", &["plan"]);
    assert_eq!(plan["counts"]["reuse"], 3);
    assert_eq!(plan["tasks"][0]["from"]["run"], run.as_str());
    assert!(plan["tasks"][0]["from"]["on"].as_str().unwrap().starts_with("ann@"));
    assert!(plan["tasks"][0]["from"]["at"].as_u64().unwrap() > 0);

    let applied = team.run("bob", &["apply"]).success();
    assert_eq!(team.states("bob"), ["prepare reused", "train reused", "report reused"]);
    assert!(applied.stderr.contains(&format!("from run {run} by ann@")), "{}", applied.stderr);
    assert!(applied.stderr.contains("did not have to move"), "{}", applied.stderr);
    let why = team.run("bob", &["why", "latest", "train"]).success().stdout;
    assert!(why.contains("by ann@"), "{why}");

    let status = team.json("bob", &["status", "latest"]);
    assert_eq!(status["tasks"][0]["bytes"]["spared"], 588_895);
    assert_eq!(status["bytes"]["sent"], 0);
    let shown = team.run("bob", &["status", "latest"]).success().stdout;
    assert!(shown.contains("reused") && shown.contains("by ann@"), "{shown}");
}

#[test]
fn a_home_of_its_own_says_nothing_of_others() {
    let team = team();
    team.open_gate();
    team.place.run(&["apply"]).success();
    let again = team.place.run(&["apply"]).success();
    assert!(!again.stderr.contains("did not have to move"), "{}", again.stderr);
    let plan = team.place.run(&["plan"]).success().stdout;
    assert!(!plan.contains("results come from"), "{plan}");
    assert_eq!(team.place.json(&["plan", "-o", "json"])["store"], Value::Null);
    assert_eq!(team.place.store_files("record").len(), 3, "the code is not kept as an artifact");
}

#[test]
fn code_and_definition_are_kept_once_per_tree() {
    let team = team();
    team.open_gate();
    team.run("ann", &["apply"]).success();
    let trees = |team: &Colleagues| {
        walkdir::WalkDir::new(team.place.outside("bucket").join("tree"))
            .into_iter()
            .filter(|entry| entry.as_ref().unwrap().file_type().is_file())
            .count()
    };
    let before = trees(&team);
    assert_eq!(before, 4, "data, a model that is the report too, the code and the definition");
    team.run("bob", &["apply"]).success();
    assert_eq!(trees(&team), before, "the second run of the same code stores nothing");
    team.place.write("words.txt", "one two three\n");
    team.run("bob", &["apply"]).success();
    assert_eq!(trees(&team), before + 2, "new code, and a new model that is the report too");
}

#[test]
fn a_run_goes_on_in_another_home_without_the_repo() {
    let team = team();
    let mut child = team.command("ann", &["apply"]).spawn().unwrap();
    team.await_running("ann");
    share_state(&team, "ann", "bob");
    team.await_running("bob");
    child.kill().unwrap();
    child.wait().unwrap();
    fs_err::remove_dir_all(team.place.folder().join(".git")).unwrap();
    for name in ["words.txt", "pipeline.yaml"] {
        fs_err::remove_file(team.place.folder().join(name)).unwrap();
    }
    team.open_gate();

    team.run("bob", &["resume", "latest"]).success();
    assert_eq!(team.states("bob"), ["prepare done", "train done", "report done"]);
    let status = team.json("bob", &["status", "latest"]);
    assert_eq!(status["tasks"][1]["attempts"], 2, "the first one was lost with its home");
    let target = team.place.outside("report");
    team.run("bob", &["store", "get", "report.report", target.to_str().unwrap()]).success();
    assert_eq!(fs_err::read_to_string(target).unwrap(), "100000\none two\n");
    // Both homes tell the same of it.
    assert_eq!(team.states("ann"), team.states("bob"));
    for who in ["ann", "bob"] {
        team.run(who, &["why", "latest", "train"]).success();
        team.run(who, &["runs"]).success();
    }
    let logs = team.run("ann", &["logs", "latest", "train"]);
    assert!(logs.stderr.contains("its log lies there"), "{}", logs.stderr);
    team.run("bob", &["logs", "latest", "train"]).success();
}

#[test]
fn bytes_are_held_by_runs_and_results_until_these_go() {
    let team = team();
    team.open_gate();
    team.run("ann", &["apply"]).success();
    team.run("bob", &["apply"]).success();
    let run = |who: &str| team.json(who, &["status", "latest"])["run"].as_str().unwrap().to_owned();
    let (ann, bob) = (run("ann"), run("bob"));
    let held = team.json("bob", &["store", "ls", "prepare.data", "--holders"]);
    let artifact = &held["artifacts"][0];
    assert_eq!(artifact["runs"], serde_json::json!([ann, bob]));
    assert_eq!(artifact["records"][0]["made_by"], ann.as_str());
    assert_eq!(artifact["records"][0]["output"], "data");
    let shown = team.run("bob", &["store", "ls", "prepare.data", "--holders"]).success().stdout;
    assert!(shown.contains(&format!("pinned by run {bob} of shared")), "{shown}");
    assert!(
        shown.contains(&format!("pinned by run {ann} that this state does not know")),
        "{shown}"
    );
    assert!(shown.contains("by ann@"), "{shown}");

    // A file is found in every artifact that has it: `words.txt` is a part of the code.
    let words = team.json("bob", &["store", "ls", "--all"]);
    let tree = words["records"]
        .as_array()
        .unwrap()
        .iter()
        .find_map(|one| one["outputs"]["tree"].as_str().map(str::to_owned));
    let entries = team.json("bob", &["store", "ls", &tree.unwrap()]);
    let file = entries["entries"].as_array().unwrap().iter().find(|one| one["path"] == "words.txt");
    let digest = file.unwrap()["kind"]["file"]["digest"].as_str().unwrap().to_owned();
    let held = team.json("bob", &["store", "ls", &digest, "--holders"]);
    assert_eq!(held["artifacts"][0]["paths"], serde_json::json!(["words.txt"]));
    assert_eq!(held["artifacts"][0]["runs"], serde_json::json!([ann, bob]));

    let unknown = team.run("bob", &["store", "ls", "b3:0000000000000000", "--holders"]);
    assert_eq!(unknown.code, 2, "{}", unknown.stderr);
    assert!(unknown.stderr.contains("nothing in the store holds"), "{}", unknown.stderr);
}

#[test]
fn a_key_that_a_colleague_computes_is_waited_for_also_when_the_colleague_dies() {
    let team = team();
    let start = |who: &str| {
        team.command(who, &["apply"]).stderr(std::process::Stdio::piped()).spawn().unwrap()
    };
    let mut ann = start("ann");
    team.await_running("ann");
    let mut bob = start("bob");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(bob.stderr.take().unwrap()));
    let told = lines.find(|line| line.as_ref().unwrap().contains("computes the same"));
    let told = told.unwrap().unwrap();
    assert!(told.contains("train waits: run ") && told.contains(" of ann@"), "{told}");
    ann.kill().unwrap();
    ann.wait().unwrap();
    team.open_gate();
    for line in lines {
        line.unwrap();
    }
    assert!(bob.wait().unwrap().success());
    assert_eq!(team.states("bob"), ["prepare reused", "train done", "report done"]);
}
