//! `cargo bench --bench gateway` prints one table: the gateway beside nginx, in front of the same upstream, with `wrk`.
//!
//! Connections are kept on both sides and nothing is logged. Every figure is the median of several rounds, and the two take turns
//! inside a round, so that a noisy neighbour meets both. `ROUNDS=15` takes more rounds, `SECONDS=10` longer ones.

#![expect(clippy::print_stdout, reason = "the table is what this program is for")]
#![expect(clippy::cast_precision_loss, reason = "figures of a table have three digits")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use flowrun::gateway::{Gateway, Limits};
use flowrun::release::Protocol;

/// How many connections ask at once, and how much of nginx's rate is wanted then.
const SHAPES: [(u32, Option<f64>); 3] = [(1, None), (32, Some(0.8)), (256, Some(0.7))];

const IDLE: u64 = 1000;

/// Of `/proc/*/stat` in a second, on every Linux.
const TICKS: f64 = 100.0;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, upstream] = arguments.as_slice()
        && word == "serve"
    {
        return serve(upstream.parse().expect("the parent names an address"));
    }
    for program in ["nginx", "wrk"] {
        if Command::new(program)
            .arg("-v")
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .is_err()
        {
            println!("`{program}` is not installed: nothing was measured");
            return;
        }
    }
    let (rounds, seconds) = (setting("ROUNDS", 9), setting("SECONDS", 2));
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .expect("the target folder can be written");
    let upstream = Served::nginx(&folder.path().join("upstream"), "1", |address| {
        format!(
            "server {{ listen {address} backlog=4096; default_type application/json; \
             location / {{ return 200 '{{\"class\": \"setosa\", \"score\": 0.97}}'; }} }}"
        )
    });
    let nginx = Served::nginx(&folder.path().join("proxy"), "auto", |address| {
        format!(
            "upstream u {{ server {}; keepalive 512; keepalive_requests 1000000000; }} \
             server {{ listen {address} backlog=4096; location / {{ proxy_pass http://u; \
             proxy_http_version 1.1; proxy_set_header Connection ''; \
             proxy_set_header Host $http_host; proxy_set_header X-Forwarded-Host $http_host; \
             proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme; }} }}",
            upstream.address
        )
    });
    let flowrun = Served::gateway(upstream.address);
    println!(
        "{:<36} {:>10} {:>10} {:>8}  bar",
        "what (median of rounds)", "flowrun", "nginx", "ratio"
    );
    for (connections, bar) in SHAPES {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            ours.push(flowrun.load(connections, seconds));
            theirs.push(nginx.load(connections, seconds));
        }
        print_shape(connections, bar, &ours, &theirs);
    }
    memory(&flowrun, &nginx);
}

/// One round of `wrk`.
struct Load {
    /// Requests per second.
    rate: f64,
    /// Milliseconds.
    p50: f64,
    p99: f64,
    /// Microseconds of processor time for one request.
    work: f64,
}

fn print_shape(connections: u32, bar: Option<f64>, ours: &[Load], theirs: &[Load]) {
    let what = if connections == 1 {
        "1 connection".to_owned()
    } else {
        format!("{connections} connections")
    };
    // A round is a pair: the ratio is the median of the rounds' ratios.
    let row = |name: &str, figure: fn(&Load) -> f64, digits: usize, bar: String| {
        let ratios = ours.iter().zip(theirs).map(|(us, them)| figure(us) / figure(them));
        println!(
            "{:<36} {:>10.digits$} {:>10.digits$} {:>7.2}×  {bar}",
            format!("{what}: {name}"),
            median(ours.iter().map(figure)),
            median(theirs.iter().map(figure)),
            median(ratios)
        );
    };
    let bar = bar.map_or(String::new(), |bar| format!("≥ {bar}×"));
    row("requests/s", |load| load.rate, 0, bar);
    row("p50, ms", |load| load.p50, 3, String::new());
    row("p99, ms", |load| load.p99, 3, String::new());
    row("processor time, µs", |load| load.work, 1, String::new());
}

/// Resident memory as it is, with many silent connections, and with many that have asked once.
fn memory(flowrun: &Served, nginx: &Served) {
    let row = |name: &str, ours: u64, theirs: u64| {
        println!("{name:<36} {ours:>10} {theirs:>10}");
    };
    let fresh = Served::gateway(flowrun.upstream);
    row("resident, KiB: just started", fresh.memory(), 0);
    row("resident, KiB: after the load", flowrun.memory(), nginx.memory());
    let silent: Vec<TcpStream> = (0..IDLE).map(|_| connect(fresh.address)).collect();
    ask(fresh.address);
    row(&format!("resident, KiB: {IDLE} silent"), fresh.memory(), 0);
    drop(silent);
    let kept: Vec<TcpStream> = (0..IDLE).map(|_| ask(fresh.address)).collect();
    row(&format!("resident, KiB: {IDLE} kept"), fresh.memory(), 0);
    drop(kept);
}

fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).expect("it listens")
}

/// A connection on which one request was answered.
fn ask(address: SocketAddr) -> TcpStream {
    let mut stream = connect(address);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it reads");
    let mut answer = [0; 1024];
    let read = stream.read(&mut answer).expect("it answers");
    assert!(answer[..read].starts_with(b"HTTP/1.1 200 OK\r\n"));
    stream
}

