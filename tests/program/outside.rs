//! Inputs from outside: fetched once, verified, the same for a whole run; and what happens when they change, lie or are away.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use crate::place::{Output, Place};
use crate::ports::free_port;

/// What a server holds and has heard.
#[derive(Default)]
struct Source {
    body: Vec<u8>,
    etag: String,
    /// Stops after so many bytes, and holds the connection.
    holds_after: Option<usize>,
    /// Headers of each request, by name in lower case.
    asked: Vec<BTreeMap<String, String>>,
    /// Bytes of bodies that were sent.
    sent: usize,
}

/// A web server of one file, as long as this process lives.
struct Server {
    port: u16,
    source: Arc<Mutex<Source>>,
}

impl Server {
    fn start(body: &[u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let source = Source { body: body.to_vec(), etag: "\"1\"".into(), ..Source::default() };
        let source = Arc::new(Mutex::new(source));
        let shared = Arc::clone(&source);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let source = Arc::clone(&shared);
                // A client that goes away in the middle is what some tests are about.
                std::thread::spawn(move || stream.and_then(|stream| serve(stream, &source)).ok());
            }
        });
        Self { port, source }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/data.csv", self.port)
    }

    fn set(&self, body: &[u8], etag: &str) {
        let mut source = self.source.lock().unwrap();
        source.body = body.to_vec();
        etag.clone_into(&mut source.etag);
    }

    fn asked(&self) -> usize {
        self.source.lock().unwrap().asked.len()
    }

    fn sent(&self) -> usize {
        self.source.lock().unwrap().sent
    }
}

fn serve(stream: TcpStream, source: &Mutex<Source>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut headers = BTreeMap::new();
    let mut line = String::new();
    reader.read_line(&mut line)?;
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let mut stream = reader.into_inner();
    let (head, body, holds) = {
        let mut source = source.lock().unwrap();
        source.asked.push(headers.clone());
        let etag = source.etag.clone();
        let same = |name: &str| headers.get(name) == Some(&etag);
        let start = headers.get("range").filter(|_| same("if-range"));
        let start: Option<usize> =
            start.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        let (status, mut body) = match start {
            _ if same("if-none-match") => ("304 Not Modified".to_owned(), Vec::new()),
            Some(start) => {
                let (last, size) = (source.body.len() - 1, source.body.len());
                let range =
                    format!("206 Partial Content\r\nContent-Range: bytes {start}-{last}/{size}");
                (range, source.body[start..].to_vec())
            }
            None => ("200 OK".to_owned(), source.body.clone()),
        };
        let length = body.len();
        let holds = source.holds_after.filter(|after| *after < length);
        body.truncate(holds.unwrap_or(length));
        source.sent += body.len();
        let length = if status.starts_with("304") {
            String::new()
        } else {
            format!("Content-Length: {length}\r\n")
        };
        let head =
            format!("HTTP/1.1 {status}\r\nETag: {etag}\r\n{length}Connection: close\r\n\r\n");
        (head, body, holds.is_some())
    };
    stream.write_all(head.as_bytes())?;
    stream.write_all(&body)?;
    stream.flush()?;
    if holds {
        std::thread::sleep(Duration::from_mins(10));
    }
    Ok(())
}

/// A pipeline whose stage `copy` takes the data.
fn pipeline(input: &str) -> String {
    format!(
        "version: \"2\"\nname: outside\nstages:\n  copy:\n    run: cat \"$FLOWRUN_INPUT_DATA\" > out.txt; basename \"$FLOWRUN_INPUT_DATA\"\n    \
         inputs: {{data: {input}}}\n    outputs: {{out: out.txt}}\n"
    )
}

fn sha256(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs_err::write(&file, bytes).unwrap();
    let said = Output::of(Command::new("sha256sum").arg(file)).success().stdout;
    format!("sha256:{}", said.split(' ').next().unwrap())
}

fn plan(place: &Place) -> String {
    place.run(&["plan"]).success().stdout
}

