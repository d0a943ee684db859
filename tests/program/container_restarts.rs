//! The Docker Engine is restarted in mid-run: what it keeps is gone on with, what it ended is done again.

use crate::own_engine::{OwnEngine, TINY};
use crate::patience::await_that;
use crate::place::{Output, Place};
use crate::ports::free_port;
use crate::shop::get;

/// An engine of its own and a pipeline whose one stage counts until it is let go.
struct Pier {
    engine: OwnEngine,
    place: Place,
}

/// It takes an engine's TERM for a wish to end well.
const COUNT: &str = r#"  count:
    run: ["sh", "-c", "trap 'echo early > \"$FLOWRUN_OUTPUT_O\"; exit 0' TERM; i=0; while [ ! -e go ]; do echo $i; i=$((i+1)); sleep 0.02; done; echo $i > \"$FLOWRUN_OUTPUT_O\""]
    files: []
    outputs: {o: o.txt}
    container: {network: none}
"#;

impl Pier {
    /// Nothing without root, which an engine needs.
    fn new(stages: &str, keeps_containers: bool) -> Option<Self> {
        let engine = OwnEngine::start(keeps_containers)?;
        let mut place = Place::repo();
        place.use_engine(&engine.host());
        let text = format!(
            "version: \"2\"\nname: pier\ndefaults: {{image: \"{TINY}\"}}\nstages:\n{stages}"
        );
        place.write("pipeline.yaml", &text);
        place.commit("first");
        Some(Self { engine, place })
    }

    fn containers(&self) -> Vec<String> {
        let found = self.engine.docker(&["ps", "-q", "--no-trunc"]);
        found.lines().map(str::to_owned).collect()
    }

    /// Waits until an attempt has counted that far in its log, and gives its folder.
    fn counted(&self, attempt: u32, number: &str) -> std::path::PathBuf {
        self.place.await_running("count");
        await_that("it counts", || {
            let folder = self.place.attempt_file("count", "");
            let is_newest =
                folder.to_str().unwrap().trim_end_matches('/').ends_with(&format!("-{attempt}"));
            let log = fs_err::read_to_string(folder.join("stdout")).unwrap_or_default();
            (is_newest && log.lines().any(|line| line == number)).then_some(folder)
        })
    }

    fn log(&self) -> String {
        self.place.run(&["logs", "latest", "count", "--stream", "stdout"]).success().stdout
    }

    fn attempts(&self) -> u64 {
        self.place.tasks()[0]["attempts"].as_u64().unwrap()
    }
}

/// All numbers from 0 on, each once.
fn assert_counted(log: &str, least: usize) {
    let numbers: Vec<&str> = log.lines().collect();
    let expected: Vec<String> = (0..numbers.len()).map(|number| number.to_string()).collect();
    assert_eq!(numbers, expected);
    assert!(numbers.len() > least, "{}", numbers.len());
}

fn assert_lost_once(said: &Output) {
    assert!(
        said.stderr.contains("the Docker Engine was restarted while it ran"),
        "{}",
        said.stderr
    );
}

#[test]
fn what_an_engine_keeps_over_its_restart_is_followed_on() {
    let Some(mut pier) = Pier::new(COUNT, true) else { return };
    let running = pier.place.spawn(&["apply", "--runtime", "docker"]);
    let folder = pier.counted(1, "20");
    let before = pier.containers();
    pier.engine.end();
    pier.engine.begin();
    assert_eq!(pier.containers(), before, "it lives on");
    pier.counted(1, "150");
    fs_err::write(folder.join("work/go"), "").unwrap();
    running.finish().success();
    assert_eq!(pier.attempts(), 1);
    assert_counted(&pier.log(), 150);
    assert_eq!(pier.place.output("count", "o").trim(), pier.log().lines().count().to_string());
}

#[test]
fn what_an_engine_ends_at_its_restart_is_done_again() {
    let Some(mut pier) = Pier::new(COUNT, false) else { return };
    let running = pier.place.spawn(&["apply", "--runtime", "docker"]);
    pier.counted(1, "20");
    pier.engine.end();
    pier.engine.begin();
    let second = pier.counted(2, "20");
    // The same, while nobody follows it: whoever comes next has to see that the engine is another one.
    running.kill();
    pier.engine.end();
    pier.engine.begin();
    let other = pier.place.spawn(&["apply", "--runtime", "docker"]);
    let third = pier.counted(3, "20");
    assert_ne!(second, third);
    fs_err::write(third.join("work/go"), "").unwrap();
    let said = other.finish().success();
    assert_lost_once(&said);
    assert_counted(&pier.log(), 20);
    assert_ne!(pier.place.output("count", "o"), "early\n", "an early end is no success");
    assert_eq!(pier.engine.docker(&["ps", "-aq"]), "", "what it ended is removed");
}

fn serve(port: u16) -> String {
    format!(
        r#"  serve:
    run: ["sh", "-c", "echo answer > index.html; exec busybox httpd -f -p $PORT"]
    files: []
    service: {{port: {port}, replicas: 2, ready: {{http: /, within: 60s}}}}
"#
    )
}

impl Pier {
    fn await_service(&self) {
        await_that("both replicas are ready", || {
            let status = self.place.json(&["status", "-o", "json"]);
            (status["services"][0]["ready"] == 2).then_some(())
        });
    }
}

#[test]
fn replicas_that_an_engine_keeps_answer_while_it_is_away() {
    let port = free_port();
    let Some(mut pier) = Pier::new(&serve(port), true) else { return };
    pier.place.run(&["apply", "--runtime", "docker"]).success();
    let before = pier.containers();
    assert_eq!(before.len(), 2);
    pier.engine.end();
    assert_eq!(get(port, "/").unwrap(), (200, "answer\n".to_owned()));
    pier.engine.begin();
    pier.await_service();
    assert_eq!(pier.containers(), before);
    // One that dies later is still noticed.
    pier.engine.docker(&["kill", &before[0]]);
    await_that("another one in its place", || {
        let now = pier.containers();
        (now.len() == 2 && !now.contains(&before[0])).then_some(())
    });
    pier.await_service();
    pier.place.run(&["down", "--yes"]).success();
    assert_eq!(pier.containers(), Vec::<String>::new());
}

#[test]
fn replicas_that_an_engine_ends_are_started_anew() {
    let port = free_port();
    let Some(mut pier) = Pier::new(&serve(port), false) else { return };
    pier.place.run(&["apply", "--runtime", "docker"]).success();
    let before = pier.containers();
    pier.engine.end();
    pier.engine.begin();
    await_that("two others", || {
        let now = pier.containers();
        (now.len() == 2 && now.iter().all(|one| !before.contains(one))).then_some(())
    });
    pier.await_service();
    assert_eq!(get(port, "/").unwrap(), (200, "answer\n".to_owned()));
    assert_eq!(pier.engine.docker(&["ps", "-aq"]).lines().count(), 2, "the old ones are removed");
    pier.place.run(&["down", "--yes"]).success();
    assert_eq!(pier.containers(), Vec::<String>::new());
}
