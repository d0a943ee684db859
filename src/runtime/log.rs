//! The log of one attempt on disk: the bytes of both streams as written, and an index that gives their order and times.
//!
//! `stdout` and `stderr` hold the bytes as written, with secrets replaced ([`Masks`]). `index` holds one record of 24 bytes
//! per chunk that was read from the program: time, stream, raw length, kept length. Bytes are written before their record, so a
//! record never points at bytes that are not there; bytes without a record (the writer was killed between the two) are given out last.
//!
//! **What the records of a stream tell is the beginning of what the program wrote, without a gap or a repeat:** their raw lengths add
//! up to the place of a byte in it, everything before that byte is in the files or said to be dropped, and no secret lies across
//! that place, unless nothing after it is kept. Bytes that are held back, because a secret may begin with them, have no record yet. So a writer
//! that goes on after a crash ([`LogWriter::resume`]) cuts the files back to what the records tell and takes the program's bytes from that place on.
//!
//! Of what stays up the newest is kept ([`LogKeep::Latest`]): such a log has parts. The first has the names above, part 2
//! is `stdout-2`, `stderr-2` and `index-2`, and so on. The two newest parts are there, a part's files never change their name, and no byte
//! is written to a part once the next one has its index. The index of a later part begins with two head records that say how much each stream
//! wrote before it, so that a reader knows what it missed.

mod mask;
mod reader;
mod secret_forms;
mod writer;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use mask::Masker;
pub use mask::{MASK, Masks};
pub use reader::{LogChunk, LogPosition, LogReader};
pub use writer::LogWriter;

use crate::event::Stream;
#[cfg(doc)]
use crate::runtime::LogKeep;

/// Longest chunk a writer records at once, bytes.
pub const CHUNK: usize = 64 * 1024;

const RECORD: usize = 24;
const INDEX: &str = "index";

/// The file of a stream in the attempt's folder; of a log with parts, of its first.
pub fn stream_file(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    }
}

/// A file of a part, which counts from 1.
fn part_file(folder: &Path, name: &str, part: u64) -> PathBuf {
    if part <= 1 { folder.join(name) } else { folder.join(format!("{name}-{part}")) }
}

/// What a record tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tells {
    /// A chunk: `raw` bytes were written, `kept` of them stand in the stream's file.
    Chunk,
    /// A chunk with secrets: `raw` bytes were written, `kept` bytes stand in the stream's file for all of them.
    Masked,
    /// The head of a part: `raw` bytes were written to the stream before it.
    Before,
}

/// One entry of the index, little endian: `at` u64, `raw` u64, `kept` u32, stream u8, what it tells u8, two zero bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Record {
    /// Unix milliseconds.
    at: u64,
    stream: Stream,
    tells: Tells,
    /// Bytes the program wrote.
    raw: u64,
    /// Bytes that stand in the stream's file for them.
    kept: u32,
}

impl Record {
    fn encode(self) -> [u8; RECORD] {
        let mut bytes = [0; RECORD];
        bytes[..8].copy_from_slice(&self.at.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.raw.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.kept.to_le_bytes());
        bytes[20] = u8::from(self.stream == Stream::Stderr);
        bytes[21] = match self.tells {
            Tells::Chunk => 0,
            Tells::Before => 1,
            Tells::Masked => 2,
        };
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
            tells: match bytes[21] {
                0 => Tells::Chunk,
                2 => Tells::Masked,
                _ => Tells::Before,
            },
        }
    }
}
