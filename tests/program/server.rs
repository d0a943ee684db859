//! The server process: started, asked, stopped, killed, replaced; and what it does not let itself be disturbed by.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use flowrun::server::client::{Client, ServerPlace};
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::patience::await_that;
use crate::place::{Place, Running};

/// A home that exists.
fn place() -> Place {
    let place = Place::new();
    place.run(&["runs"]).success();
    place
}

fn status(place: &Place) -> Option<Value> {
    let output = place.run(&["server", "--status", "-o", "json"]);
    (output.code == 0).then(|| serde_json::from_str(&output.stdout).unwrap())
}

/// A server in the foreground that answers.
fn started(place: &Place) -> (Running, Value) {
    let server = place.spawn(&["server"]);
    let status = await_that("the server answers", || status(place));
    (server, status)
}

/// A client whose server is this program, as `apply` has it.
fn client(place: &Place) -> (Client, UnboundedReceiver<String>) {
    let home = fs_err::canonicalize(place.home()).unwrap();
    let arguments = ["server", &format!("--home={}", home.display()), "--gateway=127.0.0.1:0"]
        .map(str::to_owned);
    let (told, lines) = unbounded_channel();
    let place = ServerPlace {
        gateway: None,
        works_with: None,
        home,
        program: env!("CARGO_BIN_EXE_flowrun").into(),
        arguments: arguments.into(),
        variables: [("PATH".to_owned(), "/usr/bin:/bin".to_owned())].into(),
    };
    (Client::new(place, told), lines)
}

/// What a process has open, or where it is.
fn link(pid: u32, name: &str) -> String {
    let target = fs_err::read_link(format!("/proc/{pid}/{name}")).unwrap();
    target.to_str().unwrap().to_owned()
}

