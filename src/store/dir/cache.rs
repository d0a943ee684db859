//! The folder as the cache in front of a store elsewhere: what arrives is compared with its digest before it gets its name.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err::File;

use super::DirStore;
use super::folder::{Folder, ObjectKind, name_new};
use super::object::{Blob, made_in};
use crate::digest::Digest;
use crate::store::hash::hash_file;
use crate::store::inspect::is_absent;
use crate::store::{CheckReport, Entry, StoreError, artifact};

/// Digest and size of a file.
type Wanted = (Digest, u64);

impl DirStore {
    /// Where it lies.
    pub(in crate::store) fn root(&self) -> &Path {
        self.folder.root()
    }

    /// A name for a new file that nobody else uses, on the filesystem of the store. What a crash leaves there, gc removes.
    pub(in crate::store) fn unfinished(&self) -> PathBuf {
        self.folder.unfinished()
    }

    /// Where a blob lies, if it is here.
    pub(in crate::store) fn blob(&self, digest: &Digest) -> PathBuf {
        self.folder.object(ObjectKind::Blob, digest)
    }

    /// Those of these files that are not here whole; the others stay for a day at least.
    pub(in crate::store) async fn lacking(
        &self,
        files: Vec<Wanted>,
    ) -> Result<Vec<Wanted>, StoreError> {
        if files.len() <= super::MANY_ENTRIES {
            return self.folder.lacking(&files);
        }
        self.away(move |folder| folder.lacking(&files)).await
    }

    /// Compares everything with its digest, and puts what is damaged out of reach. Blobs that are not here are elsewhere.
    pub(in crate::store) async fn check_cache(&self) -> Result<CheckReport, StoreError> {
        self.away(Folder::check_cache).await
    }

