//! A database or a store that goes away in mid-run: it is said, waited for, given up after a while, and nothing is done twice.

use std::process::Stdio;

use serde_json::Value;

use crate::faults::{Fault, Plan, Proxy};
use crate::own_postgres::Postgres;
use crate::team::{Machine, Shared, Team, await_that};

const QUIET: Plan = Plan { percent: 0, faults: &[Fault::Drop], seed: 0 };
const GONE: Plan = Plan { percent: 100, ..QUIET };

/// Each start of a stage is written down. `train` waits at a gate, and says when its work is over.
fn team(shared: Shared) -> Team {
    let team = Team::new("", shared);
    let folder = team.place.folder().parent().unwrap().to_owned();
    let folder = folder.display();
    team.place.write(
        "pipeline.yaml",
        &format!(
            r#"
version: "2"
name: patient
stages:
  prepare:
    run: echo "prepare $USER" >> {folder}/ledger; seq 1000 > data.txt
    files: []
    outputs: {{data: data.txt}}
  train:
    run: |
      echo "train $USER" >> {folder}/ledger
      while [ ! -e {folder}/gate ]; do sleep 0.05; done
      wc -l < "$FLOWRUN_INPUT_DATA" > model.txt
      echo "$USER" >> {folder}/over
    files: []
    inputs: {{data: prepare.data}}
    outputs: {{model: model.txt}}
  report:
    run: echo "report $USER" >> {folder}/ledger; cat "$FLOWRUN_INPUT_MODEL" > report.txt
    files: []
    inputs: {{model: train.model}}
    outputs: {{report: report.txt}}
"#
        ),
    );
    team.place.commit("the pipeline");
    team
}

fn open_gate(team: &Team) {
    fs_err::write(team.place.outside("gate"), "").unwrap();
}

/// The lines of a file that stages write, sorted.
fn lines(team: &Team, name: &str) -> Vec<String> {
    let text = fs_err::read_to_string(team.place.outside(name)).unwrap_or_default();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn has_ended_once(machine: &Machine<'_>) {
    assert_eq!(machine.states(), ["prepare done", "train done", "report done"]);
    let tasks = machine.json(&["status", "latest"])["tasks"].clone();
    for task in tasks.as_array().unwrap() {
        assert_eq!(task["attempts"], 1, "{task}");
    }
}

/// The notices of this kind among events as JSON lines.
fn notices(told: &str, kind: &str) -> Vec<Value> {
    let lines = told.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter_map(|line| line["notice"].get(kind).cloned()).collect()
}

#[test]
fn a_database_that_restarts_in_mid_run_costs_two_homes_nothing() {
    let mut postgres = Postgres::start();
    let team = team(Shared::StoreOnly).with_state(&postgres.url());
    let (ann, bob) = (team.machine("ann"), team.machine("bob"));
    // Another pipeline with other keys, so that both homes are at work at once.
    let file = bob.code().join("pipeline.yaml");
    let text = fs_err::read_to_string(&file).unwrap().replace("name: patient", "name: other");
    fs_err::write(file, text.replace("seq 1000", "seq 2000")).unwrap();
    let first = ann.start(&["apply"]);
    let told = team.place.outside("events");
    let events = fs_err::File::create(&told).unwrap().into_parts().0;
    let mut second = bob.command(&["apply", "--events", "json"]);
    let mut second = second.stdout(events).stderr(Stdio::null()).spawn().unwrap();
    await_that("both at work", || {
        lines(&team, "ledger").iter().filter(|line| line.starts_with("train")).count() == 2
    });

    postgres.sleep();
    first.await_word("waiting for the state at postgres://flowrun@127.0.0.1");
    assert!(first.said().contains("help: see that the database runs"), "{}", first.said());
    let read = || fs_err::read_to_string(&told).unwrap();
    await_that("`away`", || read().contains("\"away\""));
    // The jobs go on and end; nobody can write that down yet.
    open_gate(&team);
    await_that("the end of the jobs", || lines(&team, "over") == ["ann", "bob"]);
    postgres.wake();
    let (code, said) = first.finish();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("the state at postgres://flowrun@127.0.0.1"), "{said}");
    assert!(said.contains("answers again, after"), "{said}");
    assert!(second.wait().unwrap().success(), "{}", read());

    let (away, back) = (notices(&read(), "away"), notices(&read(), "back"));
    assert_eq!((away.len(), back.len()), (1, 1), "{away:?} {back:?}");
    assert_eq!((&away[0]["part"], &back[0]["part"]), (&"state".into(), &"state".into()));
    let (since, until) = (away[0]["since"].as_u64().unwrap(), away[0]["until"].as_u64().unwrap());
    assert!((118_000..122_000).contains(&(until - since)), "{away:?}");
    let starts = ["prepare", "report", "train"];
    let starts = starts.iter().flat_map(|stage| ["ann", "bob"].map(|who| format!("{stage} {who}")));
    assert_eq!(lines(&team, "ledger"), starts.collect::<Vec<_>>());
    let runs = ann.json(&["runs"]);
    assert_eq!(runs, bob.json(&["runs"]));
    for run in runs.as_array().unwrap() {
        let status = bob.json(&["status", run["run"].as_str().unwrap()]);
        let tasks = status["tasks"].as_array().unwrap();
        assert_eq!(tasks.len(), 3);
        assert!(tasks.iter().all(|task| task["state"] == "done" && task["attempts"] == 1));
    }
}

