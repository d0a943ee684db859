//! Making things durable: one `syncfs` for all that was taken in since the last one, shared by everybody who waits for it.
//!
//! Measured on ext4: 0.06 ms with nothing to write, 0.17 ms (p90 0.9 ms) after one small output, 0.45 s after 1 GiB. So one per task is
//! affordable, and tasks that end together share one.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::folder::{Folder, locked};
use crate::store::StoreError;

/// How far things are durable.
#[derive(Debug, Default)]
pub(super) struct Synced {
    taken_in: AtomicU64,
    durable: AtomicU64,
    writing: Mutex<()>,
}

impl Synced {
    /// Something is being taken in. Also what was already there counts: another process may not have made it durable yet.
    pub(super) fn something_new(&self) {
        self.taken_in.fetch_add(1, Ordering::AcqRel);
    }
}

impl Folder {
    pub(super) fn is_synced(&self) -> bool {
        let synced = &self.synced;
        synced.durable.load(Ordering::Acquire) >= synced.taken_in.load(Ordering::Acquire)
    }

    /// After it returns, all that was taken in before the call survives a loss of power.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        let wanted = self.synced.taken_in.load(Ordering::Acquire);
        let _writing = locked(&self.synced.writing);
        if self.synced.durable.load(Ordering::Acquire) >= wanted {
            return Ok(());
        }
        let covered = self.synced.taken_in.load(Ordering::Acquire);
        self.write_out()?;
        self.synced.durable.store(covered, Ordering::Release);
        Ok(())
    }

    #[cfg(target_os = "linux")]
    fn write_out(&self) -> Result<(), StoreError> {
        let root = fs_err::File::open(self.root())?;
        rustix::fs::syncfs(&root)
            .map_err(|error| super::folder::named("sync", self.root(), error.into()).into())
    }

    #[cfg(not(target_os = "linux"))]
    #[expect(clippy::unnecessary_wraps, reason = "on Linux it can fail")]
    fn write_out(&self) -> Result<(), StoreError> {
        rustix::fs::sync();
        Ok(())
    }
}
