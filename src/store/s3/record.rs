//! Records: what a key produced. The first whole one per key wins.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};

use super::bucket::{Condition, Meta, Object, Put};
use super::names::{Name, Shelf};
use super::sweeping::MOST_LOOKS;
use super::{Shared, WIDE};
use crate::digest::{Digest, Key};
use crate::store::{Lookup, Record, StoreError};

/// The form of a record that this code writes and reads.
const RECORD_FORMAT: u32 = 1;
/// How often a record is written again when others write it at the same moment. Each time somebody gets on.
const MOST_TRIES: usize = 16;

/// What lies under a key.
enum Found {
    /// A record whose artifacts are whole.
    Whole(Box<Record>),
    /// A record whose artifacts are not, or something that is no record.
    Broken {
        etag: String,
    },
    Nothing,
}

impl Shared {
    /// Looks a key up, and those along with it that were looked up together with it before.
    pub(super) async fn look_up(shared: &Arc<Self>, key: &Key) -> Result<Lookup, StoreError> {
        if let Some(record) = shared.ahead.found(key, || shared.hit(key)).await {
            shared.ahead.note(key);
            return Ok(Lookup::Hit(record));
        }
        let others = shared.ahead.start(key);
        if !others.is_empty() {
            let shared = Arc::clone(shared);
            tokio::spawn(async move {
                let look = |key: Key| {
                    let shared = Arc::clone(&shared);
                    async move { shared.ahead.read(&key, || shared.hit(&key)).await }
                };
                stream::iter(others).for_each_concurrent(WIDE, look).await;
            });
        }
        let found = shared.look_up_now(key).await?;
        if matches!(found, Lookup::Hit(_)) {
            shared.ahead.note(key);
        }
        Ok(found)
    }

    async fn hit(&self, key: &Key) -> Option<Box<Record>> {
        match self.look_up_now(key).await {
            Ok(Lookup::Hit(record)) => Some(record),
            // Asked again by whoever needs it.
            _ => None,
        }
    }

    async fn look_up_now(&self, key: &Key) -> Result<Lookup, StoreError> {
        let name = Name::new(Shelf::Record, *key).text();
        let Some(Object { bytes, meta }) = self.bucket.get(&name).await? else {
            return Ok(Lookup::Miss);
        };
        let Some(record) = read_record(&bytes, key) else { return Ok(Lookup::Miss) };
        let missing = self.missing_of_record(&record).await?;
        if !missing.is_empty() {
            return Ok(Lookup::Broken { missing });
        }
        // Renewed last: a record that is gone now was found all the same, and its artifacts are young.
        self.renew_record(&name, bytes, &meta).boxed().await?;
        Ok(Lookup::Hit(Box::new(record)))
    }

    /// Only this very record: another one that somebody has put here meanwhile stays.
    async fn renew_record(&self, name: &str, bytes: Bytes, meta: &Meta) -> Result<(), StoreError> {
        if self.is_young_enough(meta) {
            return Ok(());
        }
        if self.bucket.is_conditional().await? {
            self.bucket.put(name, bytes, Condition::Matches(&meta.etag)).await?;
        } else {
            self.bucket.touch(name).await?;
        }
        Ok(())
    }

    async fn missing_of_record(&self, record: &Record) -> Result<Vec<Digest>, StoreError> {
        let mut missing: Vec<Vec<Digest>> = Vec::new();
        for _ in 0..MOST_LOOKS {
            let before = self.before_writing().await?;
            let look = record.outputs.values().copied();
            let look = look.map(|artifact| async move { self.missing_of(&artifact).await });
            missing = stream::iter(look).buffered(WIDE).try_collect().await?;
            if !self.may_be_swept(&before).boxed().await? {
                break;
            }
            self.known.forget();
        }
        Ok(missing.into_iter().flatten().collect())
    }

    /// The first record that is whole stays, unless `replace`; a broken one is replaced. Where the server does not honour conditions,
    /// the last of two writers at once wins.
    pub(super) async fn put_record(
        &self,
        record: Record,
        replace: bool,
    ) -> Result<Record, StoreError> {
        if record.parts.key() != record.key {
            let why = format!("the record of `{}` does not hold the parts of that key", record.key);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why).into());
        }
        let text = serde_json::to_vec(&record).map_err(io::Error::from)?.into();
        let name = Name::new(Shelf::Record, record.key).text();
        self.ahead.forget(&record.key);
        let held = if replace {
            self.bucket.put(&name, text, Condition::Always).await?;
            record
        } else if self.bucket.is_conditional().await? {
            self.put_first(record, &name, text).await?
        } else {
            match self.found(&record.key, &name).await? {
                Found::Whole(there) => *there,
                Found::Broken { .. } | Found::Nothing => {
                    self.bucket.put(&name, text, Condition::Always).await?;
                    record
                }
            }
        };
        self.ahead.note(&held.key);
        // Whoever waits for this key can have it now.
        self.claims.release(&held.key);
        Ok(held)
    }

    async fn put_first(
        &self,
        record: Record,
        name: &str,
        text: Bytes,
    ) -> Result<Record, StoreError> {
        let mut broken: Option<String> = None;
        for _ in 0..MOST_TRIES {
            let condition = broken.as_deref().map_or(Condition::Absent, Condition::Matches);
            if let Put::Done { .. } = self.bucket.put(name, text.clone(), condition).await? {
                return Ok(record);
            }
            broken = match self.found(&record.key, name).await? {
                // Also our own, when the answer to the first try was lost.
                Found::Whole(there) => return Ok(*there),
                Found::Broken { etag } => Some(etag),
                Found::Nothing => None,
            };
        }
        let why = format!("`{}/{name}` does not stay as it is", self.bucket.place_name());
        Err(io::Error::new(io::ErrorKind::ResourceBusy, why).into())
    }

    async fn found(&self, key: &Key, name: &str) -> Result<Found, StoreError> {
        let Some(Object { bytes, meta: Meta { etag, .. } }) = self.bucket.get(name).await? else {
            return Ok(Found::Nothing);
        };
        let Some(record) = read_record(&bytes, key) else {
            return Ok(Found::Broken { etag });
        };
        let missing = self.missing_of_record(&record).await?;
        Ok(if missing.is_empty() { Found::Whole(Box::new(record)) } else { Found::Broken { etag } })
    }
}

/// Reads a record. None: it is not readable (a later version wrote it), so that the stage simply runs again.
pub(super) fn read_record(bytes: &[u8], key: &Key) -> Option<Record> {
    let record: Record = serde_json::from_slice(bytes).ok()?;
    (record.format == RECORD_FORMAT && record.key == *key).then_some(record)
}
