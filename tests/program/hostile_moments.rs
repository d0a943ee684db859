//! Bad moments: what is asked for while requests stream, a rollout goes on, or nobody looks after ten services.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use serde_json::Value;

use crate::hostile::{go, shop, shop_with_stages};
use crate::patience::{PATIENCE, await_that};
use crate::place::Running;
use crate::ports::free_port;
use crate::shop::{Shop, get};

/// An `apply` whose candidate does not become ready before it is told to.
fn waiting_rollout(shop: &Shop) -> Running {
    let running = shop.place.spawn(&["apply", "--param", "word=wait"]);
    shop.await_status("a candidate", |status| !status["candidate"].is_null());
    running
}

/// One live replica and nothing beside it.
fn is_settled(status: &Value) -> bool {
    status["candidate"].is_null()
        && status["state"] == "ready"
        && status["replicas"].as_array().is_some_and(|replicas| replicas.len() == 1)
}

#[test]
fn down_lets_streams_come_to_their_end() {
    let shop = shop("");
    shop.apply("one").success();
    let mut stream = TcpStream::connect(("127.0.0.1", shop.port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /stream HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = vec![0; 1];
    stream.read_exact(&mut answer).unwrap();
    shop.place.run(&["down", "--yes"]).success();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(body.lines().filter(|line| line.starts_with("one ")).count(), 20, "{body}");
    assert!(get(shop.port, "/").is_err(), "nothing listens any more");
}

#[test]
fn a_rollout_goes_on_when_the_server_is_stopped_over_it() {
    let shop = shop("");
    shop.apply("one").success();
    let server = shop.server_pid();
    let rollout = waiting_rollout(&shop);
    let mut held = TcpStream::connect(("127.0.0.1", shop.port)).unwrap();
    held.set_read_timeout(Some(PATIENCE)).unwrap();
    held.write_all(b"GET /held HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let ending = shop.place.spawn(&["server", "--stop"]);
    await_that("nobody takes connections", || TcpStream::connect(("127.0.0.1", shop.port)).err());
    fs_err::write(go(&shop).with_extension("held"), "").unwrap();
    let mut answer = String::new();
    held.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\r\n\r\none "), "{answer}");
    ending.finish().success();
    await_that("another server", || {
        let status = shop.place.run(&["server", "--status", "-o", "json"]);
        let status: Value = serde_json::from_str(&status.stdout).ok()?;
        status["pid"].as_i64().filter(|pid| *pid != server)
    });
    fs_err::write(go(&shop), "").unwrap();
    rollout.finish().success();
    assert_eq!(shop.word(), "wait");
    shop.await_status("only the new one", is_settled);
    assert_eq!(shop.status()["number"], 2);
}

#[test]
fn ctrl_c_in_a_rollout_leaves_the_old_release_alone() {
    let smoke =
        "  smoke:\n    run: 'test \"${{ params.word }}\" = one || sleep 86400'\n    files: []\n";
    let shop = shop_with_stages("      verify: smoke\n", smoke);
    shop.apply("one").success();
    let pids = shop.pids();
    for word in ["wait", "two"] {
        let rollout = if word == "wait" {
            waiting_rollout(&shop)
        } else {
            let rollout = shop.place.spawn(&["apply", "--param", "word=two"]);
            shop.place.await_running("smoke");
            rollout
        };
        rollout.interrupt();
        let ended = rollout.finish();
        assert_eq!(ended.code, 130, "{word}: {ended:?}");
        assert_eq!(shop.place.runs()[0]["outcome"], "cancelled", "{word}");
        shop.await_status("only the old one", is_settled);
        assert_eq!(shop.pids(), pids, "{word}");
        assert_eq!(shop.word(), "one");
    }
    let releases = shop.place.json(&["releases", "serve", "-o", "json"]);
    assert_eq!(releases.as_array().unwrap().len(), 3, "{releases}");
}

/// Every service: its replicas' processes, once all are ready.
fn all_ready(shop: &Shop, count: usize) -> Option<BTreeMap<String, i64>> {
    let status = shop.place.json(&["status", "-o", "json"]);
    let services = status["services"].as_array()?;
    let of = |service: &Value| {
        let pid = service["replicas"][0]["pid"].as_i64()?;
        (service["state"] == "ready")
            .then(|| (service["service"].as_str().unwrap_or_default().to_owned(), pid))
    };
    let found: BTreeMap<String, i64> = services.iter().map(of).collect::<Option<_>>()?;
    (found.len() == count).then_some(found)
}

#[test]
fn ten_services_outlive_their_server() {
    let ports: Vec<u16> = (0..9).map(|_| free_port()).collect();
    let stage = |(number, port): (usize, &u16)| {
        format!(
            "  s{number}:\n    run: [python3, serve.py]\n    files: [serve.py]\n    \
             inputs: {{model: train.model}}\n    service: {{port: {port}, ready: {{http: /readyz, within: 2m}}}}\n"
        )
    };
    let stages: String = ports.iter().enumerate().map(stage).collect();
    let shop = shop_with_stages("", &stages);
    shop.apply("one").success();
    let before = await_that("all ten are ready", || all_ready(&shop, 10));
    let pid = shop.server_pid().to_string();
    assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    await_that("the gateway goes down", || get(ports[0], "/").err());
    let server = shop.place.spawn(&["server"]);
    let after = await_that("the next one has all ten", || all_ready(&shop, 10));
    assert_eq!(after, before, "the same processes");
    for port in ports.iter().chain([&shop.port]) {
        let (status, body) = await_that("an answer", || get(*port, "/").ok());
        assert_eq!(status, 200, "{body}");
    }
    shop.place.run(&["server", "--stop"]).success();
    server.finish().success();
}
