//! The log of one attempt on disk: the bytes of both streams as written, and an index that gives their order and times.
//!
//! `stdout` and `stderr` hold raw bytes. `index` holds one record of 24 bytes per chunk that was read from the program:
//! time, stream, raw length, kept length. Bytes are written before their record, so a record never points at bytes that are
//! not there; bytes without a record (the writer was killed between the two) are given out last.

use fs_err::os::unix::fs::OpenOptionsExt;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::event::Stream;

/// Longest chunk a writer records at once, bytes.
pub const CHUNK: usize = 64 * 1024;

const RECORD: usize = 24;
const INDEX: &str = "index";

/// The file of a stream in the attempt's folder.
pub fn stream_file(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    }
}

/// One entry of the index, little endian: `at` u64, `raw` u64, `kept` u32, stream u8, three zero bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Record {
    /// Unix milliseconds.
    at: u64,
    stream: Stream,
    /// Bytes the program wrote.
    raw: u64,
    /// Bytes of them that stand in the stream's file.
    kept: u32,
}

impl Record {
    fn encode(self) -> [u8; RECORD] {
        let mut bytes = [0; RECORD];
        bytes[..8].copy_from_slice(&self.at.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.raw.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.kept.to_le_bytes());
        bytes[20] = u8::from(self.stream == Stream::Stderr);
        bytes
    }

    fn decode(bytes: &[u8; RECORD]) -> Self {
        let long =
            |from: usize| u64::from_le_bytes(std::array::from_fn(|place| bytes[from + place]));
        Self {
            at: long(0),
            raw: long(8),
            kept: u32::from_le_bytes(std::array::from_fn(|place| bytes[16 + place])),
            stream: if bytes[20] == 0 { Stream::Stdout } else { Stream::Stderr },
        }
    }
}

/// Appends what a program writes. A file that cannot be written (a full disk) never stops the program: its bytes are
/// counted as dropped.
pub struct LogWriter {
    folder: PathBuf,
    index: Option<fs_err::File>,
    /// Whole records in it.
    records: u64,
    stdout: Sink,
    stderr: Sink,
    trouble: Option<String>,
}

#[derive(Default)]
struct Sink {
    file: Option<fs_err::File>,
    kept: u64,
    cap: u64,
    /// Bytes dropped of which no record speaks yet.
    unsaid: u64,
}

impl LogWriter {
    /// The log of a new attempt; `cap` is bytes kept per stream. Its files are made with their first byte (a file costs more
    /// than a silent program), readable by their owner only.
    pub fn new(folder: &Path, cap: u64) -> Self {
        Self {
            folder: folder.to_owned(),
            index: None,
            records: 0,
            stdout: Sink { cap, ..Sink::default() },
            stderr: Sink { cap, ..Sink::default() },
            trouble: None,
        }
    }

    /// Takes the bytes of one read, at most [`CHUNK`] of them, at `at` Unix milliseconds.
    pub fn append(&mut self, at: u64, stream: Stream, bytes: &[u8]) {
        let sink = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let room = usize::try_from(sink.cap - sink.kept).unwrap_or(usize::MAX);
        let fitting = &bytes[..bytes.len().min(room)];
        let path = || self.folder.join(stream_file(stream));
        let kept = match write(&mut sink.file, path, fitting) {
            Ok(()) => fitting.len(),
            Err(error) => {
                cut_back(&mut sink.file, sink.kept);
                self.trouble.get_or_insert_with(|| error.to_string());
                0
            }
        };
        sink.kept += kept as u64;
        if kept == 0 {
            sink.unsaid += bytes.len() as u64;
            return;
        }
        let raw = bytes.len() as u64 + std::mem::take(&mut sink.unsaid);
        let record = Record { at, stream, raw, kept: u32::try_from(kept).unwrap_or(u32::MAX) };
        self.record(record);
    }

    /// Says in the index how much was dropped. To be called once, when nothing more can come.
    ///
    /// Returns what went wrong while writing, when something did.
    pub fn finish(mut self, at: u64) -> Option<String> {
        for (stream, raw) in [
            (Stream::Stdout, std::mem::take(&mut self.stdout.unsaid)),
            (Stream::Stderr, std::mem::take(&mut self.stderr.unsaid)),
        ] {
            if raw > 0 {
                self.record(Record { at, stream, raw, kept: 0 });
            }
        }
        self.trouble
    }

    fn record(&mut self, record: Record) {
        let path = || self.folder.join(INDEX);
        match write(&mut self.index, path, &record.encode()) {
            Ok(()) => self.records += 1,
            Err(error) => {
                // Half a record would make nonsense of all that follow.
                cut_back(&mut self.index, self.records * RECORD as u64);
                self.trouble.get_or_insert_with(|| error.to_string());
            }
        }
    }
}

