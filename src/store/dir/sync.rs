//! Making things durable: now and then one `syncfs`, aside, for all that was taken in since the last one.
//!
//! Not one per task. Measured on ext4: 1.5 ms after one small output on a busy disk (p50 0.3, p90 3.5; laptop disks 2 to 10), 0.45 s after
//! 1 GiB. It also writes out every other file of the filesystem, such as those of work folders that are gone a moment later; and
//! removing a file costs 0.005 ms when it was never written out, else up to 0.7 ms (mounted with `discard`).
//!
//! So a blob carries in its mtime whether it is durable ("sealed"), else in which boot it was made. In that boot it is what it is; after
//! it, it is read once before it is used. Manifests are compared with their digest and records parsed whenever they are read. Thus
//! nothing half-written is ever taken for whole, whenever the power goes.

use std::io;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::folder::{Folder, ObjectKind, locked};
use super::object::{Stamp, sealed_mtime};
use crate::digest::Digest;
use crate::store::StoreError;

/// From one `syncfs` to the next at least.
const PAUSE: Duration = Duration::from_secs(5);

/// What is not durable yet, as far as this process made it.
#[derive(Debug)]
pub(super) struct Synced {
    state: Mutex<State>,
    writing: Mutex<()>,
}

#[derive(Debug)]
struct State {
    made: Vec<Digest>,
    last: Instant,
    running: bool,
    error: Option<StoreError>,
}

impl Default for Synced {
    fn default() -> Self {
        let state = State { made: Vec::new(), last: Instant::now(), running: false, error: None };
        Self { state: Mutex::new(state), writing: Mutex::new(()) }
    }
}

impl Synced {
    /// This blob was made, or found to have survived, in this boot.
    pub(super) fn made(&self, blob: Digest) {
        locked(&self.state).made.push(blob);
    }

    /// Whether it is time for [`Folder::sync_aside`]; says so once.
    pub(super) fn is_due(&self) -> bool {
        let mut state = locked(&self.state);
        let due = !state.running && !state.made.is_empty() && state.last.elapsed() >= PAUSE;
        state.running |= due;
        due
    }

    /// What went wrong aside, once.
    pub(super) fn take_error(&self) -> Result<(), StoreError> {
        locked(&self.state).error.take().map_or(Ok(()), Err)
    }
}

impl Folder {
    /// [`Folder::sync`] for a thread that nobody waits for: an error is told at the next call of `sync`.
    pub(super) fn sync_aside(&self) {
        let result = self.sync();
        let mut state = locked(&self.synced.state);
        state.running = false;
        state.last = Instant::now();
        state.error = result.err();
    }

    /// Afterwards all that was taken in before the call survives a loss of power. A crash midway leaves blobs that are durable
    /// and not marked so, which costs one reading after the next boot.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.sync_made(false)
    }

    /// [`Folder::sync`], also of what other processes took in, and of pins.
    pub(super) fn sync_everything(&self) -> Result<(), StoreError> {
        self.sync_made(true)
    }

    fn sync_made(&self, by_anyone: bool) -> Result<(), StoreError> {
        // Who comes second waits for the first: what the first one took is durable when it is done.
        let _writing = locked(&self.synced.writing);
        let made = std::mem::take(&mut locked(&self.synced.state).made);
        if made.is_empty() && !by_anyone {
            return Ok(());
        }
        self.write_out()?;
        made.iter().try_for_each(|blob| self.seal(blob))?;
        Ok(())
    }

    fn seal(&self, blob: &Digest) -> io::Result<()> {
        match fs_err::File::open(self.object(ObjectKind::Blob, blob)) {
            Ok(file) => {
                let metadata = file.metadata()?;
                // Not one that was written into: that must be seen.
                if Stamp::of(&metadata, metadata.len()) == Stamp::MadeIn(self.boot()) {
                    file.set_modified(sealed_mtime())?;
                }
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
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
