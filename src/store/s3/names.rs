//! What the objects of the store are called below its prefix, and back.

use crate::digest::Digest;
use crate::store::PinOwner;

/// The kinds of objects that are kept by digest or key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Shelf {
    /// Bytes of one file.
    Blob,
    /// Manifests.
    Tree,
    /// Bytes of small files, one after the other.
    Pack,
    /// Where the small files of a tree lie, by the tree's digest.
    Packed,
    /// Records, by key.
    Record,
}

impl Shelf {
    /// In front of everything on this shelf.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Blob => "blob/",
            Self::Tree => "tree/",
            Self::Pack => "pack/",
            Self::Packed => "packed/",
            Self::Record => "record/",
        }
    }
}

/// An object that is kept by digest or key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) shelf: Shelf,
    pub(super) digest: Digest,
}

impl Name {
    pub(super) fn new(shelf: Shelf, digest: Digest) -> Self {
        Self { shelf, digest }
    }

    /// As the bucket knows it.
    pub(super) fn text(&self) -> String {
        let hex = self.digest.hex();
        format!("{}{}/{hex}", self.shelf.prefix(), &hex[..2])
    }

    /// The digest of an object on this shelf; none for anything else that lies there.
    pub(super) fn digest_of(shelf: Shelf, text: &str) -> Option<Digest> {
        let (part, hex) = text.strip_prefix(shelf.prefix())?.split_once('/')?;
        let digest: Digest = format!("b3:{hex}").parse().ok()?;
        // Also refuses capital digits, which are another name.
        (digest.hex() == hex && hex.starts_with(part) && part.len() == 2).then_some(digest)
    }
}

/// In front of all pins.
pub(super) const PINS: &str = "pin/";
/// In front of all claims.
pub(super) const CLAIMS: &str = "claim/";
/// In front of damaged objects that were put out of reach.
pub(super) const QUARANTINE: &str = "quarantine/";
/// Says when gc went over the bucket last, and tells gc what time it is there.
pub(super) const SWEPT: &str = "swept";

/// Whether an object of this name can be of a store: others may keep theirs in the same bucket.
pub(super) fn is_of_a_store(name: &str) -> bool {
    const ALL: [Shelf; 5] = [Shelf::Blob, Shelf::Tree, Shelf::Pack, Shelf::Packed, Shelf::Record];
    let name = name.strip_prefix(QUARANTINE).unwrap_or(name);
    if let Some(key) = name.strip_prefix(CLAIMS) {
        return format!("b3:{key}").parse::<Digest>().is_ok();
    }
    ALL.iter().any(|shelf| Name::digest_of(*shelf, name).is_some())
}

pub(super) fn claim(key: &Digest) -> String {
    format!("{CLAIMS}{}", key.hex())
}

pub(super) fn pin(owner: PinOwner) -> String {
    format!("{PINS}{owner}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_back() {
        let digest = Digest::of(b"x");
        let text = Name::new(Shelf::Packed, digest).text();
        assert!(text.starts_with("packed/") && text.len() == 7 + 3 + 64, "{text}");
        assert_eq!(Name::digest_of(Shelf::Packed, &text), Some(digest));
        assert_eq!(Name::digest_of(Shelf::Pack, &text), None);
        let hex = digest.hex();
        for foreign in [
            format!("blob/{hex}"),
            format!("blob/zz/{hex}"),
            format!("blob/{}/{hex}.part", &hex[..2]),
            format!("blob/{}/{}", &hex[..2], hex.to_ascii_uppercase()),
            "blob/readme".to_owned(),
        ] {
            assert_eq!(Name::digest_of(Shelf::Blob, &foreign), None, "{foreign}");
            assert!(!is_of_a_store(&foreign), "{foreign}");
        }
        for ours in [text.clone(), format!("{QUARANTINE}{text}"), claim(&digest)] {
            assert!(is_of_a_store(&ours), "{ours}");
        }
        for foreign in ["claim/2026/storm.pdf", "quarantine/mail/1", "claim/"] {
            assert!(!is_of_a_store(foreign), "{foreign}");
        }
    }
}
