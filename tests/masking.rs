//! No log shows a secret, and secrets reach the program: what the local runtime does with `Job.secrets`.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use flowrun::event::JobEnd;
use flowrun::names::{JobName, RunId};
use flowrun::runtime::local::{LocalRuntime, LocalSettings};
use flowrun::runtime::log_lines::{LogEntry, read_entries};
use flowrun::runtime::{Job, JobReport, LogKeep, Runtime};
use flowrun::secret::{HandedSecret, SecretText};
use tempfile::TempDir;

const SECRET: &str = "hunter2/&:swordfish";
const LONG: Duration = Duration::from_mins(1);

/// A home with one run of a number of its own.
struct Home {
    folder: TempDir,
    run: RunId,
}

impl Home {
    fn new() -> Self {
        static RUNS: AtomicU32 = AtomicU32::new(0);
        let number = u128::from(RUNS.fetch_add(1, Ordering::Relaxed));
        let run = RunId::new(2, (u128::from(std::process::id()) << 32) | number);
        Self { folder: tempfile::tempdir().unwrap(), run }
    }

    fn run_folder(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    fn runtime(&self) -> LocalRuntime {
        let program = env!("CARGO_BIN_EXE_flowrun").into();
        LocalRuntime::new(program, self.run_folder(), LocalSettings::default())
    }

    /// A job that has the secret as the variable `TOKEN` and, as a file, as `TOKEN_FILE`.
    fn job(&self, number: u32, command: &[&str]) -> Job {
        let folder = self.run_folder().join(format!("{number}-1"));
        let directory = folder.join("work");
        fs_err::create_dir_all(&directory).unwrap();
        let secret = |variable: &str, file| HandedSecret {
            variable: variable.to_owned(),
            value: SecretText::new(SECRET.to_owned()),
            file,
        };
        Job {
            name: JobName::new(self.run, number, 1),
            folder,
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            directory,
            env: BTreeMap::from([("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned())]),
            memory_limit: None,
            cpu_limit: None,
            timeout: None,
            grace: Duration::from_secs(10),
            log_cap: 100 << 20,
            log_keep: LogKeep::First,
            container: None,
            secrets: vec![secret("TOKEN", false), secret("TOKEN_FILE", true)],
        }
    }

    /// Nothing below the home holds the secret.
    fn is_clean(&self) {
        for entry in walkdir::WalkDir::new(self.folder.path()) {
            let entry = entry.unwrap();
            if entry.file_type().is_file() {
                let bytes = fs_err::read(entry.path()).unwrap();
                let shows = bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes());
                assert!(!shows, "{} shows it", entry.path().display());
            }
        }
    }
}

async fn run(runtime: &dyn Runtime, job: &Job) -> JobReport {
    runtime.start(job).await.unwrap();
    end(runtime, job).await
}

async fn end(runtime: &dyn Runtime, job: &Job) -> JobReport {
    let wait = tokio::time::timeout(LONG, runtime.wait(&job.name, &job.folder));
    wait.await.expect("it ends").unwrap()
}

fn lines(job: &Job) -> Vec<String> {
    read_entries(&job.folder).unwrap().iter().map(LogEntry::text).collect()
}

fn files_of(job: &Job) -> PathBuf {
    let uid = rustix::process::geteuid().as_raw();
    Path::new("/dev/shm").join(format!("flowrun-{uid}")).join(job.name.as_str())
}

#[tokio::test]
async fn a_program_gets_its_secrets_and_nobody_else_sees_them() {
    let home = Home::new();
    let script = r#"
        printf %s "$TOKEN" | sha256sum
        sha256sum < "$TOKEN_FILE"
        stat -c '%a' "$TOKEN_FILE" "$(dirname "$TOKEN_FILE")" "$(dirname "$(dirname "$TOKEN_FILE")")"
        echo "$TOKEN_FILE"
    "#;
    let job = home.job(1, &["sh", "-e", "-c", script]);
    let report = run(&home.runtime(), &job).await;
    assert_eq!(report.end, JobEnd::Exited(0), "{:?}", lines(&job));
    let lines = lines(&job);
    assert_eq!(lines[0], lines[1], "the same value both ways");
    assert_eq!(lines[2..5], ["600", "700", "700"]);
    assert_eq!(lines[5], files_of(&job).join("TOKEN_FILE").display().to_string());
    assert!(!files_of(&job).exists(), "gone with the job");
    assert!(fs_err::symlink_metadata(files_of(&job).with_extension("of")).is_err());
    home.is_clean();
}

#[tokio::test]
async fn a_hostile_program_prints_its_secret_in_vain() {
    let home = Home::new();
    let script = r#"
import base64, os, sys, time, urllib.parse
secret = os.environ["TOKEN"]
out = lambda text: (sys.stdout.write(text), sys.stdout.flush())
out(f"whole {secret}\n")
out("bytes ")
for letter in secret:
    os.write(1, letter.encode())
    time.sleep(0.002)
out("\n")
out("base64 " + base64.b64encode(secret.encode()).decode() + "\n")
out("quoted " + urllib.parse.quote(secret, safe="") + " " + urllib.parse.quote_plus(secret) + "\n")
out("x" * (65536 - 9) + secret + "\n")
sys.stderr.write(f"err {secret}\n")
sys.stderr.flush()
out("prompt> ")
os.mkdir(os.path.join("work-" + str(len(secret))))
"#;
    let job = home.job(1, &["python3", "-c", script]);
    let report = run(&home.runtime(), &job).await;
    assert_eq!(report.end, JobEnd::Exited(0), "{:?}", lines(&job));
    let mut lines = lines(&job);
    let long = lines.iter().position(|line| line.starts_with("xxx")).unwrap();
    let rest: String = lines.drain(long..=long).collect();
    assert!(rest.ends_with("x***"), "{}", &rest[rest.len() - 20..]);
    let err = lines.iter().position(|line| line == "err ***").unwrap();
    lines.remove(err);
    assert_eq!(lines, ["whole ***", "bytes ***", "base64 ***", "quoted *** ***", "prompt> "]);
    home.is_clean();
}

#[tokio::test]
async fn ten_megabytes_of_secret_are_masked_and_counted() {
    let home = Home::new();
    let count = 10 * (1 << 20) / SECRET.len();
    let script =
        format!("import os,sys\nsys.stdout.write((os.environ['TOKEN'] + '\\n') * {count})");
    let job = home.job(1, &["python3", "-c", &script]);
    assert_eq!(run(&home.runtime(), &job).await.end, JobEnd::Exited(0));
    let lines = lines(&job);
    assert_eq!(lines.len(), count);
    assert!(lines.iter().all(|line| line == "***"));
    home.is_clean();
}

#[tokio::test]
async fn a_job_whose_monitor_was_killed_leaves_no_files() {
    let home = Home::new();
    let job = home.job(1, &["sh", "-c", "echo $PPID $TOKEN; exec sleep 1000"]);
    let runtime = home.runtime();
    runtime.start(&job).await.unwrap();
    let monitor = loop {
        if let Some(line) = lines(&job).first()
            && let Some((pid, "***")) = line.split_once(' ')
        {
            break pid.parse().unwrap();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(fs_err::metadata(files_of(&job)).unwrap().mode() & 0o777, 0o700);
    let pid = rustix::process::Pid::from_raw(monitor).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let report = end(&runtime, &job).await;
    assert!(matches!(report.end, JobEnd::Lost { .. }), "{report:?}");
    assert!(!files_of(&job).exists());
    home.is_clean();
}

#[tokio::test]
async fn what_cannot_start_says_so_without_the_secret() {
    let home = Home::new();
    let mut job = home.job(1, &[SECRET]);
    let report = run(&home.runtime(), &job).await;
    assert_eq!(report.end, JobEnd::Exited(127));
    assert!(lines(&job)[0].contains("***"), "{:?}", lines(&job));
    assert!(!files_of(&job).exists());
    assert!(!format!("{job:?}").contains("swordfish") || job.command == [SECRET]);
    job.command.clear();
    assert!(!format!("{job:?}").contains("swordfish"));
}
