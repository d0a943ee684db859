//! Services as containers of a real Docker Engine: rollouts under load, who reaches whom, what a killed server finds again, and that
//! nothing is left behind.

use std::process::Command;

use crate::container_shop::{Ship, build, docker};
use crate::patience::await_that;
use crate::rollouts::Load;
use crate::shop::get;

/// On docker a program that insists on its port is rolled out side by side too.
const TWO: &str =
    "      listen: 8000\n      replicas: 2\n      ready: {http: /readyz, within: 60s}\n";

fn kill(pid: i64) {
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
}

#[test]
fn rollouts_under_load_lose_no_request_and_a_bad_release_changes_nothing() {
    let ship = Ship::with(TWO, "");
    ship.apply("v0").success();
    let load = Load::on(ship.port);
    for round in 1..=3 {
        ship.apply(&format!("v{round}")).success();
        assert_eq!(ship.word(), format!("v{round}"));
    }
    // Those of the release before may still finish their requests.
    let live = await_that("only the live containers are left", || {
        Some(ship.containers()).filter(|all| all.len() == 2)
    });
    let failed = ship.apply("crash");
    assert_eq!(failed.code, 4, "{}", failed.stderr);
    assert!(failed.stderr.contains("exited with code 3"), "{}", failed.stderr);
    assert!(failed.stderr.contains("there is no model in this file"), "{}", failed.stderr);
    let (requests, bad) = load.stop();
    assert!(requests > 100 && bad.is_empty(), "{requests} requests: {bad:?}");
    await_that("only the live containers are left", || (ship.containers() == live).then_some(()));

    let back = ship.place.run(&["rollback", "serve"]).success();
    assert!(back.stderr.contains("is release 3 again"), "{}", back.stderr);
    assert_eq!(ship.word(), "v2");
    assert!(ship.place.run(&["logs", "serve"]).success().stdout.contains("answering v2"));
    ship.place.run(&["scale", "serve", "1"]).success();
    ship.await_status("one replica", |status| status["replicas"].as_array().unwrap().len() == 1);
    let before = ship.containers();
    ship.place.run(&["restart", "serve"]).success();
    // The old one may still finish its requests.
    await_that("only a new container", || {
        let now = ship.containers();
        (now.len() == 1 && now != before).then_some(())
    });
}

#[test]
fn a_killed_server_finds_the_same_containers_and_removes_those_nobody_knows() {
    let ship = Ship::with(TWO, "");
    ship.apply("v0").success();
    let containers = ship.containers();
    assert_eq!(containers.len(), 2);
    let load = Load::on(ship.port);
    kill(ship.server_pid());
    await_that("it goes down", || get(ship.port, "/").err());
    load.stop();
    // As if the server had been killed between the engine and its own files.
    let label = docker(&[
        "inspect",
        "-f",
        "{{index .Config.Labels \"flowrun.installation\"}}",
        &containers[0],
    ]);
    let orphan = docker(&[
        "run",
        "-d",
        "--label",
        &format!("flowrun.installation={}", label.trim()),
        "--label",
        &format!("flowrun.pipeline={}", ship.name),
        "--label",
        "flowrun.stage=serve",
        "--label",
        "flowrun.release=01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "flowrun-test/tiny:1",
        "sleep",
        "1000",
    ]);
    assert!(ship.containers().contains(&orphan.trim().to_owned()));
    ship.apply("v0").success();
    let load = Load::on(ship.port);
    await_that("the orphan goes", || (ship.containers() == containers).then_some(()));
    // One that dies meanwhile is started anew.
    docker(&["kill", &containers[0]]);
    await_that("another container in its place", || {
        let now = ship.containers();
        (now.len() == 2 && now.contains(&containers[1]) && !now.contains(&containers[0]))
            .then_some(())
    });
    ship.await_status("two replicas", |status| status["ready"] == 2);
    let (requests, _) = load.stop();
    assert!(requests > 100, "{requests} requests");
}

#[test]
fn apply_killed_in_rollouts_leaves_no_candidate() {
    let ship = Ship::with(TWO, "");
    ship.apply("v0").success();
    for round in 1..=5_u64 {
        let parameter = format!("word=v{round}");
        let instant = std::time::Duration::from_millis(round * 700);
        let apply = ["apply", "--runtime", "docker", "--param", &parameter];
        ship.place.kill_after(&apply, instant);
        await_that("the rollout ends", || {
            let status = ship.service("serve");
            let settled = status["candidate"].is_null()
                && status["state"] == "ready"
                && status["replicas"].as_array()?.len() == 2;
            (settled && ship.containers().len() == 2).then_some(())
        });
    }
    ship.apply("last").success();
    assert_eq!(ship.word(), "last");
}

