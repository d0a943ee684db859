//! `tests/servers/with cargo bench --bench s3` prints one table: what it takes to bring files to a bucket and back, beside s5cmd, rclone
//! and the AWS CLI on the same SeaweedFS. `benches/s3-tools` installs those.
//!
//! flowrun hashes what it sends, verifies what it gets, and keeps a cache on this machine; the others copy. Every figure is the median of
//! several rounds, in which the tools take turns; `ROUNDS=5` takes more. All are told to use many connections.
//! `LOADS=large` or `LOADS=small` measures that alone, and `TOOLS=s5cmd,rclone` beside these alone: the AWS CLI takes minutes for small files.
//!
//! Many small files stay until all rounds are done: where ext4 has no journal, it passes over the inodes of files that were removed in the
//! last minutes, one by one for each new file. Ten thousand removed ones cost the next tool 0.3 ms a file, whichever tool it is.

#![expect(clippy::print_stdout, reason = "the table is what this program is for")]
#![expect(clippy::cast_precision_loss, reason = "figures of a table have three digits")]

#[expect(dead_code, reason = "the other tables need more of it")]
mod place;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use flowrun::digest::Digest;
use flowrun::store::dir::DirStore;
use flowrun::store::s3::S3Store;
use flowrun::store::s3::bucket::Bucket;
use flowrun::store::{Store, Traffic};
use wait4::Wait4;

const SERVER: &str = "FLOWRUN_TEST_S3_SEAWEED";
/// Makes this program the flowrun that is measured: what to do, store, cache, file, and the artifact for the way down.
const WORKER: &str = "--worker";

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == WORKER) {
        return work(&arguments[at + 1..]);
    }
    let Some(url) = setting(SERVER) else {
        println!(
            "`{SERVER}` is not set: `tests/servers/with cargo bench --bench s3` starts a server and sets it; nothing was measured"
        );
        return;
    };
    let rounds = setting("ROUNDS").and_then(|text| text.parse().ok()).unwrap_or(3);
    let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let folder = tempfile::tempdir_in(base).expect("the target folder can be written");
    let bench = Bench { url, folder: folder.path().to_owned() };
    let tools: Vec<Tool> =
        Tool::ALL.into_iter().filter(|tool| tool.is_wanted() && tool.is_there()).collect();
    println!(
        "{:<32} {:<8} {:>9} {:>9} {:>8} {:>10}  bar",
        "what (median of rounds)", "tool", "time", "MiB/s", "CPU", "memory"
    );
    for (load, name) in [(Load::Large, "large"), (Load::Small, "small")] {
        if is_among("LOADS", name) {
            bench.measure(load, &tools, rounds);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tool {
    Flowrun,
    S5cmd,
    Rclone,
    Aws,
}

/// What is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Load {
    /// One file of 1 GiB.
    Large,
    /// 10,000 files of 4 KiB.
    Small,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

/// What one transfer took.
#[derive(Debug, Clone, Copy)]
struct Cost {
    time: Duration,
    cpu: Duration,
    /// Bytes.
    memory: u64,
}

struct Bench {
    url: String,
    folder: PathBuf,
}

impl Tool {
    const ALL: [Self; 4] = [Self::Flowrun, Self::S5cmd, Self::Rclone, Self::Aws];

    fn name(self) -> &'static str {
        match self {
            Self::Flowrun => "flowrun",
            Self::S5cmd => "s5cmd",
            Self::Rclone => "rclone",
            Self::Aws => "aws",
        }
    }
}

impl Tool {
    /// The program, as `benches/s3-tools` or the system has it.
    fn program(self) -> Command {
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/bin").join(self.name());
        let mut command = if own.exists() { Command::new(own) } else { Command::new(self.name()) };
        command.env("AWS_REGION", "us-east-1");
        // Over plain HTTP nobody needs it, and rclone refuses to start with it.
        command.env_remove("AWS_CA_BUNDLE");
        command
    }

    fn is_wanted(self) -> bool {
        self == Self::Flowrun || is_among("TOOLS", self.name())
    }

    fn is_there(self) -> bool {
        let argument = if self == Self::Aws { "--version" } else { "version" };
        let mut command = self.program();
        command.arg(argument).stdout(Stdio::null()).stderr(Stdio::null());
        let works = self == Self::Flowrun || command.status().is_ok_and(|status| status.success());
        if !works {
            println!("{} is missing: `benches/s3-tools` installs it", self.name());
        }
        works
    }
}

impl Load {
    const MANY: u64 = 10_000;

    fn name(self) -> &'static str {
        match self {
            Self::Large => "1 GiB",
            Self::Small => "10,000 × 4 KiB",
        }
    }

    fn bytes(self) -> u64 {
        match self {
            Self::Large => 1 << 30,
            Self::Small => Self::MANY * 4096,
        }
    }

    /// Of the fastest other tool's speed.
    fn bar(self) -> f64 {
        match self {
            Self::Large => 0.9,
            Self::Small => 3.0,
        }
    }

    /// Makes the files; their bytes neither compress nor repeat. Each time others, so that no server and no cache knows them.
    fn write(self, path: &Path, round: usize) {
        let mut noise = blake3::Hasher::new_derive_key("load");
        noise.update(&round.to_le_bytes());
        let mut noise = noise.finalize_xof();
        fs_err::create_dir_all(path).expect("the folder can be written");
        match self {
            Self::Large => {
                let file = fs_err::File::create(path.join("large")).expect("there is room");
                let size = self.bytes();
                std::io::copy(&mut std::io::Read::take(noise, size), &mut file.into_parts().0)
                    .expect("there is room");
            }
            Self::Small => {
                let mut bytes = [0; 4096];
                for number in 0..Self::MANY {
                    noise.fill(&mut bytes);
                    fs_err::write(path.join(number.to_string()), bytes).expect("there is room");
                }
            }
        }
    }
}

