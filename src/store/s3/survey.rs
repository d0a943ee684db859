//! What of an artifact is in the bucket: asked object by object, at once, and never by listing.

use futures_util::{StreamExt, TryStreamExt, stream};

use super::bucket::Meta;
use super::names::{Name, Shelf};
use super::pack::{File, Files, Head, Index};
use super::{Shared, WIDE, clock};
use crate::digest::Digest;
use crate::store::{Entry, StoreError};

/// An object that is used and older than this gets a new age. Well below the least sensible grace of gc.
const OLD: u64 = 24 * 3600 * 1000;

/// What the bucket has of an artifact.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// The manifest is there.
    pub(super) tree: bool,
    /// Where the packs' index is needed and there: the packs it names.
    pub(super) packs: Option<Vec<File>>,
    /// Blobs and packs that are not there, or have another size.
    pub(super) absent: Vec<Name>,
}

impl Survey {
    /// Whether nothing is missing.
    pub(super) fn is_whole(&self, files: &Files) -> bool {
        self.tree && self.absent.is_empty() && (files.small.is_empty() || self.packs.is_some())
    }
}

impl Shared {
    /// What is missing or changed of an artifact: nothing, its manifest or the index of its packs (both named by the artifact's own
    /// digest), or files. What is there and old gets a new age.
    pub(super) async fn missing_of(&self, artifact: &Digest) -> Result<Vec<Digest>, StoreError> {
        // The tree is marked as seen when all of the artifact was.
        if self.known.has(&Name::new(Shelf::Tree, *artifact)) {
            return Ok(Vec::new());
        }
        let entries = match self.manifest(artifact).await {
            Ok(entries) => entries,
            Err(StoreError::Damaged { .. }) => return Ok(vec![*artifact]),
            Err(error) => return Err(error),
        };
        let files = Files::of(&entries);
        let survey = self.survey(artifact, &files).await?;
        if survey.is_whole(&files) {
            self.known.saw(Name::new(Shelf::Tree, *artifact));
            return Ok(Vec::new());
        }
        if !survey.tree || (!files.small.is_empty() && survey.packs.is_none()) {
            return Ok(vec![*artifact]);
        }
        self.files_in(artifact, &survey.absent, &entries).await
    }

    /// Asks for everything of an artifact at once.
    pub(super) async fn survey(
        &self,
        artifact: &Digest,
        files: &Files,
    ) -> Result<Survey, StoreError> {
        let tree = Name::new(Shelf::Tree, *artifact);
        let loose =
            files.loose.iter().map(|(digest, size)| (Name::new(Shelf::Blob, *digest), *size));
        let (tree, (packs, mut absent), blobs) = tokio::try_join!(
            self.look_at(&tree),
            self.survey_packs(artifact, !files.small.is_empty()),
            self.absent(loose.collect()),
        )?;
        absent.extend(blobs);
        Ok(Survey { tree: tree.is_some(), packs, absent })
    }

    async fn survey_packs(
        &self,
        artifact: &Digest,
        wanted: bool,
    ) -> Result<(Option<Vec<File>>, Vec<Name>), StoreError> {
        if !wanted {
            return Ok((None, Vec::new()));
        }
        let name = Name::new(Shelf::Packed, *artifact);
        let Some(meta) = self.look_at(&name).await? else { return Ok((None, Vec::new())) };
        let Some(head) = self.head_of(&name, meta.size).await? else {
            return Ok((None, Vec::new()));
        };
        let packs =
            head.packs.iter().map(|(digest, size)| (Name::new(Shelf::Pack, *digest), *size));
        let absent = self.absent(packs.collect()).await?;
        Ok((Some(head.packs), absent))
    }

