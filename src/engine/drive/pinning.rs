//! Telling the store which artifacts the run needs: now and then while it goes on, and before it ends.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::driver::Driver;
use crate::engine::error::EngineError;
use crate::store::PinOwner;

/// Until the store is told for the first time: most runs are over by then.
const FIRST: Duration = Duration::from_secs(5);

/// Between two times after that.
const EVERY: Duration = Duration::from_mins(1);

/// What the store was told.
pub(super) struct Pinning {
    /// Something was journalled that the store does not know.
    is_behind: bool,
    due: Instant,
    under_way: Option<AbortOnDropHandle<()>>,
}

impl Pinning {
    /// Of a run that is taken up now: perhaps whoever had it before did not come to tell the store.
    pub(super) fn new() -> Self {
        Self { is_behind: true, due: Instant::now() + FIRST, under_way: None }
    }

    /// Something was journalled.
    pub(super) fn lags(&mut self) {
        self.is_behind = true;
    }

    fn is_due(&self) -> bool {
        let is_idle = self.under_way.as_ref().is_none_or(AbortOnDropHandle::is_finished);
        self.is_behind && is_idle && Instant::now() >= self.due
    }
}

impl Driver<'_> {
    /// Says it before the run ends. Whoever lost the run says nothing of it.
    pub(super) async fn pin(&mut self) -> Result<(), EngineError> {
        if let Some(early) = self.pinning.under_way.take() {
            // It must not come after this one.
            drop(early.await);
        }
        let artifacts = self.results.artifacts();
        if !artifacts.is_empty() {
            let (attempts, epoch) = (Arc::clone(&self.attempts), self.epoch);
            let pin = || async {
                attempts.state.confirm(attempts.run, epoch).await?;
                Ok(attempts.store.pin(PinOwner::Run(attempts.run), &artifacts).await?)
            };
            self.attend(Box::pin(attempts.patience.mend(pin))).await?;
        }
        Ok(())
    }

    /// Says it while the run goes on, so that no gc takes what a run of several days needs, or one that is gone on with days after its
    /// owner died. Nothing waits for it; what fails is said with what comes next.
    pub(super) fn pin_early(&mut self) {
        if !self.pinning.is_due() {
            return;
        }
        let artifacts = self.results.artifacts();
        if artifacts.is_empty() {
            return;
        }
        let (attempts, epoch) = (Arc::clone(&self.attempts), self.epoch);
        let early = tokio::spawn(async move {
            if attempts.state.confirm(attempts.run, epoch).await.is_ok()
                && let Err(error) =
                    attempts.store.pin(PinOwner::Run(attempts.run), &artifacts).await
            {
                tracing::warn!(run = %attempts.run, %error, "what the run needs is not pinned yet");
            }
        });
        self.pinning = Pinning {
            is_behind: false,
            due: Instant::now() + EVERY,
            under_way: Some(AbortOnDropHandle::new(early)),
        };
    }
}
