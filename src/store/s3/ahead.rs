//! Reading ahead: keys hang on each other, so that a run asks for them one after the other, and each answer takes a round trip or three.
//!
//! So each process notes the keys it finds, in a file beside the cache; and when the first of them is asked for again, all of them are asked for
//! at once. Every answer is a new one of the bucket's: the notes only say what will be asked. They may be lost at any time.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fs_err::File;
use tokio::sync::OnceCell;

use super::{clock, locked};
use crate::digest::{Digest, Key};
use crate::store::Record;

/// Files with notes that are kept.
const MOST_FILES: usize = 16;
/// Keys that are noted per process.
const MOST_KEYS: usize = 10_000;
/// What was read ahead is good for so long.
const GOOD: Duration = Duration::from_mins(1);

type Answer = Arc<OnceCell<(Instant, Option<Box<Record>>)>>;

/// The notes of this machine about one bucket.
pub(super) struct Ahead {
    folder: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What earlier processes noted, newest first; none: not read yet.
    earlier: Option<Vec<Vec<Key>>>,
    /// What is read ahead, or was.
    answers: HashMap<Key, Answer>,
    noted: HashSet<Key>,
    file: Option<File>,
}

impl Ahead {
    /// The notes about the bucket of this name.
    pub(super) fn new(cache: &Path, place: &str) -> Self {
        let folder = cache.join("ahead").join(Digest::of(place.as_bytes()).short());
        Self { folder, state: Mutex::default() }
    }

    /// Whether the key is read ahead, and turned out to have a record: each answer is given once.
    pub(super) async fn found<F>(&self, key: &Key, look: impl FnOnce() -> F) -> Option<Box<Record>>
    where
        F: Future<Output = Option<Box<Record>>>,
    {
        let answer = locked(&self.state).answers.remove(key)?;
        let (at, record) =
            answer.get_or_init(|| async { (Instant::now(), look().await) }).await.clone();
        record.filter(|_| at.elapsed() < GOOD)
    }

    /// Reads a key ahead, unless somebody was faster.
    pub(super) async fn read<F>(&self, key: &Key, look: impl FnOnce() -> F)
    where
        F: Future<Output = Option<Box<Record>>>,
    {
        let answer = locked(&self.state).answers.get(key).cloned();
        if let Some(answer) = answer {
            answer.get_or_init(|| async { (Instant::now(), look().await) }).await;
        }
    }

    /// The keys that will be asked for next, if this one was asked for together with others before. They are to be read.
    pub(super) fn start(&self, key: &Key) -> Vec<Key> {
        let mut state = locked(&self.state);
        let State { earlier, answers, noted, .. } = &mut *state;
        // Notes that cannot be read are no notes.
        let earlier = earlier.get_or_insert_with(|| self.notes().unwrap_or_default());
        let Some(at) = earlier.iter().position(|keys| keys.contains(key)) else {
            return Vec::new();
        };
        let mut keys = earlier.remove(at);
        keys.retain(|other| other != key && !noted.contains(other) && !answers.contains_key(other));
        answers.extend(keys.iter().map(|key| (*key, Answer::default())));
        keys
    }

    /// The key has a record.
    pub(super) fn note(&self, key: &Key) {
        let mut state = locked(&self.state);
        if state.noted.len() >= MOST_KEYS || !state.noted.insert(*key) {
            return;
        }
        let file = match state.file.take() {
            Some(file) => Some(file),
            None => self.new_file().ok(),
        };
        state.file = file.and_then(|mut file| {
            file.write_all(format!("{}\n", key.hex()).as_bytes()).ok()?;
            Some(file)
        });
    }

    /// What was read of this key is not true any more.
    pub(super) fn forget(&self, key: &Key) {
        locked(&self.state).answers.remove(key);
    }

    fn new_file(&self) -> std::io::Result<File> {
        fs_err::create_dir_all(&self.folder)?;
        let random = RandomState::new().hash_one(0);
        let name = format!("{:015}-{random:016x}", clock::now());
        File::options().create_new(true).append(true).open(self.folder.join(name))
    }

    /// Newest first; those that are too many are removed. Their names sort by time.
    fn notes(&self) -> std::io::Result<Vec<Vec<Key>>> {
        let mut files: Vec<PathBuf> = fs_err::read_dir(&self.folder)?
            .map(|item| item.map(|item| item.path()))
            .collect::<Result<_, _>>()?;
        files.sort_unstable_by(|a, b| b.cmp(a));
        for surplus in files.iter().skip(MOST_FILES) {
            fs_err::remove_file(surplus).ok();
        }
        files.truncate(MOST_FILES);
        let keys = |text: String| {
            text.lines().filter_map(|line| format!("b3:{line}").parse().ok()).collect()
        };
        Ok(files.iter().filter_map(|file| fs_err::read_to_string(file).ok()).map(keys).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> [Key; 4] {
        [b"a", b"b", b"c", b"d"].map(|text| Digest::of(text))
    }

    #[tokio::test]
    async fn what_was_asked_together_is_read_together() {
        let cache = tempfile::tempdir().unwrap();
        let open = || Ahead::new(cache.path(), "s3://bucket");
        let [a, b, c, d] = keys();
        let first = open();
        assert!(first.start(&a).is_empty());
        for key in [a, b, c, b] {
            first.note(&key);
        }
        let second = open();
        assert!(second.start(&d).is_empty());
        assert_eq!(second.start(&b), [a, c]);
        assert!(second.start(&b).is_empty());
        second.read(&a, || async { None }).await;
        // Asked once: then it is asked anew.
        let none = || async { panic!("is known to have none") };
        assert!(second.found(&a, none).await.is_none());
        second.forget(&c);
        assert!(second.found(&c, || async { panic!("is not read ahead") }).await.is_none());
        assert!(Ahead::new(cache.path(), "s3://other").start(&a).is_empty());
    }

    #[test]
    fn old_notes_go() {
        let cache = tempfile::tempdir().unwrap();
        for _ in 0..MOST_FILES + 3 {
            Ahead::new(cache.path(), "x").note(&keys()[0]);
        }
        let ahead = Ahead::new(cache.path(), "x");
        assert_eq!(ahead.notes().unwrap().len(), MOST_FILES);
        assert_eq!(fs_err::read_dir(&ahead.folder).unwrap().count(), MOST_FILES);
    }
}
