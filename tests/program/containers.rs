//! Batch stages as containers: `--runtime docker`, from the command line to files on this machine.

use std::process::Command;

use crate::container_shop::docker;
use crate::patience::await_that;
use crate::place::{Output, Place};

pub(crate) const PYTHON: &str = "flowrun-test/python:bookworm";
pub(crate) const TINY: &str = "flowrun-test/tiny:1";

/// A pipeline in a place of its own; no container of it is left afterwards.
pub(crate) struct Harbour {
    pub(crate) place: Place,
    pub(crate) name: String,
}

impl Harbour {
    /// With these stages, indented by two. Stages have the tiny image unless they say otherwise.
    pub(crate) fn new(name: &str, stages: &str) -> Self {
        let answers =
            Command::new("docker").arg("info").output().is_ok_and(|it| it.status.success());
        assert!(answers, "no Docker Engine answers: start one, or use tests/run, which does");
        let place = Place::repo();
        let name = format!("harbour-{name}-{}", std::process::id());
        let harbour = Self { place, name };
        harbour.define(TINY, stages);
        harbour.place.commit("first");
        harbour
    }

    pub(crate) fn define(&self, image: &str, stages: &str) {
        let name = &self.name;
        let text = format!(
            "version: \"2\"\nname: {name}\ndefaults: {{image: \"{image}\"}}\nstages:\n{stages}"
        );
        self.place.write("pipeline.yaml", &text);
    }

    pub(crate) fn apply(&self, more: &[&str]) -> Output {
        let mut arguments = vec!["apply", "--runtime", "docker"];
        arguments.extend(more);
        self.place.run(&arguments)
    }

    /// The ids of its containers, running or not.
    pub(crate) fn containers(&self) -> Vec<String> {
        let label = format!("label=flowrun.pipeline={}", self.name);
        let found = docker(&["ps", "-aq", "--no-trunc", "--filter", &label]);
        found.lines().map(str::to_owned).collect()
    }

    pub(crate) fn state(&self, task: &str) -> String {
        let tasks = self.place.tasks();
        let row = tasks.iter().find(|row| row["task"] == task).unwrap();
        row["state"].as_str().unwrap().to_owned()
    }
}

impl Drop for Harbour {
    fn drop(&mut self) {
        // It would start anew what goes now.
        if self.place.home().join("server.lock").exists() {
            drop(self.place.run(&["server", "--stop"]));
        }
        for container in self.containers() {
            drop(Command::new("docker").args(["rm", "-f", &container]).output());
        }
    }
}

const CHAIN: &str = r#"  make:
    run: ["sh", "-c", "echo out; echo err >&2; id -u > \"$FLOWRUN_OUTPUT_DATA\"; pwd >> \"$FLOWRUN_OUTPUT_DATA\""]
    files: []
    outputs: {data: data.txt}
  use:
    run: ["sh", "-c", "cat \"$FLOWRUN_INPUT_DATA\" > \"$FLOWRUN_OUTPUT_COPY\"; echo \"$FLOWRUN_INPUT_DATA\" >> copy.txt"]
    files: []
    inputs: {data: make.data}
    outputs: {copy: copy.txt}
"#;

#[test]
fn a_pipeline_runs_in_containers_and_is_reused() {
    let harbour = Harbour::new("run", CHAIN);
    let said = harbour.apply(&[]).success();
    assert!(said.stderr.contains("runtime docker "), "{}", said.stderr);
    let uid = rustix::process::geteuid().as_raw();
    let text = harbour.place.output("use", "copy");
    assert_eq!(text, format!("{uid}\n/flowrun/work\n/flowrun/inputs/data/data.txt\n"));
    assert_eq!(harbour.containers(), Vec::<String>::new(), "what has ended is removed");
    let log = harbour.place.run(&["logs", "latest", "make", "--stream", "stderr"]).success();
    assert_eq!(log.stdout, "err\n");

    harbour.apply(&[]).success();
    assert_eq!(harbour.place.states(), ["make reused", "use reused"]);
    // The same file as processes is other work: its key has no image.
    harbour.place.run(&["apply", "--runtime", "local"]).success();
    assert_eq!(harbour.place.states(), ["make done", "use done"]);
}

#[test]
fn another_image_runs_again_and_why_says_so() {
    let harbour = Harbour::new("why", CHAIN);
    harbour.apply(&[]).success();
    harbour.define(PYTHON, CHAIN);
    harbour.apply(&[]).success();
    let why = harbour.place.run(&["why", "make"]).success();
    assert!(why.stdout.contains("image"), "{}", why.stdout);
}

#[test]
fn flowrun_killed_in_mid_run_finds_its_container_again() {
    let stage = r#"  slow:
    run: ["sh", "-c", "echo one; while [ ! -e go ]; do sleep 0.05; done; echo two; echo done > \"$FLOWRUN_OUTPUT_O\""]
    files: []
    outputs: {o: o.txt}
"#;
    let harbour = Harbour::new("kill", stage);
    let running = harbour.place.spawn(&["apply", "--runtime", "docker"]);
    harbour.place.await_running("slow");
    Place::await_path(&harbour.place.attempt_file("slow", "stdout"));
    let before = harbour.containers();
    assert_eq!(before.len(), 1);
    running.kill();
    let other = harbour.place.spawn(&["apply", "--runtime", "docker"]);
    fs_err::write(harbour.place.attempt_file("slow", "work").join("go"), "").unwrap();
    let said = other.finish().success();
    assert!(said.stderr.contains("continuing run"), "{}", said.stderr);
    let log = harbour.place.run(&["logs", "latest", "slow", "--stream", "stdout"]).success();
    assert_eq!(log.stdout, "one\ntwo\n");
    let tasks = harbour.place.tasks();
    assert_eq!(tasks[0]["attempts"], 1, "{tasks:?}");
}

