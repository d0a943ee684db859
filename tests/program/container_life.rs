//! What happens around stages in containers: hooks, retries, stops, leftovers; and what other commands say of them.

use std::os::unix::fs::DirBuilderExt;

use crate::container_shop::docker;
use crate::containers::{Harbour, PYTHON, TINY};
use crate::patience::await_that;
use crate::place::Place;
use crate::ports::free_port;
use crate::shop::get;

#[test]
fn retries_hooks_and_timeouts_hold_in_containers() {
    let stages = format!(
        r#"  hungry:
    image: "{PYTHON}"
    run: [python3, -c, "x = bytearray(150_000_000); print(len(x))"]
    files: []
    resources: {{memory: 64Mi}}
    retries: {{max: 1, backoff: 1s, on_oom: {{memory: 8x, max: 1Gi}}}}
  late:
    run: ["sh", "-c", "trap 'echo asked; exit 0' TERM; while :; do sleep 0.05; done"]
    files: []
    timeout: 5s
  alert:
    run: ["sh", "-c", "echo alert $FLOWRUN_OUTCOME"]
    files: []
  tidy:
    run: ["sh", "-c", "echo tidy $FLOWRUN_OUTCOME"]
    files: []
on_failure: alert
on_exit: tidy
"#
    );
    let harbour = Harbour::new("around", &stages);
    let said = harbour.apply(&["--keep-going"]);
    assert_eq!(said.code, 4, "{}", said.stderr);
    assert!(said.stderr.contains("out of memory"), "{}", said.stderr);
    let attempts = |task: &str| {
        let tasks = harbour.place.tasks();
        let row = tasks.iter().find(|row| row["task"] == task).unwrap();
        row["attempts"].as_u64().unwrap()
    };
    assert_eq!((harbour.state("hungry").as_str(), attempts("hungry")), ("done", 2));
    assert_eq!((harbour.state("late").as_str(), attempts("late")), ("failed", 1));
    let log = |task: &str| harbour.place.run(&["logs", "latest", task]).success().stdout;
    assert!(log("late").contains("asked"), "{}", log("late"));
    assert!(log("alert").contains("alert failed") && log("tidy").contains("tidy failed"));
    assert_eq!(harbour.containers(), Vec::<String>::new());
}

#[test]
fn a_second_ctrl_c_kills_what_ignores_the_first() {
    let stage = "  deaf:\n    run: [\"sh\", \"-c\", \"trap '' TERM; echo up; while :; do sleep 1; done\"]\n    files: []\n";
    let harbour = Harbour::new("twice", stage);
    let running = harbour.place.spawn(&["apply", "--runtime", "docker"]);
    harbour.place.await_running("deaf");
    let log = harbour.place.attempt_file("deaf", "stdout");
    await_that("it is up", || fs_err::read_to_string(&log).ok().filter(|text| !text.is_empty()));
    running.interrupt();
    let noted = harbour.place.attempt_file("deaf", "");
    await_that("the stop is noted", || {
        fs_err::read_dir(&noted).unwrap().flatten().find(|entry| entry.file_name() == "stop.json")
    });
    assert_eq!(harbour.containers().len(), 1, "it ignores that");
    running.interrupt();
    let said = running.finish();
    assert_eq!(said.code, 130, "{}", said.stderr);
    assert_eq!(harbour.containers(), Vec::<String>::new());
    assert_eq!(harbour.state("deaf"), "cancelled");
}

#[test]
fn what_was_made_and_never_started_goes_with_its_run() {
    let harbour = Harbour::new("made", WAITS);
    let running = harbour.place.spawn(&["apply", "--runtime", "docker"]);
    make_unstarted(&harbour.labels());
    assert_eq!(harbour.containers().len(), 2);
    harbour.let_go();
    running.finish().success();
    assert_eq!(harbour.containers(), Vec::<String>::new());
}