    /// The manifest of an artifact, if it is here.
    pub(in crate::store) fn manifest(
        &self,
        artifact: &Digest,
    ) -> Result<Option<Arc<[Entry]>>, StoreError> {
        match self.folder.manifest(artifact) {
            Ok(entries) => Ok(Some(entries)),
            Err(StoreError::Damaged { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The bytes of a manifest that is here.
    pub(in crate::store) fn manifest_bytes(&self, artifact: &Digest) -> io::Result<Vec<u8>> {
        fs_err::read(self.folder.object(ObjectKind::Tree, artifact))
    }

    /// Keeps a manifest that came from elsewhere. None: it is not the one of this artifact, or none at all.
    pub(in crate::store) fn keep_manifest(
        &self,
        artifact: &Digest,
        bytes: &[u8],
    ) -> Result<Option<Arc<[Entry]>>, StoreError> {
        if Digest::of(bytes) != *artifact || artifact::decode(bytes).is_err() {
            return Ok(None);
        }
        self.folder.put_manifest(bytes)?;
        self.folder.manifest(artifact).map(Some)
    }

    /// Keeps a file that came from elsewhere and lies at a name of [`DirStore::unfinished`], which is gone afterwards.
    /// `false`: its bytes are others than these.
    pub(in crate::store) async fn keep_file(
        &self,
        unfinished: PathBuf,
        (digest, size): Wanted,
    ) -> Result<bool, StoreError> {
        self.away(move |folder| {
            let kept = folder.keep_file(&unfinished, &digest, size);
            // Kept, it has another name by now.
            fs_err::remove_file(&unfinished).ok();
            Ok(kept?)
        })
        .await
    }

    /// Keeps files whose bytes came together. Returns those whose bytes are others than these.
    pub(in crate::store) async fn keep_slices(
        &self,
        slices: Vec<(Digest, bytes::Bytes)>,
    ) -> Result<Vec<Digest>, StoreError> {
        self.away(move |folder| {
            let mut wrong = Vec::new();
            for (digest, bytes) in slices {
                if !folder.keep_bytes(&digest, &bytes)? {
                    wrong.push(digest);
                }
            }
            Ok(wrong)
        })
        .await
    }
}

impl Folder {
    fn lacking(&self, files: &[Wanted]) -> Result<Vec<Wanted>, StoreError> {
        let (mut lacking, mut old) = (Vec::new(), Vec::new());
        for (digest, size) in files {
            match self.blob(digest, *size)? {
                Blob::Good { old: false } => {}
                Blob::Good { old: true } => {
                    old.push((*digest, self.object(ObjectKind::Blob, digest)));
                }
                Blob::Missing | Blob::Changed => lacking.push((*digest, *size)),
            }
        }
        let gone = self.renew(old)?;
        lacking.extend(files.iter().filter(|(digest, _)| gone.contains(digest)));
        Ok(lacking)
    }

    fn check_cache(&self) -> Result<CheckReport, StoreError> {
        let mut report = CheckReport::default();
        for (kind, part) in [ObjectKind::Blob, ObjectKind::Tree]
            .into_iter()
            .flat_map(|kind| (0..=u8::MAX).map(move |part| (kind, part)))
        {
            for (digest, path) in self.part(kind, part)? {
                let size = match fs_err::symlink_metadata(&path) {
                    Ok(metadata) => metadata.len(),
                    // Collected meanwhile.
                    Err(error) if is_absent(&error) => continue,
                    Err(error) => return Err(error.into()),
                };
                report.objects += 1;
                report.bytes += size;
                let found = File::open(&path).and_then(|file| hash_file(&file, size));
                if !matches!(found, Ok(found) if found == digest) && self.put_away(&path)? {
                    let path = path.display();
                    report.broken.push(format!(
                        "`{path}` does not hold what its name says: moved to `{}`; it is fetched again when it is needed",
                        self.quarantine().display()
                    ));
                }
            }
        }
        Ok(report)
    }

    fn keep_file(&self, unfinished: &Path, digest: &Digest, size: u64) -> io::Result<bool> {
        let file = File::open(unfinished)?;
        match hash_file(&file, size) {
            Ok(found) if found == *digest => {}
            Ok(_) => return Ok(false),
            // Of another size.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(false),
            Err(error) => return Err(error),
        }
        file.set_permissions(std::fs::Permissions::from_mode(0o444))?;
        self.name_blob(&file, unfinished, digest)?;
        Ok(true)
    }

    fn keep_bytes(&self, digest: &Digest, bytes: &[u8]) -> io::Result<bool> {
        if Digest::of(bytes) != *digest {
            return Ok(false);
        }
        let (unfinished, file) = self.make_unfinished(bytes)?;
        let named = self.name_blob(&file, &unfinished, digest);
        if !matches!(named, Ok(true)) {
            fs_err::remove_file(&unfinished).ok();
        }
        named.map(|_| true)
    }

    /// `false`: a blob with this name was there already.
    fn name_blob(&self, file: &File, unfinished: &Path, digest: &Digest) -> io::Result<bool> {
        file.set_modified(made_in(self.boot()))?;
        let named = name_new(unfinished, &self.object(ObjectKind::Blob, digest))?;
        self.synced.made(*digest);
        Ok(named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> (tempfile::TempDir, DirStore) {
        let place = tempfile::tempdir().unwrap();
        let store = DirStore::open(&place.path().join("store"), place.path()).unwrap();
        (place, store)
    }

    #[tokio::test]
    async fn only_the_right_bytes_get_a_name() {
        let (_place, cache) = cache();
        let good = (Digest::of(b"good"), 4);
        let path = cache.unfinished();
        for wrong in ["bad!", "go", "goodbye"] {
            fs_err::write(&path, wrong).unwrap();
            assert!(!cache.keep_file(path.clone(), good).await.unwrap());
            assert!(!path.exists());
        }
        let slices = vec![(good.0, "evil".into()), (Digest::of(b"two"), "two".into())];
        assert_eq!(cache.keep_slices(slices).await.unwrap(), [good.0]);
        assert_eq!(cache.lacking(vec![good, (Digest::of(b"two"), 3)]).await.unwrap(), [good]);
        for _ in 0..2 {
            fs_err::write(&path, "good").unwrap();
            assert!(cache.keep_file(path.clone(), good).await.unwrap());
            assert!(!path.exists());
        }
        assert!(cache.lacking(vec![good]).await.unwrap().is_empty());
    }

    #[test]
    fn only_the_right_manifest_is_kept() {
        let (_place, cache) = cache();
        let entry = Entry { path: "a".to_owned(), kind: crate::store::EntryKind::Folder };
        let bytes = artifact::encode(&[entry]).unwrap();
        let digest = Digest::of(&bytes);
        assert!(cache.manifest(&digest).unwrap().is_none());
        assert!(cache.keep_manifest(&digest, b"").unwrap().is_none());
        assert_eq!(cache.keep_manifest(&digest, &bytes).unwrap().unwrap().len(), 1);
        assert_eq!(cache.manifest_bytes(&digest).unwrap(), bytes);
        // Its digest is right, and it would be placed elsewhere.
        let hostile = Entry { path: "../a".to_owned(), kind: crate::store::EntryKind::Folder };
        let hostile = artifact::encode(&[hostile]).unwrap();
        assert!(cache.keep_manifest(&Digest::of(&hostile), &hostile).unwrap().is_none());
    }
}
