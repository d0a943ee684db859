//! A pipeline with a service in a place of its own: what services are tested with.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use crate::patience::await_that;
use crate::place::{Output, Place};
use crate::ports::free_port;

/// The program of the service. What its model says decides what it does; `@GO@` is a path that a test may make (`outside("go")`).
const SERVE: &str = r#"
import http.server, os, pathlib, signal, sys, threading, time

word = pathlib.Path(os.environ["FLOWRUN_INPUT_MODEL"]).read_text().strip()
if word == "crash":
    print("there is no model in this file", file=sys.stderr)
    sys.exit(3)
if word == "never":
    time.sleep(3600)


def crash_later():
    while not os.path.exists("@GO@"):
        time.sleep(0.05)
    os._exit(4)


if word == "later":
    threading.Thread(target=crash_later, daemon=True).start()
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_GET(self):
        status, headers = 200, {}
        if self.path == "/readyz" and word == "redirect":
            status, headers = 307, {"Location": "/login"}
        if self.path == "/readyz" and word == "hang":
            time.sleep(3600)
        if self.path == "/exit":
            os._exit(9)
        if self.path == "/stick":
            globals()["word"] = "hang"
        if self.path == "/slow":
            time.sleep(1)
        body = f"{word} {os.getpid()} {self.path}\n".encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler)
server.daemon_threads = True
print(f"answering {word}", flush=True)
server.serve_forever()
"#;

/// A place with the pipeline `shop`: `train` writes the word, `judge` its score, `serve` answers with it.
pub(crate) struct Shop {
    pub(crate) place: Place,
    pub(crate) port: u16,
    /// Of the pipeline.
    pub(crate) name: String,
}

/// Between `train` and `serve`.
const JUDGE: &str = r#"  judge:
    run: ["sh", "-c", "printf '{\"score\": %s}' \"$0\" > metrics.json", "${{ params.score }}"]
    files: []
    metrics: metrics.json
"#;

impl Shop {
    /// With these further lines below `service:`, indented by six.
    pub(crate) fn with(service: &str) -> Self {
        Self::with_stages(service, "")
    }

    /// And these further stages, indented by two.
    pub(crate) fn with_stages(service: &str, stages: &str) -> Self {
        let shop = Self::of(|_| "shop".to_owned(), SERVE);
        shop.define(service, stages);
        shop.place.commit("first");
        shop
    }

    /// With this program and no pipeline yet; `name` is asked what its pipeline is called, by its port.
    pub(crate) fn of(name: impl Fn(u16) -> String, program: &str) -> Self {
        let (place, port) = (Place::repo(), free_port());
        let go = place.outside("go");
        place.write("serve.py", &program.replace("@GO@", go.to_str().unwrap()));
        Self { place, port, name: name(port) }
    }

    /// Writes the pipeline file anew; nothing is committed.
    pub(crate) fn define(&self, service: &str, stages: &str) {
        self.write("params:\n  word: one\n  score: 1.0", JUDGE, service, stages);
    }

    /// Writes a pipeline file: the keys in `head`, the stage `train`, those in `between`, the service, and the `stages` after it.
    pub(crate) fn write(&self, head: &str, between: &str, service: &str, stages: &str) {
        let Self { place, port, name } = self;
        let text = format!(
            r#"version: "2"
name: {name}
{head}
stages:
  train:
    run: ["sh", "-c", "printf %s \"$0\" > \"$FLOWRUN_OUTPUT_MODEL\"", "${{{{ params.word }}}}"]
    files: []
    outputs: {{model: model.txt}}
{between}  serve:
    run: [python3, serve.py]
    files: [serve.py]
    inputs: {{model: train.model}}
    service:
      port: {port}
      drain: 60s
{service}
{stages}"#
        );
        place.write("pipeline.yaml", &text);
    }

    /// `apply` with a word.
    pub(crate) fn apply(&self, word: &str) -> Output {
        self.place.run(&["apply", "--param", &format!("word={word}")])
    }

    /// `apply` with a word and a score.
    pub(crate) fn apply_scored(&self, word: &str, score: &str) -> Output {
        let (word, score) = (format!("word={word}"), format!("score={score}"));
        self.place.run(&["apply", "--param", &word, "--param", &score])
    }

    /// The answer of the service's own port.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        get(self.port, path).unwrap()
    }

    /// The word that the service answers with.
    pub(crate) fn word(&self) -> String {
        let (status, body) = self.get("/");
        assert_eq!(status, 200, "{body}");
        body.split(' ').next().unwrap().to_owned()
    }

    /// The service `serve` as `status` shows it.
    pub(crate) fn status(&self) -> Value {
        self.service("serve")
    }

    pub(crate) fn service(&self, stage: &str) -> Value {
        let status = self.place.json(&["status", "-o", "json"]);
        let services = status["services"].as_array().unwrap();
        let name = format!("{}/{stage}", self.name);
        services.iter().find(|row| row["service"] == name.as_str()).cloned().unwrap_or(Value::Null)
    }

    /// The processes of the live replicas, in order.
    pub(crate) fn pids(&self) -> Vec<i64> {
        let status = self.status();
        let replicas = status["replicas"].as_array().unwrap();
        let mut pids: Vec<i64> =
            replicas.iter().filter_map(|replica| replica["pid"].as_i64()).collect();
        pids.sort_unstable();
        pids
    }

    /// The server's process.
    pub(crate) fn server_pid(&self) -> i64 {
        self.place.json(&["server", "--status", "-o", "json"])["pid"].as_i64().unwrap()
    }

    /// Waits until the status of `serve` is as wished.
    pub(crate) fn await_status(&self, what: &str, wished: impl Fn(&Value) -> bool) -> Value {
        await_that(what, || Some(self.status()).filter(|status| wished(status)))
    }
}

/// One request on a connection of its own.
pub(crate) fn get(port: u16, path: &str) -> std::io::Result<(u16, String)> {
    ask(port, &format!("GET {path}"), "")
}

/// One request with a body.
pub(crate) fn post(port: u16, path: &str, body: &str) -> std::io::Result<(u16, String)> {
    ask(port, &format!("POST {path}"), body)
}

fn ask(port: u16, what: &str, body: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let length = body.len();
    write!(
        stream,
        "{what} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other(format!("no answer: {answer:?}")))?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    Ok((status, body))
}
