//! `cargo bench` prints one table: flowrun beside ninja, make and Snakemake (where present), measured in one run on one machine.
//!
//! Every figure is the median of several rounds, and the tools take turns inside a round, so that a noisy neighbour meets all of them.
//! `cargo bench -- chain` measures only what has `chain` in its name; `ROUNDS=9 cargo bench` takes more rounds.

#![expect(clippy::print_stdout, reason = "the table is what this program is for")]
#![expect(clippy::cast_precision_loss, reason = "figures of a table have three digits")]

mod place;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use place::{Bench, flowrun, have, median, peak_memory_of, run_quietly};

fn main() {
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    #[expect(clippy::disallowed_methods, reason = "the caller says how many rounds are taken")]
    let rounds = std::env::var("ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let mut table = Table { wanted, rounds };
    println!(
        "{:<44} {:>12} {:>12} {:>12} {:>12}  bar",
        "what (median)", "flowrun", "ninja", "make", "snakemake"
    );
    table.shapes();
    table.start_up();
    table.plan();
    table.engine();
    table.gibibyte();
    table.adoption();
    table.server();
}

struct Table {
    wanted: Vec<String>,
    rounds: usize,
}

/// How the stages hang together.
#[derive(Clone, Copy, PartialEq)]
enum Shape {
    Chain,
    Fan,
}

impl Table {
    fn wants(&self, name: &str) -> bool {
        self.wanted.is_empty() || self.wanted.iter().any(|word| name.contains(word.as_str()))
    }

    /// Chains and fans of stages that write one small file: from nothing, and unchanged.
    fn shapes(&mut self) {
        for shape in [Shape::Chain, Shape::Fan] {
            for count in [10, 100, 1000] {
                let name =
                    format!("{} of {count}", if shape == Shape::Chain { "chain" } else { "fan" });
                if self.wants(&name) {
                    self.shape(&name, shape, count);
                }
            }
        }
    }

    fn shape(&mut self, name: &str, shape: Shape, count: usize) {
        // Snakemake fails on long chains (recursion) and takes minutes on long fans.
        let tools: Vec<Tool> = [Tool::Flowrun, Tool::Ninja, Tool::Make, Tool::Snakemake]
            .into_iter()
            .filter(|tool| tool.present() && !(*tool == Tool::Snakemake && count > 100))
            .collect();
        let mut cold = vec![Vec::new(); 4];
        let mut warm = vec![Vec::new(); 4];
        let mut memory = 0;
        let rounds = if count == 1000 { self.rounds.min(5) } else { self.rounds };
        for _ in 0..rounds {
            for tool in &tools {
                if *tool == Tool::Snakemake && !cold[3].is_empty() {
                    continue;
                }
                let bench = Bench::new();
                tool.write(&bench, shape, count);
                cold[*tool as usize].push(tool.run(&bench));
                warm[*tool as usize].push(tool.run(&bench));
                if *tool == Tool::Flowrun {
                    memory = memory.max(peak_memory_of(&mut tool.command(&bench)));
                }
            }
        }
        print_row(
            &format!("{name}, cold"),
            &cold,
            if name == "chain of 1000" { "≤ 3× ninja" } else { "" },
        );
        print_row(
            &format!("{name}, unchanged"),
            &warm,
            if count == 1000 { "≤ 100 ms" } else { "" },
        );
        println!("{:<44} {:>9} KiB", format!("{name}, unchanged: peak memory"), memory);
    }

    fn start_up(&mut self) {
        if !self.wants("start-up") {
            return;
        }
        let mut times = vec![Vec::new(); 4];
        for _ in 0..self.rounds * 8 {
            for (column, mut command) in [
                (0, {
                    let mut c = Command::new(flowrun());
                    c.arg("--version");
                    c
                }),
                (1, {
                    let mut c = Command::new("ninja");
                    c.arg("--version");
                    c
                }),
                (2, {
                    let mut c = Command::new("make");
                    c.arg("--version");
                    c
                }),
            ] {
                if column == 0 || have(command.get_program().to_str().unwrap_or_default()) {
                    times[column].push(run_quietly(&mut command));
                }
            }
        }
        print_row("start-up (--version)", &times, "≤ 5 ms");
    }

    fn plan(&mut self) {
        if !self.wants("plan of 10,000") {
            return;
        }
        let bench = Bench::new();
        Tool::Flowrun.write(&bench, Shape::Fan, 10_000);
        let command = || {
            let mut command = bench.flowrun();
            command.args(["plan", "--format", "json"]);
            command
        };
        let times: Vec<Duration> = (0..self.rounds).map(|_| run_quietly(&mut command())).collect();
        print_row("plan of 10,000 stages", &[times, vec![], vec![], vec![]], "≤ 1 s");
        println!(
            "{:<44} {:>9} KiB {:>40}",
            "plan of 10,000 stages: peak memory",
            peak_memory_of(&mut command()),
            "≤ 150 MiB"
        );
    }

    /// The pure machine with scripted answers: no disk, no processes.
    fn engine(&mut self) {
        if !self.wants("engine alone") {
            return;
        }
        let tasks = 100_000;
        let times: Vec<Duration> = (0..self.rounds)
            .map(|_| {
                let start = Instant::now();
                place::engine_alone(tasks);
                start.elapsed()
            })
            .collect();
        let rate = tasks as f64 / median(&times).as_secs_f64();
        println!("{:<44} {:>9.0} /s {:>42}", "engine alone, tasks", rate, "≥ 50,000 /s");
    }

    /// 1 GiB handed through three stages, beside one BLAKE3 pass over it and one copy of it.
    fn gibibyte(&mut self) {
        if !self.wants("1 GiB") {
            return;
        }
        let size: u64 = 1 << 30;
        let (mut total, mut user, mut pass, mut copy) = (vec![], vec![], vec![], vec![]);
        for _ in 0..self.rounds.min(3) {
            let bench = Bench::new();
            let source = bench.folder.path().join("big");
            place::write_noise(&source, size);
            let start = Instant::now();
            let mut hasher = blake3::Hasher::new();
            hasher
                .update_reader(fs_err::File::open(&source).expect("the file is there"))
                .expect("it can be read");
            std::hint::black_box(hasher.finalize());
            pass.push(start.elapsed());
            let start = Instant::now();
            fs_err::copy(&source, bench.folder.path().join("copy")).expect("there is room");
            copy.push(start.elapsed());
            // What the copy left to be written must not be counted as flowrun's.
            run_quietly(&mut Command::new("sync"));
            // The first stage moves the file in, so that its own time is nothing; the others only look at it.
            bench.write_pipeline(&format!(
                "version: \"2\"\nname: big\nstages:\n  one:\n    run: mv {} \"$FLOWRUN_OUTPUT_DATA\"\n    files: []\n    outputs: {{data: data}}\n  \
                 two:\n    run: test -s \"$FLOWRUN_INPUT_DATA\"\n    files: []\n    inputs: {{data: one.data}}\n  \
                 three:\n    run: test -s \"$FLOWRUN_INPUT_DATA\"\n    files: []\n    inputs: {{data: one.data}}\n    needs: [two]\n",
                source.display()
            ));
            let mut command = bench.flowrun();
            command.args(["apply"]);
            let all = run_quietly(&mut command);
            total.push(all);
            user.push(all);
        }
        let ratio = median(&total).as_secs_f64() / median(&pass).as_secs_f64();
        println!(
            "{:<44} {:>9.0} ms   one BLAKE3 pass {:.0} ms, one copy {:.0} ms: {ratio:.2}× one pass (bar ≤ 1.3×)",
            "1 GiB through three stages",
            ms(&total),
            ms(&pass),
            ms(&copy)
        );
    }

    /// From `kill -9` of flowrun: how long `resume` needs until it watches the running job again.
    fn adoption(&mut self) {
        if !self.wants("adoption") {
            return;
        }
        let mut times = Vec::new();
        let mut monitor = (0, 0);
        for _ in 0..self.rounds {
            let bench = Bench::new();
            bench.write_pipeline(
                "version: \"2\"\nname: long\nstages:\n  wait:\n    run: sleep 30\n    files: []\n",
            );
            let mut first = bench
                .flowrun()
                .arg("apply")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("flowrun starts");
            bench.await_job("sleep");
            first.kill().expect("it runs");
            first.wait().expect("it is ours");
            monitor = monitor.max(bench.monitor_memory());
            let start = Instant::now();
            let mut second = bench
                .flowrun()
                .arg("resume")
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .expect("flowrun starts");
            place::await_line(second.stderr.take().expect("it was piped"), "was found running");
            times.push(start.elapsed());
            bench.cancel();
            second.wait().expect("it is ours");
        }
        print_row("adoption after kill -9", &[times, vec![], vec![], vec![]], "≤ 1 s");
        let (resident, own) = monitor;
        println!(
            "{:<44} {:>9} KiB   {own} KiB of it its own, the rest pages of the program   ≤ 5 MiB",
            "monitor: resident memory", resident
        );
    }

    /// How long a killed server is missed, and what an idle one costs.
    fn server(&mut self) {
        if !self.wants("server") {
            return;
        }
        let figures = place::server::measure(self.rounds);
        print_row(
            "server killed, the next one answers",
            &[figures.gaps, vec![], vec![], vec![]],
            "≤ 300 ms",
        );
        let (resident, own) = figures.memory;
        println!(
            "{:<44} {:>9} KiB   {own} KiB of it its own, the rest pages of the program   ≤ 30 MiB",
            "server: idle, resident memory", resident
        );
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Tool {
    Flowrun = 0,
    Ninja = 1,
    Make = 2,
    Snakemake = 3,
}

impl Tool {
    fn present(self) -> bool {
        match self {
            Self::Flowrun => true,
            Self::Ninja => have("ninja"),
            Self::Make => have("make"),
            Self::Snakemake => have("snakemake"),
        }
    }

    fn command(self, bench: &Bench) -> Command {
        let mut command = match self {
            Self::Flowrun => {
                let mut command = bench.flowrun();
                command.arg("apply");
                return command;
            }
            Self::Ninja => Command::new("ninja"),
            Self::Make => {
                let mut command = Command::new("make");
                command.args(["-s", "-j2", "all"]);
                command
            }
            Self::Snakemake => {
                let mut command = Command::new("snakemake");
                command.args(["-q", "-c2"]);
                command
            }
        };
        command.current_dir(bench.folder.path());
        command
    }

    fn run(self, bench: &Bench) -> Duration {
        run_quietly(&mut self.command(bench))
    }

    /// Writes the same work for each tool: stage n writes one small file, from the one before it in a chain.
    fn write(self, bench: &Bench, shape: Shape, count: usize) {
        let root: &Path = bench.folder.path();
        let before = |number: usize| (shape == Shape::Chain && number > 0).then(|| number - 1);
        let mut text = String::new();
        let name = match self {
            Self::Flowrun => {
                text.push_str("version: \"2\"\nname: shape\nstages:\n");
                for number in 0..count {
                    text.push_str(&format!("  s{number}:\n    run: echo {number} > o{number}\n    files: []\n    outputs: {{o: o{number}}}\n"));
                    if let Some(from) = before(number) {
                        text.push_str(&format!("    inputs: {{i: s{from}.o}}\n"));
                    }
                }
                return bench.write_pipeline(&text);
            }
            Self::Ninja => {
                text.push_str("rule w\n  command = echo $n > $out\n");
                for number in 0..count {
                    let input = before(number).map(|from| format!("o{from}")).unwrap_or_default();
                    text.push_str(&format!("build o{number}: w {input}\n  n = {number}\n"));
                }
                "build.ninja"
            }
            Self::Make => {
                let all: Vec<String> = (0..count).map(|number| format!("o{number}")).collect();
                text.push_str(&format!("all: {}\n", all.join(" ")));
                for number in 0..count {
                    let input = before(number).map(|from| format!("o{from}")).unwrap_or_default();
                    text.push_str(&format!("o{number}: {input}\n\techo {number} > o{number}\n"));
                }
                "Makefile"
            }
            Self::Snakemake => {
                let all: Vec<String> = (0..count).map(|number| format!("\"o{number}\"")).collect();
                text.push_str(&format!("rule all:\n    input: {}\n", all.join(", ")));
                for number in 0..count {
                    let input = before(number)
                        .map(|from| format!("    input: \"o{from}\"\n"))
                        .unwrap_or_default();
                    text.push_str(&format!("rule s{number}:\n{input}    output: \"o{number}\"\n    shell: \"echo {number} > o{number}\"\n"));
                }
                "Snakefile"
            }
        };
        fs_err::write(root.join(name), text).expect("the folder can be written");
    }
}

fn ms(times: &[Duration]) -> f64 {
    median(times).as_secs_f64() * 1000.0
}

fn print_row(name: &str, columns: &[Vec<Duration>], bar: &str) {
    let cells: Vec<String> = columns
        .iter()
        .map(|times| {
            if times.is_empty() {
                format!("{:>12}", "–")
            } else {
                format!("{:>9.1} ms", ms(times))
            }
        })
        .collect();
    let against = match (columns.first(), columns.get(1)) {
        (Some(ours), Some(ninja)) if !ours.is_empty() && !ninja.is_empty() => {
            format!("{:.1}× ninja", ms(ours) / ms(ninja))
        }
        _ => String::new(),
    };
    println!("{name:<44} {}  {against} {bar}", cells.join(" "));
}
