//! Pins: the artifacts a run or a release needs, a JSON line each. The roots of gc.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::sync::Mutex;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::bucket::{Condition, Put};
use super::names::PINS;
use super::{Shared, WIDE, locked, names};
use crate::digest::Digest;
use crate::store::pin::lines;
use crate::store::{PinLine, PinOwner, StoreError};

/// The pins that this process wrote, with the etag of each.
pub(super) type Written = Mutex<HashMap<PinOwner, String>>;

impl Shared {
    /// Writes a pin, in place of an earlier one of this owner. One that this process wrote and somebody else has replaced or removed since
    /// is left as it is, where the server keeps conditions: the other one goes on with the run, or has removed it.
    pub(super) async fn pin(
        &self,
        owner: PinOwner,
        artifacts: &[Digest],
    ) -> Result<(), StoreError> {
        let artifacts: BTreeSet<&Digest> = artifacts.iter().collect();
        let before = locked(&self.pins).get(&owner).cloned();
        let condition = match &before {
            Some(etag) if self.bucket.is_conditional().await? => Condition::Matches(etag),
            _ => Condition::Always,
        };
        let name = names::pin(owner);
        match self.bucket.put(&name, lines(artifacts)?.into(), condition).await? {
            Put::Done { etag } => {
                locked(&self.pins).insert(owner, etag);
            }
            Put::Lost => tracing::warn!(name, "the pin is somebody else's by now"),
        }
        Ok(())
    }

    pub(super) async fn unpin(&self, owner: PinOwner) -> Result<(), StoreError> {
        locked(&self.pins).remove(&owner);
        self.bucket.remove(&[names::pin(owner)]).await
    }

    /// What all pins together hold.
    pub(super) async fn all_pinned(&self) -> Result<HashSet<Digest>, StoreError> {
        Ok(self.all_pins().await?.into_iter().flat_map(|(_, artifacts)| artifacts).collect())
    }

    /// Every pin with who has it.
    pub(super) async fn pins(&self) -> Result<Vec<PinLine>, StoreError> {
        let pins = self.all_pins().await?.into_iter();
        let line = |(name, artifacts): (String, _)| {
            let owner = PinOwner::of(name.strip_prefix(PINS)?)?;
            Some(PinLine { owner, artifacts })
        };
        Ok(pins.filter_map(line).collect())
    }

    /// A pin that cannot be read is an error: nothing may be removed then.
    async fn all_pins(&self) -> Result<Vec<(String, Vec<Digest>)>, StoreError> {
        let mut names = Vec::new();
        self.bucket.list(PINS, &mut |listed| names.push(listed.name)).await?;
        let read = |name: String| async move {
            match self.bucket.get(&name).await? {
                Some(pin) => match digests_in(&pin.bytes) {
                    Ok(artifacts) => Ok(Some((name, artifacts))),
                    Err(error) => Err(self.unreadable(&name, &error)),
                },
                // The run or release went meanwhile.
                None => Ok(None),
            }
        };
        let pins: Vec<Option<_>> =
            stream::iter(names.into_iter().map(read)).buffer_unordered(WIDE).try_collect().await?;
        Ok(pins.into_iter().flatten().collect())
    }

    fn unreadable(&self, name: &str, error: &serde_json::Error) -> StoreError {
        let place = self.bucket.place_name();
        let why = format!(
            "`{place}/{name}` is damaged ({error}); remove it if its run or release is not needed"
        );
        io::Error::new(io::ErrorKind::InvalidData, why).into()
    }
}

fn digests_in(text: &[u8]) -> serde_json::Result<Vec<Digest>> {
    text.split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(serde_json::from_slice)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_and_read() {
        let [a, b] = [b"a", b"b"].map(|text| Digest::of(text));
        let text = lines(BTreeSet::from([&a, &b])).unwrap();
        let read: HashSet<Digest> = digests_in(&text).unwrap().into_iter().collect();
        assert_eq!(read, HashSet::from([a, b]));
        assert!(digests_in(&text[..text.len() - 3]).is_err());
        assert!(digests_in(b"").unwrap().is_empty());
    }
}
