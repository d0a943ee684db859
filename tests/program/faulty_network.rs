//! Runs whose store is behind a network that fails: each completes, or ends with exit 5 and can be resumed, and nothing half is kept.

use crate::faults::{EVERY_FAULT, Fault, Plan, Proxy};
use crate::team::{Shared, Team, await_that};

const QUIET: Plan = Plan { percent: 0, faults: EVERY_FAULT, seed: 0 };

fn team() -> Team {
    let team = Team::new("", Shared::StoreOnly);
    let gate = team.place.outside("gate");
    let gate = gate.display();
    team.place.write(
        "pipeline.yaml",
        &format!(
            r#"
version: "2"
name: weather
stages:
  prepare:
    run: |
      seq 200000 > large.txt
      mkdir many && for i in $(seq 200); do echo "$i" > "many/$i"; done
    files: []
    outputs: {{large: large.txt, many: many}}
  train:
    run: |
      echo waits; while [ ! -e {gate} ]; do sleep 0.05; done
      cat "$FLOWRUN_INPUT_MANY"/* "$FLOWRUN_INPUT_LARGE" | sort -n | tail -n 1 > model.txt
    files: []
    inputs: {{large: prepare.large, many: prepare.many}}
    outputs: {{model: model.txt}}
"#
        ),
    );
    team.place.commit("the pipeline");
    team
}

#[test]
fn a_run_over_a_bad_network_completes_or_can_be_resumed() {
    for seed in 1..=3 {
        let team = team();
        fs_err::write(team.place.outside("gate"), "").unwrap();
        let plan = Plan { percent: 15, faults: EVERY_FAULT, seed };
        let (proxy, url) = Proxy::in_front_of(team.store(), plan);
        let ann = team.machine("ann").through(&url);
        let mut output = ann.run(&["apply"]);
        let mut resumed = 0;
        while output.code == 5 {
            resumed += 1;
            assert!(resumed < 10, "it does not get on: {}", output.stderr);
            output = ann.run(&["resume"]);
        }
        output.success();
        let (_, faults) = proxy.told();
        assert!(!faults.is_empty(), "no request failed");

        // Whoever comes after it finds everything whole.
        let bob = team.machine("bob");
        bob.run(&["apply"]).success();
        assert_eq!(bob.states(), ["prepare reused", "train reused"], "{faults:?}");
        let target = team.place.outside("got");
        bob.run(&["store", "get", "train.model", target.to_str().unwrap()]).success();
        assert_eq!(fs_err::read_to_string(target).unwrap(), "200000\n");
        bob.run(&["store", "check"]).success();
    }
}

#[test]
fn a_store_that_goes_away_for_a_while_costs_nothing() {
    let team = team();
    let (proxy, url) = Proxy::in_front_of(team.store(), QUIET);
    let ann = team.machine("ann").through(&url);
    let working = ann.start(&["apply"]);
    ann.await_state("train", "running");
    await_that("the job", || working.said().contains("train | waits"));
    proxy.change(Plan { percent: 100, faults: &[Fault::Drop], seed: 1 });
    let (before, _) = proxy.told();
    // The job itself goes on and ends; what it made has nowhere to go yet.
    fs_err::write(team.place.outside("gate"), "").unwrap();
    await_that("tries to reach the store", || proxy.told().0 > before + 4);
    proxy.change(QUIET);
    let (code, said) = working.finish();
    assert_eq!(code, 0, "{said}");
    assert_eq!(ann.states(), ["prepare done", "train done"]);
    let status = ann.json(&["status", "latest"]);
    assert_eq!(status["tasks"][1]["attempts"], 1);
}
