//! Since when an engine and its machine have been up. What began before, and did not outlive it, was ended by a restart.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::{Docker, USUAL_SOCKET, clock};
use crate::runtime::process::ProcessStat;

/// What the kernel counts the starts of processes in: so many to a second.
const TICKS: u64 = 100;
/// The process that may hold an engine's socket for it (`docker.socket`): then only an answer says that the engine is up.
const FIRST_PROCESS: i32 = 1;
/// Where an engine writes its number unless told otherwise.
const PID_FILE: &str = "/run/docker.pid";

/// How long the shortest answer may take.
const PATIENCE: Duration = Duration::from_secs(2);
const QUESTION: &[u8] = b"GET /_ping HTTP/1.0\r\n\r\n";

/// What an engine's socket tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Uptime {
    /// Nobody answers there: it is down, or going down.
    Down,
    /// Up since then, Unix milliseconds.
    Since(u64),
    /// It cannot be told: an engine behind TCP, or one of other process numbers than ours.
    Unknown,
}

impl Docker {
    /// Asks the socket itself, on a new connection: an engine that goes down takes no new ones, while old ones still answer.
    pub(super) async fn uptime(&self) -> Uptime {
        let host = self.settings().host.as_deref().unwrap_or(USUAL_SOCKET);
        let Some(socket) = host.strip_prefix("unix://") else { return Uptime::Unknown };
        let asked = tokio::time::timeout(PATIENCE, answering(Path::new(socket))).await;
        let Ok(Ok(stream)) = asked else { return Uptime::Down };
        let listener = stream.peer_cred().ok().and_then(|cred| cred.pid());
        let pid = match listener {
            Some(FIRST_PROCESS) => written_down(),
            other => other,
        };
        pid.and_then(started).map_or(Uptime::Unknown, Uptime::Since)
    }
}

/// A new connection on which an engine has answered.
async fn answering(socket: &Path) -> std::io::Result<UnixStream> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(QUESTION).await?;
    stream.read_u8().await?;
    Ok(stream)
}

/// When this machine was booted, Unix milliseconds.
pub(super) fn booted() -> Option<u64> {
    let text = fs_err::read_to_string("/proc/uptime").ok()?;
    Some(clock::now().saturating_sub(up_for(&text)?))
}

/// The milliseconds of `/proc/uptime`.
fn up_for(text: &str) -> Option<u64> {
    let (seconds, hundredths) = text.split(' ').next()?.split_once('.')?;
    Some(seconds.parse::<u64>().ok()? * 1000 + hundredths.get(..2)?.parse::<u64>().ok()? * 10)
}

fn written_down() -> Option<i32> {
    fs_err::read_to_string(PID_FILE).ok()?.trim().parse().ok()
}

fn started(pid: i32) -> Option<u64> {
    let stat = ProcessStat::read(pid)?;
    Some(booted()? + stat.start_time * 1000 / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_tells_how_long_it_is_up() {
        assert_eq!(up_for("13299.87 51000.12\n"), Some(13_299_870));
        assert_eq!(up_for("nonsense"), None);
    }

    #[test]
    fn a_process_was_started_after_the_boot_and_before_now() {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let started = started(own).unwrap();
        assert!(booted().unwrap() < started && started <= clock::now() + 1000 / TICKS);
    }
}
