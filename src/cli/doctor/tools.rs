//! The programs that flowrun uses when they are there.

use std::process::{Command, Stdio};

use super::{Finding, fail, ok, warn};
use crate::cli::settings::Caller;

pub(super) fn check(caller: &Caller) -> Vec<Finding> {
    let tool = |program: &str, args: &[&str]| ask(caller, program, args);
    vec![
        match tool("git", &["--version"]) {
            Some(version) => ok("git", version),
            None => warn(
                "git",
                "not found",
                "install git: without it only https and local repos without credentials can be fetched",
            ),
        },
        match tool("python3", &["--version"]) {
            Some(version) => ok("python3", version),
            None => fail(
                "python3",
                "not found",
                "install Python 3, or name one with `python:` in the pipeline file",
            ),
        },
        match tool("uv", &["--version"]) {
            Some(version) => ok("uv", version),
            None => warn(
                "uv",
                "not found",
                "install uv: environments are built in a second instead of a quarter of a minute",
            ),
        },
    ]
}

/// The first line of what a program says, when it ends well.
fn ask(caller: &Caller, program: &str, args: &[&str]) -> Option<String> {
    let said = Command::new(program)
        .args(args)
        .env_clear()
        .envs(&caller.variables)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&said.stdout);
    let line = text.lines().next().unwrap_or_default().trim().to_owned();
    (said.status.success() && !line.is_empty()).then_some(line)
}
