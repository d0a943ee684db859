//! New lines of a running attempt's log, for the report.

use std::path::Path;

use crate::event::Stream;
use crate::runtime::log::{LogPosition, LogReader};
use crate::runtime::log_lines::{LineSplitter, LogEntry};

/// At most so many bytes are shown at one look, so that a stage that prints without end does not hold up the engine.
const LOOK: usize = 256 * 1024;

/// At most so many bytes are shown after the end of a job; the log has the rest.
const AT_THE_END: usize = 4 * 1024 * 1024;

/// How far an attempt's log was shown. Files are opened at the first look only.
pub(super) struct Tail {
    reader: LogReader,
    splitter: LineSplitter,
}

impl Tail {
    /// Of the attempt in this folder, from its first line.
    pub(super) fn new(folder: &Path) -> Self {
        let reader = LogReader::open(folder, LogPosition::default());
        Self { reader, splitter: LineSplitter::default() }
    }

    /// Gives out the lines that were completed since the last look. A log that cannot be read shows nothing.
    pub(super) fn look(&mut self, show: &mut dyn FnMut(Stream, String)) {
        let mut entries = Vec::new();
        self.read(LOOK, &mut entries);
        give_out(&entries, show);
    }

    /// Gives out what is left, also a last line without an end. To be called once, when the job is over.
    pub(super) fn finish(mut self, show: &mut dyn FnMut(Stream, String)) {
        let mut entries = Vec::new();
        let all = self.read(AT_THE_END, &mut entries);
        if all {
            while let Ok(Some(chunk)) = self.reader.next_unindexed() {
                self.splitter.push(&chunk, &mut entries);
            }
        }
        self.splitter.finish(&mut entries);
        give_out(&entries, show);
        if !all {
            show(Stream::Stderr, "… the rest is only in the log".to_owned());
        }
    }

    /// Reads about so many bytes; true when nothing is left.
    fn read(&mut self, most: usize, entries: &mut Vec<LogEntry>) -> bool {
        let mut seen = 0;
        while seen < most {
            let Ok(Some(chunk)) = self.reader.next_chunk() else { return true };
            seen += chunk.bytes.len();
            self.splitter.push(&chunk, entries);
        }
        false
    }
}

fn give_out(entries: &[LogEntry], show: &mut dyn FnMut(Stream, String)) {
    for entry in entries {
        show(entry.stream(), entry.text());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::log::LogWriter;

    #[test]
    fn whole_lines_while_it_runs_and_the_rest_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut tail = Tail::new(folder.path());
        let look = |tail: &mut Tail| {
            let mut lines = Vec::new();
            tail.look(&mut |_, text| lines.push(text));
            lines
        };
        assert!(look(&mut tail).is_empty());
        let mut log = LogWriter::new(folder.path(), 1 << 20);
        log.append(1, Stream::Stdout, b"one\ntw");
        assert_eq!(look(&mut tail), ["one"]);
        log.append(2, Stream::Stderr, b"aside\n");
        log.append(3, Stream::Stdout, b"o\nthree");
        assert_eq!(look(&mut tail), ["aside", "two"]);
        let mut lines = Vec::new();
        tail.finish(&mut |_, text| lines.push(text));
        assert_eq!(lines, ["three"]);
    }

    #[test]
    fn a_flood_is_cut_and_said() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = LogWriter::new(folder.path(), 1 << 30);
        let chunk = "0123456789abcde\n".repeat(4096);
        for at in 0..100 {
            log.append(at, Stream::Stdout, chunk.as_bytes());
        }
        let mut lines = Vec::new();
        Tail::new(folder.path()).finish(&mut |_, text| lines.push(text));
        assert_eq!(lines.len(), AT_THE_END / 16 + 1);
        assert_eq!(lines.last().unwrap(), "… the rest is only in the log");
    }
}
