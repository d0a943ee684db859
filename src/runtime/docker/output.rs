//! What a container writes, from where it is known: as it comes, or from what the engine kept of it.

use std::pin::Pin;

use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptionsBuilder;
use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, StreamExt};

use super::{Docker, DockerError, clock};
use crate::event::Stream;
use crate::names::JobName;
use crate::runtime::LogKeep;
use crate::runtime::log::{CHUNK, LogWriter};

/// A stream of the engine's client.
pub(super) type Output =
    Pin<Box<dyn futures_util::Stream<Item = Result<LogOutput, bollard::errors::Error>> + Send>>;

/// Of what stays up the engine keeps the newest only. Up to so many bytes it has surely kept everything, however they were
/// cut into lines.
const SURELY_KEPT: u64 = 2 << 20;

/// What was read.
#[derive(Debug)]
pub(super) enum Piece {
    /// At most [`CHUNK`] bytes of one stream.
    Bytes(Stream, Bytes),
    /// Everything was read.
    End,
    /// The engine went away in the middle.
    Torn,
}

/// Reads what a container writes.
pub(super) struct Source {
    output: Output,
    from: From,
    /// It was read, and belongs to the other stream.
    next: Option<Piece>,
}

/// Where a source begins.
enum From {
    /// After so many bytes of each stream.
    Bytes { stdout: u64, stderr: u64 },
    /// After a time; the engine puts the time before every line.
    Time(Border),
}

/// Where what is new begins, by time.
#[derive(Default)]
struct Border {
    /// What is not after it is known, Unix milliseconds.
    newest: u64,
    /// Standard output, standard error: what was left out last ended in the middle of a line.
    in_line: [bool; 2],
}

impl Source {
    /// Everything from now on, byte for byte.
    pub(super) fn live(output: Output) -> Self {
        Self { output, from: From::Bytes { stdout: 0, stderr: 0 }, next: None }
    }

    /// What the engine kept and the log does not have yet; with `follow` also what comes.
    ///
    /// Of a job that stays up and wrote so much that the engine may have let go of the oldest, what is newer than the log's newest record
    /// (`newest`, Unix milliseconds) is taken: at the border lines may be there twice or be missing.
    pub(super) async fn kept(
        docker: &Docker,
        job: &JobName,
        follow: bool,
        log: &LogWriter,
        keep: LogKeep,
        newest: u64,
    ) -> Result<Self, DockerError> {
        let (stdout, stderr) = (log.raw(Stream::Stdout), log.raw(Stream::Stderr));
        let by_time = keep == LogKeep::Latest && stdout + stderr > SURELY_KEPT;
        let mut options = LogsOptionsBuilder::default().stdout(true).stderr(true).follow(follow);
        let from = if by_time {
            let since = i32::try_from(newest / 1000).unwrap_or(i32::MAX);
            options = options.timestamps(true).since(since);
            From::Time(Border { newest, ..Border::default() })
        } else {
            From::Bytes { stdout, stderr }
        };
        let engine = docker.engine().await?.clone();
        let output = engine.logs(job.as_str(), Some(options.build()));
        Ok(Self { output: Box::pin(output), from, next: None })
    }

    /// The next bytes. Can be dropped at any time.
    ///
    /// What is there at once is put together: programs that write in small pieces would else make a large index.
    pub(super) async fn next(&mut self) -> Piece {
        let first = match self.next.take() {
            Some(piece) => piece,
            None => self.read().await,
        };
        let Piece::Bytes(stream, bytes) = first else { return first };
        if bytes.len() >= CHUNK {
            return Piece::Bytes(stream, bytes);
        }
        let mut all = BytesMut::from(bytes);
        while let Some(piece) = self.read().now_or_never() {
            match piece {
                Piece::Bytes(more_of, more)
                    if more_of == stream && all.len() + more.len() <= CHUNK =>
                {
                    all.extend_from_slice(&more);
                }
                other => {
                    self.next = Some(other);
                    break;
                }
            }
        }
        Piece::Bytes(stream, all.freeze())
    }

    async fn read(&mut self) -> Piece {
        loop {
            let (stream, bytes) = match self.output.next().await {
                None => return Piece::End,
                Some(Ok(LogOutput::StdOut { message })) => (Stream::Stdout, message),
                Some(Ok(LogOutput::StdErr { message })) => (Stream::Stderr, message),
                // A frame that is not whole comes as the others, which no container without a terminal has.
                Some(Ok(_) | Err(_)) => return Piece::Torn,
            };
            let bytes = self.from.rest(stream, bytes);
            if !bytes.is_empty() {
                return Piece::Bytes(stream, bytes);
            }
        }
    }
}

