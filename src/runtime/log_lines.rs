//! A log as lines: whole ones while the program runs, the unfinished rest when it has ended.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::job_folder::JobFolder;
use super::log::{LogChunk, LogPosition, LogReader};
use crate::event::Stream;

/// A line longer than this is given out in pieces, so that output without line ends needs no memory. Bytes.
const LONGEST_LINE: usize = 64 * 1024;

/// How often a growing log is looked at. A line shall reach the screen within 200 ms.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// One thing to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogEntry {
    /// A line without its line end, or a piece of a very long one.
    Line {
        /// Unix milliseconds at which its last part was written.
        at: u64,
        /// The stream.
        stream: Stream,
        /// As written, also what is no UTF-8.
        bytes: Vec<u8>,
    },
    /// Bytes of this stream that the program wrote here and that were not kept.
    Dropped {
        /// The stream.
        stream: Stream,
        /// How many.
        bytes: u64,
    },
}

impl LogEntry {
    /// The line as text; bytes that are no UTF-8 become U+FFFD. Escape sequences are left as they are.
    pub fn text(&self) -> String {
        match self {
            LogEntry::Line { bytes, .. } => String::from_utf8_lossy(bytes).into_owned(),
            LogEntry::Dropped { bytes: 1, .. } => "… 1 byte of log was not kept".to_owned(),
            LogEntry::Dropped { bytes, .. } => format!("… {bytes} bytes of log were not kept"),
        }
    }

    /// The stream it belongs to.
    pub fn stream(&self) -> Stream {
        match self {
            LogEntry::Line { stream, .. } | LogEntry::Dropped { stream, .. } => *stream,
        }
    }
}

/// Makes lines of chunks. Lines of the two streams are kept apart.
#[derive(Debug, Default)]
pub struct LineSplitter {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    last: u64,
}

impl LineSplitter {
    /// Takes a chunk and appends the lines it completes.
    pub fn push(&mut self, chunk: &LogChunk, entries: &mut Vec<LogEntry>) {
        let LogChunk { at, stream, ref bytes, dropped } = *chunk;
        self.last = at;
        let partial = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            partial.extend_from_slice(piece);
            if partial.last() == Some(&b'\n') {
                partial.pop();
                entries.push(LogEntry::Line { at, stream, bytes: std::mem::take(partial) });
            }
            while partial.len() > LONGEST_LINE {
                let rest = partial.split_off(cut_between_characters(partial));
                let bytes = std::mem::replace(partial, rest);
                entries.push(LogEntry::Line { at, stream, bytes });
            }
        }
        if dropped > 0 {
            // What came before the gap stands before it; nothing after it continues that line.
            if !partial.is_empty() {
                entries.push(LogEntry::Line { at, stream, bytes: std::mem::take(partial) });
            }
            entries.push(LogEntry::Dropped { stream, bytes: dropped });
        }
    }

    /// Gives out what stands without a line end.
    pub fn finish(&mut self, entries: &mut Vec<LogEntry>) {
        for (stream, partial) in
            [(Stream::Stdout, &mut self.stdout), (Stream::Stderr, &mut self.stderr)]
        {
            if !partial.is_empty() {
                let bytes = std::mem::take(partial);
                entries.push(LogEntry::Line { at: self.last, stream, bytes });
            }
        }
    }
}

/// The last place at or before [`LONGEST_LINE`] that is not inside a UTF-8 character.
fn cut_between_characters(bytes: &[u8]) -> usize {
    let inside = |place: usize| bytes[place] & 0b1100_0000 == 0b1000_0000;
    (LONGEST_LINE - 3..=LONGEST_LINE).rev().find(|place| !inside(*place)).unwrap_or(LONGEST_LINE)
}

/// Every entry of a log as it stands now, the unfinished last lines too.
pub fn read_entries(folder: &Path) -> std::io::Result<Vec<LogEntry>> {
    let mut reader = LogReader::open(folder, LogPosition::default());
    let mut splitter = LineSplitter::default();
    let mut entries = Vec::new();
    while let Some(chunk) = reader.next_chunk()? {
        splitter.push(&chunk, &mut entries);
    }
    // Written a moment ago, or left by a monitor that was killed over it.
    while let Some(chunk) = reader.next_unindexed()? {
        splitter.push(&chunk, &mut entries);
    }
    splitter.finish(&mut entries);
    Ok(entries)
}

/// The last entries of a log as it stands now, the unfinished last lines too. Needs memory for no more than these.
pub fn last_entries(folder: &Path, most: usize) -> std::io::Result<Vec<LogEntry>> {
    let mut reader = LogReader::open(folder, LogPosition::default());
    let mut splitter = LineSplitter::default();
    let (mut last, mut new) = (VecDeque::new(), Vec::new());
    loop {
        let chunk = match reader.next_chunk()? {
            None => reader.next_unindexed()?,
            chunk => chunk,
        };
        match &chunk {
            Some(chunk) => splitter.push(chunk, &mut new),
            None => splitter.finish(&mut new),
        }
        last.extend(new.drain(..));
        last.drain(..last.len().saturating_sub(most));
        if chunk.is_none() {
            return Ok(last.into());
        }
    }
}

/// Follows the log of an attempt until the attempt has ended.
pub struct LogFollower {
    folder: PathBuf,
    reader: LogReader,
    splitter: LineSplitter,
    ended: bool,
}

