//! Services with secrets, on both runtimes: new values, earlier releases, probes, logs.

#![expect(
    clippy::redundant_closure_for_method_calls,
    reason = "the methods are not general enough: a scene borrows"
)]

use std::path::PathBuf;

use crate::container_shop::{IMAGE, Ship};
use crate::place::{Output, Place};
use crate::ports::free_port;
use crate::secrets::{holding, set};
use crate::shop::get;

const SERVE: &str = r#"
import http.server, os

token, file = os.environ["TOKEN"], open(os.environ["FILE"]).read()
print("starting with", token, "and", file, flush=True)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"{token} {file}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


at = (os.environ["FLOWRUN_LISTEN"], int(os.environ["PORT"]))
http.server.ThreadingHTTPServer(at, Handler).serve_forever()
"#;

/// Ready when it listens and the probe has what the program has.
const PROBE: &str = r#"import os, socket
assert os.environ["TOKEN"].startswith("token-number") and open(os.environ["FILE"]).read().startswith("file-number")
socket.create_connection(("127.0.0.1", int(os.environ["PORT"]))).close()
"#;

/// A pipeline with one service, in containers or not.
struct Scene<'a> {
    place: &'a Place,
    name: &'a str,
    port: u16,
    runtime: &'a str,
}

impl Scene<'_> {
    fn define(&self, probe: &str) {
        let Self { name, port, .. } = self;
        let text = format!(
            r#"version: "2"
name: {name}
defaults: {{image: "{IMAGE}"}}
stages:
  serve:
    run: [python3, serve.py]
    files: [serve.py, probe.py]
    secrets:
      TOKEN: vault
      FILE: {{secret: vault, entry: FILE, file: true}}
    service:
      port: {port}
      drain: 1s
      ready: {{run: {probe}}}
"#
        );
        self.place.write("serve.py", SERVE);
        self.place.write("probe.py", PROBE);
        self.place.write("pipeline.yaml", &text);
        self.place.commit("a service");
        set(self.place, "vault TOKEN", "token-number-1").success();
        set(self.place, "vault FILE", "file-number-1").success();
    }

    fn apply(&self) -> Output {
        self.place.run(&["apply", "--runtime", self.runtime])
    }

    fn answer(&self) -> String {
        get(self.port, "/").unwrap().1
    }

    fn line(&self, line: &str) -> Output {
        self.place.line(line)
    }

    /// No file of the home has one of the values.
    fn nothing_is_kept(&self) {
        for text in ["token-number-", "file-number-"] {
            assert_eq!(holding(&self.place.home(), text), Vec::<PathBuf>::new());
        }
    }

    fn new_values_and_old_releases(&self) {
        self.define("[python3, probe.py]");
        self.apply().success();
        assert_eq!(self.answer(), "token-number-1 file-number-1");

        let told = set(self.place, "vault TOKEN", "token-number-2").success().stderr;
        assert!(told.contains("serve@1` has an earlier value until"), "{told}");
        assert_eq!(self.answer(), "token-number-1 file-number-1");
        let plan = self.place.run(&["plan", "--runtime", self.runtime]).success().stdout;
        assert!(plan.contains("secrets.TOKEN: version 1 → version 2"), "{plan}");
        self.apply().success();
        assert_eq!(self.answer(), "token-number-2 file-number-1");
        let again = self.apply().success().stderr;
        assert!(again.contains("serve unchanged: release 2"), "{again}");

        let told = self.line("rollback serve").success().stderr;
        let words = "gets today's values of `vault#TOKEN` (version 2 now, 1 then)";
        assert!(told.contains(words), "{told}");
        assert_eq!(self.answer(), "token-number-2 file-number-1");
        set(self.place, "vault FILE", "file-number-2").success();
        self.line("restart serve").success();
        assert_eq!(self.answer(), "token-number-2 file-number-2");

        let told = self.line("secret rm vault FILE --yes").success().stderr;
        assert!(told.contains("is live and uses this"), "{told}");
        for line in ["restart serve", "rollback serve --to 2"] {
            let refused = self.line(line);
            assert_eq!(refused.code, 4, "{}", refused.stderr);
            let words =
                "secret `vault#FILE` is not set; set it with `flowrun secret set vault FILE`";
            assert!(refused.stderr.contains(words), "{line}: {}", refused.stderr);
        }
        assert_eq!(self.answer(), "token-number-2 file-number-2", "what is live goes on");

        let logs = self.line("logs serve").success().stdout;
        assert!(logs.contains("starting with *** and ***"), "{logs}");
        for line in ["status -o json", "releases -o json", "diff serve@1 serve@2 -o json"] {
            let said = self.line(line).success().stdout;
            assert!(!said.contains("-number-"), "{line}: {said}");
        }
        self.nothing_is_kept();
        self.line("down --yes").success();
    }

    fn a_probe_that_tells_shows_nothing(&self) {
        self.define(
            r#"[sh, -c, 'echo "no: $TOKEN $(cat "$FILE")"; exit 7'], interval: 10s, within: 12s"#,
        );
        let failed = self.apply();
        assert_eq!(failed.code, 4, "{}", failed.stderr);
        assert!(failed.stderr.contains("exited with code 7: no: *** ***"), "{}", failed.stderr);
        let all = format!("{}{}", failed.stderr, self.line("status -o json").success().stdout);
        assert!(!all.contains("-number-"), "{all}");
        self.nothing_is_kept();
        self.line("down --yes").success();
    }
}

fn local(scenario: impl Fn(&Scene<'_>)) {
    let place = Place::repo();
    scenario(&Scene { place: &place, name: "shop", port: free_port(), runtime: "local" });
}

fn docker(scenario: impl Fn(&Scene<'_>)) {
    let ship = Ship::of(SERVE);
    let (place, name, port) = (&ship.place, &ship.name, ship.port);
    scenario(&Scene { place, name, port, runtime: "docker" });
}

#[test]
fn processes_get_new_values_and_earlier_releases_todays() {
    local(|scene| scene.new_values_and_old_releases());
}

#[test]
fn containers_get_new_values_and_earlier_releases_todays() {
    docker(|scene| scene.new_values_and_old_releases());
}

#[test]
fn a_probe_of_a_process_shows_no_secret() {
    local(|scene| scene.a_probe_that_tells_shows_nothing());
}

#[test]
fn a_probe_in_a_container_shows_no_secret() {
    docker(|scene| scene.a_probe_that_tells_shows_nothing());
}
