//! A place to run flowrun in: a folder with a pipeline and a home of its own, gone afterwards.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::patience::await_that;

/// A folder, a flowrun home and room outside both.
pub(crate) struct Place {
    root: tempfile::TempDir,
    disk: Option<PathBuf>,
    /// The Docker Engine that is not the machine's own.
    engine: Option<String>,
    replica_ports: String,
}

/// What a command left.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// Runs a command to its end.
    pub(crate) fn of(command: &mut Command) -> Self {
        read(&command.output().unwrap())
    }

    /// Panics with everything that was said unless the exit code is 0.
    pub(crate) fn success(self) -> Self {
        assert_eq!(self.code, 0, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }
}

/// A flowrun that runs in the background. What it says can be read while it does.
pub(crate) struct Running {
    child: Child,
    stderr: tempfile::NamedTempFile,
}

impl Running {
    /// Waits for its end.
    pub(crate) fn finish(self) -> Output {
        let mut output = self.child.wait_with_output().unwrap();
        output.stderr = fs_err::read(self.stderr.path()).unwrap();
        read(&output)
    }

    /// Waits until it has said this on stderr.
    pub(crate) fn await_word(&self, word: &str) {
        await_that(word, || {
            fs_err::read_to_string(self.stderr.path()).unwrap().contains(word).then_some(())
        });
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ctrl-C.
    pub(crate) fn interrupt(&self) {
        self.signal("-INT");
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(name, &self.child.id().to_string());
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Place {
    /// A plain folder.
    pub(crate) fn new() -> Self {
        let root = tempfile::Builder::new().prefix("flowrun-test-").tempdir().unwrap();
        fs_err::create_dir(root.path().join("work")).unwrap();
        Self { root, disk: None, engine: None, replica_ports: replica_ports() }
    }

    /// A git repo without commits.
    pub(crate) fn repo() -> Self {
        let place = Self::new();
        place.git(&["init", "-q", "-b", "main"]);
        place
    }

    /// A git repo with this pipeline, committed.
    pub(crate) fn with(pipeline: &str) -> Self {
        let place = Self::repo();
        place.write("pipeline.yaml", pipeline);
        place.commit("first");
        place
    }

    /// A git repo whose home lies on a tmpfs of this size; none without the right to mount one.
    pub(crate) fn on_small_disk(bytes: u64) -> Option<Self> {
        let mut place = Self::repo();
        let disk = place.root.path().join("disk");
        fs_err::create_dir(&disk).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(&disk)
            .status()
            .is_ok_and(|status| status.success());
        place.disk = mounted.then_some(disk);
        mounted.then_some(place)
    }

    /// Everything that is run from here on asks this Docker Engine.
    pub(crate) fn use_engine(&mut self, host: &str) {
        self.engine = Some(host.to_owned());
    }

    pub(crate) fn grow_disk(&self, bytes: u64) {
        let disk = self.disk.as_ref().unwrap();
        let status =
            Command::new("mount").args(["-o", &format!("remount,size={bytes}")]).arg(disk).status();
        assert!(status.unwrap().success());
    }

    /// The folder with the pipeline.
    pub(crate) fn folder(&self) -> PathBuf {
        self.root.path().join("work")
    }

    /// A path that flowrun knows nothing of.
    pub(crate) fn outside(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.disk.clone().unwrap_or_else(|| self.root.path().join("home"))
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        self.write_bytes(name, text.as_bytes());
    }

    pub(crate) fn write_bytes(&self, name: &str, bytes: &[u8]) {
        let path = self.folder().join(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, bytes).unwrap();
    }

    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        git(&self.folder(), arguments)
    }

    pub(crate) fn commit(&self, message: &str) {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-qm", message, "--allow-empty"]);
    }

    /// A command that is ready to be changed and started.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_flowrun"));
        command.args(arguments);
        self.dress(&mut command);
        command
    }

    /// Gives a command this folder, this home and nothing of the caller's flowrun.
    pub(crate) fn dress(&self, command: &mut Command) {
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("FLOWRUN_"))
        {
            command.env_remove(name);
        }
        command
            .current_dir(self.folder())
            .env("FLOWRUN_HOME", self.home())
            .env("FLOWRUN", env!("CARGO_BIN_EXE_flowrun"))
            .env("FLOWRUN_GATEWAY", "127.0.0.1:0")
            .env("FLOWRUN_REPLICA_PORTS", &self.replica_ports)
            .env("NO_COLOR", "1")
            .env("COLUMNS", "100")
            .envs(self.engine.iter().map(|host| ("DOCKER_HOST", host)))
            .stdin(Stdio::null());
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        read(&self.command(arguments).output().unwrap())
    }

