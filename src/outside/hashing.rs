//! Digests of bytes as they come by.

use ring::digest::{Context, SHA256};

use crate::address::Expected;
use crate::digest::Digest;

/// Sums up bytes.
pub(super) struct Hashing {
    sha256: Context,
    /// Only where somebody asks for it: the store makes its own.
    blake3: Option<blake3::Hasher>,
}

/// The digests of a whole file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hashes {
    pub(super) sha256: [u8; 32],
    pub(super) blake3: Option<Digest>,
}

impl Hashing {
    pub(super) fn new(wants_b3: bool) -> Self {
        Self { sha256: Context::new(&SHA256), blake3: wants_b3.then(blake3::Hasher::new) }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(hasher) = &mut self.blake3 {
            hasher.update(bytes);
        }
    }

    pub(super) fn end(&self) -> Hashes {
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(self.sha256.clone().finish().as_ref());
        let blake3 = self.blake3.as_ref().map(|hasher| hasher.finalize().into());
        Hashes { sha256, blake3 }
    }
}

impl Hashes {
    /// The digest of the expected kind, where it is another.
    pub(super) fn differ(&self, expected: &Expected) -> Option<Expected> {
        let is = match expected {
            Expected::Sha256(_) => Expected::Sha256(self.sha256),
            Expected::Blake3(_) => Expected::Blake3(self.blake3?),
        };
        (is != *expected).then_some(is)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_digests_are_those_of_the_bytes() {
        let mut hashing = Hashing::new(true);
        hashing.update(b"a");
        hashing.update(b"bc");
        let hashes = hashing.end();
        let abc = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let abc: Expected = abc.parse().unwrap();
        assert_eq!(hashes.differ(&abc), None);
        assert_eq!(hashes.differ(&Expected::Blake3(Digest::of(b"abc"))), None);
        let other = Expected::Sha256([0; 32]);
        assert_eq!(hashes.differ(&other), Some(abc));
    }
}
