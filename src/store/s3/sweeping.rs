//! Between gc, which asks for the age of an object and then removes it, and those who make that object young in between.
//!
//! The object `sweeping` says of each collection which batch it removes. gc raises the number before it asks for the ages of the batch, and removes
//! only for a short while after that. Whoever stored or renewed something looks there afterwards: where a batch is under way it waits
//! for the next one, and where any was since it began it asks again for what it needs. So either gc saw the new age, or the other
//! one sees what is gone. Where the server keeps no conditions, this holds while one gc runs at a time.

use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use serde::{Deserialize, Serialize};

use super::bucket::{Condition, Put};
use super::{Shared, clock, locked};
use crate::store::StoreError;

const OBJECT: &str = "sweeping";
/// What was said of a batch holds for its removal so long. Well below [`DEAD`].
const FRESH: Duration = Duration::from_secs(20);
/// A collection that says nothing for so long while it removes a batch is dead.
const DEAD: Duration = Duration::from_secs(45);
/// How often a batch is looked at while it is waited for.
const LOOK: Duration = Duration::from_millis(500);
/// Collections that are over and remembered.
const MOST: usize = 64;
/// How often it is tried while others write the same object.
const MOST_TRIES: usize = 16;

/// How often something is looked at again because a gc was at work. Once is enough unless it had to be stored again.
pub(super) const MOST_LOOKS: usize = 5;

/// Which collections there are or were, by their ids, which sort by time.
type Sweeps = BTreeMap<String, Batch>;

/// What a collection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Batch {
    /// Counts up.
    number: u64,
    /// Nothing is removed any more.
    over: bool,
}

/// What this process knows of collections, and of what it wrote.
#[derive(Default)]
pub(super) struct Sweepers {
    seen: Mutex<Option<Sweeps>>,
    /// Objects that were stored or renewed.
    writes: AtomicU64,
}

impl Sweepers {
    /// An object was stored or renewed.
    pub(super) fn wrote(&self) {
        self.writes.fetch_add(1, Ordering::Relaxed);
    }
}

/// What was known before something is stored or renewed.
pub(super) struct Before {
    sweeps: Sweeps,
    writes: u64,
}

/// A collection that removes objects.
pub(super) struct Sweeping {
    id: String,
    number: u64,
    /// When the present batch was told of: on a clock that only goes forward, and on one that counts sleep too.
    said: (Instant, u64),
}

impl Sweeping {
    pub(super) fn new() -> Self {
        let said = (Instant::now(), clock::now());
        Self { id: ulid::Ulid::generate().to_string(), number: 0, said }
    }

    /// Whether what is known of the present batch may still be acted upon.
    pub(super) fn is_fresh(&self) -> bool {
        let slept = Duration::from_millis(clock::now().saturating_sub(self.said.1));
        self.said.0.elapsed() < FRESH && slept < FRESH
    }
}

impl Shared {
    /// Before something is stored or renewed that is needed afterwards.
    pub(super) async fn before_writing(&self) -> Result<Before, StoreError> {
        let writes = self.sweepers.writes.load(Ordering::Relaxed);
        let seen = locked(&self.sweepers.seen).clone();
        let sweeps = match seen {
            Some(sweeps) => sweeps,
            None if self.read_only => Sweeps::new(),
            None => self.sweeps().await?.0,
        };
        Ok(Before { sweeps, writes })
    }

    /// After it: whether some of it may be gone, so that it has to be looked at again. Waits for what is just being removed.
    pub(super) async fn may_be_swept(&self, before: &Before) -> Result<bool, StoreError> {
        if self.read_only || self.sweepers.writes.load(Ordering::Relaxed) == before.writes {
            return Ok(false);
        }
        let (mut now, _) = self.sweeps().await?;
        let is_new = now.iter().any(|(id, batch)| before.sweeps.get(id) != Some(batch));
        let under_way: Vec<(String, Batch)> =
            now.iter().filter(|(_, batch)| !batch.over).map(|(id, it)| (id.clone(), *it)).collect();
        let since = Instant::now();
        for (id, batch) in &under_way {
            while now.get(id) == Some(batch) {
                if since.elapsed() >= DEAD {
                    tracing::debug!(id, "a collection died");
                    self.change_sweeps(|sweeps| {
                        if sweeps.get(id) == Some(batch) {
                            sweeps.insert(id.clone(), Batch { over: true, ..*batch });
                        }
                    })
                    .await?;
                    break;
                }
                tokio::time::sleep(LOOK).await;
                now = self.sweeps().await?.0;
            }
        }
        Ok(is_new || !under_way.is_empty())
    }

    /// Says that the ages of the next objects will be asked for and the old ones removed.
    pub(super) async fn next_batch(&self, sweeping: &mut Sweeping) -> Result<(), StoreError> {
        sweeping.number += 1;
        sweeping.said = (Instant::now(), clock::now());
        let batch = Batch { number: sweeping.number, over: false };
        self.change_sweeps(|sweeps| {
            sweeps.insert(sweeping.id.clone(), batch);
        })
        .await
    }

    /// Says that nothing is removed any more.
    pub(super) async fn end_sweep(&self, sweeping: Sweeping) -> Result<(), StoreError> {
        if sweeping.number == 0 {
            return Ok(());
        }
        let batch = Batch { number: sweeping.number + 1, over: true };
        self.change_sweeps(|sweeps| {
            sweeps.insert(sweeping.id.clone(), batch);
            let over: Vec<String> =
                sweeps.iter().filter(|(_, it)| it.over).map(|(id, _)| id.clone()).collect();
            for id in over.iter().rev().skip(MOST) {
                sweeps.remove(id);
            }
        })
        .await
    }

    /// What is said now, and the etag of the object that says it.
    async fn sweeps(&self) -> Result<(Sweeps, Option<String>), StoreError> {
        let found = self.bucket.get(OBJECT).boxed().await?;
        let (sweeps, etag) = match found {
            // What cannot be read was written by nobody who keeps to this.
            Some(object) => {
                (serde_json::from_slice(&object.bytes).unwrap_or_default(), Some(object.meta.etag))
            }
            None => (Sweeps::new(), None),
        };
        *locked(&self.sweepers.seen) = Some(Sweeps::clone(&sweeps));
        Ok((sweeps, etag))
    }

    async fn change_sweeps(&self, change: impl Fn(&mut Sweeps)) -> Result<(), StoreError> {
        let is_conditional = self.bucket.is_conditional().await?;
        for _ in 0..MOST_TRIES {
            let (mut sweeps, etag) = self.sweeps().await?;
            change(&mut sweeps);
            let condition = match &etag {
                _ if !is_conditional => Condition::Always,
                Some(etag) => Condition::Matches(etag),
                None => Condition::Absent,
            };
            let text = serde_json::to_vec(&sweeps).map_err(io::Error::from)?;
            if let Put::Done { .. } =
                self.bucket.put(OBJECT, text.into(), condition).boxed().await?
            {
                return Ok(());
            }
        }
        let why = format!("`{}/{OBJECT}` does not stay as it is", self.bucket.place_name());
        Err(io::Error::new(io::ErrorKind::ResourceBusy, why).into())
    }
}
