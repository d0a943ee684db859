//! Runs one build tool: its words go to the screen as they come, and the last of them into the error.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Command;

use super::EnvironmentError;
use crate::source::redact;

/// Lines of a failed tool that are shown.
const SHOWN: usize = 40;
/// A line longer than this is cut on the screen.
const WIDE: usize = 120;

/// Where and with what the tools of one build run.
pub(super) struct Tools<'a> {
    pub(super) folder: &'a Path,
    pub(super) variables: &'a super::variables::Map,
    /// The lock of the build. Each tool holds it too (as its standard input), so after a kill of flowrun nobody else builds
    /// here until the orphaned tool has ended.
    pub(super) lock: &'a File,
    pub(super) progress: &'a (dyn Fn(String) + Send + Sync),
}

impl Tools<'_> {
    /// Runs a tool to its end. `Ok(Err(log))` when it failed; the log has no userinfo in it.
    pub(super) async fn run<A: AsRef<OsStr>>(
        &self,
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Result<String, String>, EnvironmentError> {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.folder).env_clear().envs(self.variables);
        command.stdin(Stdio::from(self.lock.try_clone()?)).kill_on_drop(true);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| {
            std::io::Error::new(error.kind(), format!("`{}`: {error}", program.display()))
        })?;
        let log = Mutex::new(VecDeque::new());
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let (out, err, status) =
            tokio::join!(self.lines(out, &log), self.lines(err, &log), child.wait());
        let (out, _) = (out?, err?);
        if status?.success() {
            return Ok(Ok(redact(&out)));
        }
        let log = log.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(Err(Vec::from(log).join("\n")))
    }

    async fn lines(
        &self,
        stream: Option<impl AsyncRead + Unpin>,
        log: &Mutex<VecDeque<String>>,
    ) -> std::io::Result<String> {
        let mut all = String::new();
        let Some(stream) = stream else { return Ok(all) };
        let mut stream = BufReader::new(stream);
        let mut bytes = Vec::new();
        while stream.read_until(b'\n', &mut bytes).await? > 0 {
            let line = redact(String::from_utf8_lossy(&bytes).trim_end());
            bytes.clear();
            all += &line;
            all.push('\n');
            let short: String = line.trim().chars().take(WIDE).collect();
            let first = short.split_whitespace().next().unwrap_or_default();
            if matches!(
                first,
                "Resolved"
                    | "Prepared"
                    | "Installed"
                    | "Building"
                    | "Downloading"
                    | "Collecting"
                    | "Installing"
            ) {
                (self.progress)(short);
            }
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            if log.len() == SHOWN {
                log.pop_front();
            }
            log.push_back(line);
        }
        Ok(all)
    }
}
