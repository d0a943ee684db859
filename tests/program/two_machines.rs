//! Two machines on one bucket, with and without one Postgres: what one has done the other need not do, and what one leaves the other goes on with.

use std::path::Path;

use serde_json::Value;

use crate::team::{Machine, Shared, Team, await_that};

/// Bytes of the large output, which only `prepare` needs to have.
const LARGE: u64 = 3 << 20;

/// Every start of a command is written to a ledger outside of flowrun's reach; `train` waits at a gate.
fn pipeline(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        r#"
version: "2"
name: team
defaults:
  env: {{LEDGER: {folder}/ledger, GATE: {folder}/gate}}
stages:
  prepare:
    run: |
      echo "prepare" >> "$LEDGER"
      head -c {LARGE} /dev/urandom > large.bin
      seq 1000 > small.txt
    files: []
    outputs: {{large: large.bin, small: small.txt}}
  train:
    run: |
      echo "train" >> "$LEDGER"
      while [ ! -e "$GATE" ]; do sleep 0.05; done
      wc -l < "$FLOWRUN_INPUT_SMALL" > model.txt
    files: []
    inputs: {{small: prepare.small}}
    outputs: {{model: model.txt}}
  report:
    run: |
      echo "report" >> "$LEDGER"
      cat "$FLOWRUN_INPUT_MODEL" words.txt > report.txt
    files: [words.txt]
    inputs: {{model: train.model}}
    outputs: {{report: report.txt}}
"#
    )
}

fn team(shared: Shared) -> Team {
    let team = Team::new("", shared);
    let folder = team.place.folder().parent().unwrap().to_owned();
    team.place.write("pipeline.yaml", &pipeline(&folder));
    team.place.write("words.txt", "words\n");
    team.place.commit("the pipeline");
    team
}

fn open_gate(team: &Team) {
    fs_err::write(team.place.outside("gate"), "").unwrap();
}