    /// The head of an index of so many bytes; none where it is damaged or gone.
    pub(super) async fn head_of(&self, name: &Name, size: u64) -> Result<Option<Head>, StoreError> {
        let text = name.text();
        let Some(mut start) = self.bucket.get_range(&text, 0..size.min(Head::USUAL)).await? else {
            return Ok(None);
        };
        match Head::length(&start) {
            Some(length) if length > start.len() as u64 && length <= size => {
                let Some(longer) = self.bucket.get_range(&text, 0..length).await? else {
                    return Ok(None);
                };
                start = longer;
            }
            _ => {}
        }
        Ok(Head::read(&start))
    }

    /// Those of these objects that are not there with their size.
    pub(super) async fn absent(&self, objects: Vec<(Name, u64)>) -> Result<Vec<Name>, StoreError> {
        let asked = objects.into_iter().filter(|(name, _)| !self.known.has(name));
        let look = |(name, size): (Name, u64)| async move {
            let there = self.look_at(&name).await?.is_some_and(|meta| meta.size == size);
            if there {
                self.known.saw(name);
            }
            Ok::<_, StoreError>((!there).then_some(name))
        };
        let absent: Vec<Option<Name>> =
            stream::iter(asked.map(look)).buffer_unordered(WIDE).try_collect().await?;
        Ok(absent.into_iter().flatten().collect())
    }

    /// What the bucket says of an object; an old one gets a new age.
    async fn look_at(&self, name: &Name) -> Result<Option<Meta>, StoreError> {
        let text = name.text();
        let Some(meta) = self.bucket.head(&text).await? else { return Ok(None) };
        let there = self.renew(&text, &meta).await?;
        Ok(there.then_some(meta))
    }

    /// Gives an object that is old a new age. `false`: it is gone.
    async fn renew(&self, name: &str, meta: &Meta) -> Result<bool, StoreError> {
        if self.is_young_enough(meta) {
            return Ok(true);
        }
        self.sweepers.wrote();
        self.bucket.touch(name).await
    }

    /// Whether an object need not get a new age, or cannot.
    pub(super) fn is_young_enough(&self, meta: &Meta) -> bool {
        self.read_only || !is_old(meta.modified, clock::now())
    }

    /// The files of an artifact that lie in these blobs and packs, in the order of their paths.
    async fn files_in(
        &self,
        artifact: &Digest,
        absent: &[Name],
        entries: &[Entry],
    ) -> Result<Vec<Digest>, StoreError> {
        let gone = |shelf, digest| absent.contains(&Name::new(shelf, digest));
        let packed = absent.iter().any(|name| name.shelf == Shelf::Pack);
        let index = if packed { self.index(artifact).await? } else { None };
        let in_pack = |digest: &Digest| {
            let index = index.as_ref()?;
            Some(index.head.packs.get(index.find(digest)?.pack)?.0)
        };
        let files = Files::of(entries);
        let mut missing: Vec<Digest> = Vec::new();
        missing.extend(
            files.loose.iter().map(|file| file.0).filter(|digest| gone(Shelf::Blob, *digest)),
        );
        missing.extend(
            files.small.iter().map(|file| file.0).filter(|digest| {
                packed && in_pack(digest).is_none_or(|pack| gone(Shelf::Pack, pack))
            }),
        );
        Ok(missing)
    }

    /// The index of a tree's packs; none where it is gone or damaged.
    pub(super) async fn index(&self, artifact: &Digest) -> Result<Option<Index>, StoreError> {
        let name = Name::new(Shelf::Packed, *artifact).text();
        let object = self.bucket.get(&name).await?;
        Ok(object.and_then(|object| Index::read(&object.bytes)))
    }
}

/// Whether an object is due for a new age. Both times are Unix milliseconds; a clock that is an hour wrong does no harm.
fn is_old(modified: u64, now: u64) -> bool {
    now.saturating_sub(modified) > OLD
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_get_old_after_a_day() {
        let now = 1_700_000_000_000;
        assert!(!is_old(now - OLD, now));
        assert!(is_old(now - OLD - 1, now));
        assert!(!is_old(now + OLD, now));
    }
}
