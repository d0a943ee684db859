//! Rollouts under constant load: not one request may fail, and old and new never mix after the switch.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::patience::await_that;
use crate::shop::Shop;

/// nginx as the replica: it answers fast enough for fifty connections on a small machine.
const SERVICE: &str = "      replicas: 2\n      ready: {http: /readyz, within: 60s}\n";

const SERVE: &str = r#"
import os, pathlib, signal, sys, time

word = pathlib.Path(os.environ["FLOWRUN_INPUT_MODEL"]).read_text().strip()
if word.startswith("never"):
    time.sleep(3600)
if word.startswith("crash"):
    sys.exit(3)
folder = os.environ["TMPDIR"]
body = "later" if word.startswith("later") else word
conf = f"""
daemon off; master_process off; worker_processes 1; pid {folder}/pid; error_log stderr crit;
events {{ worker_connections 2048; }}
http {{
  access_log off; keepalive_timeout 65s; keepalive_requests 1000000;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  server {{ listen 127.0.0.1:{os.environ["PORT"]}; location / {{ return 200 "{word}\n"; }} }}
}}
"""
pathlib.Path(folder, "conf").write_text(conf)
if word.startswith("later") and os.fork() == 0:
    parent = os.getppid()
    time.sleep(1.5)
    os.kill(parent, signal.SIGKILL)
    sys.exit(0)
os.execvp("nginx", ["nginx", "-p", folder, "-c", f"{folder}/conf"])
"#;

