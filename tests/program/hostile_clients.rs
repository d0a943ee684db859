//! Clients that do not behave, against the real server: normal ones are answered meanwhile, and the server stays small.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crate::hostile::{READY, memory, shop};
use crate::patience::PATIENCE;
use crate::shop::{Shop, get};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Clients of each kind.
const CLIENTS: usize = 300;

/// What the server may need meanwhile, MiB. It is 58 as a rule; a tenth of what the slow readers ask for would be 300.
const CROWDED: u64 = 120;

fn client(port: u16, first: &str) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(first.as_bytes()).unwrap();
    stream.set_nonblocking(true).unwrap();
    stream
}

/// Up to so many bytes that are there: how many; none at the end.
fn taken(stream: &mut TcpStream, bytes: usize) -> Option<usize> {
    let mut buffer = vec![0; bytes];
    match stream.read(&mut buffer) {
        Ok(0) => None,
        Ok(count) => Some(count),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Some(0),
        Err(_) => None,
    }
}

#[test]
fn clients_that_trickle_disturb_nobody() {
    // So many connections have an end here too.
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, maximum: files.maximum }).unwrap();
    let shop = shop("");
    shop.apply("one").success();
    let server = shop.server_pid();
    let request = "GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut readers: Vec<_> = (0..CLIENTS).map(|_| client(shop.port, request)).collect();
    let mut writers: Vec<_> =
        (0..CLIENTS).map(|_| client(shop.port, "GET / HTTP/1.1\r\nX:")).collect();
    let start = Instant::now();
    let mut most = 0;
    let mut read = vec![0; CLIENTS];
    // A head has its time, and who is slower is closed; who reads slowly is waited for.
    while !writers.is_empty() {
        assert!(start.elapsed() < PATIENCE, "{} heads are still waited for", writers.len());
        writers.retain_mut(|stream| {
            drop(stream.write(b"x"));
            taken(stream, 1024).is_some()
        });
        for (reader, read) in readers.iter_mut().zip(&mut read) {
            *read += taken(reader, 1024).expect("a slow reader is not closed");
        }
        for path in ["/", "/a", "/b"] {
            assert_eq!(get(shop.port, path).unwrap().0, 200, "a normal request");
        }
        most = most.max(memory(server));
        std::thread::sleep(Duration::from_secs(1));
    }
    assert!(read.iter().all(|read| *read > 0), "each reader gets something");
    assert!(most < CROWDED, "{most} MiB");
    drop(readers);
    assert_eq!(shop.word(), "one");
    assert_eq!(shop.server_pid(), server);
    assert!(memory(server) < CROWDED, "{} MiB", memory(server));
    assert_eq!(shop.status()["replicas"][0]["restarts"], 0);
}

/// Writes down each request that it makes of what it is sent: head and body, and takes both framings at their word.
const RECORDER: &str = r#"
import json, os, socket, threading

def serve(stream):
    data = b""
    while True:
        while b"\r\n\r\n" not in data:
            more = stream.recv(65536)
            if not more:
                if data:
                    note("rest", data)
                return
            data += more
        head, data = data.split(b"\r\n\r\n", 1)
        lines = head.lower().split(b"\n")[1:]
        fields = [line.split(b":", 1) for line in lines if b":" in line]
        named = lambda name: [value.strip() for key, value in fields if key.strip() == name]
        body = b""
        if named(b"transfer-encoding"):
            while b"0\r\n\r\n" not in data:
                data += stream.recv(65536)
            body, data = data.split(b"0\r\n\r\n", 1)
        elif named(b"content-length"):
            length = int(named(b"content-length")[0])
            while len(data) < length:
                data += stream.recv(65536)
            body, data = data[:length], data[length:]
        if not head.startswith(b"GET /readyz "):
            note("request", head, body)
        stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

def note(*parts):
    texts = [part if isinstance(part, str) else part.decode("latin-1") for part in parts]
    with lock, open("@RECORD@", "a") as file:
        file.write(json.dumps(texts) + "\n")

lock = threading.Lock()
server = socket.create_server(("127.0.0.1", int(os.environ["PORT"])), backlog=128)
while True:
    stream, _ = server.accept()
    threading.Thread(target=serve, args=(stream,), daemon=True).start()
"#;

