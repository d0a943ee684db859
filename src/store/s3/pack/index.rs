//! The index of a tree's packs. All numbers little-endian:
//!
//! ```text
//! "frpacked" · form u32 = 1 · packs u32 · files u64 · digest of all that follows (32 bytes)
//! each pack: digest (32 bytes) · size u64
//! each file: digest (32 bytes) · pack u32 · offset u32 · length u32, sorted by digest
//! ```

use std::ops::Range;

use bytes::Bytes;

use super::File;
use crate::digest::Digest;

const MAGIC: &[u8; 8] = b"frpacked";
const FORM: u32 = 1;
/// Bytes before the packs.
const START: usize = 56;
const PACK: usize = 40;
const FILE: usize = 44;

/// The beginning of an index: which packs the tree needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store::s3) struct Head {
    /// Digest and size of each pack.
    pub(in crate::store::s3) packs: Vec<File>,
    /// How many files they hold of this tree.
    pub(in crate::store::s3) files: u64,
}

impl Head {
    /// So many bytes of an index hold its head, unless it has very many packs.
    pub(in crate::store::s3) const USUAL: u64 = 16 << 10;

    /// How many bytes of an index hold its head; none: these bytes start no index.
    pub(in crate::store::s3) fn length(start: &[u8]) -> Option<u64> {
        let packs = numbers(start)?.0;
        Some((START + PACK * packs as usize) as u64)
    }

    /// Reads the head from the first bytes of an index.
    pub(in crate::store::s3) fn read(start: &[u8]) -> Option<Self> {
        let (packs, files) = numbers(start)?;
        let packs = start.get(START..)?.get(..PACK.checked_mul(packs as usize)?)?;
        let packs = packs
            .chunks_exact(PACK)
            .map(|pack| Some((digest_at(pack)?, u64::from_le_bytes(array(pack, 32)?))))
            .collect::<Option<_>>()?;
        Some(Self { packs, files })
    }
}

/// Where a file lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store::s3) struct Place {
    /// Which of the packs of the head.
    pub(in crate::store::s3) pack: usize,
    /// First byte.
    pub(in crate::store::s3) offset: u64,
    /// Bytes.
    pub(in crate::store::s3) length: u64,
}

impl Place {
    /// Its bytes in the pack.
    pub(in crate::store::s3) fn range(&self) -> Range<u64> {
        self.offset..self.offset + self.length
    }
}

/// A whole index.
#[derive(Debug, Clone)]
pub(in crate::store::s3) struct Index {
    /// Which packs there are.
    pub(in crate::store::s3) head: Head,
    files: Bytes,
}

impl Index {
    /// The bytes of the index of packs with these digests, each with its files in order.
    pub(in crate::store::s3) fn write(packs: &[(Digest, &[File])]) -> Vec<u8> {
        let mut files = Vec::new();
        let mut body = Vec::new();
        for (number, (pack, contents)) in packs.iter().enumerate() {
            let mut offset = 0;
            for (digest, size) in *contents {
                files.push((*digest, number, offset, *size));
                offset += size;
            }
            body.extend_from_slice(pack.bytes());
            body.extend_from_slice(&offset.to_le_bytes());
        }
        files.sort_unstable();
        for (digest, pack, offset, length) in &files {
            body.extend_from_slice(digest.bytes());
            for number in [*pack as u64, *offset, *length] {
                // Packs are small, and their number is bounded by what fits into an index.
                body.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
            }
        }
        let mut whole = Vec::with_capacity(START + body.len());
        whole.extend_from_slice(MAGIC);
        whole.extend_from_slice(&FORM.to_le_bytes());
        whole.extend_from_slice(&u32::try_from(packs.len()).unwrap_or(u32::MAX).to_le_bytes());
        whole.extend_from_slice(&(files.len() as u64).to_le_bytes());
        whole.extend_from_slice(Digest::of(&body).bytes());
        whole.append(&mut body);
        whole
    }