#[test]
fn a_candidate_is_reached_by_its_check_alone_and_services_by_their_names() {
    // It looks at both: the candidate, and what its host name leads to meanwhile.
    let stages = r#"  smoke:
    run: ["python3", "smoke.py"]
    files: [smoke.py]
  front_door:
    run: [python3, serve.py]
    files: [serve.py]
    needs: [serve]
    env: {BEHIND: "${{ services.serve.url }}"}
    service: {port: PORT, ready: {http: /readyz, within: 60s}}
  ask:
    run: ["python3", "-c", "import os, urllib.request as r; open(os.environ['FLOWRUN_OUTPUT_SAID'], 'wb').write(r.urlopen(os.environ['URL']).read())"]
    files: []
    env: {URL: "${{ services.front_door.url }}/behind"}
    outputs: {said: said.txt}
"#;
    let port = crate::ports::free_port();
    let stages = stages.replace("PORT", &port.to_string());
    let service = format!("{TWO}      verify: smoke\n");
    let ship = Ship::with(&service, &stages);
    let smoke = format!(
        r#"
import os, urllib.request, urllib.error

def ask(url):
    try:
        return urllib.request.urlopen(url).read().decode().split()[0]
    except urllib.error.HTTPError as error:
        return str(error.code)

print("candidate", ask(os.environ["FLOWRUN_SERVICE_SERVE_URL"]), "live", ask("http://serve:{}"))
"#,
        ship.port
    );
    ship.place.write("smoke.py", &smoke);
    ship.place.commit("smoke");
    // Nothing is live yet: the gateway answers for it, and says so.
    ship.apply("one").success();
    let logs = ship.place.run(&["logs", "smoke"]).success().stdout;
    assert!(logs.contains("candidate one live 503"), "{logs}");
    let said = get(port, "/behind").unwrap().1;
    assert!(said.starts_with(&format!("http://serve:{} one ", ship.port)), "{said}");

    ship.apply("two").success();
    let logs = ship.place.run(&["logs", "smoke"]).success().stdout;
    assert!(logs.contains("candidate two live one"), "{logs}");
    assert!(get(port, "/behind").unwrap().1.contains(" two "));

    ship.place.run(&["down", "--yes"]).success();
    assert_eq!(ship.containers(), Vec::<String>::new());
    assert_eq!(ship.networks(), Vec::<String>::new());
}

#[test]
fn an_image_with_its_own_program_keeps_its_data_over_a_release() {
    let tag = "flowrun-test/docker-services:keep";
    let program = r#"
import http.server, os, pathlib
file = pathlib.Path("/data/starts")
starts = int(file.read_text()) + 1 if file.exists() else 1
file.write_text(str(starts))

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"{starts} {os.getuid()} {os.environ['GREETING']}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

http.server.HTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
"#;
    let lines = "COPY keep.py /keep.py\nRUN mkdir /data && chown 1234 /data\nUSER 1234\nENTRYPOINT [\"python3\", \"/keep.py\"]\n";
    build(tag, lines, &[("keep.py", program)]);
    let stage = |greeting: &str| {
        format!(
            "  keep:\n    image: {tag}\n    env: {{GREETING: {greeting}}}\n    volumes: {{data: /data}}\n    service: {{port: PORT, ready: {{tcp: true, within: 60s}}}}\nvolumes: {{data: {{}}}}\n"
        )
    };
    let port = crate::ports::free_port();
    let define = |greeting: &str| stage(greeting).replace("PORT", &port.to_string());
    let ship = Ship::with("", &define("hello"));
    ship.apply("one").success();
    assert_eq!(get(port, "/").unwrap().1, "1 1234 hello");
    assert_eq!(ship.volumes().len(), 1);
    ship.define("", &define("again"));
    ship.apply("one").success();
    assert_eq!(get(port, "/").unwrap().1, "2 1234 again");

    ship.place.run(&["down", "--yes"]).success();
    assert_eq!((ship.containers().len(), ship.networks().len()), (0, 0));
    assert_eq!(ship.volumes().len(), 1, "data stays");
    ship.apply("one").success();
    assert_eq!(get(port, "/").unwrap().1, "3 1234 again");
    ship.place.run(&["down", "--volumes", "--yes"]).success();
    assert_eq!(ship.volumes(), Vec::<String>::new());
    // When the service is gone already, its data is still found.
    ship.apply("one").success();
    ship.place.run(&["down", "--yes"]).success();
    assert_eq!(ship.volumes().len(), 1);
    let gone = ship.place.run(&["down", "--volumes", "--yes"]).success();
    assert!(
        gone.stderr.contains(&format!("removed volume `{}/data`", ship.name)),
        "{}",
        gone.stderr
    );
    assert_eq!(ship.volumes(), Vec::<String>::new());
    docker(&["rmi", tag]);
}