    pub(crate) fn run_with(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
        read(&self.command(arguments).envs(variables.iter().copied()).output().unwrap())
    }

    /// A shell line in which `$FLOWRUN` is the program.
    pub(crate) fn shell(&self, line: &str) -> Output {
        let mut command = Command::new("sh");
        command.args(["-c", line]);
        self.dress(&mut command);
        read(&command.output().unwrap())
    }

    pub(crate) fn spawn(&self, arguments: &[&str]) -> Running {
        let stderr = tempfile::NamedTempFile::new().unwrap();
        let mut command = self.command(arguments);
        command.stdout(Stdio::piped()).stderr(stderr.reopen().unwrap());
        Running { child: command.spawn().unwrap(), stderr }
    }

    /// Runs for so long, then `kill -9`. Whether there was anything left to kill.
    pub(crate) fn kill_after(&self, arguments: &[&str], instant: Duration) -> bool {
        self.kill_when(arguments, || true, instant)
    }

    /// Runs until something has happened and so long after that, then `kill -9`. Whether there was anything left to kill.
    pub(crate) fn kill_when(
        &self,
        arguments: &[&str],
        mut has_happened: impl FnMut() -> bool,
        further: Duration,
    ) -> bool {
        let mut child =
            self.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while !has_happened() && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(further);
        let runs = child.try_wait().unwrap().is_none();
        child.kill().unwrap();
        child.wait().unwrap();
        runs
    }

    /// Runs a line that is split at spaces.
    pub(crate) fn line(&self, line: &str) -> Output {
        self.run(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// Exit code, stdout and stderr of a line as one text, the same in every folder.
    pub(crate) fn shown(&self, line: &str) -> String {
        let output = self.line(line);
        let text = format!(
            "exit {}\n--- stdout\n{}--- stderr\n{}",
            output.code, output.stdout, output.stderr
        );
        let folder = fs_err::canonicalize(self.folder()).unwrap();
        text.replace(folder.to_str().unwrap(), "[work]")
    }

    /// `kill -9` to every monitor of this home.
    pub(crate) fn kill_monitors(&self) {
        kill_monitors_below(&self.home());
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.run(arguments).success().stdout).unwrap()
    }

    /// Runs of this home, newest first.
    pub(crate) fn runs(&self) -> Vec<Value> {
        self.json(&["runs", "-o", "json"]).as_array().unwrap().clone()
    }

    /// Tasks of the newest run.
    pub(crate) fn tasks(&self) -> Vec<Value> {
        self.json(&["status", "latest", "-o", "json"])["tasks"].as_array().unwrap().clone()
    }

    /// `train[trees=50] done` for every task of the newest run.
    pub(crate) fn states(&self) -> Vec<String> {
        states_in(&self.json(&["status", "latest", "-o", "json"]))
    }

    /// The text of an output (one file) of the newest run.
    pub(crate) fn output(&self, task: &str, output: &str) -> String {
        let tasks = self.tasks();
        let task = tasks.iter().find(|row| row["task"] == task).unwrap();
        let target = self.outside("output");
        if target.exists() {
            fs_err::remove_file(&target).unwrap();
        }
        self.run(&[
            "store",
            "get",
            task["outputs"][output].as_str().unwrap(),
            target.to_str().unwrap(),
        ])
        .success();
        fs_err::read_to_string(target).unwrap()
    }

    /// A file in the folder of the newest attempt of a task of the newest run.
    pub(crate) fn attempt_file(&self, task: &str, name: &str) -> PathBuf {
        let run = self.runs()[0]["run"].as_str().unwrap().to_owned();
        let number = 1 + self.tasks().iter().position(|row| row["task"] == task).unwrap();
        let prefix = format!("{number}-");
        let is_attempt = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.to_str().unwrap().starts_with(&prefix))
        };
        // An attempt is journalled before its folder is made.
        let newest = await_that(&format!("an attempt of `{task}`"), || {
            let folders = fs_err::read_dir(self.home().join("runs").join(&run)).unwrap();
            folders.map(|entry| entry.unwrap().path()).filter(is_attempt).max()
        });
        newest.join(name)
    }

    /// Every file below a part of the store.
    pub(crate) fn store_files(&self, part: &str) -> Vec<PathBuf> {
        walkdir::WalkDir::new(self.home().join("store").join(part))
            .into_iter()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.file_type().is_file())
            .map(walkdir::DirEntry::into_path)
            .collect()
    }

    /// Waits until a task of the newest run runs.
    pub(crate) fn await_running(&self, task: &str) {
        await_that(&format!("`{task}` at work"), || {
            let output = self.run(&["status", "latest", "-o", "json"]);
            let status: Value = serde_json::from_str(&output.stdout).unwrap_or_default();
            let runs = |row: &Value| row["task"] == task && row["state"] == "running";
            status["tasks"].as_array()?.iter().any(runs).then_some(())
        });
    }

    /// Waits until a path is there.
    pub(crate) fn await_path(path: &Path) {
        await_that(&path.display().to_string(), || path.exists().then_some(()));
    }

    /// Whether this file system shares blocks between copies, so that writing into an input harms nobody.
    pub(crate) fn reflinks(&self) -> bool {
        let from = self.outside("reflink-from");
        fs_err::write(&from, "x").unwrap();
        let to = self.outside("reflink-to");
        Command::new("cp")
            .arg("--reflink=always")
            .arg(from)
            .arg(to)
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .success()
    }
}