    /// Reads an index. None: it is damaged, or of a later version.
    pub(in crate::store::s3) fn read(bytes: &Bytes) -> Option<Self> {
        let body = bytes.get(START..)?;
        if digest_at(&bytes[24..])? != Digest::of(body) {
            return None;
        }
        let head = Head::read(bytes)?;
        let files = bytes.slice(START + PACK * head.packs.len()..);
        let index = Self { head, files };
        let whole = index.files.len() as u64 == FILE as u64 * index.head.files
            && index.files().all(|(_, place)| index.holds(&place));
        whole.then_some(index)
    }

    fn holds(&self, place: &Place) -> bool {
        let pack = self.head.packs.get(place.pack);
        pack.is_some_and(|(_, size)| place.length > 0 && place.offset + place.length <= *size)
    }

    /// Where a file lies.
    pub(in crate::store::s3) fn find(&self, digest: &Digest) -> Option<Place> {
        let (mut low, mut high) = (0, self.files.len() / FILE);
        while low < high {
            let middle = usize::midpoint(low, high);
            let (found, place) = self.at(middle)?;
            match found.cmp(digest) {
                std::cmp::Ordering::Equal => return Some(place),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// Every file, sorted by digest.
    pub(in crate::store::s3) fn files(&self) -> impl Iterator<Item = (Digest, Place)> + '_ {
        (0..self.files.len() / FILE).filter_map(|number| self.at(number))
    }

    fn at(&self, number: usize) -> Option<(Digest, Place)> {
        let file = self.files.get(FILE * number..)?;
        let number = |at| Some(u32::from_le_bytes(array(file, at)?));
        let place = Place {
            pack: number(32)? as usize,
            offset: number(36)?.into(),
            length: number(40)?.into(),
        };
        Some((digest_at(file)?, place))
    }
}

/// How many packs and files an index names.
fn numbers(start: &[u8]) -> Option<(u32, u64)> {
    let known = start.starts_with(MAGIC) && u32::from_le_bytes(array(start, 8)?) == FORM;
    known.then_some(())?;
    Some((u32::from_le_bytes(array(start, 12)?), u64::from_le_bytes(array(start, 16)?)))
}

fn digest_at(bytes: &[u8]) -> Option<Digest> {
    Some(Digest::from_bytes(array(bytes, 0)?))
}

fn array<const LENGTH: usize>(bytes: &[u8], at: usize) -> Option<[u8; LENGTH]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: u64) -> Digest {
        Digest::of(&number.to_le_bytes())
    }

    #[test]
    fn written_and_read() {
        let files: Vec<File> = (0..1000).map(|number| (digest(number), number + 1)).collect();
        let packs = [(digest(1 << 40), &files[..600]), (digest(1 << 41), &files[600..])];
        let bytes = Bytes::from(Index::write(&packs));
        let index = Index::read(&bytes).unwrap();
        assert_eq!((index.head.packs.len(), index.head.files), (2, 1000));
        assert_eq!(index.head.packs[0], (digest(1 << 40), (1..=600).sum()));
        assert_eq!(index.find(&digest(2)), Some(Place { pack: 0, offset: 3, length: 3 }));
        assert_eq!(index.find(&digest(601)).unwrap().range(), 601..601 + 602);
        assert_eq!(index.find(&digest(5000)), None);
        assert!(files.iter().all(|(digest, size)| index.find(digest).unwrap().length == *size));
        let length = Head::length(&bytes[..100]).unwrap();
        assert_eq!(length, 56 + 80);
        let head = Head::read(&bytes[..usize::try_from(length).unwrap()]).unwrap();
        assert_eq!(head, index.head);
        assert_eq!(Head::read(&bytes[..100]), None);
    }

    #[test]
    fn damaged_ones_are_told() {
        let files: Vec<File> = (0..9).map(|number| (digest(number), 7)).collect();
        let bytes = Index::write(&[(digest(99), &files)]);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(Index::read(&damaged.into()).is_none(), "byte {at}");
        }
        for length in 0..bytes.len() {
            assert!(Index::read(&bytes[..length].to_vec().into()).is_none(), "{length} bytes");
        }
    }
}