#[test]
fn a_database_that_stays_away_ends_the_run_to_be_resumed() {
    let mut postgres = Postgres::start();
    let team = team(Shared::StoreOnly).with_state(&postgres.url());
    let ann = team.machine("ann").with("FLOWRUN_STATE_PATIENCE", "15s");
    let working = ann.start(&["apply"]);
    await_that("a job at work", || lines(&team, "ledger").contains(&"train ann".to_owned()));
    postgres.sleep();
    let (code, said) = working.finish();
    assert_eq!(code, 5, "{said}");
    for word in ["waiting for the state at", "--state-patience", "cannot be used", "flowrun resume"]
    {
        assert!(said.contains(word), "{word}: {said}");
    }
    // With all the patience there is, a second interrupt leaves the run.
    postgres.wake();
    let ann = ann.with("FLOWRUN_STATE_PATIENCE", "1h");
    let working = ann.start(&["resume"]);
    working.await_word("was found running");
    postgres.sleep();
    working.await_word("waiting for the state at");
    working.signal("-INT");
    working.await_word("interrupt again");
    working.signal("-INT");
    let (code, said) = working.finish();
    assert_eq!(code, 130, "{said}");
    assert!(said.contains("left as it is"), "{said}");

    open_gate(&team);
    await_that("the end of the job", || lines(&team, "over") == ["ann"]);
    postgres.wake();
    ann.run(&["resume"]).success();
    has_ended_once(&ann);
    assert_eq!(lines(&team, "ledger"), ["prepare ann", "report ann", "train ann"]);
}

#[test]
fn a_store_that_stays_away_ends_the_run_to_be_resumed() {
    let team = team(Shared::StoreOnly);
    let (proxy, url) = Proxy::in_front_of(team.store(), QUIET);
    let ann = team.machine("ann").through(&url).with("FLOWRUN_STORE_PATIENCE", "12s");
    let working = ann.start(&["apply"]);
    ann.await_state("train", "running");
    proxy.change(GONE);
    // The job ends; what it made has nowhere to go.
    open_gate(&team);
    let (code, said) = working.finish();
    assert_eq!(code, 5, "{said}");
    assert_eq!(lines(&team, "over"), ["ann"]);
    for word in ["waiting for the store at s3://", "help:", "--store-patience", "flowrun resume"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let still = ann.run(&["resume"]);
    assert_eq!(still.code, 5, "{}", still.stderr);
    proxy.change(QUIET);
    ann.run(&["resume"]).success();
    has_ended_once(&ann);
    assert_eq!(lines(&team, "ledger"), ["prepare ann", "report ann", "train ann"]);
    let target = team.place.outside("got");
    ann.run(&["store", "get", "report.report", target.to_str().unwrap()]).success();
    assert_eq!(fs_err::read_to_string(target).unwrap(), "1000\n");
}