impl Bench {
    fn measure(&self, load: Load, tools: &[Tool], rounds: usize) {
        let mut costs = vec![(Vec::new(), Vec::new()); tools.len()];
        for round in 0..rounds {
            for (tool, (up, down)) in tools.iter().zip(&mut costs) {
                let (up_cost, down_cost) = self.turn(load, *tool, round);
                up.push(up_cost);
                down.push(down_cost);
            }
        }
        for (way, name) in [(Way::Up, "up"), (Way::Down, "down")] {
            let of = |costs: &(Vec<Cost>, Vec<Cost>)| {
                median(if way == Way::Up { &costs.0 } else { &costs.1 })
            };
            let fastest =
                costs.iter().skip(1).map(|costs| of(costs).time).min().unwrap_or_default();
            for (tool, costs) in tools.iter().zip(&costs) {
                print_row(&format!("{} {name}", load.name()), *tool, load, of(costs), fastest);
            }
        }
        remove(&self.folder_of(load));
    }

    fn folder_of(&self, load: Load) -> PathBuf {
        self.folder.join(load.bytes().to_string())
    }

    /// Up and down again. Whose turn it is has files of its own: taking in makes them read-only.
    fn turn(&self, load: Load, tool: Tool, round: usize) -> (Cost, Cost) {
        let folder = self.folder_of(load).join(format!("{round}-{}", tool.name()));
        let [source, target] = [folder.join("source"), folder.join("target")];
        load.write(&source, round * Tool::ALL.len() + tool as usize);
        let prefix = format!("bench-{}-{round}-{}", load.bytes(), tool.name());
        let up = cost(&mut self.command(tool, Way::Up, &prefix, &source));
        let down = cost(&mut self.command(tool, Way::Down, &prefix, &target));
        assert_same(&source, &target);
        if load == Load::Large {
            remove(&folder);
        }
        self.empty(&prefix);
        (up, down)
    }

    /// What brings the files to or from `path`; what else it needs it keeps beside them.
    fn command(&self, tool: Tool, way: Way, prefix: &str, path: &Path) -> Command {
        let (bucket, endpoint) = self.parts();
        let there = format!("{bucket}/{prefix}/");
        let here = format!("{}/", path.display());
        let pair = if way == Way::Up {
            [here.clone(), there.clone()]
        } else {
            [there.clone(), here.clone()]
        };
        match tool {
            Tool::Flowrun => {
                let mut command =
                    Command::new(std::env::current_exe().expect("this program has a path"));
                let (_, parameters) = self.url.split_once('?').expect("an endpoint");
                command.arg(WORKER).arg(if way == Way::Up { "up" } else { "down" });
                command.arg(format!("{bucket}/{prefix}?{parameters}"));
                // On the way down, a cache that holds nothing of what comes.
                let cache =
                    path.with_file_name(if way == Way::Up { "cache-up" } else { "cache-down" });
                command.arg(cache).arg(path).arg(path.with_file_name("artifact"));
                command
            }
            Tool::S5cmd => {
                let mut command = tool.program();
                let [from, to] = pair;
                command.args(["--endpoint-url", &endpoint, "--log", "error", "cp"]);
                command.args([format!("{from}*"), to]);
                command
            }
            Tool::Rclone => {
                let mut command = tool.program();
                let remote = |text: &str| {
                    text.strip_prefix("s3://").map_or(text.to_owned(), |path| {
                        format!(":s3,provider=Other,env_auth,endpoint='{endpoint}':{path}")
                    })
                };
                command.args(["copy", "-q", "--transfers=64", "--checkers=64"]);
                command.args(["--s3-no-check-bucket", "--s3-upload-concurrency=8"]);
                command.args(["--multi-thread-streams=8", "--no-traverse"]);
                command.args(pair.iter().map(|text| remote(text)));
                command
            }
            Tool::Aws => {
                let mut command = tool.program();
                let config = self.folder.join("aws-config");
                let text = "[default]\ns3 =\n  max_concurrent_requests = 32\n";
                fs_err::write(&config, text).expect("the folder can be written");
                command.env("AWS_CONFIG_FILE", config);
                command.args(["--endpoint-url", &endpoint, "--region", "us-east-1"]);
                command.args(["s3", "cp", "--recursive", "--only-show-errors"]);
                command.args(pair);
                command
            }
        }
    }

