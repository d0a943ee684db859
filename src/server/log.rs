//! `server.log`: what the server says, a line an event, with UTC times; the file is rotated by size.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use fs_err::os::unix::fs::OpenOptionsExt;
use tracing_subscriber::fmt::MakeWriter;

use crate::words::visible;

/// Bytes after which the file is put aside.
const LARGEST: u64 = 10 << 20;

/// How many old files are kept.
const OLD: u32 = 3;

/// What stands behind this process's stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stderr {
    /// The log itself: what the runtime of the language says goes there, also after a rotation.
    IsLog,
    /// Somebody who reads along.
    Reader,
}

/// Sends everything that is traced into the log of this home from now on. Once per process.
pub(super) fn install(path: PathBuf, stderr: Stderr) -> std::io::Result<()> {
    let log = Log(Mutex::new(Rotating::open(path, LARGEST, stderr)?));
    tracing_subscriber::fmt()
        // Never more: below this the client of the Docker Engine tells what it sends, and with that the secrets of containers.
        .with_max_level(tracing::Level::INFO)
        .with_ansi(false)
        .with_target(false)
        .with_writer(log)
        .try_init()
        .map_err(std::io::Error::other)
}

struct Log(Mutex<Rotating>);

/// Takes one formatted event at a time.
struct Entry<'a>(&'a Log);

impl<'a> MakeWriter<'a> for Log {
    type Writer = Entry<'a>;

    fn make_writer(&'a self) -> Entry<'a> {
        Entry(self)
    }
}

impl Write for Entry<'_> {
    fn write(&mut self, event: &[u8]) -> std::io::Result<usize> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).say(event);
        Ok(event.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A file that is put aside when it is full.
struct Rotating {
    path: PathBuf,
    file: File,
    size: u64,
    largest: u64,
    stderr: Stderr,
}

impl Rotating {
    fn open(path: PathBuf, largest: u64, stderr: Stderr) -> std::io::Result<Self> {
        let file = open(&path)?;
        let size = file.metadata()?.len();
        Ok(Self { path, file, size, largest, stderr })
    }

    /// Writes one event as one line. A full disk loses it: there is nobody to tell.
    fn say(&mut self, event: &[u8]) {
        let text = String::from_utf8_lossy(event);
        let line = format!("{}\n", visible(text.trim_end_matches('\n')));
        if self.size > 0 && self.size + line.len() as u64 > self.largest {
            self.rotate();
        }
        if self.file.write_all(line.as_bytes()).is_ok() {
            self.size += line.len() as u64;
        }
        if self.stderr == Stderr::Reader {
            drop(std::io::stderr().lock().write_all(line.as_bytes()));
        }
    }

    /// Renames `log` → `log.1` → `log.2` → `log.3`, over the oldest. What cannot be renamed is written on.
    fn rotate(&mut self) {
        for number in (0..OLD).rev() {
            let (from, to) = (aside(&self.path, number), aside(&self.path, number + 1));
            if from.exists() && fs_err::rename(from, to).is_err() {
                return;
            }
        }
        let Ok(file) = open(&self.path) else { return };
        if self.stderr == Stderr::IsLog {
            // It goes on into the file that was put aside if this fails.
            rustix::stdio::dup2_stderr(&file).unwrap_or_default();
        }
        self.file = file;
        self.size = 0;
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    let mut options = fs_err::OpenOptions::new();
    Ok(options.append(true).create(true).mode(0o600).open(path)?.into_file())
}

/// `server.log`, `server.log.1`, …
fn aside(path: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path, number: u32) -> String {
        fs_err::read_to_string(aside(path, number)).unwrap()
    }

    #[test]
    fn a_full_file_is_put_aside_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.log");
        let mut log = Rotating::open(path.clone(), 20, Stderr::Reader).unwrap();
        for number in 0..9 {
            log.say(format!("event {number}\n").as_bytes());
        }
        assert_eq!(read(&path, 0), "event 8\n");
        assert_eq!(read(&path, 1), "event 6\nevent 7\n");
        assert_eq!(read(&path, 3), "event 2\nevent 3\n");
        assert!(!aside(&path, 4).exists());
    }

    #[test]
    fn a_line_longer_than_the_file_is_not_cut_and_an_old_file_is_continued() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.log");
        fs_err::write(&path, "before\n").unwrap();
        let mut log = Rotating::open(path.clone(), 12, Stderr::Reader).unwrap();
        log.say(b"now\n");
        log.say(b"longer than the file may be\n");
        assert_eq!(read(&path, 1), "before\nnow\n");
        assert_eq!(read(&path, 0), "longer than the file may be\n");
    }

    #[test]
    fn nothing_from_outside_steers_a_terminal_or_forges_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.log");
        let mut log = Rotating::open(path.clone(), 1000, Stderr::Reader).unwrap();
        log.say(b"path \x1b[2J\nINFO all is well \xff\n");
        assert_eq!(read(&path, 0), "path ␛[2J␊INFO all is well \u{fffd}\n");
    }
}
