//! Services that do not behave: each has a clear state and message, and the server stays small and alive.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use crate::patience::await_that;
use crate::place::{Output, Place};
use crate::ports::free_port;
use crate::shop::{Shop, get};

/// What its model says decides how it misbehaves; some of it begins with a request.
const SERVE: &str = r#"
import http.server, os, pathlib, signal, socket, subprocess, sys, threading, time

word = pathlib.Path(os.environ["FLOWRUN_INPUT_MODEL"]).read_text().strip()
signal.signal(signal.SIGTERM, signal.SIG_IGN if word == "deaf" else lambda *_: os._exit(0))
child = None
big = b"x" * 10_000_000
if word == "wait":
    while not os.path.exists("@GO@"):
        time.sleep(0.05)
if word == "fork":
    child = subprocess.Popen(["sleep", "86400"], start_new_session=True).pid


def flood():
    block = b"x" * 99 + b"\n"
    block *= 10_000
    end = time.monotonic() + 3
    while time.monotonic() < end:
        os.write(1, block)
    print("the flood is over", flush=True)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_GET(self):
        if self.path == "/flood":
            threading.Thread(target=flood, daemon=True).start()
        if self.path == "/slow":
            time.sleep(1)
        text = f"{word} {os.getpid()} {child}\n"
        if self.path == "/stream":
            self.send_response(200)
            self.send_header("Content-Length", str(len(text) * 20))
            self.end_headers()
            for _ in range(20):
                self.wfile.write(text.encode())
                self.wfile.flush()
                time.sleep(0.1)
            return
        while self.path == "/held" and not os.path.exists("@GO@.held"):
            time.sleep(0.05)
        body = big if self.path == "/big" else text.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        if self.path == "/close":
            threading.Thread(target=server.shutdown).start()

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 1024
    daemon_threads = True


server = Server(("127.0.0.1", int(os.environ["PORT"])), Handler)
print(f"answering {word}", flush=True)
server.serve_forever()
server.server_close()
time.sleep(86400)
"#;

/// A probe that asks often.
pub(crate) const READY: &str = "      ready: {http: /readyz, within: 60s, interval: 100ms}\n";

/// A shop with this program as its service.
pub(crate) fn shop(service: &str) -> Shop {
    shop_with_stages(service, "")
}

/// What a server may need, MiB.
pub(crate) const SMALL: u64 = 60;

/// With further stages. A program whose word is `wait` listens only once [`go`] is there.
pub(crate) fn shop_with_stages(service: &str, stages: &str) -> Shop {
    let shop = Shop::with_stages(&format!("{READY}{service}"), stages);
    shop.place.write("serve.py", &SERVE.replace("@GO@", go(&shop).to_str().unwrap()));
    shop.place.commit("hostile");
    shop
}

/// The path that a program whose word is `wait` waits for.
pub(crate) fn go(shop: &Shop) -> PathBuf {
    shop.place.outside("go")
}

/// Memory of a process that is no file's, MiB: of a debug build its own code alone is large.
pub(crate) fn memory(pid: i64) -> u64 {
    let status = fs_err::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().strip_suffix("kB").unwrap().trim().parse::<u64>().unwrap() / 1024
}

/// The process is there, and no zombie.
fn lives(pid: &str) -> bool {
    let stat = fs_err::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// The n-th word of what the service answers.
fn word(shop: &Shop, number: usize) -> String {
    shop.get("/").1.split_whitespace().nth(number).unwrap().to_owned()
}

/// Runs a command line as a user without rights, in a place that is given to them.
fn as_nobody(place: &Place, arguments: &[&str]) -> Output {
    let program = place.outside("flowrun");
    if !program.exists() {
        // Not by this process: what another test starts meanwhile would have it open for writing.
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_flowrun")).arg(&program).status();
        assert!(copied.unwrap().success());
    }
    let root = program.parent().unwrap();
    let given = Command::new("chown").args(["-R", "65534:65534"]).arg(root).status().unwrap();
    assert!(given.success());
    let mut command = place.command(&[]);
    command.env("FLOWRUN", &program).env("HOME", root).env("TMPDIR", root);
    let mut other = Command::new(&program);
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => other.env(name, value),
            None => other.env_remove(name),
        };
    }
    other.args(arguments).current_dir(place.folder()).uid(65_534).gid(65_534);
    Output::of(&mut other)
}