/// How many rollouts of each kind (`FLOWRUN_ROLLOUTS`).
#[expect(clippy::disallowed_methods, reason = "whoever runs the tests says how often")]
fn rounds(usual: u32) -> u32 {
    std::env::var("FLOWRUN_ROLLOUTS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// A shop whose service is nginx.
fn shop(verify: bool) -> Shop {
    let (service, stages) = if verify {
        let stages = "  smoke:\n    run: 'case \"${{ params.word }}\" in bad*) exit 1;; esac'\n    files: []\n";
        (format!("{SERVICE}      verify: smoke\n"), stages)
    } else {
        (SERVICE.to_owned(), "")
    };
    let shop = Shop::with_stages(&service, stages);
    shop.place.write("serve.py", SERVE);
    shop.place.commit("nginx");
    shop
}

/// Fifty connections of `wrk`, from now until it is asked what it saw.
pub(crate) struct Load(Child);

/// Whether the process catches INT; `wrk` does once it has reached its target and its connections are on their way.
///
/// Before that INT just ends it, and a target that is gone makes it give up: either way it would have counted nothing.
fn catches_int(pid: u32) -> Option<()> {
    let status = fs_err::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
    let mask = u64::from_str_radix(mask.trim(), 16).ok()?;
    (mask & (1 << (rustix::process::Signal::INT.as_raw() - 1)) != 0).then_some(())
}

impl Load {
    pub(crate) fn on(port: u16) -> Self {
        let child = Command::new("wrk")
            .args([
                "-t1",
                "-c50",
                "-d600s",
                "--timeout",
                "20s",
                &format!("http://127.0.0.1:{port}/"),
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("wrk is installed (tests/run does it)");
        await_that("wrk is at work", || catches_int(child.id()));
        Self(child)
    }

    /// Stops it: the number of requests, and the lines that speak of failures.
    pub(crate) fn stop(self) -> (u64, Vec<String>) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        let output = self.0.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let requests = text
            .lines()
            .find_map(|line| line.trim().split_once(" requests in "))
            .and_then(|(number, _)| number.parse().ok())
            .unwrap_or_else(|| {
                panic!("wrk said nothing: {text}{}", String::from_utf8_lossy(&output.stderr))
            });
        let bad = |line: &&str| line.contains("Non-2xx") || line.contains("Socket errors");
        (requests, text.lines().filter(bad).map(str::to_owned).collect())
    }
}

/// One answer: when it was asked for, when it came, the word.
struct Seen {
    asked: Instant,
    came: Instant,
    word: String,
}

/// Clients on kept connections that remember every change of the word.
struct Watch {
    over: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Vec<Seen>>>,
}

impl Watch {
    fn on(port: u16) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let client = |over: Arc<AtomicBool>| std::thread::spawn(move || watch(port, &over));
        Self { clients: (0..4).map(|_| client(Arc::clone(&over))).collect(), over }
    }

    /// After the first answer of a release had come, nobody who asked later was answered by one before it.
    fn assert_never_mixed(self, order: &[String]) {
        self.over.store(true, Ordering::Relaxed);
        let seen: Vec<Seen> =
            self.clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        let place = |word: &str| {
            order.iter().position(|one| one == word).unwrap_or_else(|| panic!("unknown `{word}`"))
        };
        for (number, word) in order.iter().enumerate() {
            let Some(first) = seen.iter().filter(|one| &one.word == word).map(|one| one.came).min()
            else {
                continue;
            };
            let late = seen.iter().find(|one| one.asked > first && place(&one.word) < number);
            assert!(late.is_none(), "`{}` answered after `{word}`", late.unwrap().word);
        }
        assert!(seen.len() > order.len(), "nobody looked");
    }
}

fn watch(port: u16, over: &AtomicBool) -> Vec<Seen> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut seen: Vec<Seen> = Vec::new();
    let mut buffer = vec![0; 4096];
    while !over.load(Ordering::Relaxed) {
        let asked = Instant::now();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut answer = String::new();
        while !answer.ends_with('\n')
            || !answer.contains("\r\n\r\n")
            || answer.ends_with("\r\n\r\n")
        {
            let count = stream.read(&mut buffer).unwrap();
            assert!(count > 0, "the gateway closed the connection after {answer:?}");
            answer.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        let came = Instant::now();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let word = answer.split("\r\n\r\n").nth(1).unwrap().trim().to_owned();
        // The first and the last of each word are what matters.
        let again = seen.len() >= 2 && seen[seen.len() - 2..].iter().all(|one| one.word == word);
        if again {
            seen.pop();
        }
        seen.push(Seen { asked, came, word });
        std::thread::sleep(Duration::from_millis(1));
    }
    seen
}

#[test]
fn twenty_rollouts_in_a_row_lose_no_request() {
    let shop = shop(false);
    shop.apply("v0").success();
    let load = Load::on(shop.port);
    let watch = Watch::on(shop.port);
    let mut order = vec!["v0".to_owned()];
    for round in 1..=rounds(20) {
        let word = format!("v{round}");
        shop.apply(&word).success();
        order.push(word);
    }
    watch.assert_never_mixed(&order);
    let (requests, bad) = load.stop();
    assert!(requests > 1000 && bad.is_empty(), "{requests} requests: {bad:?}");
    assert_eq!(shop.word().trim(), order.last().unwrap());
}

#[test]
fn releases_that_do_not_work_lose_no_request() {
    let shop = shop(true);
    shop.apply("v0").success();
    let load = Load::on(shop.port);
    for round in 0..rounds(2) {
        for (kind, within) in [("never", "8s"), ("crash", "60s"), ("bad", "60s")] {
            shop.define(
                &format!("{}      verify: smoke\n", SERVICE.replace("60s", within)),
                "  smoke:\n    run: 'case \"${{ params.word }}\" in bad*) exit 1;; esac'\n    files: []\n",
            );
            shop.place.commit(kind);
            let failed = shop.apply(&format!("{kind}{round}"));
            assert_eq!(failed.code, 4, "{kind}: {}", failed.stderr);
        }
    }
    let (requests, bad) = load.stop();
    assert!(requests > 1000 && bad.is_empty(), "{requests} requests: {bad:?}");
    assert_eq!(shop.word().trim(), "v0");
    shop.await_status("no candidate is left", |_| shop.pids().len() == 2);
}

#[test]
fn apply_killed_in_every_rollout_loses_no_request_and_leaves_no_candidate() {
    let shop = shop(true);
    shop.apply("v0").success();
    let load = Load::on(shop.port);
    let mut live = "v0".to_owned();
    for round in 1..=rounds(20) {
        let word = format!("v{round}");
        let parameter = format!("word={word}");
        let instant = Duration::from_millis(u64::from(round) * 97 % 1300);
        shop.place.kill_after(&["apply", "--param", &parameter], instant);
        // Either it went live, or its replicas are gone: the server sees to it by itself.
        await_that("the rollout ends", || {
            let status = shop.status();
            let settled = status["candidate"].is_null()
                && status["state"] == "ready"
                && status["replicas"].as_array()?.len() == 2;
            settled.then_some(())
        });
        let now = shop.word().trim().to_owned();
        assert!(now == live || now == word, "{now} after {live} and {word}");
        live = now;
    }
    let (requests, bad) = load.stop();
    assert!(requests > 1000 && bad.is_empty(), "{requests} requests: {bad:?}");
    shop.apply("last").success();
    assert_eq!(shop.word().trim(), "last");
}

#[test]
fn killing_the_server_under_load_fails_requests_only_while_it_is_down() {
    let shop = shop(false);
    shop.apply("v0").success();
    let pids = shop.pids();
    let pid = shop.server_pid().to_string();
    let load = Load::on(shop.port);
    std::thread::sleep(Duration::from_secs(1));
    assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    await_that("it goes down", || crate::shop::get(shop.port, "/").err());
    load.stop();
    shop.apply("v0").success();
    await_that("requests after it", || {
        let load = Load::on(shop.port);
        std::thread::sleep(Duration::from_secs(1));
        let (requests, bad) = load.stop();
        assert!(bad.is_empty(), "{bad:?}");
        (requests > 0).then_some(())
    });
    assert_eq!(shop.pids(), pids, "the same replicas serve");
}

#[test]
fn two_applies_at_once_and_one_service() {
    let shop = shop(false);
    shop.apply("v0").success();
    let load = Load::on(shop.port);
    let first = shop.place.spawn(&["apply", "--param", "word=left"]);
    let second = shop.place.spawn(&["apply", "--param", "word=right"]);
    let (first, second) = (first.finish(), second.finish());
    assert_eq!((first.code, second.code), (0, 0), "{}{}", first.stderr, second.stderr);
    assert!(["left", "right"].contains(&shop.word().trim()));
    let (requests, bad) = load.stop();
    assert!(requests > 0 && bad.is_empty(), "{requests} requests: {bad:?}");
    shop.await_status("two replicas", |status| {
        status["replicas"].as_array().is_some_and(|replicas| replicas.len() == 2)
    });
}
