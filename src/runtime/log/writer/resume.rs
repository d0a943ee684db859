//! Goes on with a log whose writer is gone.

use std::io::{BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use super::super::{INDEX, Masker, RECORD, Record, Tells, part_file, stream_file};
use super::{LogWriter, Sink};
use crate::event::Stream;
use crate::runtime::LogKeep;

impl LogWriter {
    /// Goes on with the log of an attempt whose writer was killed, or begins it; with the time of its newest record, Unix milliseconds.
    ///
    /// What no record speaks of is cut off: whoever holds all that the program wrote gives it again, from [`Self::raw`] on.
    /// A crash midway changes nothing. Bytes that a disk lost with its power become NUL.
    pub fn resume(folder: &Path, cap: u64, keep: LogKeep) -> std::io::Result<(Self, u64)> {
        let mut log = Self::keeping(folder, cap, keep);
        log.part = newest_part(folder)?;
        let newest = log.read_index()?;
        if log.part > 1 && log.records < 2 {
            // Its writer was killed while it began this part; the one before it is whole.
            fs_err::remove_file(part_file(folder, INDEX, log.part))?;
            return Self::resume(folder, cap, keep);
        }
        for stream in [Stream::Stdout, Stream::Stderr] {
            if let Some(mut file) = open(&part_file(folder, stream_file(stream), log.part))? {
                let sink = log.sink(stream);
                cut(&mut file, sink.kept)?;
                sink.file = Some(file);
            }
        }
        Ok((log, newest))
    }

    /// Counts what the records of the part tell and opens its index behind them. Returns the time of the newest.
    fn read_index(&mut self) -> std::io::Result<u64> {
        let mut newest = 0;
        if let Some(mut index) = open(&part_file(&self.folder, INDEX, self.part))? {
            let mut reader = BufReader::new(&mut index);
            let mut bytes = [0; RECORD];
            while read_record(&mut reader, &mut bytes)? {
                let record = Record::decode(&bytes);
                newest = record.at;
                self.records += 1;
                let sink = self.sink(record.stream);
                sink.raw += record.raw;
                if record.tells != Tells::Before {
                    sink.kept += u64::from(record.kept);
                }
            }
            cut(&mut index, self.records * RECORD as u64)?;
            self.index = Some(index);
        }
        Ok(newest)
    }

    /// Bytes of a stream that were taken: they are in the log, counted as dropped, or held back as a secret may begin with them.
    /// After a resume, those that are in the log.
    pub fn raw(&self, stream: Stream) -> u64 {
        let sink = match stream {
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
        };
        sink.raw + sink.masker.as_ref().map_or(0, Masker::held)
    }

    pub(super) fn sink(&mut self, stream: Stream) -> &mut Sink {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }
}

fn open(path: &Path) -> std::io::Result<Option<fs_err::File>> {
    match fs_err::OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn cut(file: &mut fs_err::File, whole: u64) -> std::io::Result<()> {
    file.file().set_len(whole)?;
    file.seek(SeekFrom::Start(whole))?;
    Ok(())
}

/// Whether a whole record was there.
fn read_record(reader: &mut impl Read, bytes: &mut [u8; RECORD]) -> std::io::Result<bool> {
    match reader.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn newest_part(folder: &Path) -> std::io::Result<u64> {
    let mut newest = 1;
    for entry in fs_err::read_dir(folder)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("index-")?.parse().ok());
        newest = number.into_iter().chain([newest]).max().unwrap_or(1);
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use super::super::super::{LogPosition, LogReader, Masks};
    use super::*;

    fn all(folder: &Path) -> (String, u64) {
        let mut reader = LogReader::open(folder, LogPosition::default());
        let (mut text, mut dropped) = (String::new(), 0);
        while let Some(chunk) = reader.next_chunk().unwrap() {
            text.push_str(std::str::from_utf8(&chunk.bytes).unwrap());
            dropped += chunk.dropped;
        }
        (text, dropped)
    }

    #[test]
    fn a_log_goes_on_where_its_records_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = LogWriter::new(folder.path(), 100);
        log.append(1, Stream::Stdout, b"one ");
        log.append(2, Stream::Stderr, b"two ");
        drop(log);
        // Killed between the bytes and their record, and within a record.
        for (name, rest) in [("stdout", "lost"), ("index", "torn")] {
            let path = folder.path().join(name);
            let mut bytes = fs_err::read(&path).unwrap();
            bytes.extend(rest.as_bytes());
            fs_err::write(&path, bytes).unwrap();
        }
        let (mut log, newest) = LogWriter::resume(folder.path(), 100, LogKeep::First).unwrap();
        assert_eq!((log.raw(Stream::Stdout), log.raw(Stream::Stderr), newest), (4, 4, 2));
        log.append(3, Stream::Stdout, b"three");
        assert_eq!(log.finish(4), None);
        assert_eq!(all(folder.path()), ("one two three".to_owned(), 0));
    }

    #[test]
    fn a_log_that_never_began_begins() {
        let folder = tempfile::tempdir().unwrap();
        let (mut log, newest) = LogWriter::resume(folder.path(), 2, LogKeep::First).unwrap();
        assert_eq!((log.raw(Stream::Stdout), newest), (0, 0));
        log.append(1, Stream::Stdout, b"abc");
        log.finish(2);
        assert_eq!(all(folder.path()), ("ab".to_owned(), 1));
    }

    #[test]
    fn what_was_held_back_comes_again() {
        let masks = Masks::of_forms(&[b"hunter22".to_vec(), b"22--33".to_vec()]).unwrap();
        let text = b"a hunter2 hunter22hunter22--33 hun b hunter2";
        let shown = "a hunter2 ****** hun b hunter2";
        for killed_after in 0..=text.len() {
            let folder = tempfile::tempdir().unwrap();
            let mut log = LogWriter::new(folder.path(), 100);
            log.mask(&masks);
            for (at, byte) in text[..killed_after].iter().enumerate() {
                log.append(at as u64, Stream::Stdout, &[*byte]);
                assert_eq!(log.raw(Stream::Stdout), at as u64 + 1);
            }
            drop(log);
            let (mut log, _) = LogWriter::resume(folder.path(), 100, LogKeep::First).unwrap();
            let from = usize::try_from(log.raw(Stream::Stdout)).unwrap();
            assert!(from <= killed_after && from + 30 > killed_after);
            log.mask(&masks);
            log.append(99, Stream::Stdout, &text[from..]);
            assert_eq!(log.finish(100), None);
            assert_eq!(all(folder.path()), (shown.to_owned(), 0), "{killed_after}");
        }
    }

    #[test]
    fn a_part_that_was_hardly_begun_is_begun_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = LogWriter::keeping(folder.path(), 20, LogKeep::Latest);
        log.append(1, Stream::Stdout, b"12345678");
        drop(log);
        fs_err::write(folder.path().join("index-2"), [0; RECORD + 3]).unwrap();
        let (mut log, newest) = LogWriter::resume(folder.path(), 20, LogKeep::Latest).unwrap();
        assert_eq!((log.raw(Stream::Stdout), newest), (8, 1));
        log.append(2, Stream::Stdout, b"more");
        log.finish(3);
        assert_eq!(all(folder.path()), ("12345678more".to_owned(), 0));
    }

    #[test]
    fn parts_count_what_was_before_them() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = LogWriter::keeping(folder.path(), 20, LogKeep::Latest);
        for at in 0..7 {
            log.append(at, Stream::Stdout, b"12345678");
        }
        drop(log);
        let (mut log, newest) = LogWriter::resume(folder.path(), 20, LogKeep::Latest).unwrap();
        assert_eq!((log.raw(Stream::Stdout), newest), (56, 6));
        log.append(9, Stream::Stdout, b"end");
        log.finish(9);
        let (text, dropped) = all(folder.path());
        assert!(text.ends_with("12345678end"), "{text}");
        assert_eq!(text.len() as u64 + dropped, 59);
    }
}
