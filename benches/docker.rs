//! `cargo bench --bench docker` prints one table: stages in containers beside `docker run --rm` of the same image.
//!
//! Every figure is the median of several rounds, and the two take turns inside a round, so that a noisy neighbour meets both.
//! `ROUNDS=15` takes more rounds, `IMAGE=…` another image, which has `true` and `python3` and is here already.

#![expect(clippy::print_stdout, reason = "the table is what this program is for")]

#[expect(dead_code, reason = "the other table needs more of it")]
mod place;

use std::process::{Command, Stdio};
use std::time::Duration;

use place::{Bench, median, run_quietly};

/// Stages of the long round, and how many run at once.
const MANY: usize = 100;
const AT_ONCE: usize = 2;

fn main() {
    let image = setting("IMAGE").unwrap_or_else(|| "flowrun-test/python:bookworm".to_owned());
    let rounds = setting("ROUNDS").and_then(|text| text.parse().ok()).unwrap_or(9);
    if !works(Command::new("docker").args(["image", "inspect", &image])) {
        println!("no Docker Engine with the image `{image}`: nothing was measured");
        return;
    }
    println!(
        "{:<44} {:>12} {:>12} {:>8}  bar",
        "what (median of rounds)", "flowrun", "docker run", "ratio"
    );
    one(&image, rounds);
    many(&image, rounds.min(3));
    requirements(&image);
}

/// One stage in a home that is used already.
fn one(image: &str, rounds: usize) {
    let bench = pipeline("one", image, "  only:\n    run: [\"true\"]\n    files: []\n");
    apply(&bench);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        ours.push(apply(&bench));
        theirs.push(run_quietly(Command::new("docker").args(["run", "--rm", image, "true"])));
    }
    row("one stage", &ours, &theirs, "≤ 1.15×");
}

/// Many stages that need nothing of each other.
fn many(image: &str, rounds: usize) {
    let copies: Vec<String> = (1..=MANY).map(|number| number.to_string()).collect();
    let stages = format!(
        "  each:\n    run: [\"true\"]\n    files: []\n    matrix: {{number: [{}]}}\n",
        copies.join(", ")
    );
    let bench = pipeline("many", image, &stages);
    apply(&bench);
    let line = format!("seq {MANY} | xargs -P {AT_ONCE} -I N docker run --rm {image} true");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        ours.push(apply(&bench));
        theirs.push(run_quietly(Command::new("sh").args(["-c", &line])));
    }
    row(&format!("{MANY} stages, {AT_ONCE} at once"), &ours, &theirs, "≤ 1.1×");
}

/// The first run installs a package; the second starts the stage's container and no other.
fn requirements(image: &str) {
    let stage = "  only:\n    run: python3 -c 'import six'\n    files: []\n    requirements: [six==1.17.0]\n";
    let bench = pipeline("requirements", image, stage);
    for what in ["requirements: first run", "requirements: second run"] {
        let (time, containers) = counting(|| apply(&bench));
        println!("{what:<44} {:>9.1} ms   {containers} started", millis(time));
    }
}

/// A pipeline with this image for its stages, in a place of its own.
fn pipeline(name: &str, image: &str, stages: &str) -> Bench {
    let bench = Bench::new();
    bench.write_pipeline(&format!(
        "version: \"2\"\nname: bench-{name}\ndefaults: {{image: \"{image}\"}}\nstages:\n{stages}"
    ));
    bench
}

fn apply(bench: &Bench) -> Duration {
    let jobs = format!("--jobs={AT_ONCE}");
    run_quietly(bench.flowrun().args(["apply", "--runtime=docker", &jobs]))
}

/// How many containers of flowrun's began meanwhile, as the engine tells it. Other flowruns of this machine count as well.
fn counting(work: impl FnOnce() -> Duration) -> (Duration, String) {
    let now = || {
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("the clock is set");
        format!("{}.{:09}", since.as_secs(), since.subsec_nanos())
    };
    let since = now();
    let time = work();
    let told = Command::new("docker")
        .args(["events", "--since", &since, "--until", &now()])
        .args(["--filter", "event=start", "--filter", "label=flowrun.installation"])
        .output()
        .expect("docker was there before");
    let count = String::from_utf8_lossy(&told.stdout).lines().count();
    (time, format!("{count} container{}", if count == 1 { "" } else { "s" }))
}

fn row(name: &str, ours: &[Duration], theirs: &[Duration], bar: &str) {
    // A round is a pair: the ratio is the median of the rounds' ratios.
    let mut ratios: Vec<f64> = ours
        .iter()
        .zip(theirs)
        .map(|(ours, theirs)| ours.as_secs_f64() / theirs.as_secs_f64())
        .collect();
    ratios.sort_by(f64::total_cmp);
    println!(
        "{name:<44} {:>9.1} ms {:>9.1} ms {:>7.2}×  {bar}",
        millis(median(ours)),
        millis(median(theirs)),
        ratios[ratios.len() / 2],
    );
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn works(command: &mut Command) -> bool {
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[expect(clippy::disallowed_methods, reason = "the caller says what is measured and how often")]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
