//! Inputs from outside that ask for a login: tokens from secrets, `.netrc`; and inputs from outside in containers.

use crate::authority::Script;
use crate::containers::Harbour;
use crate::place::{Output, Place};
use crate::team::await_that;

/// Gives its file to whoever sends the right header, with an entity tag; `/moved` leads to the address of the third argument. Writes down
/// what it was sent.
const SERVER: &str = "
import http.server, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        sent = self.headers.get('authorization', 'nothing')
        open(sys.argv[1], 'a').write(f'{self.path} {sent}\\n')
        status, body, more = 200, b'private', {'ETag': '\"1\"'}
        if self.path == '/moved':
            status, body, more = 302, b'', {'Location': sys.argv[3]}
        elif sys.argv[2] != 'anybody' and sent != sys.argv[2]:
            status, body, more = 401, b'', {}
        elif self.headers.get('if-none-match') == '\"1\"':
            status, body = 304, b''
        self.send_response(status)
        for name, value in more.items():
            self.send_header(name, value)
        self.send_header('content-length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
";

/// One object of a bucket. While the file of the second argument is there, only its first 8 MiB are given out. Writes down each range.
const BUCKET: &str = "
import http.server, os, sys, time

BODY = b'x' * (20 << 20) + b'end'

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def head(self, status, length, more):
        self.send_response(status)
        for name, value in {'ETag': '\"' + ETAG() + '\"', 'Last-Modified': 'Wed, 01 Jan 2020 00:00:00 GMT', **more}.items():
            self.send_header(name, value)
        self.send_header('Content-Length', str(length))
        self.end_headers()
    def do_HEAD(self):
        self.head(200, len(BODY), {})
    def do_GET(self):
        asked = self.headers['range']
        open(sys.argv[1], 'a').write(asked + '\\n')
        first, last = (int(part) for part in asked.removeprefix('bytes=').split('-'))
        while first > 0 and os.path.exists(sys.argv[2]):
            time.sleep(0.05)
        part = BODY[first:last + 1]
        self.head(206, len(part), {'Content-Range': f'bytes {first}-{last}/{len(BODY)}'})
        self.wfile.write(part)
    def log_message(self, *_):
        pass

def ETAG():
    return open(sys.argv[3]).read()

server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
";

struct Private {
    place: Place,
    server: Script,
    log: String,
}

impl Private {
    fn new(wants: &str, moved: &str) -> Self {
        let place = Place::repo();
        let log = place.outside("log").to_str().unwrap().to_owned();
        fs_err::write(&log, "").unwrap();
        let server = Script::start(SERVER, &[&log, wants, moved]);
        Self { place, server, log }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.server.port)
    }

    fn define(&self, input: &str) {
        self.place.write(
            "pipeline.yaml",
            &format!(
                "version: \"2\"\nname: private\nstages:\n  copy:\n    run: cat \"$FLOWRUN_INPUT_DATA\" > out.txt\n    \
                 files: []\n    inputs: {{data: {input}}}\n    outputs: {{out: out.txt}}\n"
            ),
        );
        self.place.commit("next");
    }

    fn log(&self) -> Vec<String> {
        fs_err::read_to_string(&self.log).unwrap().lines().map(str::to_owned).collect()
    }

    fn set(&self, name: &str, entry: &str, value: &str) {
        let variables = [("VALUE", value)];
        let arguments = ["secret", "set", name, entry, "--from-variable", "VALUE"];
        self.place.run_with(&variables, &arguments).success();
    }
}

fn says(output: &Output, code: i32, words: &[&str]) {
    assert_eq!(output.code, code, "{}{}", output.stdout, output.stderr);
    for word in words {
        assert!(output.stderr.contains(word), "{word}: {}", output.stderr);
    }
    assert!(!output.stderr.contains("hunter2"), "{}", output.stderr);
}

#[test]
fn a_token_from_a_secret_opens_a_private_address() {
    let private = Private::new("Bearer hunter2", "");
    let place = &private.place;
    private.define(&format!("{{url: \"{}\"}}", private.url("data")));
    says(&place.run(&["apply"]), 5, &["asks for a login (401)", "`token`"]);
    private.define(&format!("{{url: \"{}\", token: hub}}", private.url("data")));
    says(
        &place.run(&["apply"]),
        5,
        &["stage `copy`: secret `hub#TOKEN` is not set", "flowrun secret set hub TOKEN"],
    );
    private.set("hub", "TOKEN", "hunter2");
    let before = private.log().len();
    place.run(&["apply"]).success();
    assert_eq!(place.output("copy", "out"), "private");
    assert_eq!(private.log()[before..], ["/data Bearer hunter2"]);
    // `plan` and the next run ask with it too, and it is in no key.
    assert_eq!(place.run(&["plan", "--exit-code"]).code, 0);
    private.set("hub", "other", "hunter2");
    private.define(&format!("{{url: \"{}\", token: \"hub#other\"}}", private.url("data")));
    place.run(&["apply"]).success();
    assert_eq!(place.states(), ["copy reused"]);
    assert!(private.log().iter().skip(before).all(|line| line == "/data Bearer hunter2"));
    // Nobody finds it in what is kept.
    let home = place.home();
    let grep = std::process::Command::new("grep").args(["-rl", "hunter2"]).arg(home).output();
    assert_eq!(String::from_utf8(grep.unwrap().stdout).unwrap(), "");

    for (input, said) in [
        (
            "{url: \"http://example.org/x\", digest: \"b3:00\", token: hub}",
            "`https:` addresses only",
        ),
        ("{url: \"s3://bucket/x\", token: hub}", "`https:` addresses only"),
        ("{url: \"https://me:word@example.org/x\", token: hub}", "a login of its own"),
        ("{from: copy.out, token: hub}", "`token` goes with `url` only"),
        ("{url: \"https://example.org/x\", token: \"a/b/c\"}", "names no secret"),
    ] {
        private.define(input);
        says(&place.run(&["validate"]), 3, &[said]);
    }
}

