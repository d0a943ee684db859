//! What the table measures with: a fresh folder with a home of its own, timed commands, medians.

pub(crate) mod server;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A folder with a pipeline and a flowrun home that nothing else uses.
pub(crate) struct Bench {
    pub(crate) folder: TempDir,
    home: TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        // Beside the build, not in a memory file system: the disk is part of what is measured.
        let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
        Self {
            folder: tempfile::tempdir_in(base).expect("the target folder can be written"),
            home: tempfile::tempdir_in(base).expect("the target folder can be written"),
        }
    }

    /// The pipeline lies in a git repo of its own, as it would at a user's.
    pub(crate) fn write_pipeline(&self, text: &str) {
        let root = self.folder.path();
        fs_err::write(root.join("pipeline.yaml"), text).expect("the folder can be written");
        for arguments in [
            &["init", "-q"][..],
            &["add", "pipeline.yaml"],
            &[
                "-c",
                "user.name=bench",
                "-c",
                "user.email=bench@localhost",
                "commit",
                "-qm",
                "bench",
            ],
        ] {
            assert!(
                Command::new("git")
                    .current_dir(root)
                    .args(arguments)
                    .status()
                    .is_ok_and(|status| status.success())
            );
        }
        fs_err::write(root.join(".git/info/exclude"), "*\n").expect("the folder can be written");
    }

    pub(crate) fn flowrun(&self) -> Command {
        let mut command = Command::new(flowrun());
        command.current_dir(self.folder.path()).env("FLOWRUN_HOME", self.home.path());
        command
    }

    /// Waits until a process of this home's jobs has this name.
    pub(crate) fn await_job(&self, name: &str) {
        let home = self.home.path().display().to_string();
        loop {
            for process in processes() {
                let is_named = fs_err::read_to_string(process.join("comm"))
                    .is_ok_and(|text| text.trim() == name);
                let is_job = fs_err::read(process.join("environ"))
                    .is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(&home));
                if is_named && is_job {
                    return;
                }
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Resident memory of this home's largest monitor, KiB; and without the pages of the program, which all flowruns share.
    pub(crate) fn monitor_memory(&self) -> (u64, u64) {
        let home = self.home.path().display().to_string();
        processes()
            .filter(|process| {
                let line = fs_err::read(process.join("cmdline")).unwrap_or_default();
                let line = String::from_utf8_lossy(&line);
                line.contains("__monitor") && line.contains(&home)
            })
            .filter_map(|process| {
                let status = fs_err::read_to_string(process.join("status")).ok()?;
                Some((field(&status, "VmRSS:")?, field(&status, "RssAnon:")?))
            })
            .max()
            .unwrap_or_default()
    }

    /// The process of this home's server.
    pub(crate) fn server(&self) -> Option<u32> {
        let status = self.flowrun().args(["server", "--status", "-o", "json"]).output().ok()?;
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).ok()?;
        u32::try_from(status["pid"].as_u64()?).ok()
    }

    pub(crate) fn cancel(&self) {
        run_quietly(self.flowrun().args(["cancel", "latest", "--kill"]));
    }
}

pub(crate) fn flowrun() -> &'static str {
    env!("CARGO_BIN_EXE_flowrun")
}

pub(crate) fn have(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Runs a command to its good end; the time it took.
pub(crate) fn run_quietly(command: &mut Command) -> Duration {
    let start = Instant::now();
    let output = command.stdin(Stdio::null()).output().expect("the program starts");
    let time = start.elapsed();
    let code = output.status.code().unwrap_or(-1);
    assert!(
        code == 0 || code == 130,
        "{command:?} failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    time
}

/// The most memory a command has resident, KiB, as the kernel counts it.
pub(crate) fn peak_memory_of(command: &mut Command) -> u64 {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let mut out = child.stdout.take().expect("it was piped");
    std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().expect("it is ours").is_none() {
        peak = peak.max(
            fs_err::read_to_string(&status)
                .ok()
                .and_then(|text| field(&text, "VmHWM:"))
                .unwrap_or(0),
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    peak
}

pub(crate) fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Bytes that neither compress nor repeat.
pub(crate) fn write_noise(path: &Path, size: u64) {
    let mut file = fs_err::File::create(path).expect("the folder can be written");
    let mut noise = blake3::Hasher::new_derive_key("noise").finalize_xof();
    let mut block = vec![0; 1 << 20];
    for _ in 0..size >> 20 {
        noise.fill(&mut block);
        file.write_all(&block).expect("there is room");
    }
    file.sync_all().expect("there is room");
}

/// Reads until a line holds `word`; the rest is read away in the background, so that the program never waits for us.
pub(crate) fn await_line(stream: impl Read + Send + 'static, word: &str) {
    let mut lines = BufReader::new(stream).lines();
    let mut seen = String::new();
    for line in lines.by_ref() {
        let line = line.expect("the program writes text");
        if line.contains(word) {
            std::thread::spawn(move || lines.for_each(drop));
            return;
        }
        seen.push_str(&line);
        seen.push('\n');
    }
    panic!("no line with `{word}`:\n{seen}");
}

fn processes() -> impl Iterator<Item = std::path::PathBuf> {
    fs_err::read_dir("/proc")
        .expect("this is Linux")
        .filter_map(Result::ok)
        .filter(|entry| {
            entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit())
        })
        .map(|entry| entry.path())
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name))?
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .ok()
}

/// A layered web of tasks through the pure machine, every one of which runs once.
pub(crate) fn engine_alone(tasks: usize) {
    use flowrun::engine::run::{Facts, TaskFacts, rehearse};
    use flowrun::plan::graph::{Graph, Part, PlannedTask};

    const WIDTH: usize = 100;
    let planned = |index: usize| PlannedTask {
        id: flowrun::names::TaskId { stage: format!("s{index}").parse().expect("a name"), copy: 1 },
        label: format!("s{index}"),
        matrix: Vec::new(),
        needs: index.checked_sub(WIDTH).into_iter().collect(),
        needed_by: (index + WIDTH < tasks).then_some(index + WIDTH).into_iter().collect(),
        depth: u32::try_from((tasks - index).div_ceil(WIDTH)).expect("a small web"),
        part: Part::Wanted,
    };
    let graph = Graph::from_tasks((0..tasks).map(planned).collect(), None, None);
    let facts = Facts {
        run: flowrun::names::RunId::new(0, 1),
        host: "bench".to_owned(),
        now: 0,
        jobs: 16,
        cpu: 16.0,
        memory: 1 << 30,
        gpus: Vec::new(),
        keep_going: false,
        tasks: vec![TaskFacts::default(); tasks],
        picks: std::collections::BTreeMap::new(),
        held_gpus: std::collections::BTreeMap::new(),
        services: std::collections::BTreeMap::new(),
    };
    let created = flowrun::event::Created {
        version: flowrun::event::JOURNAL_VERSION,
        pipeline: "bench".parse().expect("a name"),
        snapshot: flowrun::event::SnapshotId {
            tree: String::new(),
            commit: None,
            reference: None,
            dirty: false,
            base: String::new(),
            origin: String::new(),
        },
        file: flowrun::digest::Digest::of(b""),
        params: std::collections::BTreeMap::new(),
        selection: flowrun::event::Selection::default(),
        cause: "bench".to_owned(),
        kept: None,
    };
    let told = rehearse(std::sync::Arc::new(graph), facts, created).expect("a new journal fits");
    assert_eq!(told.attempts, tasks, "every task ran once");
}
