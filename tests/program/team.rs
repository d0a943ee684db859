//! Machines that share a bucket and a Postgres: a home, a clone and a host name each.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::patience::{self, PATIENCE};
use crate::place::{Output, Place, git, kill_monitors_below, replica_ports, states_in};

/// Where the state of the machines is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shared {
    /// In one Postgres.
    StateToo,
    /// In each home.
    StoreOnly,
}

/// A repo that all machines clone, a bucket and perhaps a database.
pub(crate) struct Team {
    pub(crate) place: Place,
    store: String,
    state: Option<String>,
}

/// A machine of a team.
pub(crate) struct Machine<'a> {
    team: &'a Team,
    name: &'static str,
    store: String,
    variables: Vec<(&'static str, String)>,
}

/// A flowrun that runs on a machine. What it says can be read while it does.
pub(crate) struct Working {
    child: Child,
    said: PathBuf,
}

#[expect(clippy::disallowed_methods, reason = "who starts the servers says where they are")]
pub(crate) fn server(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("`{variable}` is not set: `tests/servers/with cargo test --test program` starts the servers and sets it")
    })
}

impl Team {
    /// With this pipeline, and room of its own on the servers.
    pub(crate) fn new(pipeline: &str, shared: Shared) -> Self {
        let place = Place::with(pipeline);
        let folder = place.folder().parent().unwrap().to_owned();
        let unique = folder.file_name().unwrap().to_str().unwrap().to_lowercase().replace('-', "_");
        let store = server("FLOWRUN_TEST_S3_SEAWEED");
        let (bucket, parameters) = store.split_once('?').unwrap();
        let store = format!("{bucket}/{unique}?{parameters}");
        let state = (shared == Shared::StateToo)
            .then(|| format!("{}?schema={unique}", server("FLOWRUN_TEST_POSTGRES")));
        Self { place, store, state }
    }

    /// The same with its state in another database.
    pub(crate) fn with_state(self, state: &str) -> Self {
        Self { state: Some(state.to_owned()), ..self }
    }

    /// A machine of this name, with a clone of the repo as it is now.
    pub(crate) fn machine(&self, name: &'static str) -> Machine<'_> {
        let store = self.store.clone();
        let variables = vec![("FLOWRUN_REPLICA_PORTS", replica_ports())];
        let machine = Machine { team: self, name, store, variables };
        fs_err::create_dir_all(machine.folder()).unwrap();
        let origin = self.place.folder();
        git(&machine.folder(), &["clone", "-q", origin.to_str().unwrap(), "code"]);
        machine
    }

    /// The URL of its store.
    pub(crate) fn store(&self) -> &str {
        &self.store
    }
}

impl Machine<'_> {
    fn folder(&self) -> PathBuf {
        self.team.place.outside(self.name)
    }

    pub(crate) fn code(&self) -> PathBuf {
        self.folder().join("code")
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.folder().join("home")
    }

    /// Reaches the store another way.
    pub(crate) fn through(self, store: &str) -> Self {
        Self { store: store.to_owned(), ..self }
    }

    /// With this variable too.
    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.variables.push((name, value.to_owned()));
        self
    }

    /// The program, in a world with a host name of its own.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            command.arg("--map-root-user");
        }
        command
            .args(["--uts", "sh", "-c", "hostname \"$0\" && exec \"$@\"", self.name])
            .arg(env!("CARGO_BIN_EXE_flowrun"))
            .args(arguments);
        self.team.place.dress(&mut command);
        command
            .current_dir(self.code())
            .env("FLOWRUN_HOME", self.home())
            .env("FLOWRUN_STORE", &self.store)
            .env("USER", self.name);
        if let Some(state) = &self.team.state {
            command.env("FLOWRUN_STATE", state);
        }
        command.envs(self.variables.iter().map(|(name, value)| (*name, value)));
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        Output::of(&mut self.command(arguments))
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["-o", "json"]].concat()).success();
        serde_json::from_str(&output.stdout).unwrap()
    }

    /// `train done` for every task of the newest run.
    pub(crate) fn states(&self) -> Vec<String> {
        states_in(&self.json(&["status", "latest"]))
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Working {
        let said = self.folder().join("said");
        let file = fs_err::File::create(&said).unwrap().into_parts().0;
        let mut command = self.command(arguments);
        let child = command.stdout(Stdio::null()).stderr(file).spawn().unwrap();
        Working { child, said }
    }

    pub(crate) fn await_state(&self, task: &str, state: &str) {
        await_that(&format!("`{task}` {state}"), || {
            let output = self.run(&["status", "latest", "-o", "json"]);
            let status: Value = serde_json::from_str(&output.stdout).unwrap_or_default();
            let is_it = |row: &Value| row["task"] == task && row["state"] == state;
            status["tasks"].as_array().is_some_and(|tasks| tasks.iter().any(is_it))
        });
    }

    /// What a machine loses that is switched off: everything that ran there.
    pub(crate) fn die(&self, working: Working) {
        working.kill();
        kill_monitors_below(&self.home());
    }

    /// Tries until it works: an owner that says nothing any more is believed for a while.
    pub(crate) fn insist(&self, arguments: &[&str]) -> Output {
        let start = Instant::now();
        loop {
            let output = self.run(arguments);
            if output.code == 0 {
                return output;
            }
            assert!(start.elapsed() < PATIENCE, "{}\n{}", output.stdout, output.stderr);
            std::thread::sleep(Duration::from_millis(500));
        }
    }
}

impl Machine<'_> {
    /// The same in the background; it works when this task runs.
    pub(crate) fn insist_start(&self, arguments: &[&str], task: &str) -> Working {
        let start = Instant::now();
        loop {
            let mut working = self.start(arguments);
            loop {
                if let Some(status) = working.child.try_wait().unwrap() {
                    assert!(start.elapsed() < PATIENCE, "{status}: {}", working.said());
                    break;
                }
                if self.has_attempt_of_mine(task) {
                    return working;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// Whether the newest attempt of a task runs in this home.
    fn has_attempt_of_mine(&self, task: &str) -> bool {
        let output = self.run(&["status", "latest", "-o", "json"]);
        let status: Value = serde_json::from_str(&output.stdout).unwrap_or_default();
        let is_it = |row: &Value| {
            row["task"] == task && row["state"] == "running" && row["attempts"].as_u64() > Some(1)
        };
        status["tasks"].as_array().is_some_and(|tasks| tasks.iter().any(is_it))
    }
}

impl Working {
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn said(&self) -> String {
        fs_err::read_to_string(&self.said).unwrap()
    }

    pub(crate) fn await_word(&self, word: &str) {
        await_that(word, || self.said().contains(word));
    }

    /// Exit code, and what it said.
    pub(crate) fn finish(mut self) -> (i32, String) {
        let status = self.child.wait().unwrap();
        (status.code().unwrap_or(1000), self.said())
    }
}

/// Waits for what happens elsewhere.
pub(crate) fn await_that(what: &str, mut happened: impl FnMut() -> bool) {
    patience::await_that(what, || happened().then_some(()));
}