#[test]
fn a_run_that_nobody_owns_is_cancelled_with_its_container() {
    let stage = "  slow:\n    run: [\"sleep\", \"1000\"]\n    files: []\n";
    let harbour = Harbour::new("cancel", stage);
    let running = harbour.place.spawn(&["apply", "--runtime", "docker"]);
    await_that("a container", || Some(harbour.containers()).filter(|found| !found.is_empty()));
    running.kill();
    harbour.place.run(&["cancel", "latest"]).success();
    assert_eq!(harbour.containers(), Vec::<String>::new());
    assert_eq!(harbour.state("slow"), "cancelled");
}

#[test]
fn timeouts_and_memory_end_a_container() {
    let stages = r#"  late:
    run: ["sleep", "1000"]
    files: []
    timeout: 1s
  hungry:
    image: "flowrun-test/python:bookworm"
    run: [python3, -c, "x = bytearray(400_000_000); print(len(x))"]
    files: []
    resources: {memory: 64Mi}
"#;
    let harbour = Harbour::new("limits", stages);
    let said = harbour.apply(&["--keep-going"]);
    assert_eq!(said.code, 4, "{}", said.stderr);
    let why = |task: &str| harbour.place.run(&["why", task]).success().stdout;
    assert!(why("late").contains("timeout") || why("late").contains("longer"), "{}", why("late"));
    assert!(why("hungry").contains("memory"), "{}", why("hungry"));
}

#[test]
fn a_container_is_confined() {
    let stages = r#"  make:
    run: ["sh", "-c", "echo data > \"$FLOWRUN_OUTPUT_DATA\""]
    files: []
    outputs: {data: data.txt}
  root:
    run: ["sh", "-c", "if echo x > /file; then exit 1; fi; echo x > \"$HOME/file\"; echo x > \"$TMPDIR/file\""]
    files: []
  input:
    run: ["sh", "-c", "if echo x >> placed.txt; then exit 1; fi; if echo x >> \"$FLOWRUN_INPUT_OTHER\"; then exit 1; fi"]
    files: []
    inputs: {placed: {from: make.data, path: placed.txt}, other: make.data}
  alone:
    run: ["sh", "-c", "busybox ls /sys/class/net > \"$FLOWRUN_OUTPUT_NET\""]
    files: []
    outputs: {net: net.txt}
    container: {network: none}
"#;
    let harbour = Harbour::new("confined", stages);
    harbour.apply(&["--keep-going"]).success();
    assert_eq!(harbour.place.output("make", "data"), "data\n");
    assert_eq!(harbour.place.output("alone", "net").trim(), "lo");
}

#[test]
fn an_image_keeps_its_own_program() {
    let harbour = Harbour::new("own", "");
    let tag = format!("docker-batch-own:{}", std::process::id());
    crate::container_shop::build(
        &tag,
        "ENTRYPOINT [\"sh\", \"-c\", \"echo $0 > /flowrun/work/out.txt; id -u >> /flowrun/work/out.txt\"]\nUSER 1234\n",
        &[],
    );
    let stages = format!(
        "  own:\n    image: \"{tag}\"\n    args: [hello]\n    files: []\n    outputs: {{out: out.txt}}\n"
    );
    harbour.define(TINY, &stages);
    let said = harbour.apply(&[]);
    docker(&["rmi", &tag]);
    said.success();
    assert_eq!(harbour.place.output("own", "out"), "hello\n1234\n");
}

#[test]
fn what_is_not_there_is_one_clear_message() {
    let harbour = Harbour::new("absent", CHAIN);
    harbour.define(
        "flowrun-test/no-such-image:1",
        &CHAIN.replace("files: []\n", "files: []\n    pull: never\n"),
    );
    let said = harbour.apply(&[]);
    assert_eq!(said.code, 5, "{}", said.stderr);
    assert!(said.stderr.contains("flowrun-test/no-such-image:1"), "{}", said.stderr);

    let gone = format!("unix://{}", harbour.place.outside("no.sock").display());
    let said = harbour.place.run_with(&[("DOCKER_HOST", &gone)], &["apply", "--runtime", "docker"]);
    assert_eq!(said.code, 5, "{}", said.stderr);
    assert!(said.stderr.contains("the Docker Engine cannot be reached"), "{}", said.stderr);
    harbour.define(TINY, CHAIN);
    let said = harbour.place.run_with(&[("DOCKER_HOST", &gone)], &["apply", "--runtime", "auto"]);
    assert!(said.success().stderr.contains("runtime local: "));
    let said = harbour.place.run(&["apply", "--runtime", "auto"]).success();
    assert!(said.stderr.contains("runtime docker "), "{}", said.stderr);
}

#[test]
fn a_shell_is_opened_in_a_container_of_the_same_image() {
    let harbour = Harbour::new("debug", CHAIN);
    harbour.apply(&["--keep-work"]).success();
    let said = harbour.place.run(&[
        "debug",
        "latest",
        "use",
        "--",
        "sh",
        "-c",
        "pwd; cat \"$FLOWRUN_INPUT_DATA\"",
    ]);
    let said = said.success();
    assert!(said.stdout.starts_with("/flowrun/work\n"), "{}", said.stdout);
}