impl LogFollower {
    /// Follows from a position; its folder need not exist yet.
    pub fn new(folder: &Path, position: LogPosition) -> Self {
        Self {
            folder: folder.to_owned(),
            reader: LogReader::open(folder, position),
            splitter: LineSplitter::default(),
            ended: false,
        }
    }

    /// Waits for the next entries; nothing means that the job has ended and all was given out.
    ///
    /// Safe to drop while it waits: entries that were not given out come with the next call.
    pub async fn next(&mut self) -> std::io::Result<Option<Vec<LogEntry>>> {
        loop {
            if self.ended {
                return Ok(None);
            }
            let entries = self.look()?;
            if !entries.is_empty() {
                return Ok(Some(entries));
            }
            if !self.ended {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }

    /// What is there and was not given out yet, without waiting; of a job that has ended, the unfinished last lines too.
    pub fn look(&mut self) -> std::io::Result<Vec<LogEntry>> {
        if self.ended {
            return Ok(Vec::new());
        }
        // The end is looked at first: what was written before it is then surely read after.
        self.ended = JobFolder::new(&self.folder).has_ended();
        self.now()
    }

    /// Whether the job has ended and all of its log was given out.
    pub fn is_over(&self) -> bool {
        self.ended
    }

    /// What is left, the unfinished last lines too, of an attempt that nobody writes for any more; it need not have left a report.
    pub fn finish(mut self) -> std::io::Result<Vec<LogEntry>> {
        let mut entries = Vec::new();
        loop {
            self.ended = true;
            entries.append(&mut self.now()?);
            if self.ended {
                return Ok(entries);
            }
        }
    }

    /// What is there and was not given out yet, without waiting. At most about a megabyte at a time while the job runs.
    pub fn now(&mut self) -> std::io::Result<Vec<LogEntry>> {
        let mut entries = Vec::new();
        let mut seen = 0;
        while let Some(chunk) = self.reader.next_chunk()? {
            seen += chunk.bytes.len();
            self.splitter.push(&chunk, &mut entries);
            if seen > 1 << 20 {
                self.ended = false;
                return Ok(entries);
            }
        }
        if self.ended {
            while let Some(chunk) = self.reader.next_unindexed()? {
                self.splitter.push(&chunk, &mut entries);
            }
            self.splitter.finish(&mut entries);
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(stream: Stream, bytes: &[u8]) -> LogChunk {
        LogChunk { at: 7, stream, bytes: bytes.to_vec(), dropped: 0 }
    }

    fn texts(entries: &[LogEntry]) -> Vec<String> {
        entries.iter().map(LogEntry::text).collect()
    }

    #[test]
    fn lines_are_whole_across_chunks_and_streams() {
        let mut splitter = LineSplitter::default();
        let mut entries = Vec::new();
        let snowman = "☃".as_bytes();
        splitter.push(&chunk(Stream::Stdout, b"a\n\nb"), &mut entries);
        splitter.push(&chunk(Stream::Stderr, b"x"), &mut entries);
        splitter.push(&chunk(Stream::Stdout, &snowman[..1]), &mut entries);
        splitter.push(&chunk(Stream::Stdout, &snowman[1..]), &mut entries);
        assert_eq!(texts(&entries), ["a", ""]);
        splitter.push(&chunk(Stream::Stdout, b"\nlast"), &mut entries);
        splitter.finish(&mut entries);
        assert_eq!(texts(&entries), ["a", "", "b☃", "last", "x"]);
    }

    #[test]
    fn a_line_without_end_is_cut_between_characters() {
        let mut splitter = LineSplitter::default();
        let mut entries = Vec::new();
        let text = "x".to_owned() + &"é".repeat(LONGEST_LINE);
        splitter.push(&chunk(Stream::Stdout, text.as_bytes()), &mut entries);
        splitter.finish(&mut entries);
        assert!(entries.len() >= 3);
        let together = texts(&entries).concat();
        assert_eq!(together, text);
    }

    #[test]
    fn dropped_bytes_are_said() {
        let mut splitter = LineSplitter::default();
        let mut entries = Vec::new();
        let end = LogChunk { at: 1, stream: Stream::Stdout, bytes: vec![], dropped: 12 };
        splitter.push(&end, &mut entries);
        assert_eq!(texts(&entries), ["… 12 bytes of log were not kept"]);
    }

    #[test]
    fn the_last_lines_are_read_without_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = super::super::log::LogWriter::new(folder.path(), 1 << 20);
        for number in 0..100 {
            log.append(number, Stream::Stdout, format!("line {number}\n").as_bytes());
        }
        log.append(100, Stream::Stderr, b"no end");
        assert_eq!(
            texts(&last_entries(folder.path(), 3).unwrap()),
            ["line 98", "line 99", "no end"]
        );
        assert_eq!(last_entries(folder.path(), 0).unwrap(), []);
        assert_eq!(
            last_entries(folder.path(), 1000).unwrap(),
            read_entries(folder.path()).unwrap()
        );
    }

    #[tokio::test]
    async fn bytes_without_a_record_are_shown_and_a_follower_can_be_ended() {
        let folder = tempfile::tempdir().unwrap();
        fs_err::write(folder.path().join("stdout"), "torn").unwrap();
        assert_eq!(texts(&read_entries(folder.path()).unwrap()), ["torn"]);
        let mut follower = LogFollower::new(folder.path(), LogPosition::default());
        let wait = tokio::time::timeout(Duration::from_millis(1), follower.next()).await;
        assert!(wait.is_err(), "it waits as long as somebody may write");
        assert_eq!(texts(&follower.finish().unwrap()), ["torn"]);
    }
}
