//! `store check`: reads everything, names what is wrong with its name and the mend, and puts damaged objects out of reach.

use std::collections::{HashMap, HashSet};

use blake3::Hasher;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::names::{Name, Shelf};
use super::pack::{File, Files, Index, LARGEST};
use super::{NARROW, Shared, WIDE};
use crate::digest::Digest;
use crate::store::{CheckReport, Record, StoreError, artifact};

/// What mends everything that only lost its content: nothing else depends on where it came from.
const RUNS_AGAIN: &str = "the stage that makes it runs again at the next `apply`";
/// Bytes of a large object that are read at once.
const PIECE: u64 = 8 << 20;

/// What turned out to be sound.
#[derive(Default)]
struct Sound {
    blobs: HashMap<Digest, u64>,
    packs: HashSet<Digest>,
    /// Indexes by tree: their packs.
    indexes: HashMap<Digest, Vec<File>>,
    trees: HashSet<Digest>,
    /// Of packs that are not sound, the files in there that are not.
    damaged: HashMap<Digest, Vec<Digest>>,
}

/// How an object turned out.
enum Read {
    Right,
    Wrong,
    /// Collected meanwhile.
    Gone,
}

impl Shared {
    /// What things are made of first, so that artifacts and records are compared with what is sound. The cache comes last.
    pub(super) async fn check(
        &self,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<CheckReport, StoreError> {
        self.known.forget();
        let mut report = CheckReport::default();
        let mut sound = Sound::default();
        self.check_indexes(&mut sound, &mut report).await?;
        for kind in [Shelf::Blob, Shelf::Pack] {
            let objects = self.objects(kind).await?;
            let check = |(digest, size): File| async move {
                let read = self.read_all(&Name::new(kind, digest), size).await?;
                Ok::<_, StoreError>(((digest, size), read))
            };
            let mut checked = stream::iter(objects.into_iter().map(check)).buffer_unordered(NARROW);
            while let Some((object, read)) = checked.try_next().await? {
                self.checked(kind, object, &read, &mut sound, &mut report).await?;
                progress(object.1);
            }
        }
        self.check_trees(&mut sound, &mut report).await?;
        self.check_records(&sound, &mut report).await?;
        let cache = self.cache.check_cache().await?;
        report.broken.extend(cache.broken);
        Ok(report)
    }

    async fn objects(&self, kind: Shelf) -> Result<Vec<File>, StoreError> {
        let mut objects = Vec::new();
        let mut look = |listed: super::bucket::Listed| {
            objects.extend(Name::digest_of(kind, &listed.name).map(|digest| (digest, listed.size)));
        };
        self.bucket.list(kind.prefix(), &mut look).await?;
        Ok(objects)
    }

    /// Compares an object with its name.
    async fn read_all(&self, name: &Name, size: u64) -> Result<Read, StoreError> {
        let text = name.text();
        let mut hasher = Hasher::new();
        let mut at = 0;
        while at < size {
            let end = (at + PIECE).min(size);
            let _memory = self.memory(end - at).await?;
            let Some(bytes) = self.bucket.get_range(&text, at..end).await? else {
                return Ok(Read::Gone);
            };
            hasher.update(&bytes);
            at = end;
        }
        let right = Digest::from(hasher.finalize()) == name.digest;
        Ok(if right { Read::Right } else { Read::Wrong })
    }

    async fn checked(
        &self,
        kind: Shelf,
        (digest, size): File,
        read: &Read,
        sound: &mut Sound,
        report: &mut CheckReport,
    ) -> Result<(), StoreError> {
        if matches!(read, Read::Gone) {
            return Ok(());
        }
        report.objects += 1;
        report.bytes += size;
        match (read, kind) {
            (Read::Right, Shelf::Pack) => {
                sound.packs.insert(digest);
            }
            (Read::Right, _) => {
                sound.blobs.insert(digest, size);
            }
            (_, Shelf::Pack) => {
                let files = self.damaged_in(&digest, sound).await?;
                let what = format!("does not hold what its name says{}", named(&files));
                sound.damaged.insert(digest, files);
                self.put_away_and_tell(&Name::new(kind, digest), &what, report).await?;
            }
            _ => {
                let what = "does not hold what its name says";
                self.put_away_and_tell(&Name::new(kind, digest), what, report).await?;
            }
        }
        Ok(())
    }

    /// The files in a damaged pack that are damaged themselves, as far as an index tells.
    async fn damaged_in(&self, pack: &Digest, sound: &Sound) -> Result<Vec<Digest>, StoreError> {
        let tree = sound.indexes.iter().find(|(_, packs)| packs.iter().any(|(it, _)| it == pack));
        let Some((tree, _)) = tree else { return Ok(Vec::new()) };
        let name = Name::new(Shelf::Pack, *pack).text();
        let (Some(index), Some(object)) = (self.index(tree).await?, self.bucket.get(&name).await?)
        else {
            return Ok(Vec::new());
        };
        let Some(number) = index.head.packs.iter().position(|(it, _)| it == pack) else {
            return Ok(Vec::new());
        };
        let is_wrong = |range: std::ops::Range<u64>, digest: &Digest| {
            let at = |byte| usize::try_from(byte).unwrap_or(usize::MAX);
            let bytes = object.bytes.get(at(range.start)..at(range.end));
            bytes.is_none_or(|bytes| Digest::of(bytes) != *digest)
        };
        Ok(index
            .files()
            .filter(|(digest, place)| place.pack == number && is_wrong(place.range(), digest))
            .map(|(digest, _)| digest)
            .collect())
    }

    async fn check_indexes(
        &self,
        sound: &mut Sound,
        report: &mut CheckReport,
    ) -> Result<(), StoreError> {
        let read = |(tree, size): File| async move {
            let name = Name::new(Shelf::Packed, tree);
            let object = self.bucket.get(&name.text()).await?;
            let index = object.map(|object| Index::read(&object.bytes).map(|index| index.head));
            Ok::<_, StoreError>((name, size, index))
        };
        let all = self.objects(Shelf::Packed).await?;
        let mut all = stream::iter(all.into_iter().map(read)).buffer_unordered(NARROW);
        while let Some((name, size, index)) = all.try_next().await? {
            let Some(head) = index else { continue };
            report.objects += 1;
            report.bytes += size;
            match head {
                Some(head) if head.packs.iter().all(|(_, size)| *size <= LARGEST) => {
                    sound.indexes.insert(name.digest, head.packs);
                }
                _ => self.put_away_and_tell(&name, "is no index of packs", report).await?,
            }
        }
        Ok(())
    }

    async fn check_trees(
        &self,
        sound: &mut Sound,
        report: &mut CheckReport,
    ) -> Result<(), StoreError> {
        let read = |(tree, _): File| async move {
            let name = Name::new(Shelf::Tree, tree);
            let object = self.bucket.get(&name.text()).await?;
            Ok::<_, StoreError>((name, object.map(|object| object.bytes)))
        };
        let all = self.objects(Shelf::Tree).await?;
        let mut all = stream::iter(all.into_iter().map(read)).buffer_unordered(WIDE);
        while let Some((name, bytes)) = all.try_next().await? {
            let Some(bytes) = bytes else { continue };
            report.objects += 1;
            report.bytes += bytes.len() as u64;
            match artifact::decode(&bytes) {
                Ok(entries) if Digest::of(&bytes) == name.digest => {
                    sound.trees.insert(name.digest);
                    for lacking in self.lacks(&name.digest, &Files::of(&entries), sound) {
                        report.broken.push(format!(
                            "{lacking}, which the artifact `{}` needs, is not there: {RUNS_AGAIN}",
                            name.digest
                        ));
                    }
                }
                _ => {
                    let what = "does not hold what its name says";
                    self.put_away_and_tell(&name, what, report).await?;
                }
            }
        }
        Ok(())
    }

    /// What an artifact lacks.
    fn lacks(&self, tree: &Digest, files: &Files, sound: &Sound) -> Vec<String> {
        let mut lacking: Vec<String> = files
            .loose
            .iter()
            .filter(|(digest, size)| sound.blobs.get(digest) != Some(size))
            .map(|(digest, _)| format!("`{}`", self.url(&Name::new(Shelf::Blob, *digest))))
            .collect();
        if files.small.is_empty() {
            return lacking;
        }
        match sound.indexes.get(tree) {
            None => lacking.push(format!("`{}`", self.url(&Name::new(Shelf::Packed, *tree)))),
            Some(packs) => {
                for (pack, _) in packs.iter().filter(|(pack, _)| !sound.packs.contains(pack)) {
                    let url = self.url(&Name::new(Shelf::Pack, *pack));
                    let files = sound.damaged.get(pack).map(|files| named(files));
                    lacking.push(format!("`{url}`{}", files.unwrap_or_default()));
                }
            }
        }
        lacking
    }

    async fn check_records(
        &self,
        sound: &Sound,
        report: &mut CheckReport,
    ) -> Result<(), StoreError> {
        let read = |(key, _): File| async move {
            let name = Name::new(Shelf::Record, key);
            let there = self.bucket.get(&name.text()).await?;
            let record: Option<Option<Record>> =
                there.map(|object| super::record::read_record(&object.bytes, &key));
            Ok::<_, StoreError>((name, record))
        };
        let all = self.objects(Shelf::Record).await?;
        let mut all = stream::iter(all.into_iter().map(read)).buffer_unordered(WIDE);
        while let Some((name, record)) = all.try_next().await? {
            let Some(record) = record else { continue };
            report.objects += 1;
            let Some(record) = record else {
                let what = "is no record that this version can read";
                self.put_away_and_tell(&name, what, report).await?;
                continue;
            };
            if record.parts.key() != name.digest {
                let what = "does not hold the parts of its key";
                self.put_away_and_tell(&name, what, report).await?;
                continue;
            }
            for (output, artifact) in &record.outputs {
                if !sound.trees.contains(artifact) {
                    report.broken.push(format!(
                        "`{}` names the artifact `{artifact}` as output `{output}`, which is not there: {RUNS_AGAIN}",
                        self.url(&name)
                    ));
                }
            }
        }
        Ok(())
    }

    async fn put_away_and_tell(
        &self,
        name: &Name,
        what: &str,
        report: &mut CheckReport,
    ) -> Result<(), StoreError> {
        let url = self.url(name);
        let line = if self.read_only {
            format!("`{url}` {what}: run `flowrun store check` where the store may be written")
        } else {
            self.put_away(name).await?;
            format!(
                "`{url}` {what}: moved to `quarantine/`, or removed if it is large; {RUNS_AGAIN}"
            )
        };
        report.broken.push(line);
        Ok(())
    }

    fn url(&self, name: &Name) -> String {
        format!("{}/{}", self.bucket.place_name(), name.text())
    }
}

/// The first few of these files.
fn named(files: &[Digest]) -> String {
    const MOST: usize = 3;
    if files.is_empty() {
        return String::new();
    }
    let first: Vec<String> = files.iter().take(MOST).map(|digest| format!("`{digest}`")).collect();
    let more = files.len().saturating_sub(MOST);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!(" (damaged in it: {}{more})", first.join(", "))
}
