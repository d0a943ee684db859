//! Appends what a program writes.

mod resume;

use fs_err::os::unix::fs::OpenOptionsExt;
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::{CHUNK, INDEX, Masker, Masks, RECORD, Record, Tells, part_file, stream_file};
use crate::event::Stream;
use crate::runtime::LogKeep;

/// An index may be this large before its part ends, whatever the cap: a program may write a byte at a time. Bytes.
const SMALLEST_FULL_INDEX: u64 = 1 << 20;

/// Appends what a program writes. A file that cannot be written (a full disk) never stops the program: its bytes are
/// counted as dropped. Needs the same memory however much is written.
pub struct LogWriter {
    folder: PathBuf,
    keep: LogKeep,
    /// Bytes kept per stream, of all parts together.
    cap: u64,
    /// The part that is written, from 1.
    part: u64,
    pub(super) index: Option<fs_err::File>,
    /// Whole records in it.
    pub(super) records: u64,
    pub(super) stdout: Sink,
    stderr: Sink,
    trouble: Option<String>,
}

#[derive(Default)]
pub(super) struct Sink {
    pub(super) file: Option<fs_err::File>,
    /// Bytes in the file.
    kept: u64,
    /// Bytes the program wrote, in all parts together, without those that are held back.
    raw: u64,
    /// Bytes dropped of which no record speaks yet.
    unsaid: u64,
    /// Holds back what may become a secret.
    masker: Option<Masker>,
}

impl LogWriter {
    /// The log of a new attempt that keeps the first `cap` bytes of each stream. Its files are made with their first byte (a file
    /// costs more than a silent program), readable by their owner only.
    pub fn new(folder: &Path, cap: u64) -> Self {
        Self::keeping(folder, cap, LogKeep::First)
    }

    /// The log of a new attempt; `cap` is bytes kept per stream.
    pub fn keeping(folder: &Path, cap: u64, keep: LogKeep) -> Self {
        Self {
            folder: folder.to_owned(),
            keep,
            cap,
            part: 1,
            index: None,
            records: 0,
            stdout: Sink::default(),
            stderr: Sink::default(),
            trouble: None,
        }
    }

    /// From now on the log shows no secret. To be called once, before the first byte that is appended.
    pub fn mask(&mut self, masks: &Masks) {
        for sink in [&mut self.stdout, &mut self.stderr] {
            sink.masker = masks.masker();
        }
    }

    /// Takes the bytes of one read, at `at` Unix milliseconds.
    pub fn append(&mut self, at: u64, stream: Stream, bytes: &[u8]) {
        if let Some(mut masker) = self.sink(stream).masker.take() {
            masker.push(bytes, &mut |shown, raw| self.put(at, stream, shown, raw));
            self.sink(stream).masker = Some(masker);
        } else {
            for piece in bytes.chunks(CHUNK) {
                self.put(at, stream, piece, piece.len() as u64);
            }
        }
    }

    /// Writes at most [`CHUNK`] bytes, which stand for `raw` bytes of the program and are not more than these.
    fn put(&mut self, at: u64, stream: Stream, shown: &[u8], raw: u64) {
        let may_write = !self.is_full(stream, shown.len()) || self.next_part(at);
        let (keep, cap) = (self.keep, self.cap);
        let path = || part_file(&self.folder, stream_file(stream), self.part);
        let sink = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let room = match keep {
            LogKeep::First => usize::try_from(cap.saturating_sub(sink.kept)).unwrap_or(usize::MAX),
            LogKeep::Latest if may_write => shown.len(),
            LogKeep::Latest => 0,
        };
        let fitting = &shown[..shown.len().min(room)];
        let kept = match write(&mut sink.file, path, fitting) {
            Ok(()) => fitting.len(),
            Err(error) => {
                cut_back(&mut sink.file, sink.kept);
                self.trouble.get_or_insert_with(|| error.to_string());
                0
            }
        };
        sink.kept += kept as u64;
        sink.raw += raw;
        if kept == 0 {
            sink.unsaid += raw;
            return;
        }
        let is_masked = raw != shown.len() as u64;
        let mut unsaid = std::mem::take(&mut sink.unsaid);
        let mut raw = raw;
        if is_masked {
            // A record of this kind cannot say that something was dropped: what was stands before it, what is comes with the next.
            sink.unsaid = (shown.len() - kept) as u64;
            raw -= sink.unsaid;
            if unsaid > 0 {
                let raw = std::mem::take(&mut unsaid);
                self.record(Record { at, stream, tells: Tells::Chunk, raw, kept: 0 });
            }
        }
        let tells = if is_masked { Tells::Masked } else { Tells::Chunk };
        let kept = u32::try_from(kept).unwrap_or(u32::MAX);
        self.record(Record { at, stream, tells, raw: raw + unsaid, kept });
    }

