//! The pipelines that ship with flowrun, with their real packages, in containers.

use std::ops::Deref;
use std::process::{Command, Stdio};

use crate::examples::{Example, example};
use crate::place::Output;
use crate::shop::{get, post};

/// An example that leaves nothing at the engine.
struct Contained(Example);

impl Deref for Contained {
    type Target = Example;

    fn deref(&self) -> &Example {
        &self.0
    }
}

impl Contained {
    fn new(name: &str) -> Self {
        Self(example(name))
    }

    fn docker(&self, arguments: &[&str]) -> Output {
        self.run(&[arguments, &["--runtime", "docker"]].concat())
    }

    /// What everything of this home at the engine is labelled with.
    fn label(&self) -> String {
        let program = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('SELECT id FROM installation').fetchone()[0])";
        let told = Command::new("python3")
            .args(["-c", program])
            .arg(self.home().join("state.db"))
            .output()
            .unwrap();
        assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
        format!("label=flowrun.installation={}", String::from_utf8_lossy(&told.stdout).trim())
    }

    /// The containers of this home that begin while `work` is done, as the engine tells them.
    fn started_by(&self, work: impl FnOnce()) -> Vec<String> {
        let since = now();
        work();
        let told = ask_docker(&[
            "events",
            "--since",
            &since,
            "--until",
            &now(),
            "--filter",
            "event=start",
            "--filter",
            &self.label(),
            "--format",
            "{{.Actor.Attributes.name}}",
        ]);
        told.lines().map(str::to_owned).collect()
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        if !self.home().join("state.db").exists() {
            return;
        }
        // What a test that failed midway has left as well.
        drop(self.run(&["down", "--volumes", "--yes"]));
        drop(self.run(&["server", "--stop"]));
        let label = self.label();
        let left = ask_docker(&["ps", "-aq", "--filter", &label]);
        for id in left.lines() {
            quietly(&["rm", "-f", id]);
        }
        for kind in ["network", "volume"] {
            for name in ask_docker(&[kind, "ls", "-q", "--filter", &label]).lines() {
                quietly(&[kind, "rm", name]);
            }
        }
    }
}

/// The time in the form of the engine's `events`.
fn now() -> String {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    format!("{}.{:09}", since.as_secs(), since.subsec_nanos())
}

fn ask_docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn quietly(arguments: &[&str]) {
    drop(
        Command::new("docker").args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status(),
    );
}

#[test]
fn iris_goes_live_in_containers_and_installs_once() {
    let place = Contained::new("iris");
    let first = place.docker(&["apply", "pipelines/iris"]).success();
    assert!(first.stderr.contains("installing 1 requirement"), "{}", first.stderr);
    assert_eq!(place.states()[..4], ["prepare done", "train done", "evaluate done", "serve done"]);
    let flower = r#"{"flowers": [[5.1, 3.5, 1.4, 0.2]]}"#;
    let answer = post(place.port(8000), "/predict", flower).unwrap();
    assert_eq!(answer, (200, "{\"species\": [\"setosa\"]}\n".to_owned()));
    let replicas = ask_docker(&["ps", "-q", "--filter", &place.label()]);
    assert_eq!(
        replicas.lines().count(),
        2,
        "both replicas are containers, and nothing else is left"
    );

    // Nobody starts pip again: not for what is reused, and not for what runs.
    let started = place.started_by(|| {
        place.docker(&["apply", "pipelines/iris"]).success();
    });
    assert_eq!(started, Vec::<String>::new());
    let started = place.started_by(|| {
        let only = ["apply", "pipelines/iris", "--only", "train", "--force", "train"];
        place.docker(&only).success();
    });
    assert_eq!(started.len(), 1, "the stage's own container and no other: {started:?}");

    let worse = place.docker(&["apply", "pipelines/iris", "--param", "trees=1"]);
    assert_eq!(worse.code, 6, "{}", worse.stderr);
    assert_eq!(
        get(place.port(8000), "/readyz").unwrap().1,
        "{\"trees\": 100}\n",
        "it still answers"
    );
    place.run(&["down", "--yes"]).success();
    let left = ask_docker(&["ps", "-aq", "--filter", &place.label()]);
    assert_eq!(left, "", "`down` leaves no container");
}

#[test]
fn digits_takes_the_best_of_six_in_containers() {
    let place = Contained::new("digits");
    place.docker(&["apply", "pipelines/digits"]).success();
    assert!(place.tasks().iter().all(|task| task["state"] == "done"), "{:?}", place.states());
    let black = serde_json::json!({"images": [vec![0; 64]]}).to_string();
    let (status, answer) = post(place.port(8001), "/predict", &black).unwrap();
    assert!(status == 200 && answer.starts_with("{\"digits\": ["), "{answer}");
}

#[test]
fn mlflow_keeps_what_was_logged_in_containers() {
    let place = Contained::new("mlflow");
    place.docker(&["apply", "pipelines/mlflow"]).success();
    assert_eq!(place.states(), ["tracking done", "train done"]);
    let path = format!("/api/2.0/mlflow/runs/get?run_id={}", place.output("train", "logged"));
    assert_eq!(get(place.port(5000), &path).unwrap().0, 200);
    release(&place, "pipeline.yaml", "tracking", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION: \"false\"");
    assert_eq!(get(place.port(5000), &path).unwrap().0, 200, "the volume kept the run");
}

#[test]
fn mlflow_keeps_its_runs_in_mariadb_over_a_release() {
    let place = Contained::new("mlflow");
    let file = "pipelines/mlflow/mariadb.yaml";
    let early = place.docker(&["apply", file]);
    assert_eq!(early.code, 5, "without its secret nothing starts: {}", early.stderr);
    assert!(early.stderr.contains("tracking-database"), "{}", early.stderr);
    let set = "printf open-sesame-77 | \"$FLOWRUN\" secret set tracking-database MARIADB_PASSWORD";
    place.shell(set).success();
    let applied = place.docker(&["apply", file]).success();
    assert_eq!(place.states(), ["database done", "tracking done", "train done"]);
    let path = format!("/api/2.0/mlflow/runs/get?run_id={}", place.output("train", "logged"));
    let (status, answer) = get(place.port(5001), &path).unwrap();
    assert!(status == 200 && answer.contains("accuracy"), "{answer}");

    release(&place, "mariadb.yaml", "database", "MARIADB_DATABASE: mlflow");
    let (status, answer) = get(place.port(5001), &path).unwrap();
    assert!(status == 200 && answer.contains("accuracy"), "the volume kept the run: {answer}");

    let logs = place.run(&["logs", "database"]).success().stdout;
    assert!(logs.contains("ready for connections"), "{logs}");
    for said in [applied.stdout, applied.stderr, logs] {
        assert!(!said.contains("open-sesame-77"), "{said}");
    }
}

/// Another release of a service, with the same volume: after `variable` it gets one more.
fn release(place: &Contained, file: &str, service: &str, variable: &str) {
    let path = place.folder().join("pipelines/mlflow").join(file);
    let text = fs_err::read_to_string(&path).unwrap();
    let changed = text.replace(variable, &format!("{variable}, AGAIN: \"1\""));
    assert_ne!(text, changed);
    fs_err::write(&path, changed).unwrap();
    let file = format!("pipelines/mlflow/{file}");
    place.docker(&["apply", &file, "--only", service]).success();
    let status = place.json(&["status", service, "-o", "json"]);
    assert!(status.to_string().contains("\"number\":2"), "{status}");
}
