//! New lines of a running attempt's log, for the report. The log itself is the runtime's.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::event::Stream;

/// At most so many bytes of a stream are read at one look, so that a stage that prints without end does not hold up the engine.
const LOOK: u64 = 256 * 1024;

/// Who is further behind than this sees only the end; the log has it all.
const BEHIND: u64 = 4 * 1024 * 1024;

/// A line longer than this is given out in pieces.
const LONGEST: usize = 64 * 1024;

/// How far an attempt's two streams were read. Files are opened at the first look only.
pub(super) struct Tail {
    streams: [Reader; 2],
}

struct Reader {
    stream: Stream,
    path: PathBuf,
    file: Option<File>,
    offset: u64,
    /// What stands without a line end.
    rest: Vec<u8>,
}

impl Tail {
    /// Of the attempt in this folder, from its first line.
    pub(super) fn new(folder: &Path) -> Self {
        let reader = |stream, name| Reader {
            stream,
            path: folder.join(name),
            file: None,
            offset: 0,
            rest: Vec::new(),
        };
        Self { streams: [reader(Stream::Stdout, "stdout"), reader(Stream::Stderr, "stderr")] }
    }

    /// Gives out the lines that were completed since the last look. A log that cannot be read shows nothing.
    pub(super) fn look(&mut self, line: &mut dyn FnMut(Stream, String)) {
        for reader in &mut self.streams {
            reader.look(line);
        }
    }

    /// Gives out all that is left, also a last line without an end. To be called when the job is over.
    pub(super) fn finish(&mut self, line: &mut dyn FnMut(Stream, String)) {
        for reader in &mut self.streams {
            while reader.look(line) > 0 {}
            let rest = std::mem::take(&mut reader.rest);
            if !rest.is_empty() {
                line(reader.stream, text(&rest));
            }
        }
    }
}

impl Reader {
    /// Returns how many bytes were read.
    fn look(&mut self, line: &mut dyn FnMut(Stream, String)) -> usize {
        self.try_look(line).unwrap_or(0)
    }

    fn try_look(&mut self, line: &mut dyn FnMut(Stream, String)) -> std::io::Result<usize> {
        let file = match &mut self.file {
            Some(file) => file,
            empty => empty.insert(fs_err::File::open(&self.path)?.into_file()),
        };
        let length = file.metadata()?.len();
        let behind = length.saturating_sub(self.offset);
        if behind == 0 {
            return Ok(0);
        }
        if behind > BEHIND {
            let skipped = behind - LOOK;
            self.offset += skipped;
            self.rest.clear();
            line(self.stream, format!("… {skipped} bytes are only in the log"));
        }
        file.seek(SeekFrom::Start(self.offset))?;
        let mut bytes = Vec::new();
        let read = file.take(LOOK).read_to_end(&mut bytes)?;
        self.offset += read as u64;
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.rest.extend_from_slice(piece);
            let whole = self.rest.last() == Some(&b'\n');
            if whole {
                self.rest.pop();
            }
            if whole || self.rest.len() >= LONGEST {
                line(self.stream, text(&self.rest));
                self.rest.clear();
            }
        }
        Ok(read)
    }
}

/// Bytes that are no UTF-8 become U+FFFD.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn lines(look: impl FnOnce(&mut dyn FnMut(Stream, String))) -> Vec<String> {
        let mut seen = Vec::new();
        look(&mut |stream, text| seen.push(format!("{stream:?} {text}")));
        seen
    }

    #[test]
    fn whole_lines_while_it_runs_and_the_rest_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut tail = Tail::new(folder.path());
        assert!(lines(|line| tail.look(line)).is_empty());
        let mut file = fs_err::File::create(folder.path().join("stdout")).unwrap();
        file.write_all(b"one\ntw").unwrap();
        assert_eq!(lines(|line| tail.look(line)), ["Stdout one"]);
        file.write_all(b"o\n\nthree").unwrap();
        fs_err::write(folder.path().join("stderr"), "\u{fc}\n").unwrap();
        assert_eq!(lines(|line| tail.look(line)), ["Stdout two", "Stdout ", "Stderr \u{fc}"]);
        assert_eq!(lines(|line| tail.finish(line)), ["Stdout three"]);
        assert!(lines(|line| tail.finish(line)).is_empty());
    }

    #[test]
    fn who_is_far_behind_sees_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let text = "0123456789abcde\n".repeat(512 * 1024);
        fs_err::write(folder.path().join("stdout"), text).unwrap();
        let mut tail = Tail::new(folder.path());
        let seen = lines(|line| tail.finish(line));
        assert_eq!(
            seen[0],
            format!("Stdout … {} bytes are only in the log", 8 * 1024 * 1024 - 256 * 1024)
        );
        assert_eq!(seen.len(), 1 + 256 * 1024 / 16);
    }
}
