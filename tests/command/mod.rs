//! Drives the real binary: a fresh folder and home for every test, and exit code, stdout and stderr together as one text.

#![allow(dead_code, reason = "every test binary uses its own part of this module")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A folder of its own, with a home of its own.
pub(crate) struct Sandbox {
    folder: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

impl Sandbox {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder"), variables: Vec::new() }
    }

    /// Sets a variable of every command from here on.
    pub(crate) fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Writes a file, making its folders.
    pub(crate) fn with_file(self, path: &str, text: &str) -> Self {
        self.write(path, text);
        self
    }

    /// Makes the work folder a git repo with one commit of all that is there.
    pub(crate) fn with_repo(self) -> Self {
        self.git(&["init", "--quiet", "--initial-branch=main"]);
        self.commit("first");
        self
    }

    /// Writes a file, making its folders.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.work().join(path);
        fs_err::create_dir_all(path.parent().expect("a parent")).expect("folders");
        fs_err::write(path, text).expect("a file");
    }

    /// Commits everything; returns the commit.
    pub(crate) fn commit(&self, message: &str) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", message]);
        self.git(&["rev-parse", "HEAD"]).trim().to_owned()
    }

    /// Runs git in the work folder; it must end well.
    pub(crate) fn git(&self, args: &[&str]) -> String {
        let output = Command::new("git")
            .args(args)
            .current_dir(self.work())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .env("GIT_AUTHOR_NAME", "A")
            .env("GIT_AUTHOR_EMAIL", "a@example.org")
            .env("GIT_COMMITTER_NAME", "A")
            .env("GIT_COMMITTER_EMAIL", "a@example.org")
            .output()
            .expect("git");
        assert!(output.status.success(), "git {args:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Where commands run.
    pub(crate) fn work(&self) -> PathBuf {
        let work = self.folder.path().join("work");
        fs_err::create_dir_all(&work).expect("the work folder");
        work
    }

    /// `FLOWRUN_HOME`.
    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// A command that is ready to be changed and started: words are split at spaces.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_flowrun"));
        command
            .args(line.split(' ').filter(|word| !word.is_empty()))
            .current_dir(self.work())
            .env_remove("NO_COLOR")
            .env_remove("RUST_BACKTRACE")
            .env("FLOWRUN_HOME", self.home())
            .env("COLUMNS", "100")
            .stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            let own = name.to_str().is_some_and(|name| name.starts_with("FLOWRUN_"));
            if own && name != "FLOWRUN_HOME" {
                command.env_remove(name);
            }
        }
        for (name, value) in &self.variables {
            command.env(name, value);
        }
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, line: &str) -> Output {
        self.command(line).output().expect("the binary")
    }

    /// Runs a command; exit code, stdout and stderr as one text for a snapshot.
    pub(crate) fn shown(&self, line: &str) -> String {
        show(&self.run(line))
    }

    /// Runs a command that must end with `code`; its stdout.
    pub(crate) fn stdout(&self, line: &str, code: i32) -> String {
        let output = self.run(line);
        assert_eq!(output.status.code(), Some(code), "flowrun {line}\n{}", show(&output));
        String::from_utf8(output.stdout).expect("text")
    }

    /// Runs a command with `-o json` that must end with `code`; its data.
    pub(crate) fn json(&self, line: &str, code: i32) -> serde_json::Value {
        let text = self.stdout(&format!("{line} -o json"), code);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    /// Filters that make snapshots the same on every machine and at every time.
    pub(crate) fn settings(&self) -> insta::Settings {
        let mut settings = insta::Settings::clone_current();
        let folder = fs_err::canonicalize(self.folder.path()).expect("the folder");
        for path in [folder.as_path(), self.folder.path()] {
            settings.add_filter(&escape(path), "[folder]");
        }
        settings.add_filter(r"\b01[0-9A-HJKMNP-TV-Z]{24}\b", "[run]");
        settings.add_filter(r"\b01[0-9a-hjkmnp-tv-z]{24}\b", "[run]");
        settings.add_filter(r"b3:[0-9a-f]{64}", "[digest]");
        settings.add_filter(r"\b[0-9a-f]{40}\b", "[commit]");
        settings.add_filter(r"\b\d+(\.\d+)? ?(ms|s)\b", "[time]");
        settings.add_filter(r"process \d+", "process [pid]");
        settings.add_filter(r"flowrun \d+\.\d+\.\d+\S*", "flowrun [version]");
        settings
    }
}

/// Exit code, stdout and stderr as one text.
pub(crate) fn show(output: &Output) -> String {
    let code = output.status.code().map_or("killed".to_owned(), |code| code.to_string());
    format!(
        "exit {code}\n--- stdout\n{}--- stderr\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn escape(path: &Path) -> String {
    let mut escaped = String::new();
    for character in path.display().to_string().chars() {
        if !character.is_alphanumeric() {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}