#[test]
fn a_port_below_1024_without_rights_is_told_with_its_mend() {
    let first = fs_err::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    if first.trim().parse::<u16>().unwrap() <= 81 || !rustix::process::geteuid().is_root() {
        eprintln!("not tried: ports from {} are for everybody, or this is not root", first.trim());
        return;
    }
    let place = Place::with(
        "version: \"2\"\nname: low\nstages:\n  web:\n    run: sleep 86400\n    service: {port: 81}\n",
    );
    let failed = as_nobody(&place, &["apply"]);
    assert_eq!(failed.code, 4, "{failed:?}");
    let said = "port 81 needs rights that flowrun does not have: use one above 1023";
    assert!(failed.stderr.contains(said), "{}", failed.stderr);
    let status = as_nobody(&place, &["status", "-o", "json"]).success();
    let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!(status["services"], serde_json::json!([]), "nothing is left of it");
    as_nobody(&place, &["server", "--status"]).success();
}

#[test]
fn one_route_or_port_twice_is_told_with_who_has_it() {
    let shop = shop("      route: /shop\n");
    shop.apply("one").success();
    let (own, other) = (shop.port, free_port());
    let service = |name: &str, keys: &str| {
        format!("  {name}:\n    run: sleep 86400\n    service: {{{keys}}}\n")
    };
    let head = |stages: &str| format!("version: \"2\"\nname: second\nstages:\n{stages}");

    for (one, two, said) in [
        ("port: 9000", "port: 9000", "port 9000 is `port` of `a` already"),
        ("port: 9000, route: /r", "port: 9001, route: /r/", "the route `/r` leads to `a` already"),
        ("port: 9000", "port: 9001, ports: {more: 9000}", "port 9000 is `port` of `a` already"),
    ] {
        let file = head(&format!("{}{}", service("a", one), service("b", two)));
        shop.place.write("second/pipeline.yaml", &file);
        let refused = shop.place.run(&["plan", "second"]);
        assert_eq!(refused.code, 3, "{refused:?}");
        assert!(refused.stderr.contains(said), "{}", refused.stderr);
    }

    for (keys, said) in [
        (format!("port: {own}"), format!("port {own} belongs to service `shop/serve`")),
        (
            format!("port: {other}, ports: {{more: {own}}}"),
            format!("port {own} belongs to service `shop/serve`"),
        ),
        (
            format!("port: {own}, listen: {own}"),
            format!("port {own} belongs to service `shop/serve`"),
        ),
        (
            format!("port: {other}, listen: {own}"),
            format!("port {own} belongs to service `shop/serve`"),
        ),
        (
            format!("port: {other}, route: /shop"),
            "route `/shop` belongs to service `shop/serve`".to_owned(),
        ),
    ] {
        shop.place.write("second/pipeline.yaml", &head(&service("b", &keys)));
        shop.place.commit("second");
        let failed = shop.place.run(&["apply", "second"]);
        assert_eq!(failed.code, 4, "{keys}: {failed:?}");
        assert!(failed.stderr.contains(&said), "{keys}: {}", failed.stderr);
        assert_eq!(shop.word(), "one");
    }
    let services = shop.place.json(&["status", "-o", "json"])["services"].clone();
    assert_eq!(services.as_array().unwrap().len(), 1, "{services}");
}

#[test]
fn a_port_that_its_program_insists_on_and_another_has_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let shop =
        Shop::with(&format!("      listen: {port}\n      ready: {{tcp: true, within: 60s}}\n"));
    // It does not say a word about the port and goes on without it; who has the port takes connections.
    shop.place.write("serve.py", "import time\ntime.sleep(86400)\n");
    shop.place.commit("stubborn");
    let failed = shop.apply("one");
    assert_eq!(failed.code, 4, "{failed:?}");
    let said = format!("port {port} is taken by another program");
    assert!(failed.stderr.contains(&said), "{}", failed.stderr);
}