#[test]
fn what_is_fetched_is_reused_until_its_source_changes() {
    let server = Server::start(b"one");
    let place = Place::with(&pipeline(&format!("{{url: \"{}\"}}", server.url())));
    assert!(plan(&place).contains("its input `data` has to be fetched"), "{}", plan(&place));
    assert_eq!(server.asked(), 0);
    place.run(&["apply"]).success();
    assert_eq!(place.run(&["logs", "latest", "copy"]).success().stdout, "data.csv\n");
    assert_eq!((place.output("copy", "out"), server.asked(), server.sent()), ("one".into(), 1, 3));
    place.run(&["apply"]).success();
    assert_eq!(place.states(), ["copy reused"]);
    assert_eq!((server.asked(), server.sent()), (2, 3));
    assert_eq!(place.run(&["plan", "--exit-code"]).code, 0);
    // Another version of equal content is the same input.
    server.set(b"one", "\"1b\"");
    assert!(plan(&place).contains("its input `data` changed at its source"));
    place.run(&["apply"]).success();
    assert_eq!(place.states(), ["copy reused"]);
    server.set(b"two", "\"2\"");
    assert!(plan(&place).contains("its input `data` changed at its source"));
    assert_eq!(place.run(&["plan", "--exit-code"]).code, 10);
    place.run(&["apply"]).success();
    assert_eq!(place.output("copy", "out"), "two");
    let why = place.run(&["why", "copy"]).success().stdout;
    assert!(why.contains("inputs.data changed (b3:"), "{why}");
    assert!(why.contains(&format!("from {} (etag \"2\")", server.url())), "{why}");
}

#[test]
fn a_run_sees_one_content_however_often_its_source_changes() {
    let server = Server::start(b"one");
    let place = Place::repo();
    let gate = place.outside("gate");
    let input = format!("inputs: {{data: {{url: \"{}\"}}}}", server.url());
    let text = format!(
        "version: \"2\"\nname: outside\nstages:\n  first:\n    run: cat \"$FLOWRUN_INPUT_DATA\" > a.txt\n    {input}\n    outputs: {{a: a.txt}}\n  \
         second:\n    run: test -e {} && cat \"$FLOWRUN_INPUT_DATA\" > b.txt\n    needs: [first]\n    {input}\n    outputs: {{b: b.txt}}\n",
        gate.display()
    );
    place.write("pipeline.yaml", &text);
    place.commit("first");
    assert_eq!(place.run(&["apply"]).code, 4);
    assert_eq!(server.asked(), 1, "both stages have the same input");
    server.set(b"two", "\"2\"");
    fs_err::write(&gate, "").unwrap();
    place.run(&["resume"]).success();
    assert_eq!(server.asked(), 1, "what the run was given is in its journal");
    assert_eq!(
        (place.output("first", "a"), place.output("second", "b")),
        ("one".into(), "one".into())
    );
    place.run(&["apply"]).success();
    assert_eq!(
        (place.output("first", "a"), place.output("second", "b")),
        ("two".into(), "two".into())
    );
}

#[test]
fn a_wrong_digest_is_no_success_and_a_right_one_needs_no_source() {
    let server = Server::start(b"good");
    let (wrong, right) = (sha256(b"better"), sha256(b"good"));
    let input = |digest: &str| format!("{{url: \"{}\", digest: \"{digest}\"}}", server.url());
    let place = Place::with(&pipeline(&input(&wrong)));
    let failed = place.run(&["apply"]);
    assert_eq!(failed.code, 5, "{}", failed.stderr);
    for part in ["input `data` of stage `copy`", &wrong, &right, "has another content"] {
        assert!(failed.stderr.contains(part), "{part} is not in {}", failed.stderr);
    }
    assert_eq!(place.runs()[0]["state"], "active", "it can be resumed");
    place.write("pipeline.yaml", &pipeline(&input(&right)));
    place.commit("the right one");
    place.run(&["apply"]).success();
    let asked = server.asked();
    place.run(&["apply", "--force", "copy"]).success();
    assert!(place.run(&["plan", "-o", "json"]).success().stdout.contains("reuse"));
    assert_eq!(server.asked(), asked, "content that is known is not asked for");
    assert_eq!(place.output("copy", "out"), "good");
}

