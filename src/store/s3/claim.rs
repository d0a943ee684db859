//! Claims: who is computing a key. On this machine the cache's file lock says so; between machines an object that its holder keeps writing.
//!
//! Nobody compares clocks: whoever waits watches the object, and when it did not change for a while its holder is dead and it may be taken, by a
//! write that only one can win. A holder of this machine that has no file lock any more is dead at once. A claim that is given back
//! stays as an object that says so, since an object cannot be removed on a condition everywhere; gc removes it. Losing a claim
//! costs work, never correctness.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::bucket::{Condition, Put};
use super::{Shared, locked, names};
use crate::digest::Key;
use crate::store::{Claim, Store, StoreError};

/// Between two writes of a held claim.
const BEAT: Duration = Duration::from_secs(10);
/// A claim that was not written for so long has no holder any more.
const DEAD: Duration = Duration::from_secs(45);
/// How often it is tried while others write the same claim.
const MOST_TRIES: usize = 4;

/// What this process knows of claims.
pub(super) struct Claims {
    /// Holds the name of this cache.
    file: PathBuf,
    /// Claims of others: what they were when they were seen first, and when that was.
    watched: Mutex<HashMap<Key, (String, Instant)>>,
    /// Claims of this process.
    held: Mutex<HashMap<Key, CancellationToken>>,
}

/// What the object of a claim says.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Held {
    /// For people.
    holder: String,
    /// The name of the cache whose file lock the holder has.
    cache: String,
    /// Tells this claim from others of the same holder.
    nonce: u64,
    /// Counts up, so that each write is another one.
    beat: u64,
    /// It was given back.
    #[serde(default)]
    free: bool,
}

impl Claims {
    pub(super) fn new(cache: &Path) -> Self {
        let file = cache.join("name");
        Self { file, watched: Mutex::default(), held: Mutex::default() }
    }

    /// Gives a claim of this process back, before its holder does.
    pub(super) fn release(&self, key: &Key) {
        if let Some(claim) = locked(&self.held).get(key) {
            claim.cancel();
        }
    }

    /// The name of this cache, which it keeps.
    fn cache(&self) -> std::io::Result<String> {
        if let Ok(name) = fs_err::read_to_string(&self.file)
            && !name.is_empty()
        {
            return Ok(name);
        }
        let name = format!("{:016x}", random());
        let folder = self.file.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        std::io::Write::write_all(&mut file, name.as_bytes())?;
        match file.persist_noclobber(&self.file) {
            Ok(_) => Ok(name),
            Err(_) => fs_err::read_to_string(&self.file),
        }
    }

    /// Whether the holder of a claim is gone.
    fn is_free(&self, key: &Key, held: Option<&Held>, etag: &str, cache: &str) -> bool {
        if held.is_some_and(|held| held.free || held.cache == cache) {
            return true;
        }
        let mut watched = locked(&self.watched);
        let (seen, since) =
            watched.entry(*key).or_insert_with(|| (etag.to_owned(), Instant::now()));
        if seen != etag {
            (*seen, *since) = (etag.to_owned(), Instant::now());
        }
        since.elapsed() >= DEAD
    }
}

impl Held {
    fn bytes(&self) -> std::io::Result<Bytes> {
        Ok(serde_json::to_vec(self)?.into())
    }
}

