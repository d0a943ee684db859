//! Bringing an artifact from the bucket into the cache: only what the cache lacks, and nothing gets its name there before its bytes were
//! compared with its digest.

mod plan;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};

use self::plan::{Piece, pieces};
use super::bucket::Condition;
use super::names::{Name, QUARANTINE, Shelf};
use super::pack::{File, Files, Index, LARGEST, SMALL};
use super::record::read_record;
use super::{NARROW, Shared, WIDE, locked};
use crate::digest::Digest;
use crate::store::{Entry, StoreError, Traffic, artifact};

/// How the bytes of a file that came turned out.
enum Came {
    Right,
    Wrong,
    Absent,
}

impl Shared {
    /// The manifest of an artifact: from the cache, else from the bucket.
    pub(super) async fn manifest(&self, artifact: &Digest) -> Result<Arc<[Entry]>, StoreError> {
        if let Some(entries) = self.cache.manifest(artifact)? {
            return Ok(entries);
        }
        let name = Name::new(Shelf::Tree, *artifact);
        let Some(object) = self.bucket.get(&name.text()).await? else {
            return Err(self.damaged(artifact, "missing"));
        };
        if let Some(entries) = self.cache.keep_manifest(artifact, &object.bytes)? {
            return Ok(entries);
        }
        self.put_away(&name).await?;
        Err(self.damaged(artifact, "damaged"))
    }

    /// Afterwards the cache has all of the artifact.
    pub(super) async fn fetch(
        &self,
        artifact: &Digest,
        traffic: &Traffic,
    ) -> Result<(), StoreError> {
        let turn = Arc::clone(locked(&self.fetching).entry(*artifact).or_default());
        let held = turn.lock().await;
        let fetched = self.fetch_lacking(artifact, traffic).await;
        drop(held);
        drop(turn);
        // Whoever waits holds it too.
        locked(&self.fetching).retain(|_, turn| Arc::strong_count(turn) > 1);
        if matches!(fetched, Err(StoreError::Damaged { .. })) {
            self.known.forget();
        }
        fetched
    }

    async fn fetch_lacking(&self, artifact: &Digest, traffic: &Traffic) -> Result<(), StoreError> {
        let entries = self.manifest(artifact).await?;
        let all: HashMap<Digest, u64> = artifact::files(&entries).collect();
        let lacking = self.cache.lacking(all.into_iter().collect()).await?;
        let bytes: u64 = lacking.iter().map(|(_, size)| size).sum();
        traffic.spare(artifact::bytes(&entries).saturating_sub(bytes));
        traffic.expect_to_receive(bytes);
        if lacking.is_empty() {
            return Ok(());
        }
        let has_packs = !Files::of(&entries).small.is_empty();
        let (empty, lacking): (Vec<File>, Vec<File>) =
            lacking.into_iter().partition(|(_, size)| *size == 0);
        let (small, loose): (Vec<File>, Vec<File>) =
            lacking.into_iter().partition(|(_, size)| has_packs && *size <= SMALL);
        self.keep_right(empty.into_iter().map(|(digest, _)| (digest, Bytes::new())).collect())
            .await?;
        tokio::try_join!(
            self.fetch_loose(loose, traffic),
            self.fetch_small(artifact, small, traffic),
        )
        .inspect_err(|_| traffic.expect_no_more())?;
        // Not for long at risk when the power goes; nobody waits for it.
        crate::store::Store::sync(&self.cache).await
    }

    async fn fetch_loose(&self, files: Vec<File>, traffic: &Traffic) -> Result<(), StoreError> {
        let fetch = |file: File| async move {
            // Once more: the way may be bad, and the object good.
            let came = match self.fetch_blob(file, traffic).await? {
                Came::Wrong => self.fetch_blob(file, traffic).await?,
                came => came,
            };
            let name = Name::new(Shelf::Blob, file.0);
            match came {
                Came::Right => {
                    self.known.saw(name);
                    Ok(())
                }
                Came::Absent => Err(self.damaged(&file.0, "missing")),
                Came::Wrong => {
                    self.put_away(&name).await?;
                    Err(self.damaged(&file.0, "damaged"))
                }
            }
        };
        let wide = if files.iter().all(|(_, size)| *size <= SMALL) { WIDE } else { NARROW };
        stream::iter(files.into_iter().map(fetch)).buffer_unordered(wide).try_collect().await
    }

    async fn fetch_blob(&self, file: File, traffic: &Traffic) -> Result<Came, StoreError> {
        let name = Name::new(Shelf::Blob, file.0).text();
        let right = if file.1 <= SMALL {
            let Some(object) = self.bucket.get(&name).await? else { return Ok(Came::Absent) };
            traffic.receive(object.meta.size);
            self.cache.keep_slices(vec![(file.0, object.bytes)]).await?.is_empty()
        } else {
            match self.bucket.head(&name).await? {
                None => return Ok(Came::Absent),
                Some(meta) if meta.size != file.1 => return Ok(Came::Wrong),
                Some(_) => {}
            }
            let path = self.cache.unfinished();
            let moved = |bytes| traffic.receive(bytes);
            match self.bucket.download(&name, file.1, &path, &moved).await {
                Ok(true) => self.cache.keep_file(path, file).await?,
                Ok(false) => return Ok(Came::Absent),
                Err(error) => {
                    // It may not even be there.
                    fs_err::remove_file(&path).ok();
                    return Err(error);
                }
            }
        };
        Ok(if right { Came::Right } else { Came::Wrong })
    }

