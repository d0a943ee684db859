use std::io::Write;

use proptest::prelude::*;

use super::writer::cut_back;
use super::*;
use crate::runtime::LogKeep;

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
    assert_eq!(chunks[2], LogChunk { at: 9, stream: Stream::Stdout, bytes: vec![], dropped: 4 });
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

fn names(folder: &Path) -> Vec<String> {
    let entries = fs_err::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn of_what_stays_up_the_newest_two_parts_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = LogWriter::keeping(folder.path(), 20, LogKeep::Latest);
    let mut follower = LogReader::open(folder.path(), LogPosition::default());
    let mut seen = String::new();
    let mut written = String::new();
    for number in 0..10_u64 {
        let line = format!("line {number}\n");
        writer.append(number, Stream::Stdout, line.as_bytes());
        written += &line;
        if number == 4 {
            writer.append(number, Stream::Stderr, b"aside\n");
        }
        while let Some(chunk) = follower.next_chunk().unwrap() {
            assert_eq!(chunk.dropped, 0);
            if chunk.stream == Stream::Stdout {
                seen += std::str::from_utf8(&chunk.bytes).unwrap();
            }
        }
    }
    assert_eq!(seen, written, "who follows loses nothing");
    assert_eq!(names(folder.path()), ["index-10", "index-9", "stdout-10", "stdout-9"]);
    let dropped = |stream, dropped| LogChunk { at: 8, stream, bytes: Vec::new(), dropped };
    let line = |at, text: &str| LogChunk {
        at,
        stream: Stream::Stdout,
        bytes: text.as_bytes().to_vec(),
        dropped: 0,
    };
    assert_eq!(
        read_all(folder.path()),
        [
            dropped(Stream::Stdout, 8 * 7),
            dropped(Stream::Stderr, 6),
            line(8, "line 8\n"),
            line(9, "line 9\n"),
        ]
    );
}

#[test]
fn a_follower_that_fell_behind_is_told_what_it_missed() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = LogWriter::keeping(folder.path(), 20, LogKeep::Latest);
    writer.append(1, Stream::Stdout, b"one\n");
    let mut follower = LogReader::open(folder.path(), LogPosition::default());
    assert_eq!(follower.next_chunk().unwrap().unwrap().bytes, b"one\n");
    for text in [b"two----\n", b"three--\n", b"four---\n", b"five---\n"] {
        writer.append(2, Stream::Stdout, text);
    }
    let mut later = LogReader::open(folder.path(), follower.position());
    for reader in [&mut follower, &mut later] {
        let missed = reader.next_chunk().unwrap().unwrap();
        assert_eq!((missed.bytes.len(), missed.dropped), (0, 16));
        assert_eq!(reader.next_chunk().unwrap().unwrap().bytes, b"four---\n");
        assert_eq!(reader.next_chunk().unwrap().unwrap().bytes, b"five---\n");
        assert_eq!(reader.next_chunk().unwrap(), None);
    }
}

#[test]
fn a_flood_of_single_bytes_does_not_let_the_index_grow() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = LogWriter::keeping(folder.path(), 1 << 20, LogKeep::Latest);
    for at in 0..100_000 {
        writer.append(at, Stream::Stdout, b".");
    }
    for name in names(folder.path()).iter().filter(|name| name.starts_with(INDEX)) {
        let length = fs_err::metadata(folder.path().join(name)).unwrap().len();
        assert!(length <= 1 << 20, "{name} has {length} bytes");
    }
    let chunks = read_all(folder.path());
    assert_eq!(
        chunks.iter().map(|chunk| chunk.dropped + chunk.bytes.len() as u64).sum::<u64>(),
        100_000
    );
}

#[test]
fn a_part_that_cannot_be_begun_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = LogWriter::keeping(folder.path(), 20, LogKeep::Latest);
    writer.append(1, Stream::Stdout, b"12345678");
    let obstacle = folder.path().join("index-2");
    fs_err::create_dir(&obstacle).unwrap();
    writer.append(2, Stream::Stdout, b"lost");
    fs_err::remove_dir(&obstacle).unwrap();
    writer.append(3, Stream::Stdout, b"again");
    assert!(writer.finish(4).unwrap().contains("index-2"));
    let chunks = read_all(folder.path());
    let seen: Vec<_> = chunks.iter().map(|c| (c.bytes.as_slice(), c.dropped)).collect();
    assert_eq!(seen, [(b"12345678".as_slice(), 0), (b"again".as_slice(), 4)]);
}

proptest! {
    /// Whatever is written and whenever somebody looks: what is given out and what is said to be dropped add up, in order.
    #[test]
    fn nothing_gets_lost_unsaid(
        writes in prop::collection::vec((any::<bool>(), 1_usize..40, any::<bool>()), 1..80),
        cap in 2_u64..120,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = LogWriter::keeping(folder.path(), cap, LogKeep::Latest);
        let mut slow = LogReader::open(folder.path(), LogPosition::default());
        let mut written = [Vec::new(), Vec::new()];
        let mut given = [Vec::new(), Vec::new()];
        let give = |reader: &mut LogReader, given: &mut [Vec<Option<u8>>; 2]| {
            while let Some(chunk) = reader.next_chunk().unwrap() {
                let stream = &mut given[usize::from(chunk.stream == Stream::Stderr)];
                // A part that is gone comes before what is there; of a chunk nothing is dropped in this mode.
                stream.extend((0..chunk.dropped).map(|_| None));
                stream.extend(chunk.bytes.into_iter().map(Some));
            }
        };
        for (number, (err, length, look)) in writes.into_iter().enumerate() {
            let bytes = vec![u8::try_from(number).unwrap(); length];
            let stream = if err { Stream::Stderr } else { Stream::Stdout };
            writer.append(number as u64, stream, &bytes);
            written[usize::from(err)].extend(bytes.into_iter().map(Some));
            if look {
                give(&mut slow, &mut given);
            }
        }
        give(&mut slow, &mut given);
        let mut fresh = [Vec::new(), Vec::new()];
        give(&mut LogReader::open(folder.path(), LogPosition::default()), &mut fresh);
        for given in [given, fresh] {
            for (given, written) in given.iter().zip(&written) {
                prop_assert_eq!(given.len(), written.len());
                for (given, written) in given.iter().zip(written) {
                    prop_assert!(given.is_none() || given == written);
                }
            }
        }
        prop_assert_eq!(writer.finish(0), None);
    }
}