#[test]
fn a_flood_of_log_leaves_the_newest_lines_and_no_more() {
    let shop = shop("");
    shop.place.run_with(&[("FLOWRUN_LOG_CAP", "1Mi")], &["apply", "--param", "word=one"]).success();
    let server = shop.server_pid();
    shop.get("/flood");
    let over = || {
        assert_eq!(shop.word(), "one", "it answers all the time");
        let logs = shop.place.run(&["logs", "serve"]).success();
        logs.stdout.contains("the flood is over").then_some(())
    };
    await_that("the flood ends", over);
    let logs = shop.place.run(&["logs", "serve"]).success();
    assert!(logs.stdout.ends_with("the flood is over\n"), "the newest is kept");
    assert!(logs.stdout.len() < 2 << 20, "{} bytes", logs.stdout.len());
    let services = walkdir::WalkDir::new(shop.place.home().join("services")).into_iter();
    let bytes: u64 = services.map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes < 4 << 20, "{bytes} bytes on disk");
    assert!(memory(server) < SMALL, "{} MiB", memory(server));
    assert_eq!(shop.server_pid(), server);
    assert_eq!(shop.status()["replicas"][0]["restarts"], 0);
}

#[test]
fn one_that_is_deaf_to_term_is_killed_and_nobody_waits_for_it() {
    let shop = shop("");
    shop.apply("deaf").success();
    let pid = word(&shop, 1);
    let slow = std::thread::spawn({
        let port = shop.port;
        move || get(port, "/slow").unwrap()
    });
    shop.apply("one").success();
    assert_eq!(shop.word(), "one", "the new one answers while the old one is being stopped");
    let (status, body) = slow.join().unwrap();
    assert!(status == 200 && ["deaf", "one"].contains(&body.split(' ').next().unwrap()), "{body}");
    await_that("it is killed", || (!lives(&pid)).then_some(()));
    shop.await_status("nothing is left of it", |status| {
        status["replicas"].as_array().is_some_and(|all| all.len() == 1)
    });
    assert_eq!(shop.word(), "one");
}

#[test]
fn children_that_stay_behind_go_with_their_replica() {
    let shop = shop("");
    shop.apply("fork").success();
    let child = word(&shop, 2);
    assert!(lives(&child));
    shop.apply("one").success();
    await_that("the child goes", || (!lives(&child)).then_some(()));

    shop.apply("fork").success();
    let (parent, child) = (word(&shop, 1), word(&shop, 2));
    assert!(Command::new("kill").args(["-KILL", &parent]).status().unwrap().success());
    await_that("the child of a killed one goes too", || (!lives(&child)).then_some(()));
    shop.await_status("a new one", |status| {
        status["state"] == "ready" && status["replicas"][0]["restarts"] == 1
    });
    let child = word(&shop, 2);
    shop.place.run(&["down", "--yes"]).success();
    assert!(!lives(&child), "`down` waits for the end");
}

#[test]
fn one_that_closes_its_listener_is_started_anew_also_when_its_port_is_stolen() {
    let shop = shop("      alive: {http: /readyz, interval: 5s, failures: 2}\n");
    shop.apply("one").success();
    let address =
        |status: &serde_json::Value| status["replicas"][0]["address"].as_str().map(str::to_owned);
    for round in 1..=2_u64 {
        let pid = word(&shop, 1);
        let before = address(&shop.status()).unwrap();
        shop.get("/close");
        let thief = (round == 2)
            .then(|| await_that("its port is free", || std::net::TcpListener::bind(&before).ok()));
        let after = shop.await_status("a new one", |status| {
            let restarts = &status["replicas"][0]["restarts"];
            status["state"] == "ready" && restarts.as_u64() >= Some(round)
        });
        assert_ne!(address(&after).unwrap(), before);
        assert!(!lives(&pid), "the old one is gone");
        assert_eq!(shop.word(), "one");
        drop(thief);
    }
}
