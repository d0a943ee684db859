//! A pipeline whose services are containers, in a place of its own; its containers, networks and volumes are gone afterwards.

use std::ops::Deref;
use std::process::{Command, Stdio};

use crate::place::Output;
use crate::shop::Shop;

/// Made by `tests/run`.
pub(crate) const IMAGE: &str = "flowrun-test/python:bookworm";

/// The program of the services. What its word says decides what it does.
const SERVE: &str = r#"
import http.server, os, pathlib, signal, sys, urllib.request

model = os.environ.get("FLOWRUN_INPUT_MODEL")
word = pathlib.Path(model).read_text().strip() if model else "front"
if word == "crash":
    print("there is no model in this file", file=sys.stderr)
    sys.exit(3)
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_GET(self):
        if self.path == "/exit":
            os._exit(9)
        said = word
        if self.path == "/behind":
            url = os.environ["FLOWRUN_SERVICE_SERVE_URL"]
            said = url + " " + urllib.request.urlopen(url).read().decode()
        body = f"{said} {os.uname().nodename}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


server = Server(("0.0.0.0", int(os.environ["PORT"])), Handler)
print(f"answering {word}", flush=True)
server.serve_forever()
"#;

/// `train` writes the word, `serve` answers with it, both in containers.
///
/// Its pipeline is called unlike that of every other test: what the engine made is found by it.
pub(crate) struct Ship(Shop);

impl Deref for Ship {
    type Target = Shop;

    fn deref(&self) -> &Shop {
        &self.0
    }
}

impl Ship {
    /// With this program and no pipeline yet.
    pub(crate) fn of(program: &str) -> Self {
        Self(Shop::of(|port| format!("ship-{port}"), program))
    }

    /// With these further lines below `service:`, indented by six, and these further stages, indented by two.
    pub(crate) fn with(service: &str, stages: &str) -> Self {
        let ship = Self::of(SERVE);
        ship.define(service, stages);
        ship.place.commit("first");
        ship
    }

    /// Writes the pipeline file anew; nothing is committed.
    pub(crate) fn define(&self, service: &str, stages: &str) {
        let head = format!("params: {{word: one}}\ndefaults: {{image: \"{IMAGE}\"}}");
        self.write(&head, "", service, stages);
    }

    /// `apply` with a word.
    pub(crate) fn apply(&self, word: &str) -> Output {
        let word = format!("word={word}");
        self.place.run(&["apply", "--runtime", "docker", "--param", &word])
    }

    /// The ids of the containers of its services, in order.
    pub(crate) fn containers(&self) -> Vec<String> {
        let of_pipeline = format!("label=flowrun.pipeline={}", self.name);
        let found = docker(&[
            "ps",
            "-aq",
            "--no-trunc",
            "--filter",
            &of_pipeline,
            "--filter",
            "label=flowrun.release",
        ]);
        let mut ids: Vec<String> = found.lines().map(str::to_owned).collect();
        ids.sort();
        ids
    }

    /// The names of its networks.
    pub(crate) fn networks(&self) -> Vec<String> {
        self.listed("network")
    }

    /// The names of its volumes at the engine.
    pub(crate) fn volumes(&self) -> Vec<String> {
        self.listed("volume")
    }

    fn listed(&self, kind: &str) -> Vec<String> {
        let found = docker(&[kind, "ls", "--format", "{{.Name}}"]);
        let own = |name: &&str| name.starts_with("flowrun-") && name.contains(&self.name);
        found.lines().filter(own).map(str::to_owned).collect()
    }
}

impl Drop for Ship {
    fn drop(&mut self) {
        // A test that failed midway leaves its services; nobody else removes them.
        drop(self.place.run(&["server", "--stop"]));
        for container in self.containers() {
            quietly(&["rm", "-f", &container]);
        }
        self.networks().iter().for_each(|name| quietly(&["network", "rm", name]));
        self.volumes().iter().for_each(|name| quietly(&["volume", "rm", name]));
    }
}

/// What the engine's own program says.
pub(crate) fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().expect("docker is installed");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn quietly(arguments: &[&str]) {
    drop(
        Command::new("docker").args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status(),
    );
}

/// Builds an image on top of the tests' own.
pub(crate) fn build(tag: &str, lines: &str, files: &[(&str, &str)]) {
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join("Dockerfile"), format!("FROM {IMAGE}\n{lines}")).unwrap();
    for (name, text) in files {
        fs_err::write(folder.path().join(name), text).unwrap();
    }
    let output = Command::new("docker")
        .args(["build", "-q", "-t", tag])
        .arg(folder.path())
        .env("DOCKER_BUILDKIT", "0")
        .output()
        .expect("docker is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