#[test]
fn a_netrc_opens_a_private_address_and_goes_nowhere_else() {
    let elsewhere = Private::new("anybody", "");
    // `me:hunter2`, as HTTP writes it.
    let private = Private::new("Basic bWU6aHVudGVyMg==", &elsewhere.url("data"));
    let place = &private.place;
    let netrc = place.outside("netrc");
    fs_err::write(&netrc, "machine 127.0.0.1 login me password hunter2\n").unwrap();
    let variables = [("NETRC", netrc.to_str().unwrap())];
    let apply = || place.run_with(&variables, &["apply"]);
    private.define(&format!("{{url: \"{}\"}}", private.url("data")));
    says(&place.run_with(&[("NETRC", "/nowhere")], &["apply"]), 5, &["asks for a login"]);
    apply().success();
    assert_eq!(place.output("copy", "out"), "private");
    private.define(&format!("{{url: \"{}\"}}", private.url("moved")));
    apply().success();
    assert_eq!(private.log().last().unwrap(), "/moved Basic bWU6aHVudGVyMg==");
    assert_eq!(elsewhere.log(), ["/data nothing"], "a redirect takes no login along");
}

#[test]
fn a_container_gets_what_lies_outside() {
    let private = Private::new("Bearer hunter2", "");
    let stages = format!(
        "  copy:\n    run: [\"sh\", \"-c\", \"cat \\\"$FLOWRUN_INPUT_DATA\\\" data/labels.csv > \\\"$FLOWRUN_OUTPUT_OUT\\\"; \
         echo spoilt >> \\\"$FLOWRUN_INPUT_DATA\\\" && exit 3; exit 0\"]\n    files: []\n    \
         inputs:\n      data: {{url: \"{}\", token: hub}}\n      labels: {{url: \"{}\", token: hub, path: data/labels.csv}}\n    outputs: {{out: out.txt}}\n",
        private.url("data"),
        private.url("labels.csv"),
    );
    let harbour = Harbour::new("outside", &stages);
    let set = ["secret", "set", "hub", "TOKEN", "--from-variable", "VALUE"];
    harbour.place.run_with(&[("VALUE", "hunter2")], &set).success();
    harbour.apply(&[]).success();
    assert_eq!(harbour.place.output("copy", "out"), "privateprivate");
    harbour.apply(&[]).success();
    assert_eq!(harbour.state("copy"), "reused");
    let fetched = private.log().iter().filter(|line| line.starts_with("/data")).count();
    assert_eq!(fetched, 2, "once fetched, once asked: {:?}", private.log());
}

#[test]
fn an_object_that_was_cut_is_gone_on_with_by_the_next_process() {
    let place = Place::repo();
    let file = |name: &str, text: &str| {
        let path = place.outside(name);
        fs_err::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (log, hold, etag) = (file("log", ""), file("hold", ""), file("etag", "one"));
    let server = Script::start(BUCKET, &[&log, &hold, &etag]);
    let endpoint = format!("endpoint=http://127.0.0.1:{}&region=us-east-1", server.port);
    place.write(
        "pipeline.yaml",
        &format!(
            "version: \"2\"\nname: large\nstages:\n  copy:\n    run: wc -c < \"$FLOWRUN_INPUT_DATA\" > out.txt; tail -c 3 \"$FLOWRUN_INPUT_DATA\" >> out.txt\n    \
             files: []\n    inputs: {{data: {{url: \"s3://models/large.bin?{endpoint}\"}}}}\n    outputs: {{out: out.txt}}\n"
        ),
    );
    place.commit("first");
    let first_piece = 8 << 20;
    // It dies when the first piece is on the disk, and no other can come.
    let die_midway = |arguments: &[&str]| {
        let running = place.spawn(arguments);
        await_that("the first piece", || {
            let parts = fs_err::read_dir(place.home().join("tmp")).into_iter().flatten();
            let mut parts = parts.map(|entry| entry.unwrap().path());
            parts.any(|path| {
                path.extension().is_some_and(|end| end == "part")
                    && path.metadata().is_ok_and(|it| it.len() == first_piece)
            })
        });
        running.kill();
    };
    let asked = || fs_err::read_to_string(&log).unwrap();
    let begins = || asked().lines().filter(|range| range.starts_with("bytes=0-")).count();
    die_midway(&["apply"]);
    assert_eq!(begins(), 1);
    fs_err::remove_file(&hold).unwrap();
    place.run(&["resume"]).success();
    assert_eq!(place.output("copy", "out"), format!("{}\nend", (20 << 20) + 3));
    assert_eq!(begins(), 1, "what was here was not asked for again: {}", asked());

    // Of another version nothing is of use.
    file("etag", "two");
    file("hold", "");
    die_midway(&["apply"]);
    assert_eq!(begins(), 2);
    file("etag", "three");
    fs_err::remove_file(&hold).unwrap();
    place.run(&["resume"]).success();
    assert_eq!(begins(), 3, "{}", asked());
    assert_eq!(place.output("copy", "out"), format!("{}\nend", (20 << 20) + 3));
}
