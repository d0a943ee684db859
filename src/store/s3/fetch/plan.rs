//! Which bytes of which packs are asked for: a whole pack when most of it is needed, else what lies near together at once.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::digest::Digest;
use crate::store::s3::pack::{File, Place};

/// Bytes between two files that are fetched along rather than asked around: about what one more request costs.
const GAP: u64 = 256 << 10;

/// Bytes of a pack that are fetched with one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    /// The pack.
    pub(super) pack: Digest,
    /// Bytes of all of it.
    pub(super) size: u64,
    /// These bytes of it.
    pub(super) range: Range<u64>,
    /// The files in there, in order.
    pub(super) files: Vec<(Digest, Range<u64>)>,
}

/// How to get these files.
pub(super) fn pieces(packs: &[File], files: Vec<(Digest, Place)>) -> Vec<Piece> {
    let mut by_pack: BTreeMap<usize, Vec<(Digest, Range<u64>)>> = BTreeMap::new();
    for (digest, place) in files {
        by_pack.entry(place.pack).or_default().push((digest, place.range()));
    }
    let mut pieces = Vec::new();
    for (number, mut files) in by_pack {
        let Some((pack, size)) = packs.get(number).copied() else { continue };
        files.sort_by_key(|(_, range)| range.start);
        let needed: u64 = files.iter().map(|(_, range)| range.end - range.start).sum();
        if needed * 2 > size {
            pieces.push(Piece { pack, size, range: 0..size, files });
        } else {
            pieces.extend(near_together((pack, size), files));
        }
    }
    pieces
}

fn near_together((pack, size): File, files: Vec<(Digest, Range<u64>)>) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    for (digest, range) in files {
        match pieces.last_mut() {
            Some(last) if range.start <= last.range.end + GAP => {
                last.range.end = last.range.end.max(range.end);
                last.files.push((digest, range));
            }
            _ => {
                let files = vec![(digest, range.clone())];
                pieces.push(Piece { pack, size, range, files });
            }
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(number: u64, pack: usize, offset: u64, length: u64) -> (Digest, Place) {
        (Digest::of(&number.to_le_bytes()), Place { pack, offset, length })
    }

    #[test]
    fn most_of_a_pack_is_fetched_whole_and_little_of_it_in_pieces() {
        let packs = [(Digest::of(b"a"), 4 << 20), (Digest::of(b"b"), 4 << 20)];
        let files = vec![
            file(1, 0, 3 << 20, 1 << 20),
            file(2, 0, 0, 2 << 20),
            file(3, 1, 100, 50),
            file(4, 1, 0, 100),
            file(5, 1, 3 << 20, 10),
        ];
        let found = pieces(&packs, files);
        let ranges: Vec<_> =
            found.iter().map(|it| (it.pack, it.range.clone(), it.files.len())).collect();
        let expected = [
            (packs[0].0, 0..4 << 20, 2),
            (packs[1].0, 0..150, 2),
            (packs[1].0, 3 << 20..(3 << 20) + 10, 1),
        ];
        assert_eq!(ranges, expected);
        let inside = |piece: &Piece| {
            piece
                .files
                .iter()
                .all(|(_, range)| piece.range.start <= range.start && range.end <= piece.range.end)
        };
        assert!(found.iter().all(inside));
    }
}
