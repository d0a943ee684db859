//! Threads for connections. A connection stays on its thread, and so do the connections to backends that it uses: nothing wakes
//! another thread for a request.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tracing::warn;

/// More than these are not needed in front of services of one machine.
const MOST: usize = 4;

/// The threads of a gateway. They end when this is dropped.
pub(super) struct Lanes {
    lanes: Vec<Lane>,
    turn: AtomicUsize,
}

struct Lane {
    runtime: Handle,
    /// Ends the thread when it is dropped.
    _running: Option<oneshot::Sender<()>>,
}

impl Lanes {
    /// One thread for each processor. Where none can be started, the runtime of the caller is the only lane.
    pub(super) fn start() -> Self {
        let wanted = thread::available_parallelism().map_or(1, |count| count.get().min(MOST));
        let mut lanes: Vec<Lane> = (0..wanted).filter_map(Lane::start).collect();
        if lanes.is_empty() {
            warn!("no thread can be started for connections");
            lanes.push(Lane { runtime: Handle::current(), _running: None });
        }
        Self { lanes, turn: AtomicUsize::new(0) }
    }

    pub(super) fn count(&self) -> usize {
        self.lanes.len()
    }

    /// The lane of the next connection, each in turn.
    pub(super) fn next(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed) % self.lanes.len()
    }

    pub(super) fn runtime(&self, lane: usize) -> &Handle {
        &self.lanes[lane].runtime
    }
}

impl Lane {
    fn start(number: usize) -> Option<Self> {
        let (running, ended) = oneshot::channel::<()>();
        let (ready, started) = mpsc::sync_channel(1);
        let work = move || match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => {
                if ready.send(runtime.handle().clone()).is_ok() {
                    drop(runtime.block_on(ended));
                }
            }
            Err(error) => warn!("a thread for connections has no runtime: {error}"),
        };
        let name = format!("gateway-{number}");
        if let Err(error) = thread::Builder::new().name(name).spawn(work) {
            warn!("a thread for connections cannot be started: {error}");
            return None;
        }
        Some(Self { runtime: started.recv().ok()?, _running: Some(running) })
    }
}