impl Shared {
    pub(super) async fn claim(
        shared: &Arc<Self>,
        key: &Key,
        holder: &str,
    ) -> Result<Result<Claim, String>, StoreError> {
        let here = match shared.cache.claim(key, holder).await? {
            Ok(claim) => claim,
            Err(holder) => return Ok(Err(holder)),
        };
        // Who may not write tells nobody, and keeps to those of this machine.
        if shared.read_only || !shared.bucket.is_conditional().await? {
            return Ok(Ok(here));
        }
        let cache = shared.claims.cache()?;
        let mine = Held {
            holder: holder.to_owned(),
            cache: cache.clone(),
            nonce: random(),
            beat: 0,
            free: false,
        };
        let name = names::claim(key);
        let mut taken_from: Option<String> = None;
        let mut by = "another run".to_owned();
        for _ in 0..MOST_TRIES {
            let condition = taken_from.as_deref().map_or(Condition::Absent, Condition::Matches);
            if let Put::Done { etag } = shared.bucket.put(&name, mine.bytes()?, condition).await? {
                let hold = shared.hold(key, mine, etag);
                return Ok(Ok(Claim { hold: Box::new((hold, here)) }));
            }
            taken_from = None;
            if let Some(object) = shared.bucket.get(&name).await? {
                let held: Option<Held> = serde_json::from_slice(&object.bytes).ok();
                if !shared.claims.is_free(key, held.as_ref(), &object.meta.etag, &cache) {
                    return Ok(Err(held.map_or(by, |held| held.holder)));
                }
                by = held.map_or(by, |held| held.holder);
                taken_from = Some(object.meta.etag);
            }
        }
        Ok(Err(by))
    }

    /// Keeps a claim that was just written until what is returned is dropped.
    fn hold(self: &Arc<Self>, key: &Key, held: Held, etag: String) -> impl Send + Sync + use<> {
        let token = CancellationToken::new();
        locked(&self.claims.watched).remove(key);
        locked(&self.claims.held).insert(*key, token.clone());
        let (shared, key, given_back) = (Arc::clone(self), *key, token.clone());
        tokio::spawn(async move {
            shared.beat(&key, held, etag, &given_back).await;
            // Unless the next claim of this process is there already.
            let mut all = locked(&shared.claims.held);
            if all.get(&key).is_some_and(CancellationToken::is_cancelled) {
                all.remove(&key);
            }
        });
        token.drop_guard()
    }

    /// Writes the claim again and again, until it is given back or somebody else has it.
    async fn beat(
        &self,
        key: &Key,
        mut held: Held,
        mut etag: String,
        given_back: &CancellationToken,
    ) {
        let name = names::claim(key);
        while !held.free {
            tokio::select! {
                () = given_back.cancelled() => held.free = true,
                () = tokio::time::sleep(BEAT) => {}
            }
            held.beat += 1;
            let Ok(bytes) = held.bytes() else { return };
            match self.bucket.put(&name, bytes, Condition::Matches(&etag)).await {
                Ok(Put::Done { etag: next }) => etag = next,
                Ok(Put::Lost) => return,
                // Perhaps the next one comes through; else somebody else takes the claim.
                Err(_) => {}
            }
        }
    }
}

fn random() -> u64 {
    RandomState::new().hash_one(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn held(cache: &str, free: bool) -> Held {
        Held { holder: "run 1".to_owned(), cache: cache.to_owned(), nonce: 1, beat: 2, free }
    }

    #[test]
    fn who_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let claims = Claims::new(folder.path());
        let key = Digest::of(b"key");
        assert!(claims.is_free(&key, Some(&held("ours", false)), "1", "ours"));
        assert!(claims.is_free(&key, Some(&held("theirs", true)), "1", "ours"));
        let theirs = held("theirs", false);
        assert!(!claims.is_free(&key, Some(&theirs), "1", "ours"));
        let long_ago = Instant::now().checked_sub(DEAD).unwrap();
        locked(&claims.watched).insert(key, ("1".to_owned(), long_ago));
        assert!(!claims.is_free(&key, Some(&theirs), "2", "ours"), "it was written");
        locked(&claims.watched).insert(key, ("2".to_owned(), long_ago));
        assert!(claims.is_free(&key, Some(&theirs), "2", "ours"));
        assert!(claims.is_free(&key, None, "2", "ours"), "nobody can read it, nor writes it");
    }

    #[test]
    fn a_cache_keeps_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let name = Claims::new(folder.path()).cache().unwrap();
        assert_eq!(Claims::new(folder.path()).cache().unwrap(), name);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(Claims::new(other.path()).cache().unwrap(), name);
    }
}
