//! Two homes, as of two machines, with one Postgres and one store between them. `tests/run` says where the Postgres is.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::colleagues::{Colleagues, pipeline};
use crate::patience::await_that;
use crate::place::{Output, Place};
use crate::team::server;

/// A process that sleeps keeps its claim on a folder for as long as it lives.
const WITHOUT_CLAIM: &str = "    cache: false\n";

/// Colleagues with a schema of their own.
fn team(schema: &str) -> Colleagues {
    let url = server("FLOWRUN_TEST_POSTGRES");
    let sign = if url.contains('?') { '&' } else { '?' };
    let state = format!("{url}{sign}schema={schema}_{}", std::process::id());
    Colleagues::new(WITHOUT_CLAIM, Some(state))
}

fn status(team: &Colleagues, who: &str) -> Value {
    team.json(who, &["status", "latest"])
}

#[test]
fn a_run_whose_owner_sleeps_is_taken_over_and_the_sleeper_changes_nothing() {
    let team = team("sleeper");
    let mut sleeper = team.command("ann", &["apply"]);
    let sleeper = sleeper.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    team.await_running("bob");
    let refused = team.run("bob", &["resume", "latest"]);
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(refused.stderr.contains("is being done by ann@"), "{}", refused.stderr);

    let signal = |name: &str| {
        let pid = sleeper.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    };
    signal("-STOP");
    team.open_gate();
    await_that("the end of the lease", || {
        let resumed = team.run("bob", &["resume", "latest"]);
        assert!([0, 2].contains(&resumed.code), "{}{}", resumed.stdout, resumed.stderr);
        (resumed.code == 0).then_some(())
    });
    let before = status(&team, "bob");
    assert_eq!(before["tasks"][1]["state"], "done");
    signal("-CONT");
    let woken = sleeper.wait_with_output().unwrap();
    let said = String::from_utf8(woken.stderr).unwrap();
    assert_eq!(woken.status.code(), Some(130), "{said}");
    assert!(said.contains("was taken over by another process"), "{said}");
    assert_eq!(status(&team, "bob"), before);
    assert_eq!(status(&team, "ann"), before, "both homes tell the same");
}

#[test]
fn a_run_of_a_dead_process_is_gone_on_with_at_once_in_its_home() {
    let team = team("dead");
    let mut owner = team.command("ann", &["apply"]);
    let mut owner = owner.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    team.await_running("ann");
    owner.kill().unwrap();
    owner.wait().unwrap();
    let elsewhere = team.run("bob", &["resume", "latest"]);
    assert_eq!(elsewhere.code, 2, "the lease is not over: {}", elsewhere.stderr);
    team.open_gate();
    team.run("ann", &["resume", "latest"]).success();
    let status = status(&team, "bob");
    assert_eq!(status["tasks"][1]["state"], "done");
    assert_eq!(status["tasks"][1]["attempts"], 1, "its job was adopted");
}

/// A gc removes the rows of every home's runs, and each home what such a run left there.
#[test]
fn what_a_run_left_in_its_home_goes_when_another_home_removed_its_rows() {
    let team = team("left");
    team.open_gate();
    team.run("ann", &["apply"]).success();
    let run = status(&team, "ann")["run"].as_str().unwrap().to_owned();
    let gc = |who: &str| {
        let keep = [("FLOWRUN_KEEP_RUNS", "0"), ("FLOWRUN_KEEP_DAYS", "0")];
        Output::of(team.command(who, &["gc"]).envs(keep)).success()
    };
    let folder = team.home("ann").join("runs").join(&run);
    let mirrored = || {
        let refs = walkdir::WalkDir::new(team.home("ann").join("mirror"));
        refs.into_iter().filter(|entry| entry.as_ref().unwrap().path().ends_with(&run)).count()
    };
    assert!(folder.exists() && mirrored() == 1);
    std::thread::sleep(std::time::Duration::from_millis(5));
    gc("bob");
    assert_ne!(team.run("ann", &["status", &run]).code, 0, "its rows are gone");
    gc("ann");
    assert!(folder.exists() && mirrored() == 1, "it may be one whose rows are just being made");
    let old = Command::new("touch").args(["-d", "3 days ago"]).arg(&folder).status().unwrap();
    assert!(old.success());
    gc("ann");
    assert!(!folder.exists() && mirrored() == 0);
}

#[test]
fn a_server_that_lets_nobody_in_is_told_with_the_mend() {
    let url = server("FLOWRUN_TEST_POSTGRES");
    let (before, after) = url.split_once('@').unwrap();
    let (scheme, login) = before.split_once("//").unwrap();
    let user = login.split_once(':').map_or(login, |(user, _)| user);
    let (host, _) = after.split_once('/').unwrap();
    let place = Place::new();
    for (state, mend) in [
        (format!("{before}@{host}/nowhere"), "make it with `createdb`"),
        (format!("{scheme}//{user}:wrong@{after}"), "check user and password"),
    ] {
        let output = place.run_with(&[("FLOWRUN_STATE", &state)], &["status"]);
        assert_eq!(output.code, 5, "{}{}", output.stdout, output.stderr);
        assert!(output.stderr.contains(mend), "{}", output.stderr);
    }
}

#[test]
fn a_password_is_never_shown() {
    let place = Place::repo();
    place.write("pipeline.yaml", &pipeline("gate", ""));
    place.commit("first");
    for (state, code) in [
        ("postgres://ann:hunter2@127.0.0.1:1/runs", 5),
        ("postgres://ann:hunter2@127.0.0.1:1/runs?sslmod=disable", 2),
        ("postgres://ann:12#hunter2@127.0.0.1:1/runs", 2),
        ("postgresql://ann@127.0.0.1:1/runs?password=hunter2", 5),
    ] {
        for arguments in [&["status"][..], &["apply"], &["doctor"], &["doctor", "-o", "json"]] {
            for output in [
                place.run_with(&[("FLOWRUN_STATE", state)], arguments),
                place.run(&[arguments, &["--state", state]].concat()),
            ] {
                assert_eq!(output.code, code, "{arguments:?}: {}{}", output.stdout, output.stderr);
                let said = format!("{}{}", output.stdout, output.stderr);
                assert!(!said.contains("hunter2"), "{said}");
                let place_or_mend = ["postgres://ann@127.0.0.1:1/runs", "docs/postgres.md"];
                assert!(place_or_mend.iter().any(|text| said.contains(text)), "{said}");
            }
        }
    }
}
