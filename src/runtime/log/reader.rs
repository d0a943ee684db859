//! Reads a log in the order in which it was written, also while it grows and its oldest part goes.

use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{CHUNK, INDEX, RECORD, Record, Tells, part_file, stream_file};
use crate::event::Stream;

/// How far a log was read. Stays good while the log grows, and for a later process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LogPosition {
    /// The part; the beginning of a log is 0, whatever its oldest part is.
    #[serde(default)]
    part: u64,
    /// Records and bytes of this part.
    records: u64,
    stdout: u64,
    stderr: u64,
    /// Bytes the program wrote up to here, kept or not.
    #[serde(default)]
    stdout_raw: u64,
    #[serde(default)]
    stderr_raw: u64,
}

/// Bytes that one stream wrote at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogChunk {
    /// Unix milliseconds.
    pub at: u64,
    /// The stream.
    pub stream: Stream,
    /// As written, secrets replaced.
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
        loop {
            if let Some(chunk) = self.next_of_part()? {
                return Ok(Some(chunk));
            }
            let Some(later) = self.later_part()? else { return Ok(None) };
            // Nobody writes to this part any more, so what is there now is all of it.
            if let Some(chunk) = self.next_of_part()? {
                return Ok(Some(chunk));
            }
            if let Some(chunk) = self.next_unindexed()? {
                return Ok(Some(chunk));
            }
            (self.index, self.stdout, self.stderr) = (None, None, None);
            self.position =
                LogPosition { part: later, records: 0, stdout: 0, stderr: 0, ..self.position };
        }
    }

    /// The next bytes that no record speaks of. Only right when nobody writes any more and no chunk is left.
    pub fn next_unindexed(&mut self) -> std::io::Result<Option<LogChunk>> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let mut bytes = vec![0; CHUNK];
            let read = self.read_stream(stream, &mut bytes)?;
            if read > 0 {
                bytes.truncate(read);
                self.advance(stream, read as u64, read as u64);
                return Ok(Some(LogChunk { at: self.last, stream, bytes, dropped: 0 }));
            }
        }
        Ok(None)
    }

    fn next_of_part(&mut self) -> std::io::Result<Option<LogChunk>> {
        loop {
            let mut bytes = [0; RECORD];
            let offset = self.position.records * RECORD as u64;
            let path = part_file(&self.folder, INDEX, self.position.part);
            if read_at(&mut self.index, &path, offset, &mut bytes)? < RECORD {
                return Ok(None);
            }
            let record = Record::decode(&bytes);
            let (at, stream) = (record.at, record.stream);
            self.last = at;
            self.position.records += 1;
            if record.tells != Tells::Before {
                let mut bytes = vec![0; (record.kept as usize).min(CHUNK)];
                let read = self.read_stream(stream, &mut bytes)?;
                bytes.truncate(read);
                self.advance(stream, u64::from(record.kept), record.raw);
                let is_whole =
                    record.tells == Tells::Masked && read as u64 == u64::from(record.kept);
                // Bytes may be gone with their part by now.
                let dropped = if is_whole { 0 } else { record.raw.saturating_sub(read as u64) };
                return Ok(Some(LogChunk { at, stream, bytes, dropped }));
            }
            // Nothing was missed when the part before was read to its end.
            let dropped = record.raw.saturating_sub(self.raw(stream));
            if dropped > 0 {
                self.advance(stream, 0, dropped);
                return Ok(Some(LogChunk { at, stream, bytes: Vec::new(), dropped }));
            }
        }
    }

    /// The oldest part that comes after the present one, when there is one.
    fn later_part(&self) -> std::io::Result<Option<u64>> {
        let part = self.position.part.max(1);
        if part_file(&self.folder, INDEX, part + 1).exists() {
            return Ok(Some(part + 1));
        }
        let is_gone = match &self.index {
            Some(index) => index.metadata()?.nlink() == 0,
            None => true,
        };
        if is_gone { oldest_after(&self.folder, part) } else { Ok(None) }
    }

    fn read_stream(&mut self, stream: Stream, bytes: &mut [u8]) -> std::io::Result<usize> {
        let (file, offset) = match stream {
            Stream::Stdout => (&mut self.stdout, self.position.stdout),
            Stream::Stderr => (&mut self.stderr, self.position.stderr),
        };
        let path = part_file(&self.folder, stream_file(stream), self.position.part);
        read_at(file, &path, offset, bytes)
    }

    fn advance(&mut self, stream: Stream, kept: u64, raw: u64) {
        let position = &mut self.position;
        match stream {
            Stream::Stdout => {
                position.stdout += kept;
                position.stdout_raw += raw;
            }
            Stream::Stderr => {
                position.stderr += kept;
                position.stderr_raw += raw;
            }
        }
    }

    fn raw(&self, stream: Stream) -> u64 {
        match stream {
            Stream::Stdout => self.position.stdout_raw,
            Stream::Stderr => self.position.stderr_raw,
        }
    }
}

/// The oldest part after this one that is there.
fn oldest_after(folder: &Path, part: u64) -> std::io::Result<Option<u64>> {
    let entries = match fs_err::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        entries => entries?,
    };
    let mut oldest = None;
    for entry in entries {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("index-")?.parse().ok());
        let later = number.filter(|number| *number > part);
        oldest = later.into_iter().chain(oldest).min();
    }
    Ok(oldest)
}

/// Fills `bytes` from `offset` as far as the file reaches; opens the file first when it is there by now.
fn read_at(
    file: &mut Option<fs_err::File>,
    path: &Path,
    offset: u64,
    bytes: &mut [u8],
) -> std::io::Result<usize> {
    if file.is_none() {
        match fs_err::File::open(path) {
            Ok(opened) => *file = Some(opened),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
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
