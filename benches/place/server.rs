//! The server of services: its memory when idle, and how long requests fail when it was killed and the next one starts.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{Bench, run_quietly};

/// What was measured.
pub(crate) struct ServerFigures {
    /// From the start of the next server to the first answer through it, the replicas being the same.
    pub(crate) gaps: Vec<Duration>,
    /// Resident memory of an idle server with two replicas behind it, KiB; and without the pages of the program.
    pub(crate) memory: (u64, u64),
}

/// One service with two replicas of Python's own HTTP server.
pub(crate) fn measure(rounds: usize) -> ServerFigures {
    let bench = Bench::new();
    let port = free_port();
    let flowrun = || {
        let mut command = bench.flowrun();
        command.env("FLOWRUN_GATEWAY", "127.0.0.1:0");
        command
    };
    bench.write_pipeline(&format!(
        "version: \"2\"\nname: serving\nstages:\n  serve:\n    run: exec python3 -m http.server --bind 127.0.0.1 \"$PORT\"\n    \
         files: []\n    service: {{port: {port}, replicas: 2, ready: {{http: /}}}}\n"
    ));
    run_quietly(flowrun().arg("apply"));
    std::thread::sleep(Duration::from_secs(2));
    let mut memory = (0, 0);
    let mut gaps = Vec::new();
    for _ in 0..rounds {
        let pid = bench.server().expect("the server runs");
        memory = memory.max(memory_of(pid));
        run_quietly(Command::new("kill").args(["-9", &pid.to_string()]));
        while answers(port) {}
        let start = Instant::now();
        let mut next = flowrun()
            .arg("server")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("flowrun starts");
        while !answers(port) {
            std::thread::sleep(Duration::from_millis(1));
        }
        gaps.push(start.elapsed());
        std::thread::spawn(move || next.wait());
    }
    run_quietly(flowrun().args(["down", "--yes"]));
    run_quietly(flowrun().args(["server", "--stop"]));
    ServerFigures { gaps, memory }
}

fn memory_of(pid: u32) -> (u64, u64) {
    let status = fs_err::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name| super::field(&status, name).unwrap_or_default();
    (field("VmRSS:"), field("RssAnon:"))
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it is bound").port()
}

fn answers(port: u16) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer)?;
        Ok(answer.ends_with(b"200"))
    };
    ask().unwrap_or(false)
}