#[test]
fn gc_removes_what_crashes_left_and_doctor_names_the_engine() {
    let harbour = Harbour::new("left", WAITS);
    let running = harbour.place.spawn(&["apply", "--runtime", "docker"]);
    let labels = harbour.labels();
    harbour.let_go();
    running.finish().success();
    let doctor = harbour.place.run(&["doctor"]);
    let version = docker(&["version", "--format", "{{.Server.Version}}"]);
    assert!(doctor.stdout.contains(version.trim()), "{doctor:?}");

    make_unstarted(&labels);
    // As its own removal leaves it that is killed midway.
    let attempt = harbour.place.attempt_file("slow", "");
    let (_, run) = labels[1].split_once('=').unwrap();
    let uid = rustix::process::geteuid().as_raw();
    let own = std::path::Path::new("/dev/shm").join(format!("flowrun-{uid}"));
    let left = own.join(format!("flowrun-{}-1-1", run.to_lowercase()));
    // Nobody uses it who finds that others may enter.
    std::fs::DirBuilder::new().mode(0o700).recursive(true).create(&left).unwrap();
    std::os::unix::fs::symlink(attempt, left.with_extension("of")).unwrap();
    let said = harbour.place.run(&["gc"]).success();
    assert!(said.stdout.contains("1 container"), "{}", said.stdout);
    assert_eq!(harbour.containers(), Vec::<String>::new());
    assert!(!left.exists() && fs_err::symlink_metadata(left.with_extension("of")).is_err());
    assert_ne!(docker(&["images", "-q", TINY]), "", "what was pulled stays");
}

#[test]
fn a_run_goes_on_where_it_began() {
    let stage = "  slow:\n    run: [\"sleep\", \"1000\"]\n    files: []\n";
    let harbour = Harbour::new("began", stage);
    let running = harbour.place.spawn(&["apply", "--runtime", "docker"]);
    await_that("a container", || Some(harbour.containers()).filter(|found| !found.is_empty()));
    running.kill();
    let said = harbour.place.run(&["resume", "--runtime", "local"]);
    assert_eq!(said.code, 2, "{}", said.stderr);
    assert!(said.stderr.contains("began with the runtime `docker`"), "{}", said.stderr);
    harbour.place.run(&["cancel", "latest"]).success();
}

#[test]
fn a_plan_is_shown_also_when_secrets_are_missing_and_knows_containers() {
    let stages = r#"  train:
    run: ["true"]
    files: []
    secrets: {KEY: missing}
  serve:
    run: ["sleep", "1000"]
    files: []
    service: {port: 18999, listen: 8000}
"#;
    let harbour = Harbour::new("plan", stages);
    let plan = |runtime: &str| harbour.place.run(&["plan", "--runtime", runtime]);
    let said = plan("docker");
    assert_eq!(said.code, 5, "{}", said.stderr);
    assert!(said.stderr.contains("`missing#KEY` is not set"), "{}", said.stderr);
    assert!(said.stdout.contains("train") && said.stdout.contains("serve"), "{}", said.stdout);
    assert!(!said.stdout.contains("replaced in place"), "{}", said.stdout);
    let said = plan("local");
    assert!(said.stdout.contains("replaced in place: it insists on its own port"), "{said:?}");
}

#[test]
fn a_tag_that_moved_makes_an_unfinished_run_other_work() {
    let tag = format!("flowrun-test/moves:{}", std::process::id());
    let stage = format!(
        "  slow:\n    image: \"{tag}\"\n    run: [\"sh\", \"-c\", \"while [ ! -e /mark ]; do sleep 0.05; done\"]\n    files: []\n"
    );
    let harbour = Harbour::new("moves", &stage);
    docker(&["tag", TINY, &tag]);
    let running = harbour.place.spawn(&["apply", "--runtime", "docker"]);
    await_that("a container", || Some(harbour.containers()).filter(|found| !found.is_empty()));
    running.kill();
    let file = harbour.place.outside("Dockerfile");
    fs_err::write(&file, format!("FROM {TINY}\nRUN echo moved > /mark\n")).unwrap();
    let build = ["build", "-q", "--network", "none", "-t", &tag, "-f", file.to_str().unwrap()];
    docker(&[&build[..], &[harbour.place.folder().to_str().unwrap()]].concat());
    let said = harbour.apply(&[]);
    docker(&["rmi", &tag]);
    assert!(said.success().stderr.contains("is other work"));
    assert_eq!(harbour.place.runs().len(), 2);
    assert_eq!(harbour.containers(), Vec::<String>::new());
}