    /// `s3://bucket` and `http://host:port`.
    fn parts(&self) -> (String, String) {
        let (bucket, parameters) = self.url.split_once('?').expect("an endpoint");
        let endpoint = parameters
            .split('&')
            .find_map(|parameter| parameter.strip_prefix("endpoint="))
            .expect("an endpoint");
        (bucket.to_owned(), endpoint.to_owned())
    }

    /// So that the disk does not fill.
    fn empty(&self, prefix: &str) {
        let (bucket, parameters) = self.url.split_once('?').expect("an endpoint");
        let url = format!("{bucket}/{prefix}?{parameters}");
        runtime().block_on(async {
            let bucket = Bucket::new(url.parse().expect("it was one before"));
            let mut names = Vec::new();
            bucket.list("", &mut |listed| names.push(listed.name)).await.expect("it answers");
            bucket.remove(&names).await.expect("it answers");
        });
    }
}

/// What flowrun does with an artifact, and nothing of what it does around it.
fn work(arguments: &[String]) {
    let [way, url, cache, path, artifact] = arguments else { panic!("{arguments:?}") };
    let (cache, path) = (Path::new(cache), Path::new(path));
    runtime().block_on(async {
        fs_err::create_dir_all(cache).expect("the folder can be written");
        let cache = DirStore::open(&cache.join("store"), cache).expect("a new cache");
        let place = url.parse().expect("a URL");
        let store = S3Store::open(&place, cache);
        let traffic = Traffic::default();
        if way == "up" {
            let digest = store.take_in(path, &traffic).await.expect("the server works");
            let digest = digest.expect("plain files").to_string();
            fs_err::write(artifact, digest).expect("the folder can be written");
        } else {
            let digest = fs_err::read_to_string(artifact).expect("it was written on the way up");
            let digest: Digest = digest.parse().expect("a digest");
            store.place(&digest, path, false, &traffic).await.expect("the server works");
        }
    });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().expect("threads can be started")
}

fn cost(command: &mut Command) -> Cost {
    let start = Instant::now();
    let child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("the program starts");
    let used = child.wait4().expect("it is ours");
    let time = start.elapsed();
    assert!(used.status.success(), "{command:?} failed");
    Cost { time, cpu: used.rusage.utime + used.rusage.stime, memory: used.rusage.maxrss }
}

/// A tool that brought something else back has measured nothing.
fn assert_same(source: &Path, target: &Path) {
    let same = Command::new("diff").arg("-rq").args([source, target]).status();
    assert!(same.is_ok_and(|status| status.success()), "other files came back");
}

fn remove(folder: &Path) {
    if folder.exists() {
        let gone = Command::new("rm").arg("-rf").arg(folder).status();
        assert!(gone.is_ok_and(|status| status.success()));
    }
}

/// Each figure's own median.
fn median(costs: &[Cost]) -> Cost {
    fn middle<T: Ord + Copy>(costs: &[Cost], figure: impl Fn(&Cost) -> T) -> T {
        let mut figures: Vec<T> = costs.iter().map(figure).collect();
        figures.sort();
        figures[figures.len() / 2]
    }
    Cost {
        time: middle(costs, |cost| cost.time),
        cpu: middle(costs, |cost| cost.cpu),
        memory: middle(costs, |cost| cost.memory),
    }
}

fn print_row(what: &str, tool: Tool, load: Load, cost: Cost, fastest: Duration) {
    let seconds = cost.time.as_secs_f64();
    let bar = if tool == Tool::Flowrun && !fastest.is_zero() {
        format!("{:.2}× the fastest other (≥ {}×)", fastest.as_secs_f64() / seconds, load.bar())
    } else {
        String::new()
    };
    println!(
        "{what:<32} {:<8} {:>7.2} s {:>9.0} {:>6.2} s {:>6.0} MiB  {bar}",
        tool.name(),
        seconds,
        load.bytes() as f64 / f64::from(1 << 20) / seconds,
        cost.cpu.as_secs_f64(),
        cost.memory as f64 / f64::from(1 << 20),
    );
}

/// Whether a setting, names with commas between them, has this one. It has all of them where it is not given.
fn is_among(setting_name: &str, name: &str) -> bool {
    setting(setting_name).is_none_or(|names| names.split(',').any(|one| one == name))
}

#[expect(clippy::disallowed_methods, reason = "the caller says what is measured and how often")]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