    /// Writes what is held back and says in the index how much was dropped. To be called once, when nothing more can come.
    ///
    /// Returns what went wrong while writing, when something did.
    pub fn finish(mut self, at: u64) -> Option<String> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            if let Some(mut masker) = self.sink(stream).masker.take() {
                masker.flush(&mut |shown, raw| self.put(at, stream, shown, raw));
            }
            let raw = std::mem::take(&mut self.sink(stream).unsaid);
            if raw > 0 {
                self.record(Record { at, stream, tells: Tells::Chunk, raw, kept: 0 });
            }
        }
        self.trouble
    }

    /// Whether the part has no room for a chunk of this stream. Two parts are kept, so each may have half of what is kept; a
    /// chunk that is longer than that gets a part of its own.
    fn is_full(&self, stream: Stream, length: usize) -> bool {
        if self.keep == LogKeep::First {
            return false;
        }
        let half = self.cap / 2;
        let kept = match stream {
            Stream::Stdout => self.stdout.kept,
            Stream::Stderr => self.stderr.kept,
        };
        (kept > 0 && kept + length as u64 > half)
            || (self.records + 1) * RECORD as u64 > half.max(SMALLEST_FULL_INDEX)
    }

    /// Begins the next part, for which the part before this one makes room first. Returns whether it could be begun.
    ///
    /// A crash midway leaves fewer parts, and this one whole.
    fn next_part(&mut self, at: u64) -> bool {
        for name in [INDEX, stream_file(Stream::Stdout), stream_file(Stream::Stderr)] {
            if self.part > 1
                && let Err(error) = remove(&part_file(&self.folder, name, self.part - 1))
            {
                self.trouble.get_or_insert_with(|| error.to_string());
            }
        }
        let mut index = None;
        let mut heads = Vec::with_capacity(2 * RECORD);
        // What was dropped and not said yet comes with the next record.
        for (stream, sink) in [(Stream::Stdout, &self.stdout), (Stream::Stderr, &self.stderr)] {
            let raw = sink.raw - sink.unsaid;
            heads.extend(Record { at, stream, tells: Tells::Before, raw, kept: 0 }.encode());
        }
        let path = part_file(&self.folder, INDEX, self.part + 1);
        if let Err(error) = write(&mut index, || path.clone(), &heads) {
            // Half an index would be taken for the next part.
            drop(remove(&path));
            self.trouble.get_or_insert_with(|| error.to_string());
            return false;
        }
        self.part += 1;
        self.index = index;
        self.records = 2;
        for sink in [&mut self.stdout, &mut self.stderr] {
            sink.file = None;
            sink.kept = 0;
        }
        true
    }

    fn record(&mut self, record: Record) {
        let path = || part_file(&self.folder, INDEX, self.part);
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

/// Removes a file that need not be there.
fn remove(path: &Path) -> std::io::Result<()> {
    match fs_err::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// After a write that failed midway, cuts the file back to what is known to be whole.
pub(super) fn cut_back(file: &mut Option<fs_err::File>, whole: u64) {
    let Some(file) = file else { return };
    // Both can only fail on a disk that already failed; the bytes then count as written without a record.
    let cut = file.file().set_len(whole);
    let back = file.seek(SeekFrom::Start(whole));
    drop((cut, back));
}