impl Place {
    /// Ends the server of this home, the monitors of its replicas and the replicas, in this order, so that none brings another back.
    fn end_services(&self) {
        let Ok(home) = fs_err::canonicalize(self.home()) else { return };
        let lock = home.join("server.lock");
        let Ok(server) = fs_err::read_to_string(&lock) else { return };
        let here = home.to_str().unwrap();
        let is_held =
            fs_err::File::open(&lock).is_ok_and(|file| file.file().try_lock_shared().is_err());
        let servers = processes().into_iter().filter(|(pid, line)| {
            (is_held && *pid == server.trim()) || line.contains(&format!("--home={here}"))
        });
        end(servers.map(|(pid, _)| pid));
        let of_home = |line: &str| line.contains("__monitor") && line.contains(here);
        end(processes().into_iter().filter(|(_, line)| of_home(line)).map(|(pid, _)| pid));
        let is_job = |pid: &String| {
            let variables = fs_err::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let variables = String::from_utf8_lossy(&variables);
            variables.contains("FLOWRUN_JOB=") && variables.contains(here)
        };
        end(processes().into_iter().map(|(pid, _)| pid).filter(is_job));
    }
}

/// For the replicas of one home: no other one of this process gets them.
pub(crate) fn replica_ports() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 21_000 + NEXT.fetch_add(1, Ordering::Relaxed) % 80 * 100;
    format!("{first}-{}", first + 99)
}

/// `kill -9`; what has ended meanwhile is as good.
fn end(pids: impl Iterator<Item = String>) {
    for pid in pids {
        drop(Command::new("kill").args(["-KILL", &pid]).stderr(Stdio::null()).status());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.end_services();
        if let Some(disk) = &self.disk {
            // Nothing can be done about a failure here, and the folder stays visible.
            drop(Command::new("umount").arg("-l").arg(disk).status());
        }
    }
}

/// `kill -9` to every monitor of a home.
pub(crate) fn kill_monitors_below(home: &Path) {
    let home = fs_err::canonicalize(home).unwrap_or_else(|_| home.to_owned());
    let mut pids = Vec::new();
    for (pid, command) in processes() {
        if command.contains("__monitor") && command.contains(home.to_str().unwrap()) {
            pids.push(pid);
        }
    }
    end(pids.into_iter());
}

/// No process with exactly this command is left.
pub(crate) fn assert_no_process(command: &str) {
    let left: Vec<_> = processes().into_iter().filter(|(_, line)| line.trim() == command).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

/// `train[trees=50] done` for every task of a run's status.
pub(crate) fn states_in(status: &Value) -> Vec<String> {
    let words = |task: &Value| {
        format!("{} {}", task["task"].as_str().unwrap(), task["state"].as_str().unwrap())
    };
    status["tasks"].as_array().unwrap().iter().map(words).collect()
}

/// Runs git in a folder with an identity of its own.
pub(crate) fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(folder)
        .args([
            "-c",
            "user.name=test",
            "-c",
            "user.email=test@localhost",
            "-c",
            "protocol.file.allow=always",
        ])
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "git {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn read(output: &std::process::Output) -> Output {
    use std::os::unix::process::ExitStatusExt as _;
    Output {
        code: output.status.code().unwrap_or_else(|| 1000 + output.status.signal().unwrap_or(0)),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn signal(name: &str, pid: &str) {
    assert!(Command::new("kill").args([name, pid]).status().unwrap().success());
}

/// Every process of this machine: pid and command line.
fn processes() -> Vec<(String, String)> {
    fs_err::read_dir("/proc")
        .unwrap()
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let pid = entry.file_name().into_string().ok()?;
            pid.parse::<u32>().ok()?;
            let line = fs_err::read(entry.path().join("cmdline")).ok()?;
            Some((pid, String::from_utf8_lossy(&line).replace('\0', " ")))
        })
        .collect()
}
