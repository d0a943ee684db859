//! Packs: the small files of a tree, put together so that ten thousand of them are a few requests.
//!
//! A pack is nothing but the bytes of its files, one after the other; its name is their digest. Where one pack ends and the next begins follows
//! from the files alone: after a file whose digest says so (the longer the file, the likelier), so that a tree in which one file changed
//! shares all its packs but one with the tree before, whichever machine made that one, and nobody has to remember anything.
//! Which files are small is part of the form: a reader knows from the manifest alone whether to look for an index.

mod index;

use std::collections::HashSet;

pub(super) use index::{Head, Index, Place};

use crate::digest::Digest;
use crate::store::{Entry, artifact};

/// Files up to this many bytes are small. Part of the form of the store: never to be changed without a new one.
pub(super) const SMALL: u64 = 1 << 20;
/// No pack is larger.
pub(super) const LARGEST: u64 = 32 << 20;
/// Trees with fewer bytes of small files than this get packs of about [`AVERAGE`] bytes, others four times that.
const LARGE_TREE: u64 = 256 << 20;
/// What packs have on average, at most a quarter of [`LARGEST`].
const AVERAGE: u64 = 4 << 20;

/// A file of a tree.
pub(super) type File = (Digest, u64);

/// The files of a tree, each once, and where they are kept. Empty files are kept nowhere: everybody has their bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Files {
    /// As blobs.
    pub(super) loose: Vec<File>,
    /// In packs; none or at least two.
    pub(super) small: Vec<File>,
}

impl Files {
    /// Divides the files of a tree, in the order of their paths.
    pub(super) fn of(entries: &[Entry]) -> Self {
        let mut seen = HashSet::new();
        let mut files = Self::default();
        for (digest, size) in artifact::files(entries) {
            if size > 0 && seen.insert(digest) {
                let shelf = if size <= SMALL { &mut files.small } else { &mut files.loose };
                shelf.push((digest, size));
            }
        }
        if files.small.len() == 1 {
            // Alone it is one object anyway, and needs no index.
            files.loose.append(&mut files.small);
        }
        files
    }
}

/// Divides small files into packs.
pub(super) fn divide(files: &[File]) -> Vec<&[File]> {
    let total: u64 = files.iter().map(|(_, size)| size).sum();
    let average = if total < LARGE_TREE { AVERAGE } else { 4 * AVERAGE };
    let (least, most) = (average / 2, average * 2);
    let mut packs = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (at, (digest, size)) in files.iter().enumerate() {
        if at > start && bytes + size > most {
            packs.push(&files[start..at]);
            (start, bytes) = (at, 0);
        }
        bytes += size;
        if bytes >= least && ends_a_pack(digest, *size, average - least) {
            packs.push(&files[start..=at]);
            (start, bytes) = (at + 1, 0);
        }
    }
    if start < files.len() {
        packs.push(&files[start..]);
    }
    packs
}

/// Of all files of this size, `size` in `bytes` end a pack.
fn ends_a_pack(digest: &Digest, size: u64, bytes: u64) -> bool {
    let [first, ..] = digest.bytes().as_chunks::<8>().0 else { return false };
    u64::from_le_bytes(*first) % bytes < size
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::EntryKind;

    fn files(count: u64, size: u64) -> Vec<File> {
        (0..count).map(|number| (Digest::of(&number.to_le_bytes()), size)).collect()
    }

    fn bytes(pack: &[File]) -> u64 {
        pack.iter().map(|(_, size)| size).sum()
    }

    #[test]
    fn packs_hold_every_file_once_and_are_of_the_right_size() {
        for (count, size) in [(2, 1), (10_000, 4096), (3000, SMALL), (1, SMALL), (700, 999_999)] {
            let files = files(count, size);
            let packs = divide(&files);
            assert_eq!(packs.concat(), files);
            let average = if count * size < LARGE_TREE { AVERAGE } else { 4 * AVERAGE };
            for pack in &packs {
                assert!(!pack.is_empty() && bytes(pack) <= (2 * average).min(LARGEST));
            }
            for pack in packs.iter().rev().skip(1) {
                assert!(bytes(pack) >= average / 2);
            }
        }
        assert!(divide(&[]).is_empty());
        let count = divide(&files(10_000, 4096)).len();
        assert!((6..=16).contains(&count), "{count} packs");
    }

    #[test]
    fn a_changed_file_changes_one_or_two_packs() {
        let before = files(10_000, 4096);
        for at in [0, 777, 5000, 9999] {
            let mut after = before.clone();
            after[at] = (Digest::of(b"changed"), 5000);
            let known: HashSet<&[File]> = divide(&before).into_iter().collect();
            let new: u64 =
                divide(&after).into_iter().filter(|it| !known.contains(it)).map(bytes).sum();
            assert!(new <= 4 * AVERAGE, "{new} bytes in new packs");
        }
    }

    #[test]
    fn files_are_divided_by_size_and_kept_once() {
        let entry = |path: &str, digest: Digest, size| Entry {
            path: path.to_owned(),
            kind: EntryKind::File { digest, size, exec: false },
        };
        let [a, b, c] = [b"a", b"b", b"c"].map(|text| Digest::of(text));
        let entries = [
            entry("a", a, 5),
            entry("again", a, 5),
            entry("b", b, SMALL),
            entry("c", c, SMALL + 1),
            entry("empty", Digest::of(b""), 0),
        ];
        let files = Files::of(&entries);
        assert_eq!((files.loose, files.small), (vec![(c, SMALL + 1)], vec![(a, 5), (b, SMALL)]));
        let alone = Files::of(&entries[..2]);
        assert_eq!((alone.loose, alone.small), (vec![(a, 5)], vec![]));
    }
}