    async fn fetch_small(
        &self,
        artifact: &Digest,
        files: Vec<File>,
        traffic: &Traffic,
    ) -> Result<(), StoreError> {
        if files.is_empty() {
            return Ok(());
        }
        let Some(index) = self.index(artifact).await? else {
            let name = Name::new(Shelf::Packed, *artifact);
            // Where it is damaged, the next one who needs it makes a new one.
            self.put_away(&name).await?;
            return Err(self.damaged(artifact, "without the index of its packs, or it is damaged,"));
        };
        let mut places = Vec::with_capacity(files.len());
        for (digest, size) in files {
            match index.find(&digest) {
                Some(place) if place.length == size => places.push((digest, place)),
                // It is whole, and of another tree: it goes, so that the next one who stores this tree makes the right one.
                _ => {
                    self.quarantine(&Name::new(Shelf::Packed, *artifact)).await?;
                    return Err(self.damaged(&digest, "missing"));
                }
            }
        }
        let fetch = |piece: Piece| async move {
            let wrong = match self.fetch_piece(&piece, traffic).await? {
                Some(wrong) if wrong.is_empty() => return Ok(()),
                // Once more: the way may be bad, and the object good.
                Some(_) => self.fetch_piece(&piece, traffic).await?,
                None => None,
            };
            match wrong.as_deref() {
                Some([]) => Ok(()),
                Some([digest, ..]) => {
                    self.put_away(&Name::new(Shelf::Pack, piece.pack)).await?;
                    Err(self.damaged(digest, "damaged"))
                }
                None => Err(self.damaged(&piece.files[0].0, "missing")),
            }
        };
        stream::iter(pieces(&index.head.packs, places).into_iter().map(fetch))
            .buffer_unordered(NARROW)
            .try_collect()
            .await
    }

    /// Fetches a piece of a pack. Returns the files whose bytes are wrong, or none where the pack is gone.
    async fn fetch_piece(
        &self,
        piece: &Piece,
        traffic: &Traffic,
    ) -> Result<Option<Vec<Digest>>, StoreError> {
        let size = piece.range.end - piece.range.start;
        let _memory = self.memory(size).await?;
        let name = Name::new(Shelf::Pack, piece.pack);
        let bytes = match self.bucket.get_range(&name.text(), piece.range.clone()).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(None),
            Err(error) => {
                // A pack that was cut short has no such range.
                let size = self.bucket.head(&name.text()).await?.map(|meta| meta.size);
                if size == Some(piece.size) {
                    return Err(error);
                }
                return Ok(size.map(|_| piece.files.iter().map(|(digest, _)| *digest).collect()));
            }
        };
        traffic.receive(size);
        let at = |byte: u64| usize::try_from(byte - piece.range.start).unwrap_or(usize::MAX);
        let slices = piece
            .files
            .iter()
            .map(|(digest, range)| (*digest, bytes.slice(at(range.start)..at(range.end))));
        self.cache.keep_slices(slices.collect()).await.map(Some)
    }

    async fn keep_right(&self, slices: Vec<(Digest, Bytes)>) -> Result<(), StoreError> {
        if slices.is_empty() {
            return Ok(());
        }
        match self.cache.keep_slices(slices).await?.first() {
            Some(digest) => Err(self.damaged(digest, "damaged")),
            None => Ok(()),
        }
    }

    /// Puts a damaged object out of reach, so that nobody uses it and the next one stores it again. One that is not too large is read
    /// once more before that: perhaps the way was bad, or somebody has stored the right one since.
    pub(super) async fn put_away(&self, name: &Name) -> Result<(), StoreError> {
        self.known.forget();
        if self.read_only {
            return Ok(());
        }
        let text = name.text();
        match self.bucket.head(&text).await? {
            Some(meta) if meta.size <= LARGEST => match self.bucket.get(&text).await? {
                Some(object) if !is_right(name, &object.bytes) => self.quarantine(name).await,
                _ => Ok(()),
            },
            Some(_) => self.bucket.remove(&[text]).await,
            None => Ok(()),
        }
    }

    /// Moves a small object to where nobody uses it and people can look at it.
    pub(super) async fn quarantine(&self, name: &Name) -> Result<(), StoreError> {
        self.known.forget();
        if self.read_only {
            return Ok(());
        }
        let text = name.text();
        if let Some(object) = self.bucket.get(&text).await? {
            let away = format!("{QUARANTINE}{text}");
            self.bucket.put(&away, object.bytes, Condition::Always).await?;
        }
        self.bucket.remove(&[text]).await
    }
}

/// Whether an object holds what its name says.
fn is_right(name: &Name, bytes: &Bytes) -> bool {
    match name.shelf {
        Shelf::Blob | Shelf::Pack => Digest::of(bytes) == name.digest,
        Shelf::Tree => Digest::of(bytes) == name.digest && artifact::decode(bytes).is_ok(),
        Shelf::Packed => Index::read(bytes)
            .is_some_and(|index| index.head.packs.iter().all(|(_, size)| *size <= LARGEST)),
        Shelf::Record => {
            read_record(bytes, &name.digest).is_some_and(|it| it.parts.key() == name.digest)
        }
    }
}