#[test]
fn a_source_that_is_away_is_told_with_its_mend() {
    let free = format!("127.0.0.1:{}", free_port());
    let place = Place::with(&pipeline(&format!("{{url: \"http://me:hush@{free}/a?token=hush\"}}")));
    let failed = place.run(&["apply"]);
    assert_eq!(failed.code, 5, "{}", failed.stderr);
    let said = format!("`http://{free}/a?…` cannot be reached: its server refuses connections");
    assert!(failed.stderr.contains(&said), "{}", failed.stderr);
    assert!(failed.stderr.contains("tries again in"), "{}", failed.stderr);
    assert!(failed.stderr.contains("flowrun resume"), "{}", failed.stderr);

    // The reason outlives the terminal.
    let run = place.runs()[0]["run"].as_str().unwrap().to_owned();
    let why = place.run(&["why", "copy"]).success().stdout;
    let told = format!(
        "nothing happened to it yet\nits flowrun left the run: input `data` of stage `copy`: {said}"
    );
    assert!(why.contains(&told), "{why}");
    let home = place.run(&["status"]).success().stdout;
    let one = place.run(&["status", &run]).success().stdout;
    assert!(home.contains(&said), "{home}");
    assert!(one.contains(&format!("left: input `data` of stage `copy`: {said}")), "{one}");
    assert!(place.json(&["status", &run, "-o", "json"])["left"].as_str().unwrap().contains(&said));
    for said in [&failed.stderr, &why, &home, &one] {
        assert!(!said.contains("hush"), "{said}");
    }
}

#[test]
fn a_download_that_was_killed_goes_on() {
    let body: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let half = body.len() / 2;
    let server = Server::start(&body);
    server.source.lock().unwrap().holds_after = Some(half);
    let place = Place::with(&pipeline(&format!(
        "{{url: \"{}\", digest: \"{}\"}}",
        server.url(),
        sha256(&body)
    )));
    let running = place.spawn(&["apply"]);
    await_bytes(&place, half);
    running.kill();
    server.source.lock().unwrap().holds_after = None;
    place.run(&["apply"]).success();
    let ranges: Vec<_> = {
        let source = server.source.lock().unwrap();
        source.asked.iter().map(|asked| asked.get("range").cloned()).collect()
    };
    assert_eq!(ranges, [None, Some(format!("bytes={half}-"))]);
    assert_eq!(server.sent(), body.len(), "no byte came twice");
    assert_eq!(place.states(), ["copy done"]);
    let out = place.store_files("blob").into_iter().map(|file| fs_err::read(file).unwrap());
    assert!(out.into_iter().any(|content| content == body));
    assert!(unfinished(&place).is_empty(), "{:?}", unfinished(&place));
}

/// Unfinished downloads; locks stay.
fn unfinished(place: &Place) -> Vec<std::path::PathBuf> {
    let Ok(found) = fs_err::read_dir(place.home().join("tmp")) else { return Vec::new() };
    let paths = found.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            name.starts_with("fetch-") && !name.ends_with(".lock")
        })
        .collect()
}