/// What was started, sorted.
fn ledger(team: &Team) -> Vec<String> {
    let text = fs_err::read_to_string(team.place.outside("ledger")).unwrap_or_default();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// The largest file that a machine's home holds of artifacts, bytes.
fn largest_artifact(machine: &Machine<'_>) -> u64 {
    walkdir::WalkDir::new(machine.home().join("store"))
        .into_iter()
        .map(|entry| entry.unwrap().metadata().unwrap())
        .filter(std::fs::Metadata::is_file)
        .map(|metadata| metadata.len())
        .max()
        .unwrap_or(0)
}

fn received(machine: &Machine<'_>, task: &str) -> u64 {
    let status = machine.json(&["status", "latest"]);
    let tasks = status["tasks"].as_array().unwrap();
    let row = tasks.iter().find(|row| row["task"] == task).unwrap();
    row["bytes"]["received"].as_u64().unwrap_or(0)
}

fn status(machine: &Machine<'_>) -> Value {
    machine.json(&["status", "latest"])
}

#[test]
fn the_second_machine_runs_nothing_and_fetches_only_what_it_needs() {
    let team = team(Shared::StoreOnly);
    open_gate(&team);
    let ann = team.machine("ann");
    ann.run(&["apply"]).success();
    assert_eq!(ledger(&team), ["prepare", "report", "train"]);
    assert!(largest_artifact(&ann) >= LARGE);

    let bob = team.machine("bob");
    bob.run(&["apply"]).success();
    assert_eq!(bob.states(), ["prepare reused", "train reused", "report reused"]);
    assert_eq!(ledger(&team).len(), 3, "nothing ran again");
    assert!(largest_artifact(&bob) < 100_000, "nothing was fetched that no stage needed");

    // A stage that must run gets what it needs, and nothing else.
    fs_err::write(bob.code().join("words.txt"), "other words\n").unwrap();
    bob.run(&["apply"]).success();
    assert_eq!(bob.states(), ["prepare reused", "train reused", "report done"]);
    assert!(largest_artifact(&bob) < 100_000, "the large output was not needed");
    assert!(received(&bob, "report") > 0);
    assert!(received(&bob, "report") < 10_000);
    let target = team.place.outside("got");
    bob.run(&["store", "get", "report.report", target.to_str().unwrap()]).success();
    assert_eq!(fs_err::read_to_string(target).unwrap(), "1000\nother words\n");
}

#[test]
fn a_key_needed_twice_at_once_is_computed_once() {
    let team = team(Shared::StoreOnly);
    let (ann, bob) = (team.machine("ann"), team.machine("bob"));
    let first = ann.start(&["apply"]);
    ann.await_state("train", "running");
    let second = bob.start(&["apply"]);
    // It says who computes what it waits for.
    second.await_word("ann@ann");
    open_gate(&team);
    for working in [first, second] {
        let (code, said) = working.finish();
        assert_eq!(code, 0, "{said}");
    }
    assert_eq!(ledger(&team), ["prepare", "report", "train"]);
    assert_eq!(bob.states()[..2], ["prepare reused", "train reused"]);
}

#[test]
fn both_machines_tell_the_same() {
    let team = team(Shared::StateToo);
    let (ann, bob) = (team.machine("ann"), team.machine("bob"));
    let working = ann.start(&["apply"]);
    bob.await_state("train", "running");
    assert_eq!(status(&bob)["tasks"], status(&ann)["tasks"]);
    open_gate(&team);
    let (code, said) = working.finish();
    assert_eq!(code, 0, "{said}");
    assert_eq!(bob.states(), ["prepare done", "train done", "report done"]);
    assert_eq!(status(&bob), status(&ann));
    assert_eq!(bob.json(&["runs"]), ann.json(&["runs"]));
    bob.run(&["apply"]).success();
    assert_eq!(ann.states(), ["prepare reused", "train reused", "report reused"]);
    assert_eq!(ann.json(&["runs"]).as_array().unwrap().len(), 2);
}

#[test]
fn a_run_whose_machine_died_goes_on_at_another() {
    let team = team(Shared::StateToo);
    let (ann, bob) = (team.machine("ann"), team.machine("bob"));
    let working = ann.start(&["apply"]);
    ann.await_state("train", "running");
    // That it is running is said before its job is started.
    await_that("the job", || ledger(&team).contains(&"train".to_owned()));
    ann.die(working);
    open_gate(&team);
    bob.insist(&["resume"]);
    assert_eq!(bob.states(), ["prepare done", "train done", "report done"]);
    assert_eq!(ledger(&team), ["prepare", "report", "train", "train"], "what was done stays done");
    let tasks = status(&bob)["tasks"].clone();
    assert_eq!(tasks[0]["attempts"], 1);
    assert_eq!(tasks[1]["attempts"], 2);
    assert_eq!(status(&ann)["tasks"], tasks);
    assert_eq!(bob.json(&["runs"]).as_array().unwrap().len(), 1);
}

#[test]
fn an_owner_that_slept_and_lost_its_lease_changes_nothing() {
    let team = team(Shared::StateToo);
    let (ann, bob) = (team.machine("ann"), team.machine("bob"));
    let sleeper = ann.start(&["apply"]);
    ann.await_state("train", "running");
    await_that("the job", || ledger(&team).contains(&"train".to_owned()));
    sleeper.signal("-STOP");
    let next = bob.insist_start(&["resume"], "train");
    open_gate(&team);
    let (code, said) = next.finish();
    assert_eq!(code, 0, "{said}");
    assert_eq!(bob.states(), ["prepare done", "train done", "report done"]);
    let (before, started) = (status(&bob), ledger(&team));
    let records = bob.json(&["store", "ls"]);

    sleeper.signal("-CONT");
    let (code, said) = sleeper.finish();
    assert_ne!(code, 0, "{said}");
    assert!(said.contains("taken over by another process"), "{said}");
    assert_eq!(status(&bob), before);
    assert_eq!(status(&ann), before);
    assert_eq!(ledger(&team), started, "nothing was started");
    assert_eq!(bob.json(&["store", "ls"]), records);
}