/// A server in processes of its own, ended when dropped.
struct Served {
    address: SocketAddr,
    upstream: SocketAddr,
    child: Child,
}

impl Served {
    fn nginx(folder: &Path, workers: &str, servers: impl Fn(SocketAddr) -> String) -> Self {
        fs_err::create_dir(folder).expect("the target folder can be written");
        let address = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("there is a free port");
        let text = format!(
            "daemon off; worker_processes {workers}; pid nginx.pid; error_log stderr crit; \
             events {{ worker_connections 8192; }} \
             http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 75s; \
             client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; \
             uwsgi_temp_path uwsgi; scgi_temp_path scgi; {} }}",
            servers(address)
        );
        fs_err::write(folder.join("nginx.conf"), text).expect("the target folder can be written");
        let child = Command::new("nginx")
            .arg("-p")
            .arg(folder)
            .args(["-c", "nginx.conf", "-e", "stderr"])
            .spawn()
            .expect("nginx starts");
        while TcpStream::connect(address).is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
        Self { address, upstream: address, child }
    }

    fn gateway(upstream: SocketAddr) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program has a path"))
            .args(["serve", &upstream.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program starts");
        let mut line = String::new();
        let output = child.stdout.take().expect("it was piped");
        BufReader::new(output).read_line(&mut line).expect("it says where it listens");
        Self { address: line.trim().parse().expect("it says an address"), upstream, child }
    }

    fn load(&self, connections: u32, seconds: u64) -> Load {
        let before = self.processor_time();
        let output = Command::new("wrk")
            .args(["--latency", "-t1", &format!("-c{connections}"), &format!("-d{seconds}s")])
            .arg(format!("http://{}/", self.address))
            .output()
            .expect("wrk starts");
        let text = String::from_utf8(output.stdout).expect("wrk prints text");
        assert!(!text.contains("Socket errors") && !text.contains("Non-2xx"), "{text}");
        let field = |name: &str| {
            let line = text.lines().find(|line| line.trim().starts_with(name));
            line.and_then(|line| line.split_whitespace().nth(1)).expect("wrk prints it").to_owned()
        };
        let requests: f64 = text
            .lines()
            .find(|line| line.contains(" requests in "))
            .and_then(|line| line.split_whitespace().next()?.parse().ok())
            .expect("wrk prints it");
        Load {
            rate: field("Requests/sec:").parse().expect("it is a number"),
            p50: milliseconds(&field("50%")),
            p99: milliseconds(&field("99%")),
            work: (self.processor_time() - before) / requests * 1e6,
        }
    }

    /// Its process and those it started.
    fn processes(&self) -> Vec<u32> {
        let own = self.child.id();
        let children = fs_err::read_to_string(format!("/proc/{own}/task/{own}/children"));
        let children = children.unwrap_or_default();
        std::iter::once(own)
            .chain(children.split_whitespace().filter_map(|id| id.parse().ok()))
            .collect()
    }

    /// Seconds.
    fn processor_time(&self) -> f64 {
        let ticks: u64 = self
            .processes()
            .iter()
            .filter_map(|id| fs_err::read_to_string(format!("/proc/{id}/stat")).ok())
            .filter_map(|stat| {
                let fields: Vec<u64> = stat
                    .rsplit(')')
                    .next()?
                    .split_whitespace()
                    .map(|field| field.parse().unwrap_or(0))
                    .collect();
                Some(fields.get(11)? + fields.get(12)?)
            })
            .sum();
        ticks as f64 / TICKS
    }

    /// KiB.
    fn memory(&self) -> u64 {
        self.processes()
            .iter()
            .filter_map(|id| fs_err::read_to_string(format!("/proc/{id}/status")).ok())
            .filter_map(|status| {
                let line = status.lines().find(|line| line.starts_with("VmRSS:"))?.to_owned();
                line.split_whitespace().nth(1)?.parse::<u64>().ok()
            })
            .sum()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // nginx ends its workers on a signal that it can see, the gateway at the end of its input.
        drop(self.child.stdin.take());
        if let Some(id) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            rustix::process::kill_process(id, rustix::process::Signal::TERM).expect("it is ours");
        }
        drop(self.child.wait());
    }
}

/// The child: a gateway in front of the upstream, until its input ends.
fn serve(upstream: SocketAddr) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("there are threads").block_on(async {
        let gateway = Gateway::new(Limits::default());
        gateway.set_backends("upstream", &[upstream]);
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener =
            gateway.listen(any, "upstream", Protocol::Http).await.expect("there is a free port");
        println!("{}", listener.address);
        let ended = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0]));
        drop(ended.await);
    });
}

/// `1.23ms`, `45.00us`, `1.01s`.
fn milliseconds(text: &str) -> f64 {
    let units = [("us", 1e-3), ("ms", 1.0), ("s", 1e3)];
    let (number, unit) = units
        .into_iter()
        .find_map(|(unit, size)| Some((text.strip_suffix(unit)?, size)))
        .expect("wrk prints a unit");
    number.parse::<f64>().expect("it is a number") * unit
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn setting(name: &str, default: u64) -> u64 {
    #[expect(clippy::disallowed_methods, reason = "the caller says how long is measured")]
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