impl From {
    /// What of it is new.
    fn rest(&mut self, stream: Stream, mut bytes: Bytes) -> Bytes {
        match self {
            Self::Bytes { stdout, stderr } => {
                let skip = if stream == Stream::Stdout { stdout } else { stderr };
                let skipped = usize::try_from(*skip).unwrap_or(usize::MAX).min(bytes.len());
                *skip -= skipped as u64;
                bytes.split_off(skipped)
            }
            Self::Time(border) => border.rest(stream, bytes),
        }
    }
}

impl Border {
    /// The engine cuts long lines. Of a line whose beginning is left out the rest is left out, too: the end of a secret without its
    /// beginning would not be recognised.
    fn rest(&mut self, stream: Stream, mut bytes: Bytes) -> Bytes {
        let space = bytes.iter().position(|byte| *byte == b' ');
        let time = space.and_then(|at| std::str::from_utf8(&bytes[..at]).ok());
        let (Some(at), Some(time)) = (space, time.and_then(clock::milliseconds)) else {
            return bytes;
        };
        let in_line = &mut self.in_line[usize::from(stream == Stream::Stderr)];
        if time > self.newest && !*in_line {
            return bytes.split_off(at + 1);
        }
        *in_line = !bytes.ends_with(b"\n");
        Bytes::new()
    }
}

/// Puts bytes into a log, at most [`CHUNK`] at once.
pub(super) fn append(log: &mut LogWriter, stream: Stream, bytes: &[u8]) {
    let now = clock::now();
    for chunk in bytes.chunks(CHUNK) {
        log.append(now, stream, chunk);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(pieces: Vec<LogOutput>, from: From) -> Source {
        let output = futures_util::stream::iter(pieces.into_iter().map(Ok));
        Source { output: Box::pin(output), from, next: None }
    }

    fn out(text: &str) -> LogOutput {
        LogOutput::StdOut { message: Bytes::copy_from_slice(text.as_bytes()) }
    }

    fn err(text: &str) -> LogOutput {
        LogOutput::StdErr { message: Bytes::copy_from_slice(text.as_bytes()) }
    }

    async fn all(mut source: Source) -> (String, bool) {
        let mut said = String::new();
        loop {
            match source.next().await {
                Piece::Bytes(stream, bytes) => {
                    said.push(if stream == Stream::Stdout { '1' } else { '2' });
                    said.push_str(std::str::from_utf8(&bytes).unwrap());
                }
                Piece::End => return (said, true),
                Piece::Torn => return (said, false),
            }
        }
    }

    #[tokio::test]
    async fn small_pieces_come_together_in_order() {
        let pieces = vec![out("a"), out("b"), err("c"), out("d"), out("e")];
        let from = From::Bytes { stdout: 0, stderr: 0 };
        assert_eq!(all(source(pieces, from)).await, ("1ab2c1de".to_owned(), true));
    }

    #[tokio::test]
    async fn what_the_log_has_is_skipped_in_each_stream() {
        let pieces = vec![out("abc"), err("xy"), out("def"), err("z")];
        let from = From::Bytes { stdout: 4, stderr: 2 };
        assert_eq!(all(source(pieces, from)).await, ("1ef2z".to_owned(), true));
    }

    #[tokio::test]
    async fn a_frame_that_is_not_whole_is_torn() {
        let console = LogOutput::Console { message: Bytes::from_static(b"de") };
        let pieces = vec![out("abc"), console, out("f")];
        let from = From::Bytes { stdout: 0, stderr: 0 };
        assert_eq!(all(source(pieces, from)).await, ("1abc".to_owned(), false));
    }

    #[tokio::test]
    async fn by_time_only_what_is_newer_is_taken() {
        let pieces = vec![
            out("1970-01-01T00:00:01.500999999Z old\n"),
            out("1970-01-01T00:00:01.501000000Z new one\n"),
            out("1970-01-01T00:00:02Z \n"),
        ];
        assert_eq!(all(source(pieces, by_time(1500))).await, ("1new one\n\n".to_owned(), true));
    }

    fn by_time(newest: u64) -> From {
        From::Time(Border { newest, ..Border::default() })
    }

    #[tokio::test]
    async fn of_a_line_whose_beginning_is_known_no_rest_is_taken() {
        let pieces = vec![
            out("1970-01-01T00:00:01Z the password is hun"),
            err("1970-01-01T00:00:02Z whole\n"),
            out("1970-01-01T00:00:02Z ter22 and more"),
            out("1970-01-01T00:00:02Z of it\n"),
            out("1970-01-01T00:00:02Z a line\n"),
        ];
        assert_eq!(
            all(source(pieces, by_time(1500))).await,
            ("2whole\n1a line\n".to_owned(), true)
        );
    }
}