fn write(
    file: &mut Option<fs_err::File>,
    path: impl FnOnce() -> PathBuf,
    bytes: &[u8],
) -> std::io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    if file.is_none() {
        let mut options = fs_err::OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        *file = Some(options.open(path())?);
    }
    file.as_mut().map_or(Ok(()), |open| open.write_all(bytes))
}

/// After a write that failed midway, cuts the file back to what is known to be whole.
fn cut_back(file: &mut Option<fs_err::File>, whole: u64) {
    let Some(file) = file else { return };
    // Both can only fail on a disk that already failed; the bytes then count as written without a record.
    let cut = file.file().set_len(whole);
    let back = file.seek(SeekFrom::Start(whole));
    drop((cut, back));
}

/// How far a log was read. Stays good while the log grows, and for a later process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LogPosition {
    records: u64,
    stdout: u64,
    stderr: u64,
}

/// Bytes that one stream wrote at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogChunk {
    /// Unix milliseconds.
    pub at: u64,
    /// The stream.
    pub stream: Stream,
    /// As written.
    pub bytes: Vec<u8>,
    /// Bytes that were written too, and not kept.
    pub dropped: u64,
}

/// Reads a log in the order in which it was written, also while it grows. Missing files are an empty log.
pub struct LogReader {
    folder: PathBuf,
    index: Option<fs_err::File>,
    stdout: Option<fs_err::File>,
    stderr: Option<fs_err::File>,
    position: LogPosition,
    last: u64,
}

impl LogReader {
    /// Reads the log in this attempt's folder from a position; the default one is its beginning.
    pub fn open(folder: &Path, position: LogPosition) -> Self {
        Self {
            folder: folder.to_owned(),
            index: None,
            stdout: None,
            stderr: None,
            position,
            last: 0,
        }
    }

    /// Where the next chunk stands.
    pub fn position(&self) -> LogPosition {
        self.position
    }

    /// The next chunk, or nothing when there is none yet.
    pub fn next_chunk(&mut self) -> std::io::Result<Option<LogChunk>> {
        let mut bytes = [0; RECORD];
        let offset = self.position.records * RECORD as u64;
        if read_at(&mut self.index, &self.folder, INDEX, offset, &mut bytes)? < RECORD {
            return Ok(None);
        }
        let record = Record::decode(&bytes);
        let mut bytes = vec![0; (record.kept as usize).min(CHUNK)];
        let read = self.read_stream(record.stream, &mut bytes)?;
        bytes.truncate(read);
        self.advance(record.stream, u64::from(record.kept));
        self.position.records += 1;
        self.last = record.at;
        let dropped = record.raw.saturating_sub(u64::from(record.kept));
        Ok(Some(LogChunk { at: record.at, stream: record.stream, bytes, dropped }))
    }

    /// The next bytes that no record speaks of. Only right when nobody writes any more and no chunk is left.
    pub fn next_unindexed(&mut self) -> std::io::Result<Option<LogChunk>> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let mut bytes = vec![0; CHUNK];
            let read = self.read_stream(stream, &mut bytes)?;
            if read > 0 {
                bytes.truncate(read);
                self.advance(stream, read as u64);
                return Ok(Some(LogChunk { at: self.last, stream, bytes, dropped: 0 }));
            }
        }
        Ok(None)
    }

    fn read_stream(&mut self, stream: Stream, bytes: &mut [u8]) -> std::io::Result<usize> {
        let (file, offset) = match stream {
            Stream::Stdout => (&mut self.stdout, self.position.stdout),
            Stream::Stderr => (&mut self.stderr, self.position.stderr),
        };
        read_at(file, &self.folder, stream_file(stream), offset, bytes)
    }

    fn advance(&mut self, stream: Stream, by: u64) {
        match stream {
            Stream::Stdout => self.position.stdout += by,
            Stream::Stderr => self.position.stderr += by,
        }
    }
}

