//! Finding, starting and stopping the process of a server, from outside of it.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use super::FILES;
use super::client::ServerPlace;
use crate::runtime::door::{self, Birthright};

/// How often it is looked whether a server has ended.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How long a server may take to end: what is under way has 5 s.
const UNTIL_ENDED: Duration = Duration::from_secs(20);

/// How many bytes of the log are looked at for its last words.
const LAST_WORDS: u64 = 64 << 10;

/// Whether a server of this home lives, or somebody is just starting one. Changes nothing.
pub fn is_running(home: &Path) -> bool {
    door::is_somebody_there(home, FILES)
}

/// The process that holds the lock of this home, as it says itself.
pub(super) fn pid_of(home: &Path) -> Option<u32> {
    fs_err::read_to_string(home.join(FILES.lock)).ok()?.trim().parse().ok()
}

/// Takes the process out of the lock file, as it holds it no longer.
pub(super) fn forget_pid(lock: &std::fs::File) {
    // Only people read it, and they are told of its age by its silence.
    lock.set_len(0).unwrap_or_default();
}

/// A server that was just started: where its part of the log begins.
pub(super) struct Started(u64);

/// Starts the server with what only one process can have. It ends by itself when it cannot work.
pub(super) fn spawn(place: &ServerPlace, birthright: Birthright) -> std::io::Result<Started> {
    let begins = birthright.log.metadata()?.len();
    crate::runtime::seal_inherited_descriptors();
    let mut command = tokio::process::Command::new(&place.program);
    command
        .arg0("flowrun")
        .args(&place.arguments)
        .env_clear()
        .envs(&place.variables)
        .current_dir("/")
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(birthright.listener)))
        .stdout(Stdio::from(birthright.lock.into_file()))
        .stderr(Stdio::from(birthright.log.into_file()));
    // tokio takes the exit status of a dropped child, so that no dead server stays.
    drop(command.spawn()?);
    Ok(Started(begins))
}

/// Why a server that was just started has ended, in its own words.
pub(super) fn last_words(home: &Path, started: &Started) -> Option<String> {
    let mut file = fs_err::File::open(home.join(FILES.log)).ok()?;
    let end = file.metadata().ok()?.len();
    let begins = started.0.max(end.saturating_sub(LAST_WORDS));
    file.seek(SeekFrom::Start(begins)).ok()?;
    let mut bytes = Vec::new();
    file.take(LAST_WORDS).read_to_end(&mut bytes).ok()?;
    chosen(&String::from_utf8_lossy(&bytes))
}

/// How the log marks an error.
const ERROR: &str = " ERROR ";

/// The last error of a command or of the log, else the last line.
fn chosen(log: &str) -> Option<String> {
    let marked = |line: &'_ str| line.starts_with("error: ") || line.contains(ERROR);
    let error = log.lines().rev().find(|line| marked(line)).map(|line| {
        let said = line.split_once(ERROR).map_or(line, |(_, said)| said);
        said.strip_prefix("error: ").unwrap_or(said)
    });
    let line = error.or_else(|| log.lines().rev().find(|line| !line.trim().is_empty()))?;
    Some(crate::words::visible(line.trim()).into_owned())
}

/// Waits until the process that held the lock is gone. Whether it is.
pub(super) async fn await_end(home: &Path, pid: u32) -> bool {
    let ended = async {
        while is_running(home) && pid_of(home).is_none_or(|now| now == pid) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(UNTIL_ENDED, ended).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_counts_more_than_what_was_said_after_it() {
        let log =
            "2026-01-01T00:00:00Z  INFO it begins\nerror: the disk is full\nhelp: free some\n";
        assert_eq!(chosen(log).unwrap(), "the disk is full");
        let log = "2026-01-01T00:00:00Z ERROR it is late\n2026-01-01T00:00:00Z  INFO it ends\n";
        assert_eq!(chosen(log).unwrap(), "it is late");
        assert_eq!(chosen("a\nb\x1b[2J\n\n").unwrap(), "b␛[2J");
        assert_eq!(chosen("\n"), None);
    }

    #[test]
    fn words_of_an_earlier_server_are_not_taken_for_those_of_this_one() {
        let home = tempfile::tempdir().unwrap();
        let log = home.path().join(FILES.log);
        fs_err::write(&log, "error: long ago\n").unwrap();
        let started = Started(fs_err::metadata(&log).unwrap().len());
        assert_eq!(last_words(home.path(), &started), None);
        fs_err::write(&log, "error: long ago\nerror: now\n").unwrap();
        assert_eq!(last_words(home.path(), &started).unwrap(), "now");
    }
}
