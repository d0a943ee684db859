//! What the server and its clients say to each other: JSON lines over a Unix socket.
//!
//! The server begins with its [`Hello`], the client answers with its own. Then the client sends [`Question`]s, any number at
//! once, and the server answers each with any number of [`Answer::Progress`] and one other. Every question can be asked again
//! after a lost connection.
//!
//! **Version rule.** Whoever changes these types, or a type they carry, raises [`VERSION`]; new optional fields do not count.
//! Of [`Hello`] the names `version`, `pid` and `stop` stay for ever, so that every version can stop every other.

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

use crate::names::{ReleaseId, ServiceId};
use crate::release::{Release, ServiceStatus};
use crate::rollout::{Candidate, Promotion, RolloutError, RolloutFailure};

/// The version of the questions and answers.
pub(super) const VERSION: u32 = 1;

/// Longest line, bytes: the states of thousands of services.
pub(super) const LONGEST_LINE: usize = 32 << 20;

/// Longest question, bytes.
pub(super) const LONGEST_QUESTION: usize = 1 << 20;

/// The first line of each side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    /// [`VERSION`] of the writer.
    pub(super) version: u32,
    /// The version of its flowrun.
    #[serde(default)]
    pub(super) program: String,
    /// Its process.
    #[serde(default)]
    pub(super) pid: u32,
    /// The client wants nothing but that the server ends, whatever its version.
    #[serde(default)]
    pub(super) stop: bool,
}

impl Hello {
    /// Of this process.
    pub(super) fn own(stop: bool) -> Self {
        let program = env!("CARGO_PKG_VERSION").to_owned();
        Self { version: VERSION, program, pid: std::process::id(), stop }
    }
}

/// Something asked of the server.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Question {
    /// Comes back with the answers; unique on this connection.
    pub(super) id: u64,
    /// What is asked.
    pub(super) ask: Ask,
}

/// What can be asked; `by` is who wants it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ask {
    /// Answer: `About`.
    About,
    /// Answer: `Services`.
    Services,
    /// Answer: `Prepared`.
    Prepare { release: ReleaseId },
    /// Answer: `Promotion`.
    Promote { release: ReleaseId, if_live_is: Option<ReleaseId> },
    /// Answer: `Done`.
    Abandon { release: ReleaseId, why: String },
    /// Answer: `Done`.
    Keep { service: ServiceId, replicas: u32, route: Option<String> },
    /// Answer: `Restarted`.
    Restart { service: ServiceId, by: String },
    /// Answer: `Done`.
    Scale { service: ServiceId, replicas: u32, by: String },
    /// Answer: `Done`.
    Down { service: ServiceId, volumes: bool, by: String },
    /// Answer: `RolledBack`.
    RollBack { service: ServiceId, to: Option<u64>, by: String },
}

/// An answer to the question of this number.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Reply {
    /// The question's.
    pub(super) id: u64,
    /// The answer.
    pub(super) answer: Answer,
}

/// What can be answered. All but `Progress` are the last word on a question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    /// What is going on.
    Progress(String),
    /// The server itself.
    About(About),
    /// Every service.
    Services(Vec<ServiceStatus>),
    /// What came of `prepare`.
    Prepared(Result<Candidate, RolloutFailure>),
    /// What came of `promote`.
    Promotion(Promotion),
    /// What came of `restart`.
    Restarted(Result<(), RolloutFailure>),
    /// What came of `roll_back`.
    RolledBack(Result<Box<Release>, RolloutFailure>),
    /// It is done.
    Done,
    /// It cannot be done.
    Failed(RolloutError),
}

/// The server itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Its process.
    pub pid: u32,
    /// The version of its flowrun.
    pub version: String,
    /// Since when it runs, Unix milliseconds.
    pub since: u64,
    /// Where routes are listened for: `127.0.0.1:8080`.
    pub gateway: String,
    /// Why nothing listens there, if so.
    pub gateway_problem: Option<String>,
    /// How many services it owns.
    pub services: usize,
    /// Resident memory, bytes.
    pub memory: u64,
    /// Where it keeps and finds things; servers of older versions do not say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub works_with: Option<WorksWith>,
}

/// The state and the store of a process, as people know them, without passwords.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorksWith {
    /// `sqlite`, or the address of a database.
    pub state: String,
    /// A folder, or `s3://bucket/prefix`.
    pub store: String,
}

/// A message as a line.
pub(super) fn line_of<T: Serialize>(message: &T) -> Vec<u8> {
    // Structs of texts, numbers and maps with text keys always serialise.
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}

/// What came of reading on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LineRead {
    /// The buffer holds a whole line.
    Whole,
    /// The other side is gone.
    End,
    /// The line is longer than it may be.
    TooLong,
}

/// Reads on into `line` until it holds a whole line. Dropped midway it loses nothing: what was read stays in `line`.
pub(super) async fn read_line(
    reading: &mut (impl AsyncBufRead + Unpin),
    line: &mut Vec<u8>,
    longest: usize,
) -> LineRead {
    let left = longest.saturating_sub(line.len());
    let limit = u64::try_from(left).unwrap_or(u64::MAX);
    let read = reading.take(limit).read_until(b'\n', line).await;
    match read {
        Ok(_) if line.last() == Some(&b'\n') => LineRead::Whole,
        Ok(_) if line.len() >= longest => LineRead::TooLong,
        _ => LineRead::End,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wish_to_stop_is_read_from_every_version() {
        let from_later = r#"{"version":7,"stop":true,"colour":"blue","pid":4}"#;
        let hello: Hello = serde_json::from_str(from_later).unwrap();
        assert!(hello.stop);
        assert_eq!(hello.pid, 4);
        let own = serde_json::to_value(Hello::own(true)).unwrap();
        assert_eq!(own["stop"], true);
        assert_eq!(own["version"], VERSION);
        assert_eq!(own["pid"], std::process::id());
    }

    #[test]
    fn answers_come_back_as_they_were() {
        let failure = RolloutFailure { why: "it exited".into(), log: vec!["a".into()] };
        for answer in [
            Answer::Progress("replica 1 is ready".into()),
            Answer::Prepared(Err(failure.clone())),
            Answer::Restarted(Ok(())),
            Answer::Promotion(Promotion::Failed(failure)),
            Answer::Failed(RolloutError::Unknown("there is no service `a/b`".into())),
        ] {
            let line = line_of(&answer);
            assert_eq!(line.iter().position(|&byte| byte == b'\n'), Some(line.len() - 1));
            assert_eq!(serde_json::from_slice::<Answer>(&line).unwrap(), answer);
        }
    }

    #[tokio::test]
    async fn lines_end_at_their_limit_however_they_come() {
        let mut reading = tokio::io::BufReader::with_capacity(4, &b"abcdef\nxxxxxxxxxxxx"[..]);
        let mut line = Vec::new();
        assert_eq!(read_line(&mut reading, &mut line, 10).await, LineRead::Whole);
        assert_eq!(line, b"abcdef\n");
        line.clear();
        assert_eq!(read_line(&mut reading, &mut line, 10).await, LineRead::TooLong);
        line.clear();
        assert_eq!(read_line(&mut reading, &mut line, 10).await, LineRead::End);
    }
}
