//! Bringing an artifact from the cache into the bucket: what is there is asked for first, and never sent again.

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::bucket::Condition;
use super::names::{Name, Shelf};
use super::pack::{File, Files, Index, divide};
use super::sweeping::MOST_LOOKS;
use super::{NARROW, Shared};
use crate::digest::Digest;
use crate::store::dir::DirStore;
use crate::store::{StoreError, Traffic, artifact};

impl Shared {
    /// Plan: look at what is there; send the blobs that are not, and the packs; then the index of the packs; last the manifest, which makes
    /// the artifact one. Whoever is killed on the way leaves objects that nothing names, and that the next one finds. Where a gc was
    /// at work meanwhile, everything is looked at once more.
    pub(super) async fn send(
        &self,
        artifact: &Digest,
        traffic: &Traffic,
    ) -> Result<(), StoreError> {
        let tree = Name::new(Shelf::Tree, *artifact);
        let Some(entries) = self.cache.manifest(artifact)? else {
            return Err(self.damaged(artifact, "missing"));
        };
        let files = Files::of(&entries);
        let all = artifact::bytes(&entries);
        let mut sent = 0;
        for _ in 0..MOST_LOOKS {
            if self.known.has(&tree) {
                break;
            }
            let before = self.before_writing().await?;
            sent += self.send_lacking(artifact, &files, traffic).await?;
            if !self.may_be_swept(&before).await? {
                self.known.saw(tree);
                break;
            }
            self.known.forget();
        }
        traffic.spare(all.saturating_sub(sent));
        Ok(())
    }

    async fn send_lacking(
        &self,
        artifact: &Digest,
        files: &Files,
        traffic: &Traffic,
    ) -> Result<u64, StoreError> {
        let survey = self.survey(artifact, files).await?;
        let missing = |shelf, digest: &Digest| survey.absent.contains(&Name::new(shelf, *digest));
        let blobs: Vec<File> = files
            .loose
            .iter()
            .filter(|(digest, _)| missing(Shelf::Blob, digest))
            .copied()
            .collect();
        let packs_lack =
            survey.packs.is_none() || survey.absent.iter().any(|name| name.shelf == Shelf::Pack);
        let small = if packs_lack { bytes_of(&files.small) } else { 0 };
        traffic.expect_to_send(bytes_of(&blobs) + small);
        let (loose, packed) = tokio::try_join!(self.send_blobs(blobs, traffic), async {
            if files.small.is_empty() || !packs_lack {
                return Ok(0);
            }
            self.send_packed(artifact, &files.small, traffic).await
        })
        .inspect_err(|_| traffic.expect_no_more())?;
        if !survey.tree {
            let manifest = self.cache.manifest_bytes(artifact)?;
            let name = Name::new(Shelf::Tree, *artifact).text();
            self.bucket.put(&name, manifest.into(), Condition::Always).await?;
            self.sweepers.wrote();
        }
        Ok(loose + packed)
    }

    /// Returns the bytes that were sent, as the methods below do.
    async fn send_blobs(&self, blobs: Vec<File>, traffic: &Traffic) -> Result<u64, StoreError> {
        let bytes = bytes_of(&blobs);
        let send = |file: File| self.send_blob(file, traffic);
        let sending = stream::iter(blobs.into_iter().map(send)).buffer_unordered(NARROW);
        sending.try_collect::<()>().await?;
        Ok(bytes)
    }

    async fn send_blob(&self, (digest, size): File, traffic: &Traffic) -> Result<(), StoreError> {
        let name = Name::new(Shelf::Blob, digest);
        let path = self.cache.blob(&digest);
        let moved = |bytes| traffic.send(bytes);
        self.bucket.upload(&name.text(), &path, size, &moved).await?;
        self.sweepers.wrote();
        // Somebody who kept the file open may have written into it meanwhile.
        if !self.cache.lacking(vec![(digest, size)]).await?.is_empty() {
            self.bucket.remove(&[name.text()]).await?;
            return Err(self.cache_damaged(&digest));
        }
        self.known.saw(name);
        Ok(())
    }

    fn cache_damaged(&self, digest: &Digest) -> StoreError {
        let place = self.cache.root().display().to_string();
        StoreError::Damaged { digest: *digest, what: "damaged", place }
    }

    /// Sends the packs that are not there, then their index.
    async fn send_packed(
        &self,
        artifact: &Digest,
        small: &[File],
        traffic: &Traffic,
    ) -> Result<u64, StoreError> {
        let divided = divide(small);
        let owned: Vec<Vec<File>> = divided.iter().map(|files| files.to_vec()).collect();
        let send = |files: Vec<File>| self.send_pack(files, traffic);
        let sending = stream::iter(owned.into_iter().map(send)).buffered(NARROW);
        let done: Vec<(Digest, u64)> = sending.try_collect().await?;
        let bytes = done.iter().map(|(_, bytes)| bytes).sum();
        let packs: Vec<(Digest, &[File])> =
            done.into_iter().map(|(digest, _)| digest).zip(divided).collect();
        let name = Name::new(Shelf::Packed, *artifact);
        self.bucket.put(&name.text(), Index::write(&packs).into(), Condition::Always).await?;
        self.sweepers.wrote();
        Ok(bytes)
    }

    async fn send_pack(
        &self,
        files: Vec<File>,
        traffic: &Traffic,
    ) -> Result<(Digest, u64), StoreError> {
        let size: u64 = files.iter().map(|(_, size)| size).sum();
        let _memory = self.memory(size).await?;
        let cache = self.cache.clone();
        let read = tokio::task::spawn_blocking(move || read_pack(&cache, &files)).await;
        let bytes = match read.map_err(std::io::Error::other)?? {
            Ok(bytes) => bytes,
            Err(digest) => return Err(self.cache_damaged(&digest)),
        };
        let digest = Digest::of(&bytes);
        let name = Name::new(Shelf::Pack, digest);
        if self.absent(vec![(name, size)]).await?.is_empty() {
            traffic.need_not_send(size);
            return Ok((digest, 0));
        }
        self.bucket.put(&name.text(), bytes, Condition::Always).await?;
        self.sweepers.wrote();
        traffic.send(size);
        self.known.saw(name);
        Ok((digest, size))
    }
}

fn bytes_of(files: &[File]) -> u64 {
    files.iter().map(|(_, size)| size).sum()
}

/// The bytes of these files, or the first one whose bytes are not what they should be.
fn read_pack(cache: &DirStore, files: &[File]) -> std::io::Result<Result<Bytes, Digest>> {
    let size: u64 = files.iter().map(|(_, size)| size).sum();
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    for (digest, _) in files {
        let file = fs_err::read(cache.blob(digest))?;
        if Digest::of(&file) != *digest {
            return Ok(Err(*digest));
        }
        bytes.extend_from_slice(&file);
    }
    Ok(Ok(bytes.into()))
}