fn await_bytes(place: &Place, bytes: usize) {
    let is_there = |path: &std::path::PathBuf| {
        fs_err::metadata(path).is_ok_and(|found| found.len() >= bytes as u64)
    };
    for _ in 0..6_000 {
        if unfinished(place).iter().any(is_there) {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{bytes} bytes never came");
}

#[test]
fn an_interrupt_does_not_wait_for_a_download() {
    let server = Server::start(b"something");
    server.source.lock().unwrap().holds_after = Some(4);
    let place = Place::with(&pipeline(&format!("{{url: \"{}\"}}", server.url())));
    let running = place.spawn(&["apply"]);
    await_bytes(&place, 4);
    running.interrupt();
    assert_eq!(running.finish().code, 130);
}

#[test]
fn files_and_folders_of_this_machine() {
    let place = Place::repo();
    let (file, folder) = (place.outside("my data.csv"), place.outside("images"));
    fs_err::write(&file, "csv").unwrap();
    fs_err::create_dir(&folder).unwrap();
    fs_err::write(folder.join("a.png"), "png").unwrap();
    let url = |path: &std::path::Path| format!("file://{}", path.display()).replace(' ', "%20");
    let text = format!(
        "version: \"2\"\nname: outside\nstages:\n  copy:\n    run: cat \"$FLOWRUN_INPUT_DATA\" placed/here/a.png > out.txt\n    \
         inputs:\n      data: {{url: \"{}\"}}\n      images: {{url: \"{}\", path: placed/here}}\n    outputs: {{out: out.txt}}\n",
        url(&file),
        url(&folder)
    );
    place.write("pipeline.yaml", &text);
    place.commit("first");
    place.run(&["apply"]).success();
    assert_eq!(place.output("copy", "out"), "csvpng");
    place.run(&["apply"]).success();
    assert_eq!(place.states(), ["copy reused"]);
    fs_err::write(folder.join("a.png"), "jpeg").unwrap();
    assert!(plan(&place).contains("its input `images` changed at its source"), "{}", plan(&place));
    place.run(&["apply"]).success();
    assert_eq!(place.output("copy", "out"), "csvjpeg");
    fs_err::remove_file(&file).unwrap();
    let gone = place.run(&["apply"]);
    assert_eq!(gone.code, 5, "{}", gone.stderr);
    assert!(gone.stderr.contains("my%20data.csv` is not there"), "{}", gone.stderr);
}

#[test]
fn a_full_disk_is_named_and_the_run_goes_on_after_the_mend() {
    let Some(place) = Place::on_small_disk(6 << 20) else {
        // Only root can mount; tests/run runs as root.
        return;
    };
    let body = vec![7; 8 << 20];
    let server = Server::start(&body);
    place.write("pipeline.yaml", &pipeline(&format!("{{url: \"{}\"}}", server.url())));
    place.commit("first");
    let failed = place.run(&["apply"]);
    assert_eq!(failed.code, 5, "{}", failed.stderr);
    assert!(failed.stderr.contains("No space left on device"), "{}", failed.stderr);
    assert!(failed.stderr.contains("/tmp/fetch-"), "{}", failed.stderr);
    place.grow_disk(64 << 20);
    place.run(&["resume"]).success();
    assert_eq!(place.states(), ["copy done"]);
}

#[test]
fn addresses_and_digests_are_checked_where_they_stand() {
    let place = Place::repo();
    let text = "version: \"2\"\nname: outside\nstages:\n  a:\n    run: x\n    inputs:\n      one: {url: \"http://example.org/a\"}\n      \
                two: {url: \"file:data.csv\"}\n      three: {url: \"https://example.org/a\", digest: \"md5:12\"}\n      \
                four: {url: \"https://example.org/${{ params.a }}\"}\n      five: {url: \"s3://bucket/\"}\n";
    place.write("pipeline.yaml", text);
    let output = place.run(&["validate", "--format", "json"]);
    assert_eq!(output.code, 3, "{}", output.stderr);
    let said: Value = serde_json::from_str(&output.stdout).unwrap();
    let problems = said["problems"].as_array().unwrap();
    let lines: Vec<_> = problems
        .iter()
        .map(|one| (one["line"].as_u64().unwrap(), one["code"].as_str().unwrap()))
        .collect();
    assert_eq!(
        lines,
        [
            (7, "bad-address"),
            (8, "bad-address"),
            (9, "bad-digest"),
            (10, "expression-not-here"),
            (11, "bad-address")
        ]
    );
}

/// A server over TLS with a certificate of its own authority.
struct Secure {
    child: Child,
    port: String,
    authority: std::path::PathBuf,
}

impl Drop for Secure {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Secure {
    fn start(place: &Place) -> Self {
        let folder = place.outside("tls");
        fs_err::create_dir(&folder).unwrap();
        fs_err::write(folder.join("data.csv"), "secure").unwrap();
        fs_err::write(folder.join("leaf.ext"), "subjectAltName=IP:127.0.0.1\n").unwrap();
        for line in [
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -subj /CN=authority -days 2",
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout leaf.key -out leaf.csr -subj /CN=leaf",
            "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out leaf.pem -days 2 -extfile leaf.ext",
        ] {
            let mut openssl = Command::new("openssl");
            Output::of(openssl.args(line.split(' ')).current_dir(&folder)).success();
        }
        let script = "import http.server, ssl, sys\n\
            server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler)\n\
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n\
            context.load_cert_chain('leaf.pem', 'leaf.key')\n\
            server.socket = context.wrap_socket(server.socket, server_side=True)\n\
            print(server.server_address[1], flush=True)\n\
            server.serve_forever()\n";
        let mut child = Command::new("python3")
            .args(["-c", script])
            .current_dir(&folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        Self { child, port: port.trim().to_owned(), authority: folder.join("ca.pem") }
    }
}

#[test]
fn an_authority_of_ones_own_is_trusted_when_it_is_named() {
    let place = Place::repo();
    let server = Secure::start(&place);
    let url = format!("https://127.0.0.1:{}/data.csv", server.port);
    place.write("pipeline.yaml", &pipeline(&format!("{{url: \"{url}\"}}")));
    place.commit("first");
    let refused = place.run(&["apply"]);
    assert_eq!(refused.code, 5, "{}", refused.stderr);
    let said = "cannot be trusted: nobody known has signed the certificate of its server";
    assert!(refused.stderr.contains(said), "{}", refused.stderr);
    assert!(refused.stderr.contains("SSL_CERT_FILE"), "{}", refused.stderr);
    let trusted = [("SSL_CERT_FILE", server.authority.to_str().unwrap())];
    place.run_with(&trusted, &["apply"]).success();
    assert_eq!(place.output("copy", "out"), "secure");
    place.run_with(&trusted, &["apply"]).success();
    assert_eq!(place.states(), ["copy reused"]);
}

/// The bucket of a server of the tests: its address in front of a key, and what comes behind.
#[expect(clippy::disallowed_methods, reason = "who starts the server says where it is")]
fn bucket() -> (String, String) {
    let url = std::env::var("FLOWRUN_TEST_S3_SEAWEED").unwrap_or_else(|_| {
        panic!("`FLOWRUN_TEST_S3_SEAWEED` is not set: `tests/servers/with cargo test --test program` starts the servers and sets it")
    });
    let (bucket, parameters) = url.split_once('?').unwrap();
    (bucket.to_owned(), parameters.to_owned())
}

/// Puts an object into the bucket with another program than flowrun.
#[expect(clippy::disallowed_methods, reason = "who starts the server says where it is")]
fn put(place: &Place, key: &str, content: &str) {
    let file = place.outside("object");
    fs_err::write(&file, content).unwrap();
    let (bucket, parameters) = bucket();
    let endpoint = parameters.split('&').find_map(|one| one.strip_prefix("endpoint=")).unwrap();
    let name = bucket.strip_prefix("s3://").unwrap();
    let variable = |name: &str| std::env::var(name).unwrap();
    let user = format!("{}:{}", variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY"));
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--fail-with-body", "--aws-sigv4", "aws:amz:us-east-1:s3", "--user", &user]);
    Output::of(curl.arg("-T").arg(&file).arg(format!("{endpoint}/{name}/{key}"))).success();
}

#[test]
fn an_object_of_a_bucket_is_an_input() {
    let place = Place::repo();
    let own = place.outside("").file_name().unwrap().to_str().unwrap().to_owned();
    let (bucket, parameters) = bucket();
    let key = format!("outside/{own}/data.csv");
    let url = format!("{bucket}/{key}?{parameters}");
    place.write("pipeline.yaml", &pipeline(&format!("{{url: \"{url}\"}}")));
    place.commit("first");
    let absent = place.run(&["apply"]);
    assert_eq!(absent.code, 5, "{}", absent.stderr);
    let said = format!("`{bucket}/{key}` is not there: the bucket has no such object");
    assert!(absent.stderr.contains(&said), "{}", absent.stderr);
    put(&place, &key, "one");
    place.run(&["resume"]).success();
    assert_eq!(place.output("copy", "out"), "one");
    assert_eq!(place.run(&["logs", "latest", "copy"]).success().stdout, "data.csv\n");
    place.run(&["apply"]).success();
    assert_eq!(place.states(), ["copy reused"]);
    put(&place, &key, "three");
    assert!(plan(&place).contains("its input `data` changed at its source"), "{}", plan(&place));
    let digest = sha256(b"three");
    place.write("pipeline.yaml", &pipeline(&format!("{{url: \"{url}\", digest: \"{digest}\"}}")));
    place.run(&["apply"]).success();
    assert_eq!(place.output("copy", "out"), "three");
    place.write(
        "pipeline.yaml",
        &pipeline(&format!("{{url: \"{url}\", digest: \"{}\"}}", sha256(b"two"))),
    );
    let wrong = place.run(&["apply"]);
    assert_eq!(wrong.code, 5, "{}", wrong.stderr);
    assert!(wrong.stderr.contains(&digest), "{}", wrong.stderr);
}