/// What two readers could read in two ways. `/hidden` is what must never become a request of its own.
fn attacks() -> Vec<String> {
    let hidden = "GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n";
    let with =
        |lines: &str, body: &str| format!("POST /x HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n{body}");
    let length = hidden.len();
    let ended = format!("0\r\n\r\n{hidden}");
    let mut all = vec![
        with(&format!("Content-Length: {length}"), hidden),
        with(&format!("Content-Length: 4\r\nContent-Length: {length}"), hidden),
        with(&format!("Content-Length: {length}, 4"), hidden),
        with(&format!("Content-Length: +{length}"), hidden),
        with(&format!("Content-Length: {length}\nContent-Length: 0"), hidden),
        with(&format!("Content-Length : {length}"), hidden),
        with(&format!("X: a\rContent-Length: {length}"), hidden),
        with(&format!("Content-Length:\r\n {length}"), hidden),
        with(&format!("Content-Length: {length}\0"), hidden),
        with(
            "Transfer-Encoding: chunked",
            &format!("{length:x};a=\"\r\n\"\r\n{hidden}\r\n0\r\n\r\n"),
        ),
        with("Transfer-Encoding: chunked", &format!("-1\r\n{hidden}\r\n0\r\n\r\n")),
        with("Transfer-Encoding: chunked", &format!("0x{length:x}\r\n{hidden}\r\n0\r\n\r\n")),
        with("Transfer-Encoding: chunked", &format!("0\nX: y\n\n{hidden}")),
        with(&format!("Content-Length: {length}\r\nConnection: content-length"), hidden),
        with(&format!("Content-Length: {length}\r\nConnection: close, transfer-encoding"), hidden),
        format!("GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{hidden}"),
        format!("HEAD /x HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{hidden}"),
        format!("GET /x HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{ended}"),
        format!(
            "GET /x%0d%0aX:%20y HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{hidden}"
        ),
        format!(
            "GET /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n{hidden}"
        ),
        format!(
            "GET /x HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: {length}\r\n\r\n{hidden}"
        ),
    ];
    for coding in [
        "xchunked",
        "chunked, identity",
        "identity, chunked",
        "\"chunked\"",
        "chunked\x0b",
        "gzip",
        "chunked;q=1",
    ] {
        all.push(with(&format!("Transfer-Encoding: {coding}"), &ended));
        all.push(with(
            &format!("Transfer-Encoding: {coding}\r\nContent-Length: {}", ended.len()),
            &ended,
        ));
    }
    for name in
        ["Transfer-Encoding ", " Transfer-Encoding", "Transfer_Encoding", "Transfer-Encoding\0"]
    {
        all.push(with(&format!("{name}: chunked\r\nContent-Length: {}", ended.len()), &ended));
    }
    all
}

/// The number of the attack that this request came of; none for a normal one. It can be read in one way only.
fn attack_of(line: &str) -> Option<usize> {
    let parts: Vec<String> = serde_json::from_str(line).unwrap();
    assert_eq!(parts[0], "request", "something is left over: {line}");
    let head = parts[1].to_ascii_lowercase();
    let named = |name: &str| head.split("\r\n").filter(|line| line.starts_with(name)).count();
    let framings = named("content-length:") + named("transfer-encoding:");
    assert!(framings <= 1, "{line}");
    assert_eq!(named("transfer-encoding:"), named("transfer-encoding: chunked"), "{line}");
    assert!(!head.replace("\r\n", "").contains(['\r', '\n', '\0']), "{line}");
    let target = head.split(' ').nth(1).unwrap_or_default();
    if target == "/next" {
        return None;
    }
    let rest = target.strip_prefix("/x").unwrap_or_else(|| panic!("it got through: {line}"));
    let digits = rest.split(|character: char| !character.is_ascii_digit()).next();
    Some(digits.unwrap_or_default().parse().unwrap())
}

#[test]
fn no_request_is_smuggled_past_the_server() {
    let shop = Shop::with(READY);
    let record = shop.place.outside("record");
    shop.place.write("serve.py", &RECORDER.replace("@RECORD@", record.to_str().unwrap()));
    shop.place.commit("recorder");
    shop.apply("one").success();
    let server = shop.server_pid();
    let attacks = attacks();
    for (number, attack) in attacks.iter().enumerate() {
        let mut stream = TcpStream::connect(("127.0.0.1", shop.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let attack = attack.replacen(" /x", &format!(" /x{number}"), 1);
        // It may be closed while it is still written to, and with a reset.
        drop(stream.write_all(attack.as_bytes()));
        drop(stream.shutdown(Shutdown::Write));
        drop(stream.read_to_end(&mut Vec::new()));
        assert_eq!(get(shop.port, "/next").unwrap(), (200, "ok".to_owned()), "after {attack:?}");
    }
    let lines = fs_err::read_to_string(&record).unwrap();
    let mut next = 0;
    let mut seen = BTreeSet::new();
    for line in lines.lines() {
        match attack_of(line) {
            None => next += 1,
            Some(number) => assert!(seen.insert(number), "{:?} became two", attacks[number]),
        }
    }
    assert_eq!(next, attacks.len());
    // Those that mean one thing only may go through once, if the client had not gone by then.
    assert!(seen.len() < attacks.len(), "nothing was refused");
    assert_eq!(shop.server_pid(), server);
}