#[test]
fn a_server_in_the_foreground_says_what_it_is_and_ends_when_it_is_told() {
    let place = place();
    let none = place.run(&["server", "--status"]);
    assert_eq!(none.code, 5, "{none:?}");
    assert!(none.stdout.contains("does not run"), "{}", none.stdout);

    let (server, status) = started(&place);
    assert_eq!(status["pid"], server.pid());
    assert_eq!(status["services"], 0);
    let gateway = status["gateway"].as_str().unwrap();
    assert!(gateway.starts_with("127.0.0.1:") && !gateway.ends_with(":0"), "{gateway}");
    let mode = fs_err::metadata(place.home().join("server.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let second = place.run(&["server"]);
    assert_eq!(second.code, 2, "{second:?}");
    assert!(second.stderr.contains(&format!("process {}", server.pid())), "{}", second.stderr);
    let text = place.run(&["server", "--status"]).success().stdout;
    assert!(text.contains(&format!("http://{gateway}")), "{text}");

    let stopped = place.run(&["server", "--stop"]).success();
    assert!(stopped.stderr.contains("replicas run on"), "{}", stopped.stderr);
    let ended = server.finish().success();
    assert!(ended.stderr.contains("serves"), "the log is shown too: {}", ended.stderr);
    let log = fs_err::read_to_string(place.home().join("server.log")).unwrap();
    assert_eq!(log, ended.stderr);
    assert_eq!(place.run(&["server", "--status"]).code, 5);
    let nothing = place.run(&["server", "--stop"]).success();
    assert!(nothing.stderr.contains("no server runs"), "{}", nothing.stderr);
}

#[test]
fn every_signal_that_asks_for_the_end_is_a_good_end() {
    let place = place();
    for signal in ["-TERM", "-INT", "-HUP"] {
        let (server, _) = started(&place);
        server.signal(signal);
        server.finish().success();
    }
}

#[tokio::test]
async fn two_starters_at_once_end_up_with_one_server_that_stands_on_its_own() {
    let place = place();
    let (first, mut first_lines) = client(&place);
    let (second, mut second_lines) = client(&place);
    let (a, b) = tokio::join!(first.about(), second.about());
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!(a.pid, b.pid);
    let mut lines = Vec::new();
    for told in [&mut first_lines, &mut second_lines] {
        while let Ok(line) = told.try_recv() {
            lines.push(line);
        }
    }
    assert_eq!(lines.len(), 1, "{lines:?}");
    // Without services its port is free, and another test may have got it by now.
    let said = format!("started the server: gateway at http://{}, log at ", a.gateway);
    let is_said = |start: &str| lines[0].starts_with(start);
    assert!(is_said(&said) || is_said("started the server: no gateway, as port "), "{lines:?}");

    assert_eq!(link(a.pid, "cwd"), "/");
    assert_eq!(
        (link(a.pid, "fd/0").as_str(), link(a.pid, "fd/1").as_str()),
        ("/dev/null", "/dev/null")
    );
    assert!(link(a.pid, "fd/2").ends_with("/server.log"));
    assert_ne!(session_of(&a.pid.to_string()), session_of("self"));
    let variables = fs_err::read(format!("/proc/{}/environ", a.pid)).unwrap();
    assert_eq!(String::from_utf8(variables).unwrap(), "PATH=/usr/bin:/bin\0");
}

/// The session of a process; 0 where its leader lies outside this PID namespace, which `getsid` of rustix does not expect.
fn session_of(pid: &str) -> i32 {
    let stat = fs_err::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The program's name may hold anything, so the fields are counted from behind it: state, parent, group, session.
    let (_, fields) = stat.rsplit_once(')').unwrap();
    fields.split_whitespace().nth(3).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_client_outlives_its_server() {
    let place = place();
    let (client, mut lines) = client(&place);
    let mut pids = Vec::new();
    for _ in 0..3 {
        let pid = client.about().await.unwrap().pid;
        assert!(!pids.contains(&pid), "{pid} was killed before");
        pids.push(pid);
        assert!(lines.recv().await.unwrap().starts_with("started the server"));
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(),
            rustix::process::Signal::KILL,
        )
        .unwrap();
        // The socket of the dead one is still there, and its lock is free.
        let gone = tokio::time::timeout(std::time::Duration::from_mins(1), async {
            while client.about_if_running().await.unwrap().is_some_and(|about| about.pid == pid) {
                tokio::task::yield_now().await;
            }
        });
        gone.await.unwrap();
        assert_eq!(client.about_if_running().await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() {
    let place = place();
    for name in ["state.db", "state.db-wal", "state.db-shm"] {
        drop(fs_err::remove_file(place.home().join(name)));
    }
    fs_err::write(place.home().join("state.db"), "no database ".repeat(100)).unwrap();
    let (client, _lines) = client(&place);
    let error = client.about().await.unwrap_err().to_string();
    assert!(error.contains("not a database"), "{error}");
    assert!(error.contains("server.log"), "{error}");
    assert_eq!(client.about_if_running().await.unwrap(), None);
}

#[tokio::test]
async fn clients_that_misbehave_disturb_nobody() {
    let place = place();
    let (client, _lines) = client(&place);
    let pid = client.about().await.unwrap().pid;
    let socket = place.home().join("server.sock");
    let mut open = Vec::new();
    for number in 0..1000 {
        let mut stream = UnixStream::connect(&socket).unwrap();
        match number % 4 {
            0 => drop(stream.write_all(b"GET / HTTP/1.1\r\n\r\n")),
            1 => drop(stream.write_all(b"{\"version\":1}\n\xff\xfe\n")),
            2 => drop(stream.write_all(&vec![b'x'; 4096])),
            _ => {}
        }
        open.push(stream);
    }
    assert_eq!(client.about().await.unwrap().pid, pid);
    drop(open);
    assert_eq!(client.about().await.unwrap().pid, pid);
}

/// Holds the door of a home as a server of another version, until it is asked to stop. Says whether it was.
fn old_server(home: &Path, hello: &'static str) -> std::thread::JoinHandle<bool> {
    let lock = fs_err::File::create(home.join("server.lock")).unwrap();
    // A process that another test is just starting may hold what was dropped for a moment.
    await_that("the lock is free", || lock.file().try_lock().ok());
    let listener = UnixListener::bind(home.join("server.sock")).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        writeln!(stream, "{hello}").unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        drop((listener, lock));
        line.contains("\"stop\":true")
    })
}

#[tokio::test]
async fn a_server_of_an_older_version_makes_room_and_one_of_a_newer_does_not() {
    let place = place();
    let (client, mut lines) = client(&place);
    let newer = old_server(&place.home(), r#"{"version":4000,"program":"9.9.9","pid":1}"#);
    let error = client.about().await.unwrap_err().to_string();
    assert!(error.contains("newer flowrun 9.9.9"), "{error}");
    assert!(!newer.join().unwrap());

    fs_err::remove_file(place.home().join("server.sock")).unwrap();
    let older = old_server(&place.home(), r#"{"version":0,"program":"0.0.1","pid":1}"#);
    client.about().await.unwrap();
    assert!(older.join().unwrap());
    let told = lines.recv().await.unwrap();
    assert!(told.contains("stopped the server of flowrun 0.0.1"), "{told}");
    assert!(lines.recv().await.unwrap().starts_with("started the server"));
}

#[tokio::test]
async fn a_full_log_is_put_aside() {
    let place = place();
    let log = place.home().join("server.log");
    let full = 10 << 20;
    fs_err::write(&log, vec![b'\n'; full]).unwrap();
    let (client, _lines) = client(&place);
    let pid = client.about().await.unwrap().pid;
    assert_eq!(fs_err::metadata(place.home().join("server.log.1")).unwrap().len(), full as u64);
    assert!(fs_err::read_to_string(&log).unwrap().contains("serves"));
    assert!(link(pid, "fd/2").ends_with("/server.log"), "what the language says follows");
}

#[test]
fn a_taken_gateway_port_is_said_and_the_server_stays() {
    let place = place();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let server = place.spawn(&["server", "--gateway", &address]);
    let status = await_that("the server answers", || status(&place));
    let problem = status["gateway_problem"].as_str().unwrap();
    assert!(problem.contains("is taken by another program"), "{problem}");
    place.run(&["server", "--stop"]).success();
    server.finish().success();
}

#[test]
fn nothing_to_take_down_is_said() {
    let place = place();
    let down = place.run(&["down"]).success();
    assert!(down.stderr.contains("nothing to take down"), "{}", down.stderr);
    assert_eq!(place.run(&["down", "iris"]).code, 2);
    assert!(status(&place).is_none(), "no server was started for it");
}
