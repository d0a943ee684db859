//! A command beside a container's program.

use std::time::Duration;

use bollard::exec::{CreateExecOptions, StartExecResults};
use futures_util::StreamExt;

use super::{Docker, DockerError, error};
use crate::names::JobName;
use crate::runtime::Beside;
use crate::runtime::heard::Heard;
use crate::words;

/// How often it is looked whether a command that nobody waits for any more has its process by now: for half a minute.
const LOOKS: u32 = 300;
const PAUSE: Duration = Duration::from_millis(100);

/// Runs it as the container's own user. An inner error says why the answer is no.
pub(super) async fn ask(
    docker: &Docker,
    job: &JobName,
    beside: &Beside,
) -> Result<Result<(), String>, DockerError> {
    let failed = |error| DockerError::of(format!("run a command in `{job}`"), &error);
    let engine = docker.engine().await?;
    let directory = beside.directory.to_string_lossy().into_owned();
    let order = CreateExecOptions {
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        env: Some(beside.env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        cmd: Some(beside.command.clone()),
        working_dir: Some(directory).filter(|directory| !directory.is_empty()),
        ..CreateExecOptions::default()
    };
    let exec = match engine.create_exec(job.as_str(), order).await {
        Ok(exec) => exec.id,
        Err(error) if matches!(error::status(&error), Some(404 | 409)) => {
            return Ok(Err("it does not run".to_owned()));
        }
        Err(error) => return Err(failed(error)),
    };
    let guard = Guard { engine: engine.clone(), exec: Some(exec.clone()) };
    let mut heard = Heard::default();
    match engine.start_exec(&exec, None).await {
        Ok(StartExecResults::Attached { mut output, .. }) => {
            while let Some(piece) = output.next().await {
                let Ok(piece) = piece else { break };
                heard.add(piece.as_ref());
            }
        }
        Ok(StartExecResults::Detached) => {}
        Err(error) if error::status(&error).is_some() => {
            // The container ended just now, or the program is not in the image.
            return Ok(Err(DockerError::of("run it", &error).to_string()));
        }
        Err(error) => return Err(failed(error)),
    }
    let ended = engine.inspect_exec(&exec).await.map_err(failed)?;
    guard.disarm();
    let name = words::shell_words(&beside.command);
    let ended = match ended.exit_code {
        Some(0) => return Ok(Ok(())),
        Some(code) => format!("`{name}` exited with code {code}"),
        None => format!("`{name}` did not end"),
    };
    if heard.is_empty() {
        return Ok(Err(ended));
    }
    Ok(Err(match docker.masks(job).await? {
        Some(masks) => heard.told(&ended, &masks),
        None => ended,
    }))
}

/// Ends the command when whoever asked went away. The engine has no call for it, so its process is ended from outside, where
/// it can be: on this machine, as the same user.
struct Guard {
    engine: bollard::Docker,
    exec: Option<String>,
}

impl Guard {
    fn disarm(mut self) {
        self.exec = None;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let (Some(exec), Ok(tokio)) = (self.exec.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        let engine = self.engine.clone();
        tokio.spawn(async move {
            for _ in 0..LOOKS {
                let Ok(about) = engine.inspect_exec(&exec).await else { return };
                match (about.pid.filter(|pid| *pid > 0), about.container_id) {
                    (Some(pid), Some(container)) => return end_process(pid, &container),
                    // It is just being begun.
                    (None, _) if about.exit_code.is_none() => tokio::time::sleep(PAUSE).await,
                    _ => return,
                }
            }
        });
    }
}

/// Ends a process if it is one of this container.
fn end_process(pid: i64, container: &str) {
    let groups = fs_err::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    if let (Some(pid), true) = (pid, groups.contains(container)) {
        // Fails when it has just ended, or belongs to somebody else: then it ends with the container.
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap_or_default();
    }
}
