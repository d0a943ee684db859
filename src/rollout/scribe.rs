//! Writes to the state one after the other, in the order in which they were decided, beside the one who decides.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::state::StateError;

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// After each of these pauses a write that failed is tried again; after the last one the error stands.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(4)];

/// Takes writes.
#[derive(Clone)]
pub(super) struct Scribe(mpsc::UnboundedSender<Work>);

impl Scribe {
    /// It, and what does its work until the last clone of it is gone.
    pub(super) fn new() -> (Self, impl Future<Output = ()> + Send) {
        let (to, mut from) = mpsc::unbounded_channel::<Work>();
        let working = async move {
            while let Some(work) = from.recv().await {
                work.await;
            }
        };
        (Self(to), working)
    }

    /// Done after everything that was ordered before.
    pub(super) fn order(&self, work: impl Future<Output = ()> + Send + 'static) {
        // The worker ends only with the supervisor.
        drop(self.0.send(Box::pin(work)));
    }
}

/// Does it, and again after a while when it failed. It must be fit to be done twice.
pub(super) async fn insist<T, F>(act: impl Fn() -> F) -> Result<T, StateError>
where
    F: Future<Output = Result<T, StateError>>,
{
    for pause in PAUSES {
        match act().await {
            Ok(done) => return Ok(done),
            Err(error @ StateError::ServedElsewhere { .. }) => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "the state cannot be written yet");
                tokio::time::sleep(pause).await;
            }
        }
    }
    act().await
}
