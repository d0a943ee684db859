//! Two homes, as of two machines, with one store between them, and perhaps one database.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::patience::await_that;
use crate::place::{Output, Place, states_in};

/// `train` waits until a file is there, so that a test can stop a run in its middle. `more` follows the keys of `train`.
pub(crate) fn pipeline(gate: &str, more: &str) -> String {
    format!(
        r#"
version: "2"
name: shared
stages:
  prepare:
    run: seq 100000 > data.txt
    files: []
    outputs: {{data: data.txt}}
  train:
    run: touch {gate}.awaited; while [ ! -e {gate} ]; do sleep 0.05; done; wc -l < "$FLOWRUN_INPUT_DATA" > model.txt; cat words.txt >> model.txt
    files: [words.txt]
    inputs: {{data: prepare.data}}
    outputs: {{model: model.txt}}
{more}"#
    )
}

/// One repo, one store, and a home for each who is named.
pub(crate) struct Colleagues {
    pub(crate) place: Place,
    state: Option<String>,
}

impl Colleagues {
    /// With what follows the keys of `train`; a `state` is shared by all.
    pub(crate) fn new(more: &str, state: Option<String>) -> Self {
        let place = Place::repo();
        let gate = place.outside("gate");
        place.write("pipeline.yaml", &pipeline(gate.to_str().unwrap(), more));
        place.write("words.txt", "one two\n");
        place.commit("first");
        Self { place, state }
    }

    pub(crate) fn open_gate(&self) {
        fs_err::write(self.place.outside("gate"), "").unwrap();
    }

    pub(crate) fn home(&self, who: &str) -> PathBuf {
        self.place.outside(who)
    }

    pub(crate) fn command(&self, who: &str, arguments: &[&str]) -> Command {
        let mut command = self.place.command(arguments);
        command
            .env("FLOWRUN_HOME", self.home(who))
            .env("FLOWRUN_STORE", self.place.outside("bucket"))
            .env("USER", who);
        if let Some(state) = &self.state {
            command.env("FLOWRUN_STATE", state);
        }
        command
    }

    pub(crate) fn run(&self, who: &str, arguments: &[&str]) -> Output {
        Output::of(&mut self.command(who, arguments))
    }

    pub(crate) fn json(&self, who: &str, arguments: &[&str]) -> Value {
        let output = self.run(who, &[arguments, &["-o", "json"]].concat()).success();
        serde_json::from_str(&output.stdout).unwrap()
    }

    /// `train done` for every task of the newest run.
    pub(crate) fn states(&self, who: &str) -> Vec<String> {
        states_in(&self.json(who, &["status", "latest"]))
    }

    /// Waits until `train` of the newest run that `who` sees runs.
    pub(crate) fn await_running(&self, who: &str) {
        await_that("`train`", || {
            let output = self.run(who, &["status", "latest", "-o", "json"]);
            let status: Value = serde_json::from_str(&output.stdout).unwrap_or_default();
            (status["tasks"][1]["state"] == "running").then_some(())
        });
        // That it runs is said before its job is started.
        await_that("the job of `train`", || {
            self.place.outside("gate.awaited").exists().then_some(())
        });
    }
}
