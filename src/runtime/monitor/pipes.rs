//! The pipes of a running job, read into its log.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use tokio::net::unix::pipe::Receiver;
use tokio::time::Instant;

use super::clock;
use crate::event::Stream;
use crate::runtime::log::{CHUNK, LogWriter};

/// After this many reads a program that writes in small pieces is read once a millisecond only, so that the index stays small.
const UNPACED_READS: u32 = 20_000;
const SMALL: usize = 4096;
const PACE: Duration = Duration::from_millis(1);

/// Both pipes and the log they go to. A pipe that reached its end is closed.
pub(super) struct Pipes {
    stdout: Option<Receiver>,
    stderr: Option<Receiver>,
    log: LogWriter,
    reads: u32,
    not_before: Option<Instant>,
}

impl Pipes {
    pub(super) fn new(stdout: OwnedFd, stderr: OwnedFd, log: LogWriter) -> std::io::Result<Self> {
        Ok(Self {
            stdout: Some(Receiver::from_owned_fd(stdout)?),
            stderr: Some(Receiver::from_owned_fd(stderr)?),
            log,
            reads: 0,
            not_before: None,
        })
    }

    /// Waits until there is something to read; for ever when both pipes have ended. Can be dropped at any time.
    pub(super) async fn readable(&self) {
        if let Some(instant) = self.not_before {
            tokio::time::sleep_until(instant).await;
        }
        // An error shows again, and is handled, when the pipe is read.
        match (&self.stdout, &self.stderr) {
            (Some(stdout), Some(stderr)) => {
                tokio::select! {
                    ready = stdout.readable() => ready.unwrap_or_default(),
                    ready = stderr.readable() => ready.unwrap_or_default(),
                }
            }
            (Some(one), None) | (None, Some(one)) => one.readable().await.unwrap_or_default(),
            (None, None) => std::future::pending().await,
        }
    }

    /// Reads one chunk of each pipe, as far as there is one. `buffer` holds [`CHUNK`] bytes.
    pub(super) fn read_once(&mut self, buffer: &mut [u8]) {
        let mut read = 0;
        for (stream, pipe) in
            [(Stream::Stdout, &mut self.stdout), (Stream::Stderr, &mut self.stderr)]
        {
            let Some(open) = pipe else { continue };
            match open.try_read(buffer) {
                Ok(0) => *pipe = None,
                Ok(count) => {
                    self.log.append(clock::now(), stream, &buffer[..count]);
                    read += count;
                    self.reads = self.reads.saturating_add(1);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => *pipe = None,
            }
        }
        let pace = self.reads > UNPACED_READS && read < SMALL;
        self.not_before = pace.then(|| Instant::now() + PACE);
    }

    /// Reads what still lies in the pipes when nobody of the job lives any more, closes them and finishes the log.
    ///
    /// Somebody who got away may hold a pipe open and even write to it: no more than the pipe can hold is read.
    /// Returns what went wrong with the log.
    pub(super) fn finish(mut self, buffer: &mut [u8]) -> Option<String> {
        for (stream, pipe) in [(Stream::Stdout, self.stdout), (Stream::Stderr, self.stderr)] {
            let Some(open) = pipe else { continue };
            let mut rest = rustix::pipe::fcntl_getpipe_size(open.as_fd()).unwrap_or(CHUNK);
            while rest > 0 {
                let fitting = rest.min(buffer.len());
                // Past the readiness that was noted, which may be behind.
                match rustix::io::read(open.as_fd(), &mut buffer[..fitting]) {
                    Ok(0) => break,
                    Ok(count) => {
                        self.log.append(clock::now(), stream, &buffer[..count]);
                        rest -= count;
                    }
                    Err(rustix::io::Errno::INTR) => {}
                    Err(_) => break,
                }
            }
        }
        self.log.finish(clock::now())
    }
}