/// Fills `bytes` from `offset` as far as the file reaches; opens the file first when it is there by now.
fn read_at(
    file: &mut Option<fs_err::File>,
    folder: &Path,
    name: &str,
    offset: u64,
    bytes: &mut [u8],
) -> std::io::Result<usize> {
    if file.is_none() {
        match fs_err::File::open(folder.join(name)) {
            Ok(opened) => *file = Some(opened),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(error),
        }
    }
    let Some(file) = file else { return Ok(0) };
    file.seek(SeekFrom::Start(offset))?;
    let mut read = 0;
    while read < bytes.len() {
        match file.read(&mut bytes[read..])? {
            0 => break,
            more => read += more,
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(folder: &Path) -> Vec<LogChunk> {
        let mut reader = LogReader::open(folder, LogPosition::default());
        std::iter::from_fn(|| reader.next_chunk().unwrap()).collect()
    }

    #[test]
    fn streams_come_back_merged_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = LogWriter::new(folder.path(), 1000);
        writer.append(1, Stream::Stdout, b"one\n");
        writer.append(2, Stream::Stderr, b"\xff\x00two");
        writer.append(3, Stream::Stdout, b"three");
        assert_eq!(writer.finish(4), None);
        let chunks = read_all(folder.path());
        let seen: Vec<_> = chunks.iter().map(|c| (c.at, c.stream, c.bytes.as_slice())).collect();
        assert_eq!(
            seen,
            [
                (1, Stream::Stdout, b"one\n".as_slice()),
                (2, Stream::Stderr, b"\xff\x00two".as_slice()),
                (3, Stream::Stdout, b"three".as_slice()),
            ]
        );
        assert_eq!(fs_err::read(folder.path().join("stdout")).unwrap(), b"one\nthree");
    }

    #[test]
    fn what_is_over_the_cap_is_counted_per_stream() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = LogWriter::new(folder.path(), 5);
        writer.append(1, Stream::Stdout, b"12345678");
        writer.append(2, Stream::Stdout, b"abc");
        writer.append(3, Stream::Stderr, b"err");
        writer.append(4, Stream::Stdout, b"d");
        assert_eq!(writer.finish(9), None);
        let chunks = read_all(folder.path());
        assert_eq!(chunks[0].bytes, b"12345");
        assert_eq!(chunks[0].dropped, 3);
        assert_eq!(chunks[1].bytes, b"err");
        assert_eq!(
            chunks[2],
            LogChunk { at: 9, stream: Stream::Stdout, bytes: vec![], dropped: 4 }
        );
        assert_eq!(chunks.len(), 3);
        assert_eq!(fs_err::metadata(folder.path().join("stdout")).unwrap().len(), 5);
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_said() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = LogWriter::new(&folder.path().join("missing"), 100);
        writer.append(1, Stream::Stdout, b"12345");
        fs_err::create_dir(folder.path().join("missing")).unwrap();
        writer.append(2, Stream::Stdout, b"678");
        assert!(writer.finish(3).unwrap().contains("missing"));
        let chunks = read_all(&folder.path().join("missing"));
        assert_eq!(
            chunks,
            [LogChunk { at: 2, stream: Stream::Stdout, bytes: b"678".to_vec(), dropped: 5 }]
        );
    }

    #[test]
    fn a_position_continues_in_another_reader_and_a_torn_record_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = LogReader::open(folder.path(), LogPosition::default());
        assert_eq!(first.next_chunk().unwrap(), None, "no files yet");
        let mut writer = LogWriter::new(folder.path(), 1000);
        writer.append(1, Stream::Stdout, b"one");
        assert_eq!(first.next_chunk().unwrap().unwrap().bytes, b"one");
        assert_eq!(first.next_chunk().unwrap(), None);
        writer.append(2, Stream::Stdout, b"two");
        let mut second = LogReader::open(folder.path(), first.position());
        assert_eq!(second.next_chunk().unwrap().unwrap().bytes, b"two");
        writer.stdout.file.as_mut().unwrap().write_all(b"torn").unwrap();
        writer.index.as_mut().unwrap().write_all(&[0; RECORD - 1]).unwrap();
        assert_eq!(second.next_chunk().unwrap(), None);
        assert_eq!(second.next_unindexed().unwrap().unwrap().bytes, b"torn");
        assert_eq!(second.next_unindexed().unwrap(), None);
    }

    #[test]
    fn half_a_record_on_a_full_disk_does_not_spoil_those_that_follow() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = LogWriter::new(folder.path(), 1000);
        writer.append(1, Stream::Stdout, b"one\n");
        // What a write that fails midway leaves, and a file that refuses the next one.
        let index = folder.path().join("index");
        writer.index.as_mut().unwrap().write_all(&[9; 5]).unwrap();
        let good = writer.index.replace(fs_err::File::open(&index).unwrap()).unwrap();
        writer.append(2, Stream::Stdout, b"two\n");
        writer.index = Some(good);
        cut_back(&mut writer.index, writer.records * RECORD as u64);
        writer.append(3, Stream::Stdout, b"three\n");
        assert!(writer.finish(4).is_some(), "it is said");
        let mut reader = LogReader::open(folder.path(), LogPosition::default());
        let mut text = Vec::new();
        while let Some(chunk) = reader.next_chunk().unwrap() {
            text.extend(chunk.bytes);
        }
        while let Some(chunk) = reader.next_unindexed().unwrap() {
            text.extend(chunk.bytes);
        }
        assert_eq!(text, b"one\ntwo\nthree\n");
        assert_eq!(fs_err::metadata(&index).unwrap().len(), 2 * RECORD as u64);
    }
}
