//! Removing what is needed no more, off the way of what runs.

use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};

use tokio::task::{JoinHandle, spawn_blocking};

use crate::workspace;
use crate::workspace::temporary;

/// What to remove. That something could not be removed harms nothing: gc finds it with its run.
pub(super) enum Remove {
    /// This folder.
    Folder(PathBuf),
    /// What the workspace made in this attempt's folder; the logs stay.
    Work(PathBuf),
}

/// One thread that removes one thing after the other; started with the first one.
#[derive(Default)]
pub(super) struct Cleaner(Option<(Sender<Remove>, JoinHandle<()>)>);

impl Cleaner {
    pub(super) fn remove(&mut self, what: Remove) {
        let (sender, _) = self.0.get_or_insert_with(|| {
            let (sender, receiver) = channel::<Remove>();
            let thread = spawn_blocking(move || {
                for what in receiver {
                    what.remove();
                }
            });
            (sender, thread)
        });
        // The other end lives as long as this one.
        drop(sender.send(what));
    }

    /// Waits until all is removed.
    pub(super) async fn finish(&mut self) {
        if let Some((sender, thread)) = self.0.take() {
            drop(sender);
            drop(thread.await);
        }
    }

    /// The same, and the run's `TMPDIR` folder with it.
    pub(super) async fn run_ended(&mut self, run_folder: PathBuf) {
        self.finish().await;
        drop(spawn_blocking(move || temporary::remove(&run_folder)).await);
    }
}

impl Remove {
    fn remove(self) {
        match self {
            Self::Folder(folder) => drop(workspace::remove_folder(&folder)),
            Self::Work(attempt) => drop(workspace::remove(&attempt)),
        }
    }
}