#[test]
fn a_release_whose_image_is_gone_cannot_come_back_and_says_what_to_do() {
    let tag = |number: u32| format!("flowrun-test/gone-{}:{number}", std::process::id());
    let port = free_port();
    let harbour = Harbour::new("gone", "");
    let file = harbour.place.outside("Dockerfile");
    for number in [1, 2] {
        fs_err::write(&file, format!("FROM {TINY}\nRUN echo {number} > /number\n")).unwrap();
        let (tag, file) = (tag(number), file.to_str().unwrap());
        let build = ["build", "-q", "--network", "none", "-t", &tag, "-f", file];
        docker(&[&build[..], &[harbour.place.folder().to_str().unwrap()]].concat());
        let stage = format!(
            r#"  serve:
    image: "{tag}"
    run: ["sh", "-c", "exec busybox httpd -f -p $PORT -h /"]
    files: []
    service: {{port: {port}, drain: 1s, ready: {{http: /number, within: 60s}}}}
"#
        );
        harbour.define(TINY, &stage);
        harbour.place.commit("another image");
        harbour.apply(&[]).success();
        assert_eq!(get(port, "/number").unwrap(), (200, format!("{number}\n")));
    }
    await_that("the old one goes", || (harbour.containers().len() == 1).then_some(()));
    docker(&["rmi", &tag(1)]);
    let said = harbour.place.run(&["rollback", "serve"]);
    assert_eq!(said.code, 4, "{}", said.stderr);
    let gone = format!("its image `{}` is not here any more", tag(1));
    assert!(said.stderr.contains(&gone), "{}", said.stderr);
    assert!(said.stderr.contains("with `flowrun apply --ref "), "{}", said.stderr);
    assert_eq!(get(port, "/number").unwrap().1, "2\n", "what is live stays");
    harbour.place.run(&["down", "--yes"]).success();
    docker(&["rmi", &tag(2)]);
}

/// A stage that waits until it is let go.
const WAITS: &str = "  slow:\n    run: [\"sh\", \"-c\", \"while [ ! -e go ]; do sleep 0.05; done\"]\n    files: []\n";

impl Harbour {
    /// The labels of its one container, which runs `slow`, as `name=value`.
    fn labels(&self) -> [String; 3] {
        let own = await_that("a container", || self.containers().pop());
        ["flowrun.installation", "flowrun.run", "flowrun.pipeline"].map(|name| {
            let format = format!("{{{{index .Config.Labels \"{name}\"}}}}");
            format!("{name}={}", docker(&["inspect", "--format", &format, &own]).trim())
        })
    }

    fn let_go(&self) {
        self.place.await_running("slow");
        fs_err::write(self.place.attempt_file("slow", "work").join("go"), "").unwrap();
    }
}

/// As if flowrun had been killed just when it asked the engine for a container.
fn make_unstarted(labels: &[String; 3]) {
    let labels = labels.iter().flat_map(|label| ["--label", label]);
    let create: Vec<&str> = ["create"].into_iter().chain(labels).chain([TINY, "true"]).collect();
    docker(&create);
}

/// What is not on docker is the same as ever.
#[test]
fn a_name_for_the_caller_is_always_there() {
    let place = Place::with(
        "version: \"2\"\nname: who\nstages:\n  one:\n    run: test -n \"$USER\" && test \"$LOGNAME\" = \"$USER\"\n",
    );
    let mut apply = place.command(&["apply"]);
    apply.env_remove("USER").env_remove("LOGNAME");
    crate::place::Output::of(&mut apply).success();
}
